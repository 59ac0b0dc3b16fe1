//! What an operation tells beside its result: problems (which change the exit code) and progress (which does not).

use crate::model::path::escape;
use serde::{Deserialize, Serialize};

/// What kind of trouble a problem is. `Unreadable` and the like make a snapshot incomplete; warnings do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// Something asked for could not be captured: the snapshot is incomplete (exit 3).
    Unreadable,
    /// A database check failed: the snapshot is not good (exit 3).
    CheckFailed,
    /// Captured, but worth knowing: changed while read, crash-consistent only, an attribute left out.
    Warning,
    /// Something could not be restored exactly (an owner, an attribute): exit 3.
    NotRestored,
    /// Stored bytes are damaged or missing: exit 13.
    Damaged,
    /// A store is away, behind or damaged, and another has what was asked for: exit 4.
    Store,
    /// A user's command failed after the step it belongs to: exit 15.
    Hook,
}

/// Trouble that does not stop a run: reported as it happens and again at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// The component, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// What it happened to: a path (escaped) or another subject.
    pub subject: String,
    /// What happened, as a fragment: `permission denied`.
    pub what: String,
    /// What to do about it, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with a path.
    pub fn at_path(kind: ProblemKind, component: &str, path: &[u8], what: impl ToString) -> Self {
        Self {
            kind,
            component: Some(component.to_owned()),
            subject: escape(path),
            what: what.to_string(),
            hint: None,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Where it is, for people: the component and the path in it.
    pub fn place(&self) -> String {
        match &self.component {
            Some(component) if self.subject == "." => component.clone(),
            Some(component) => format!("{component}/{}", self.subject),
            None => self.subject.clone(),
        }
    }

    /// True when a run with this problem did less than was asked.
    pub fn is_failure(&self) -> bool {
        self.kind != ProblemKind::Warning
    }
}

/// A step of a run, as shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Databases and dumps are captured.
    Capture,
    /// Folders are listed.
    Scan,
    /// Contents are packed and stored; bytes are counted.
    Pack,
    /// What was stored is read back; bytes are counted.
    ReadBack,
    /// Archives are read and files written; bytes are counted.
    Restore,
    /// The same, into folders beside what is live; bytes are counted.
    Fetch,
    /// Stored objects are read and compared; bytes are counted.
    Verify,
    /// Archives are opened and their content compared; bytes are counted.
    Open,
}

/// Hears how far a run is. Called from several threads; must be quick and must not fail.
pub trait Progress: Send + Sync {
    /// A phase begins; `total_bytes` where it is known.
    fn phase(&self, phase: Phase, total_bytes: Option<u64>);
    /// The phase is over, and none follows now: something else is done, which is told in lines.
    fn no_phase(&self) {}
    /// So many more bytes of the present phase are done.
    fn advance(&self, bytes: u64);
    /// A problem, as it happens.
    fn problem(&self, problem: &Problem);
    /// A line worth reading now, not a problem.
    fn note(&self, text: &str);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentProgress;

impl Progress for SilentProgress {
    fn phase(&self, _: Phase, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn problem(&self, _: &Problem) {}
    fn note(&self, _: &str) {}
}
