//! What comes after: a rollback that was killed brought to its end, one that held taken back, and the gate for services.

use crate::catalog::State;
use crate::config::{Config, Event};
use crate::durable::Held;
use crate::model::{Problem, Timestamp};
use crate::ops::backup::{self, BackupOptions};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::hooks::{self, Ran};
use crate::ops::rollback::dumps::{wait_for_children, wait_for_servers};
use crate::ops::rollback::journal::{Journal, Turn, is_torn, refuse_unfinished};
use crate::ops::rollback::report::{kept_places, left_behind, report_of};
use crate::ops::rollback::run::{Downtime, Way, ground_of};
use crate::ops::rollback::services::{concerned, running, settle, stop_dying, stop_seen, watching};
use crate::ops::rollback::{Outcome, RollbackReport, give_up, rebuild};
use crate::ops::session::Session;
use crate::ops::stopped::{self, Asker};
use std::path::PathBuf;

/// Brings a rollback that was killed to its end: all of the new state where its services are well, else all of the old. `None`: there is none.
pub fn resume(session: &Session) -> Result<Option<RollbackReport>> {
    let held = crate::ops::lock::hold_for_recovery(session, "rollback")?;
    crate::ops::lock::services_back(session)?;
    let state = session.state()?.dir().to_owned();
    let Some(journal) = Journal::open(&state)? else {
        return Ok(None);
    };
    wait_for_children(&journal, &state)?;
    rebuild::wait_for_it(&state)?;
    let components = journal.components();
    let mut way = Way { session, held: &held, state, journal, downtime: Downtime::default() };
    let outcome = match way.journal.turn {
        Turn::Staging => {
            wait_for_servers(session, &way.journal, &way.state);
            give_up(&way.journal, &way.state)?;
            Outcome::Undone("it was ended before anything was touched".into())
        }
        Turn::Done | Turn::Undone => {
            let done = way.journal.turn == Turn::Done;
            way.journal.close(&way.state)?;
            let why = way.journal.why.clone().unwrap_or_default();
            if done { Outcome::Done } else { Outcome::Undone(why) }
        }
        Turn::Starting => watching(session, |watch| {
            wait_for_servers(session, &way.journal, &way.state);
            let come_up = settle(session, watch, &way.journal).and_then(|()| way.come_up(watch));
            match come_up {
                Ok(()) => Ok(Outcome::Done),
                Err(e) => way.back(watch, &e),
            }
        })?,
        Turn::Restarting => watching(session, |watch| {
            settle(session, watch, &way.journal)?;
            way.restart(watch)
        })?,
        Turn::Stopping | Turn::Exchanging | Turn::Rebuilding | Turn::Halting | Turn::Undoing => {
            watching(session, |watch| {
                settle(session, watch, &way.journal)?;
                if way.journal.turn == Turn::Stopping {
                    stop_dying(session, watch, &way.journal)?;
                }
                if matches!(way.journal.turn, Turn::Exchanging | Turn::Undoing) {
                    let stopped = stop_seen(session, watch, &way.journal);
                    stopped.and_then(|()| way.note_what_came_after()).map_err(|e| way.stuck(&e))?;
                }
                // Once nothing runs on half of an exchange any more.
                wait_for_servers(session, &way.journal, &way.state);
                let why = way.journal.why.clone().unwrap_or_else(|| "it was ended on the way".into());
                way.back(watch, &OpError::new(Class::Failed, why))
            })?
        }
    };
    // What was killed had run its `before`: what belongs behind it is not left out.
    let mut done = report_of(way.journal, &way.state, &components, outcome, Vec::new());
    let problems = hooks::afterwards(session, Event::Rollback, &components, snapshot_of, &done);
    if let Ok(report) = &mut done {
        report.problems.extend(problems);
    }
    done.map(Some)
}

fn snapshot_of(report: &RollbackReport) -> String {
    report.snapshot.to_string()
}

