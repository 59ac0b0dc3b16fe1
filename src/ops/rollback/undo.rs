//! A rollback that held is taken back: a safety snapshot of what is live, and the exchange the other way round; or it goes on to hold.

use crate::config::Event;
use crate::durable::Held;
use crate::model::{Problem, SnapshotId, Timestamp};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::hooks::{self, Ran};
use crate::ops::rollback::journal::{Journal, Turn, refuse_unfinished};
use crate::ops::rollback::recover::snapshot_of;
use crate::ops::rollback::report::{holds, kept_places, left_behind};
use crate::ops::rollback::room;
use crate::ops::rollback::run::{Downtime, TO_ITS_END, Way, ground_of, words_of};
use crate::ops::rollback::services::{On, before_undo, concerned, start, watching};
use crate::ops::rollback::standing::{Standing, left_down};
use crate::ops::rollback::{NotTaken, Outcome, RollbackReport};
use crate::ops::session::Session;
use crate::service::Watch;
use serde::Serialize;
use std::path::{Path, PathBuf};

const TAKEN_BACK: &str = "it was taken back";

/// What taking the last rollback back would do.
#[derive(Debug, Clone, Serialize)]
pub struct ShownUndo {
    /// The snapshot that the rollback went to.
    pub snapshot: SnapshotId,
    /// When it began.
    pub begun: Timestamp,
    /// Components of which comes back what was live before it.
    pub components: Vec<String>,
    /// Where that is kept.
    pub kept: Vec<String>,
    /// Services that are stopped and started.
    pub services: Vec<String>,
    /// Those that are down, and are started.
    pub starts: Vec<String>,
    /// Those that are down, and stay so.
    pub down: Vec<String>,
    /// What to know before.
    pub warnings: Vec<Problem>,
}

impl ShownUndo {
    /// What is down does not stay so.
    pub fn start_what_is_down(&mut self) {
        self.starts.append(&mut self.down);
    }
}

/// What taking the last rollback back would do; touches nothing.
///
/// # Errors
/// Why it cannot be taken back.
pub fn plan_undo(session: &Session) -> Result<ShownUndo> {
    let state = session.state()?.dir();
    let (_, journal) = last_to_take_back(state)?;
    let components = journal.components();
    let standing = Standing::of(session, &concerned(session.config()?, &components))?;
    Ok(ShownUndo {
        kept: kept_places(&journal, state),
        snapshot: journal.snapshot,
        begun: journal.begun,
        components,
        services: standing.up,
        starts: Vec::new(),
        down: standing.down,
        warnings: standing.warnings,
    })
}

/// Takes the last rollback back: a safety snapshot of what is live now, then the exchange the other way round. With `start` services that are down
/// are started on what comes back, too.
pub fn undo(session: &Session, start: bool) -> Result<RollbackReport> {
    session.check_writable()?;
    let held = crate::ops::lock::hold(session, "rollback")?;
    let state = session.state()?.dir().to_owned();
    let (kept, journal) = last_to_take_back(&state)?;
    let components = journal.components();
    let Ran { outcome: mut report, problems } =
        hooks::around(session, Event::Rollback, &components, snapshot_of, || {
            take_back(session, &held, (kept, journal), components.clone(), start)
        })?;
    report.problems.extend(problems);
    Ok(report)
}

/// The rollback that an undo is about, with where its journal is kept. Nothing is begun where it could not come to its end.
fn last_to_take_back(state: &Path) -> Result<(PathBuf, Journal)> {
    refuse_unfinished(state, "undoing of a rollback")?;
    let (kept, journal) = last_that_holds(state)?;
    refuse_without_the_other_state(&journal)?;
    for way in journal.git.iter().filter(|way| way.is_there()) {
        way.back().refuse_loss()?;
    }
    Ok((kept, journal))
}

/// The last rollback, where it can be taken back. One after it that undid itself left everything as that had made it, by the same inodes, and does not count; one that
/// a person took back does: who asks twice means the same one.
fn last_that_holds(state: &Path) -> Result<(PathBuf, Journal)> {
    let mut kept = Journal::kept(state)?;
    while kept.pop_if(|(_, journal)| journal.turn == Turn::Undone && !journal.undo).is_some() {}
    match kept.pop() {
        Some((path, journal)) if journal.turn == Turn::Done && !journal.swept => Ok((path, journal)),
        Some((_, taken_back)) if taken_back.undo => {
            let before = kept.iter().rev().find(|(_, journal)| journal.turn == Turn::Done);
            let before = before.and_then(|(_, journal)| journal.safety.as_ref());
            let way = match before {
                Some(safety) => format!("what was live before the rollback that holds now is in safety snapshot {safety}; what was live before the last one was taken back, in `latest-safety`"),
                None => "what was live before it was taken back is in its safety snapshot: `backstay rollback latest-safety`".into(),
            };
            Err(OpError::new(Class::NotFound, "the last rollback was taken back already").hint(way))
        }
        _ => Err(OpError::new(Class::NotFound, "there is no rollback to take back")
            .hint("a rollback can be taken back for a week; `backstay rollback latest-safety` goes to the state before the last one")),
    }
}

