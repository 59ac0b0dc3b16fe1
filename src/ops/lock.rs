//! One writing run at a time for a project on this machine.

use crate::catalog::State;
use crate::durable::{FileLock, Held};
use crate::model::Timestamp;
use crate::ops::error::{Class, Doing, OpError, Result};

/// Takes the project's lock, or says who has it.
pub fn hold(state: &State, what: &str, now: Timestamp) -> Result<Held> {
    let path = state.lock_path();
    let taken = FileLock::try_lock(&path, what, now)
        .doing(Class::Failed, || format!("cannot take the lock {}", path.display()))?;
    taken.map_err(|holder| {
        OpError::new(Class::Busy, format!("another run is under way: {holder}"))
            .hint("wait for it to end; nothing needs to be unlocked, even if it was killed")
    })
}