/// Takes the last rollback back: a safety snapshot of what is live now, then the exchange the other way round.
pub fn undo(session: &Session) -> Result<RollbackReport> {
    session.check_writable()?;
    let held = crate::ops::lock::hold(session, "rollback")?;
    let state = session.state()?.dir().to_owned();
    refuse_unfinished(&state, "undoing of a rollback")?;
    let last = Journal::kept(&state)?.pop();
    let Some((kept, journal)) = last.filter(|(_, journal)| journal.turn == Turn::Done && !journal.swept)
    else {
        return Err(OpError::new(Class::NotFound, "there is no rollback to take back")
            .hint("a rollback can be taken back for a week; `backstay rollback latest-safety` goes to the state before the last one"));
    };
    refuse_without_the_other_state(&journal)?;
    for way in journal.git.iter().filter(|way| way.is_there()) {
        way.back().refuse_loss()?;
    }
    let components = journal.components();
    let Ran { outcome: mut report, problems } =
        hooks::around(session, Event::Rollback, &components, snapshot_of, || {
            take_back(session, &held, (kept, journal), components.clone())
        })?;
    report.problems.extend(problems);
    Ok(report)
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
            return Err(OpError::new(Class::NotFound, what).hint(
                "nothing was stopped or changed; `backstay rollback latest-safety` goes to the state before it",
            ));
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
) -> Result<RollbackReport> {
    let state = session.state()?.dir().to_owned();
    let options = BackupOptions {
        only: components.clone(),
        note: Some(format!("before taking back the rollback to {}", journal.snapshot)),
        safety: true,
        ..BackupOptions::default()
    };
    let safety = backup::run_held(session, &options, held)?;
    session.note(&format!("safety snapshot {}", safety.snapshot));
    journal.safety = Some(safety.snapshot);
    journal.why = Some("it was taken back".into());
    // What failed of git then is told; what fails of it now is to be.
    journal.git_troubles.clear();
    let snapshot = journal.snapshot.clone();
    let mut way = Way { session, held, state, journal, downtime: Downtime::default() };
    way.journal.services = watching(session, |watch| {
        let concerned = concerned(session.config()?, &components);
        running(session, watch, &concerned)
    })?;
    // Killed from here on, it is taken back by whoever comes next: one that started services now would start them beside those that run.
    way.journal.turn(&way.state, Turn::Halting)?;
    crate::durable::remove(&kept)
        .doing(Class::Failed, || "cannot end the journal of the last rollback".into())?;
    watching(session, |watch| {
        let why = OpError::new(Class::Failed, "it was taken back");
        way.back(watch, &why)
    })?;
    let kept = kept_places(&way.journal, &way.state);
    Ok(RollbackReport {
        snapshot,
        safety: way.journal.safety.clone(),
        components,
        services: way.journal.services.iter().map(|s| s.name.clone()).collect(),
        kept,
        git: Vec::new(),
        downtime_ms: None,
        exchange_ms: None,
        problems: left_behind(&way.journal),
    })
}

/// Fails while a service may not be started: what is live may be half of one state and half of another. Starts what a killed run had stopped for a
/// capture, unless another run is at work.
pub fn ready(config: &Config, now: Timestamp, note: &dyn Fn(&str)) -> Result<Vec<Problem>> {
    let state = &config.state_dir;
    if let Some(journal) = Journal::open(state)?.filter(is_torn) {
        let what =
            format!("a rollback to {} stopped half-way: nothing may be started on this", journal.snapshot);
        return Err(OpError::new(Class::Person, what).hint("backstay rollback --resume"));
    }
    if !stopped::any(state) {
        return Ok(Vec::new());
    }
    let cannot = || format!("cannot take the lock in {}", state.display());
    let lock = State::open(state).doing(Class::Failed, cannot)?.lock();
    match lock.try_lock("ready", now).doing(Class::Failed, cannot)? {
        Some(_held) => stopped::bring_back(config, state, Asker::Start, note),
        // What is at work stopped them, and starts them.
        None => Ok(Vec::new()),
    }
}
