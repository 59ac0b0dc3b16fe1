//! What a drill tells.

use crate::model::chain::KnownSnapshot;
use crate::model::{ObjectId, ObjectRef, Problem, ProblemKind, SnapshotId, Timestamp};
use crate::ops::error::{Class, OpError};
use crate::ops::session::Session;
use crate::ops::stores::Away;
use crate::ops::vault::View;
use serde::Serialize;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everything came back and passed every check.
    Full,
    /// Something came back, something not, or a check failed.
    Partial,
    /// Nothing can be had.
    Unrecoverable,
    /// It could not be found out: no room, a store that failed, a check that could not be run. Not a success.
    Inconclusive,
}

impl Outcome {
    /// As JSON and the state spell it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::Unrecoverable => "unrecoverable",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// What came of one component.
#[derive(Debug, Clone, Serialize)]
pub struct DrilledComponent {
    /// Its name.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
    /// `restored`: it lay on disk as a restore leaves it; `compared`: there was no room for it, and all its content was fetched and compared.
    pub how: &'static str,
    /// Files that came back, or were compared.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that cannot be had.
    pub lost: u64,
    /// Databases that passed `integrity_check`.
    pub databases: u64,
    /// Databases and check commands that failed.
    pub checks_failed: u64,
    /// Whether a check command was run.
    pub check_run: bool,
    /// How long bringing it back took, in seconds.
    pub restore_seconds: f64,
    /// How long checking it took, in seconds.
    pub check_seconds: f64,
    /// Its number in the record.
    #[serde(skip)]
    pub number: u64,
    /// Every check that it has was run.
    #[serde(skip)]
    pub complete: bool,
    /// Objects that what was lost lies in.
    #[serde(skip)]
    pub blamed: Vec<ObjectId>,
    /// What is worth knowing of it.
    #[serde(skip)]
    pub problems: Vec<Problem>,
}

/// What was drilled, and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct DrillReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its host.
    pub host: String,
    /// The store that it came from.
    pub store: String,
    /// Where that is.
    pub location: String,
    /// What came of it in all.
    pub outcome: Outcome,
    /// Whether all components were asked for.
    pub whole: bool,
    /// Its components.
    pub components: Vec<DrilledComponent>,
    /// Bytes of content that came back.
    pub bytes: u64,
    /// How long bringing all of it back took, in seconds: the time to recover, without what a person does.
    pub restore_seconds: f64,
    /// How long checking took, in seconds.
    pub check_seconds: f64,
    /// Objects found missing or damaged.
    pub damaged: Vec<String>,
    /// When it began.
    pub began: Timestamp,
    /// How many verdicts were signed.
    pub verdicts: u64,
    /// Why none could be signed, where that is so.
    pub not_signed: Option<String>,
    /// Why, for the exit code.
    #[serde(skip)]
    pub not_signed_class: Option<Class>,
    /// Everything worth knowing.
    pub problems: Vec<Problem>,
    /// The same, for the verdict.
    #[serde(skip)]
    pub(super) bad: Vec<ObjectRef>,
}

impl DrilledComponent {
    /// True when something of it was lost.
    pub(super) fn is_hurt(&self) -> bool {
        self.lost > 0 || self.outcome == Outcome::Unrecoverable
    }

    /// Takes back what was said of it: the store does not answer, so nobody knows.
    pub(super) fn doubt(&mut self, error: &OpError) {
        self.outcome = Outcome::Inconclusive;
        self.complete = false;
        let what = format!("whether that is damage could not be found out: {}", Away::from(error).line());
        let (component, hint) = (Some(self.name.clone()), error.hint.clone());
        self.problems.retain(|p| p.kind != ProblemKind::Damaged);
        self.problems.push(Problem { kind: ProblemKind::Store, component, subject: ".".into(), what, hint });
    }
}

impl DrillReport {
    pub(super) fn new(known: &KnownSnapshot, view: &View, began: Timestamp) -> Self {
        Self {
            snapshot: known.record.snapshot.clone(),
            host: known.record.host.to_string(),
            store: view.store.name().to_owned(),
            location: view.store.location(),
            outcome: Outcome::Inconclusive,
            whole: true,
            components: Vec::new(),
            bytes: 0,
            restore_seconds: 0.0,
            check_seconds: 0.0,
            damaged: Vec::new(),
            began,
            verdicts: 0,
            not_signed: None,
            not_signed_class: None,
            problems: Vec::new(),
            bad: Vec::new(),
        }
    }

    pub(super) fn fail(&mut self, session: &Session, problem: Problem) {
        session.around.progress.problem(&problem);
        self.problems.push(problem);
    }

    pub(super) fn take(&mut self, session: &Session, mut component: DrilledComponent) {
        for problem in std::mem::take(&mut component.problems) {
            self.fail(session, problem);
        }
        self.bytes += component.bytes;
        self.restore_seconds += component.restore_seconds;
        self.check_seconds += component.check_seconds;
        self.components.push(component);
    }

    /// What all components together come to. Loss is said before doubt: what is lost is lost, whatever else could not be found out.
    pub(super) fn conclude(&mut self) {
        let all = |outcome| self.components.iter().all(|c| c.outcome == outcome);
        let any = |outcome| self.components.iter().any(|c| c.outcome == outcome);
        self.outcome = if all(Outcome::Full) {
            Outcome::Full
        } else if all(Outcome::Unrecoverable) {
            Outcome::Unrecoverable
        } else if any(Outcome::Partial) || any(Outcome::Unrecoverable) {
            Outcome::Partial
        } else {
            Outcome::Inconclusive
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(outcome: Outcome) -> DrilledComponent {
        DrilledComponent {
            name: "c".into(),
            outcome,
            how: "restored",
            files: 0,
            bytes: 0,
            lost: 0,
            databases: 0,
            checks_failed: 0,
            check_run: false,
            restore_seconds: 0.0,
            check_seconds: 0.0,
            number: 1,
            complete: true,
            blamed: Vec::new(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn loss_comes_before_doubt_and_doubt_before_success() {
        use Outcome::{Full, Inconclusive, Partial, Unrecoverable};
        let cases: [(&[Outcome], Outcome); 7] = [
            (&[Full, Full], Full),
            (&[Full, Inconclusive], Inconclusive),
            (&[Full, Partial], Partial),
            (&[Inconclusive, Partial], Partial),
            (&[Full, Unrecoverable], Partial),
            (&[Unrecoverable, Unrecoverable], Unrecoverable),
            (&[Inconclusive, Unrecoverable], Partial),
        ];
        for (components, expected) in cases {
            let mut report = DrillReport {
                snapshot: SnapshotId::new(Timestamp::UNIX_EPOCH, [0; 5]),
                host: String::new(),
                store: String::new(),
                location: String::new(),
                outcome: Inconclusive,
                whole: true,
                components: components.iter().map(|o| component(*o)).collect(),
                bytes: 0,
                restore_seconds: 0.0,
                check_seconds: 0.0,
                damaged: Vec::new(),
                began: Timestamp::UNIX_EPOCH,
                verdicts: 0,
                not_signed: None,
                not_signed_class: None,
                problems: Vec::new(),
                bad: Vec::new(),
            };
            report.conclude();
            assert_eq!(report.outcome, expected, "{components:?}");
        }
    }
}
