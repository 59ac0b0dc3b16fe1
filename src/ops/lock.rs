//! One writing run at a time for a project on this machine.

use crate::durable::{DurableError, FileLock, Held, sleep};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::remembering::UNWRITABLE;
use crate::ops::session::Session;
use crate::ops::stopped::{self, Asker};
use rustix::fs::{Access, access};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Takes the project's lock for `what`, waiting as long as `--wait` says, or tells who has it.
///
/// While a rollback is not at its end nothing else writes: what is live may be half of one state and half of another ([`Class::Person`]).
pub fn hold(session: &Session, what: &str) -> Result<Held> {
    let held = hold_for_recovery(session, what)?;
    let state = session.state()?.dir();
    crate::ops::rollback::refuse_unfinished(state, what)?;
    services_back(session)?;
    Ok(held)
}

/// Starts what a run that was killed had stopped for a capture.
pub fn services_back(session: &Session) -> Result<()> {
    let Some(config) = &session.config else {
        return Ok(());
    };
    let state = session.state()?.dir();
    let back = || stopped::bring_back(config, state, Asker::Run, &|text| session.note(text));
    for problem in session.around.interrupt.patiently(stopped::STARTED_FIRST, back)? {
        session.around.progress.problem(&problem);
    }
    Ok(())
}

/// Waits for `time`, or breaks off when the program is to end.
pub fn pause(interrupt: &Interrupt, time: Duration) -> ControlFlow<()> {
    if interrupt.signal().is_some() { ControlFlow::Break(()) } else { sleep(time) }
}

/// The same for what ends an unfinished rollback.
pub fn hold_for_recovery(session: &Session, what: &str) -> Result<Held> {
    refuse_unwritable(session.state()?.dir())?;
    take(session, &session.state()?.lock(), what, &|| true, |busy| {
        OpError::new(Class::Busy, "another run of this project is under way")
            .because(busy)
            .hint("wait for it to end, or use --wait; nothing needs to be unlocked, even if a run was killed")
    })
    .inspect(|_| session.writes.store(true, Ordering::Relaxed))
}

/// A lock that is there already may be taken where nothing new can be written; what is signed could then not be kept before it is put.
fn refuse_unwritable(state: &Path) -> Result<()> {
    access(state, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(io::Error::from)
        .doing(Class::Failed, || format!("the state folder {} cannot be written", state.display()))
        .map_err(|e| e.hint(UNWRITABLE))
}

/// Takes `lock` for `what`, waiting as long as `--wait` says while whoever has it `is_waited_for`; else `busy` makes the error.
pub(in crate::ops) fn take(
    session: &Session,
    lock: &FileLock,
    what: &str,
    is_waited_for: &dyn Fn() -> bool,
    busy: impl FnOnce(DurableError) -> OpError,
) -> Result<Held> {
    let now = || session.around.clock.now();
    let timeout = Some(session.around.wait.unwrap_or(Duration::ZERO));
    let interrupt = &session.around.interrupt;
    let mut pause = |time| if is_waited_for() { pause(interrupt, time) } else { ControlFlow::Break(()) };
    match lock.lock_wait(what, &now, timeout, &mut pause) {
        Ok(held) => Ok(held),
        Err(e @ DurableError::Busy { .. }) => {
            interrupt.check()?;
            Err(busy(e))
        }
        Err(e) => Err(e)
            .doing(Class::Failed, || format!("cannot take the lock {}", lock.path().display()))
            .map_err(|e| e.hint(UNWRITABLE)),
    }
}
