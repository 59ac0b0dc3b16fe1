//! Going back by hand: never while a command is guarded, and never over what nobody who was asked could know of.

use crate::durable::Held;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::guard::cut_off::refuse_running;
use crate::ops::guard::journal::GuardJournal;
use crate::ops::guard::{ROLLBACK, hold};
use crate::ops::session::Session;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Somebody is about to go back by hand, and may be asked first. Nobody is kept waiting for the answer.
pub struct ByHand<'a> {
    session: &'a Session,
    state: PathBuf,
    /// What was open of a guarded command, byte for byte: one that cannot be read is for that person to look at.
    seen: Option<Vec<u8>>,
}

/// It goes back by hand: no command is guarded meanwhile.
pub struct GoingBack {
    state: PathBuf,
    _held: Held,
}

/// Begins to go back by hand.
///
/// # Errors
/// [`Class::Busy`]: a guarded command runs. It has its own way back.
pub fn by_hand(session: &Session) -> Result<ByHand<'_>> {
    let _held = hold(session, ROLLBACK)?;
    let state = session.state()?.dir().to_owned();
    refuse_cut_off_and_running(&state)?;
    let seen = open(&state)?;
    Ok(ByHand { session, state, seen })
}

impl ByHand<'_> {
    /// Takes the lock, so that no guarded command begins. Who was `asked` decided on what there was then, so nothing is waited for.
    ///
    /// # Errors
    /// A guarded command began since: it runs ([`Class::Busy`]), or was cut off ([`Class::Person`]).
    pub fn hold(self, asked: bool) -> Result<GoingBack> {
        let mut session = self.session.clone();
        if asked {
            session.around.wait = Some(Duration::ZERO);
        }
        let held = hold(&session, ROLLBACK)?;
        refuse_cut_off_and_running(&self.state)?;
        let now = open(&self.state)?;
        if now.is_some() && now != self.seen {
            let what = "a guarded command began and was cut off meanwhile, so nothing was changed";
            return Err(OpError::new(Class::Person, what)
                .hint("`backstay rollback --resume` decides what becomes of it, or this command once more"));
        }
        Ok(GoingBack { state: self.state, _held: held })
    }
}

impl GoingBack {
    /// Everything is back: that decides what becomes of a guarded command that was cut off.
    pub fn settled(self) -> Result<()> {
        GuardJournal::close(&self.state)
    }
}

fn open(state: &Path) -> Result<Option<Vec<u8>>> {
    let path = super::journal::path(state);
    match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).doing(Class::Failed, || format!("cannot read {}", path.display())),
    }
}

/// One whose guard was killed may still run.
fn refuse_cut_off_and_running(state: &Path) -> Result<()> {
    // What cannot be read tells nothing, and going back by hand is the way out of that.
    match GuardJournal::open(state) {
        Ok(Some(journal)) => refuse_running(&journal),
        Ok(None) | Err(_) => Ok(()),
    }
}
