//! What comes after a kill: the rollback brought to its end, and the gate for services.

use crate::catalog::State;
use crate::config::{Config, Event};
use crate::model::{Problem, Timestamp};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::hooks;
use crate::ops::rollback::dumps::{wait_for_children, wait_for_servers};
use crate::ops::rollback::journal::{Journal, Turn, is_torn};
use crate::ops::rollback::report::report_of;
use crate::ops::rollback::run::{Downtime, TO_ITS_END, Way};
use crate::ops::rollback::services::{settle, stop_dying, stop_seen, stop_untold, watching};
use crate::ops::rollback::{Outcome, RollbackReport, give_up, rebuild};
use crate::ops::session::Session;
use crate::ops::stopped::{self, Asker};

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
        // Nothing live is touched of these.
        Turn::Staging | Turn::Done | Turn::Undone => way.end_by_turn()?,
        _ => {
            // Services may be down already: where there is no more room than the killed run had taken, that must do.
            let _as_much_as_there_is = way.journal.keep_room(&way.state, &[]);
            session.around.interrupt.patiently(TO_ITS_END, || way.end_by_turn())?
        }
    };
    // What was killed had run its `before`: what belongs behind it is not left out.
    let mut done = report_of(session, way.journal, &components, outcome, Vec::new());
    let problems = hooks::afterwards(session, Event::Rollback, &components, snapshot_of, &done);
    if let Ok(report) = &mut done {
        report.problems.extend(problems);
    }
    done.map(Some)
}

impl Way<'_> {
    /// Does what is left to do from the turn in which it was killed.
    fn end_by_turn(&mut self) -> Result<Outcome> {
        let session = self.session;
        match self.journal.turn {
            Turn::Staging => {
                wait_for_servers(session, &self.journal, &self.state);
                give_up(&self.journal, &self.state)?;
                Ok(Outcome::Undone("it was ended before anything was touched".into()))
            }
            Turn::Done | Turn::Undone => {
                let done = self.journal.turn == Turn::Done;
                self.journal.close(&self.state)?;
                let why = self.journal.why.clone().unwrap_or_default();
                Ok(if done { Outcome::Done } else { Outcome::Undone(why) })
            }
            Turn::Starting => watching(session, |watch| {
                wait_for_servers(session, &self.journal, &self.state);
                let come_up = settle(session, watch, &self.journal)
                    .and_then(|()| stop_untold(session, watch, &self.journal))
                    .and_then(|()| self.come_up(watch));
                match come_up {
                    Ok(()) => Ok(Outcome::Done),
                    Err(e) => self.back(watch, &e),
                }
            }),
            Turn::Restarting => watching(session, |watch| {
                settle(session, watch, &self.journal)?;
                stop_untold(session, watch, &self.journal)?;
                self.restart(watch)
            }),
            Turn::Stopping | Turn::Exchanging | Turn::Rebuilding | Turn::Halting | Turn::Undoing => {
                watching(session, |watch| {
                    settle(session, watch, &self.journal)?;
                    if self.journal.turn == Turn::Stopping {
                        stop_dying(session, watch, &self.journal)?;
                    }
                    if matches!(self.journal.turn, Turn::Exchanging | Turn::Undoing) {
                        let stopped = stop_seen(session, watch, &self.journal)
                            .and_then(|()| stop_untold(session, watch, &self.journal));
                        stopped.and_then(|()| self.note_what_came_after()).map_err(|e| self.stuck(&e))?;
                    }
                    // Once nothing runs on half of an exchange any more.
                    wait_for_servers(session, &self.journal, &self.state);
                    let why = self.journal.why.clone().unwrap_or_else(|| "it was ended on the way".into());
                    self.back(watch, &OpError::new(Class::Failed, why))
                })
            }
        }
    }
}

pub(super) fn snapshot_of(report: &RollbackReport) -> String {
    report.snapshot.to_string()
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
