//! What a drill tells.

use crate::model::chain::KnownSnapshot;
use crate::model::{ObjectId, ObjectRef, Problem, ProblemKind, SnapshotId, Timestamp};
use crate::ops::drill::plan::Plan;
use crate::ops::error::{Class, OpError};
use crate::ops::session::Session;
use crate::ops::stores::Away;
use crate::ops::vault::View;
use crate::store::Key;
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
    /// The snapshot that it came from.
    pub snapshot: SnapshotId,
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

/// A snapshot that was drilled.
#[derive(Debug, Clone, Serialize)]
pub struct DrilledSnapshot {
    /// Its id.
    pub snapshot: SnapshotId,
    /// The store that it came from.
    pub store: String,
    /// Where that is.
    pub location: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Whether all its components were brought back.
    pub whole: bool,
}

/// What was drilled, and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct DrillReport {
    /// The snapshot; the newest of several.
    pub snapshot: SnapshotId,
    /// Its host.
    pub host: String,
    /// The store that it came from.
    pub store: String,
    /// Where that is.
    pub location: String,
    /// What came of it in all.
    pub outcome: Outcome,
    /// Whether all components of the configuration were drilled; where these are not known, all of the snapshot.
    pub whole: bool,
    /// Components of the configuration that were not drilled.
    pub not_drilled: Vec<String>,
    /// The snapshots, the newest first.
    pub snapshots: Vec<DrilledSnapshot>,
    /// Their components.
    pub components: Vec<DrilledComponent>,
    /// Bytes of content that came back, of each component from the newest of the snapshots.
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
}

/// What came of one snapshot.
pub(super) struct Part<'v> {
    pub(super) view: &'v View,
    pub(super) shown: DrilledSnapshot,
    host: String,
    pub(super) began: Timestamp,
    pub(super) components: Vec<DrilledComponent>,
    /// Objects found missing or damaged.
    pub(super) bad: Vec<ObjectRef>,
    problems: Vec<Problem>,
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

impl<'v> Part<'v> {
    pub(super) fn new(known: &KnownSnapshot, view: &'v View, began: Timestamp) -> Self {
        let shown = DrilledSnapshot {
            snapshot: known.record.snapshot.clone(),
            store: view.store.name().to_owned(),
            location: view.store.location(),
            outcome: Outcome::Inconclusive,
            whole: true,
        };
        let (host, components) = (known.record.host.to_string(), Vec::new());
        Self { view, shown, host, began, components, bad: Vec::new(), problems: Vec::new() }
    }

    pub(super) fn fail(&mut self, session: &Session, problem: Problem) {
        session.around.progress.problem(&problem);
        self.problems.push(problem);
    }

    pub(super) fn take(&mut self, session: &Session, mut component: DrilledComponent) {
        for problem in std::mem::take(&mut component.problems) {
            self.fail(session, problem);
        }
        self.components.push(component);
    }

    /// What all components together come to.
    pub(super) fn conclude(&mut self) {
        self.shown.outcome = together(self.components.iter().map(|c| c.outcome));
    }

    /// It ended before its end: of what was not brought back nobody knows, and the rest is as it was found. Gives what is to be told.
    pub(super) fn give_up(&mut self, error: &OpError) -> Problem {
        self.shown.whole = false;
        let found = self.components.iter().map(|c| c.outcome);
        self.shown.outcome = together(found.chain([Outcome::Inconclusive]));
        let kind = if error.class == Class::Store { ProblemKind::Store } else { ProblemKind::NotRestored };
        let subject = format!("snapshot {}", self.shown.snapshot);
        let what = format!("it could not be drilled to its end: {}", Away::from(error).line());
        Problem { kind, component: None, subject, what, hint: error.hint.clone() }
    }

    /// True when something is known of it now.
    pub(super) fn found_out(&self) -> bool {
        !self.components.is_empty() || self.shown.outcome != Outcome::Inconclusive
    }
}

/// What several outcomes come to. Loss is said before doubt: what is lost is lost, whatever else could not be found out.
fn together(outcomes: impl Iterator<Item = Outcome> + Clone) -> Outcome {
    let all = |outcome| outcomes.clone().all(|o| o == outcome);
    let any = |outcome| outcomes.clone().any(|o| o == outcome);
    if all(Outcome::Full) {
        Outcome::Full
    } else if all(Outcome::Unrecoverable) {
        Outcome::Unrecoverable
    } else if any(Outcome::Partial) || any(Outcome::Unrecoverable) {
        Outcome::Partial
    } else {
        Outcome::Inconclusive
    }
}

impl DrillReport {
    /// Puts together what came of the snapshots of `plan`, one for each of its turns.
    pub(super) fn of(began: Timestamp, plan: &Plan<'_>, parts: Vec<Part<'_>>) -> Self {
        let mut report = Self::empty(began, plan);
        for (turn, part) in plan.turns.iter().zip(parts) {
            for component in &part.components {
                // What a newer one has, too, is no part of the way back.
                if turn.counts.is_empty() || turn.counts.contains(&component.name) {
                    report.bytes += component.bytes;
                    report.restore_seconds += component.restore_seconds;
                    report.check_seconds += component.check_seconds;
                    report.not_drilled.retain(|name| *name != component.name);
                }
            }
            if report.snapshots.is_empty() {
                (report.snapshot, report.host) = (part.shown.snapshot.clone(), part.host);
                (report.store, report.location) = (part.shown.store.clone(), part.shown.location.clone());
            }
            report.damaged.extend(part.bad.iter().map(|o| Key::data(o.kind, o.id).to_string()));
            report.components.extend(part.components);
            report.problems.extend(part.problems);
            report.snapshots.push(part.shown);
        }
        report.damaged.sort();
        report.damaged.dedup();
        report.outcome = together(report.snapshots.iter().map(|s| s.outcome));
        report.whole = match plan.configured.is_empty() {
            true => report.snapshots.iter().all(|s| s.whole),
            false => report.not_drilled.is_empty(),
        };
        if plan.all && !report.whole && report.outcome == Outcome::Full {
            // Of what no good snapshot holds nobody knows whether it comes back.
            report.outcome = Outcome::Inconclusive;
        }
        report
    }

    fn empty(began: Timestamp, plan: &Plan<'_>) -> Self {
        Self {
            snapshot: SnapshotId::new(began, [0; 5]),
            host: String::new(),
            store: String::new(),
            location: String::new(),
            outcome: Outcome::Inconclusive,
            whole: false,
            not_drilled: plan.configured.clone(),
            snapshots: Vec::new(),
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for (outcomes, expected) in cases {
            assert_eq!(together(outcomes.iter().copied()), expected, "{outcomes:?}");
        }
    }
}
