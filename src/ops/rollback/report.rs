//! What a rollback tells at its end: what it did, or that all is as it was before; and what is not, although the way went on.

use crate::model::{Problem, ProblemKind};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::rollback::journal::Journal;
use crate::ops::rollback::room::Full;
use crate::ops::rollback::run::words_of;
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
    match outcome {
        Outcome::Undone(_) if journal.undo => return Err(taken_back(session, &journal)?),
        Outcome::Undone(why) => return Err(undone(&journal, why)),
        Outcome::Holds(why) => return Err(holds(&journal, why)),
        Outcome::Done => {}
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
        taken_back: false,
        kept,
        downtime_ms: None,
        exchange_ms: None,
        problems,
    })
}

/// The error of a rollback that undid itself.
fn undone(journal: &Journal, why: String) -> OpError {
    let what = format!(
        "the rollback to {} failed, and everything is as it was before{}",
        journal.snapshot,
        but_for(journal)
    );
    let e = OpError::new(Class::RolledBack, what).because(why);
    let some_were_down = !journal.down.is_empty() || journal.services.iter().any(|service| service.was_down);
    let services = if some_were_down { "the services that ran before" } else { "the services" };
    match &journal.safety {
        Some(id) => e.hint(format!("{services} run on the old state; its safety snapshot is {id}")),
        None => e,
    }
}

/// What is told of an undo that was killed and came to its end afterwards. Nothing failed but the run that had begun it.
fn taken_back(session: &Session, journal: &Journal) -> Result<OpError> {
    let what = format!(
        "the rollback to {} was taken back, as a run that was killed had begun to do: everything is as it was before it{}",
        journal.snapshot,
        but_for(journal)
    );
    let e = OpError::new(Class::RolledBack, what);
    let way = journal
        .safety
        .as_ref()
        .map(|id| format!("to go to what was live until then: backstay rollback {id}"));
    let down = left_down(session.config()?, &journal.down);
    let hints: Vec<String> = way.into_iter().chain(down.iter().map(ToString::to_string)).collect();
    Ok(if hints.is_empty() { e } else { e.hint(hints.join("; ")) })
}

/// All is back, and `e` is what keeps it from being in order. `why` a rollback had failed that was not to be taken back.
pub(super) fn not_well(journal: &Journal, why: &str, e: &OpError) -> OpError {
    let (back, but) = (&journal.snapshot, but_for(journal));
    let trouble = "a service did not come up on it, or what was left could not be made fit for it again";
    let look =
        "look at the service's own log; what was live before is live again, and nothing of it was changed";
    let (what, hint) = match (journal.undo, &journal.safety) {
        (false, _) => (
            format!("everything is as it was before{but}, but {trouble} (the rollback had failed: {why})"),
            look.to_owned(),
        ),
        (true, safety) => (
            format!(
                "the rollback to {back} was taken back, and everything is as it was before it{but}, but {trouble}"
            ),
            safety.as_ref().map_or_else(
                || look.to_owned(),
                |id| format!("{look}; to go to what was live until now: backstay rollback {id}"),
            ),
        ),
    };
    OpError::new(Class::Person, what).because(words_of(e)).hint(hint)
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