/// Fails where something of what was live before is nowhere any more: begun all the same, the way back would end in its middle, with the services down.
fn refuse_without_the_other_state(journal: &Journal) -> Result<()> {
    for site in &journal.sites {
        let ground = ground_of(site)?;
        let cannot = || format!("cannot look at {}", site.base.display());
        for step in &site.steps {
            if ground.can_take_back(step).doing(Class::Failed, cannot)? {
                continue;
            }
            let what = format!(
                "the rollback to {} cannot be taken back: what was live before it in {} is not there any more",
                journal.snapshot,
                site.base.display()
            );
            // One after it that undid itself made a safety snapshot, too, of what this one had brought.
            let safety = journal.safety.as_ref().map_or_else(|| "latest-safety".into(), ToString::to_string);
            return Err(OpError::new(Class::NotFound, what).hint(format!(
                "nothing was stopped or changed; `backstay rollback {safety}` goes to the state before it (`latest-safety`, where no other was begun since)"
            )));
        }
    }
    Ok(())
}

/// Takes back what `journal`, kept as `kept`, tells of.
fn take_back(
    session: &Session,
    held: &Held,
    (kept, mut journal): (PathBuf, Journal),
    components: Vec<String>,
    start: bool,
) -> Result<RollbackReport> {
    let state = session.state()?.dir().to_owned();
    journal.why = Some(TAKEN_BACK.into());
    journal.undo = true;
    // What failed of git then is told; what fails of it now is to be.
    journal.git_troubles.clear();
    let snapshot = journal.snapshot.clone();
    let mut way = Way { session, held, state, journal, downtime: Downtime::default() };
    way.safety_of_undo(&components)?;
    let found = watching(session, |watch| {
        let concerned = concerned(session.config()?, &components);
        before_undo(session, watch, &concerned, start)
    })?;
    (way.journal.services, way.journal.down) = (found.running, found.down);
    session.around.interrupt.check()?;
    way.journal.keep_room(&way.state, &[]).inspect_err(|_| room::give_up(&way.state))?;
    session.around.progress.no_phase();
    let outcome = session.around.interrupt.patiently(TO_ITS_END, || way.take_back_kept(&kept))?;
    if let Outcome::Holds(why) = outcome {
        return Err(holds(&way.journal, why));
    }
    let kept = kept_places(&way.journal, &way.state);
    Ok(RollbackReport {
        snapshot,
        safety: way.journal.safety.clone(),
        components,
        services: way.journal.services.iter().map(|s| s.name.clone()).collect(),
        down: left_down(session.config()?, &way.journal.down),
        taken_back: true,
        kept,
        git: Vec::new(),
        downtime_ms: None,
        exchange_ms: None,
        problems: left_behind(&way.journal),
    })
}

impl Way<'_> {
    fn take_back_kept(&mut self, kept: &Path) -> Result<Outcome> {
        // Killed from here on, it is taken back by whoever comes next: one that started services now would start them beside those that run.
        self.turn(Turn::Halting)?;
        crate::durable::remove(kept)
            .doing(Class::Failed, || "cannot end the journal of the last rollback".into())?;
        watching(self.session, |watch| self.back(watch, &OpError::new(Class::Failed, TAKEN_BACK)))
    }

    /// It is not taken back, because of `why`: the services run again on what is live, of which nothing was touched.
    pub(super) fn hold_on(&mut self, watch: &Watch<'_>, why: &OpError) -> Result<Outcome> {
        self.session.note(&format!("it is not taken back: {}", words_of(why)));
        let up = start(self.session, watch, &self.journal, On::Old);
        self.journal.holds();
        let ended = self.turn(Turn::Done).and_then(|()| self.journal.close(&self.state));
        ended.map_err(|e| self.stuck(&e))?;
        let outcome = Outcome::Holds(NotTaken { why: words_of(why), hint: why.hint.clone() });
        up.map(|()| outcome).map_err(|e| {
            let what = format!(
                "the rollback was not taken back ({}), and a service did not come up again on it",
                words_of(why)
            );
            OpError::new(Class::Person, what)
                .because(words_of(&e))
                .hint("look at the service's own log; what was live is live, and nothing of it was changed")
        })
    }
}
