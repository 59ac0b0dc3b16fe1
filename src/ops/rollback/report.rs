//! What a rollback tells at its end: what it did, or that all is as it was before; and what is not, although the way went on.

use crate::model::{Problem, ProblemKind};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::rollback::journal::Journal;
use crate::ops::rollback::room::Full;
use crate::ops::rollback::standing::left_down;
use crate::ops::rollback::{NotTaken, Outcome, RollbackReport, dumps, trees};
use crate::ops::session::Session;
use std::path::Path;

/// So many of what is not as it was are named in an error.
const NAMED: usize = 10;

pub(super) fn report_of(
    session: &Session,
    journal: Journal,
    components: &[String],
    outcome: Outcome,
    mut problems: Vec<Problem>,
) -> Result<RollbackReport> {
    if let Outcome::Undone(why) = outcome {
        let what = format!(
            "the rollback to {} failed, and everything is as it was before{}",
            journal.snapshot,
            but_for(&journal)
        );
        let e = OpError::new(Class::RolledBack, what).because(why);
        return Err(match &journal.safety {
            Some(id) => e.hint(format!("the services run on the old state; its safety snapshot is {id}")),
            None => e,
        });
    }
    if let Outcome::Holds(why) = outcome {
        return Err(holds(&journal, why));
    }
    let state = session.state()?.dir();
    let kept = kept_places(&journal, state);
    let down = left_down(session.config()?, &journal.down);
    problems.extend(journal.git_troubles.iter().map(|trouble| trees::problem(trouble)));
    if journal.full != Full::Never {
        problems.push(Problem {
            kind: ProblemKind::Warning,
            component: None,
            subject: state.display().to_string(),
            what: full_disk(state),
            hint: Some("make room there".into()),
        });
    }
    Ok(RollbackReport {
        git: journal.moved,
        snapshot: journal.snapshot,
        safety: journal.safety,
        components: components.to_vec(),
        services: journal.services.into_iter().map(|s| s.name).collect(),
        down,
        kept,
        downtime_ms: None,
        exchange_ms: None,
        problems,
    })
}

/// That the disk filled under a rollback.
pub(super) fn full_disk(state: &Path) -> String {
    format!(
        "the disk of {} is full; the journal of the rollback is written into room that was kept for it, so that it comes to its end",
        state.display()
    )
}

/// The error of a rollback that was to be taken back and was not.
pub(super) fn holds(journal: &Journal, NotTaken { why, hint }: NotTaken) -> OpError {
    let what = format!(
        "the rollback to {} was not taken back, and holds: the services run on it again",
        journal.snapshot
    );
    let e = OpError::new(Class::Failed, what).because(why);
    match hint {
        Some(hint) => e.hint(hint),
        None => e,
    }
}

/// What is not as it was before although all was taken back, as the end of a sentence that says so; empty when there is nothing of that.
pub(super) fn but_for(journal: &Journal) -> String {
    let missed = journal.missed.iter().map(|place| format!("{place} {NOWHERE}"));
    let all: Vec<String> = missed.chain(journal.git_troubles.iter().cloned()).collect();
    let more = match all.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    match all.get(..NAMED.min(all.len())) {
        Some(named) if !named.is_empty() => format!(", but for this: {}{more}", named.join("; ")),
        _ => String::new(),
    }
}

const NOWHERE: &str = "was found neither there nor where it had been put away, and is not back";

/// The same as problems, of a rollback that was taken back.
pub(super) fn left_behind(journal: &Journal) -> Vec<Problem> {
    let missed = journal.missed.iter().map(|place| Problem {
        kind: ProblemKind::NotRestored,
        component: None,
        subject: place.clone(),
        what: NOWHERE.into(),
        hint: Some("look for it in the safety snapshot that was made before the rollback".into()),
    });
    missed.chain(journal.git_troubles.iter().map(|trouble| trees::left_behind(trouble))).collect()
}

/// Where what was put away lies.
pub(super) fn kept_places(journal: &Journal, state: &Path) -> Vec<String> {
    let sites = journal.sites.iter().filter(|site| !site.steps.is_empty());
    let mut places: Vec<String> =
        sites.map(|site| site.base.join(&site.staging).display().to_string()).collect();
    places.extend(dumps::places(journal, state));
    places
}
