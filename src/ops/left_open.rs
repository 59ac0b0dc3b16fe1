//! What a run that was killed left in the middle, where somebody has to bring it to an end: an application may stand half-exchanged, or its services may be down.
//!
//! Nothing is written but the note of a lock that is taken to look. What is under way is nobody's concern: its own run ends it.

use crate::catalog::State;
use crate::durable::FileLock;
use crate::model::Timestamp;
use crate::ops::error::OpError;
use crate::ops::{guard, rollback, stopped};
use std::path::Path;

/// One thing that was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOpen {
    /// What, in words.
    pub what: &'static str,
    /// The command that ends it.
    pub way_out: &'static str,
}

const RESUME: &str = "`backstay rollback --resume` brings it to an end";

/// What lies open in the state folder `state`. What cannot be read counts as open: it is for a person to look at.
pub fn look(state: &Path, lock: &FileLock, now: Timestamp) -> Vec<LeftOpen> {
    // Somebody who may not take the lock is told: silence would be worse than a word too many.
    let idle = |lock: &FileLock| !matches!(lock.try_lock("look", now), Ok(None));
    let mut found = Vec::new();
    let mut add = |open: bool, lock: &FileLock, what, way_out| {
        if open && idle(lock) {
            found.push(LeftOpen { what, way_out });
        }
    };
    let rollback = rollback::is_unfinished(state).unwrap_or(true);
    add(rollback, lock, "a rollback is not at its end", RESUME);
    add(guard::is_open(state), &guard::lock(state), "a guarded command was cut off", RESUME);
    let way = "`backstay rollback --resume`, or the next backup, starts them";
    add(stopped::any(state), lock, "a capture was cut off while services were stopped for it", way);
    found
}

/// A rollback that is not at its end.
#[derive(Debug)]
pub enum Unfinished {
    /// Its own run brings it there.
    UnderWay,
    /// It was cut off: nothing may run until a person has it brought there.
    CutOff(OpError),
}

/// The rollback that is not at its end in the state folder `state`. What cannot be read counts as cut off.
pub fn unfinished_rollback(state: &Path, now: Timestamp) -> Option<Unfinished> {
    let open = || rollback::refuse_unfinished(state, "run").err();
    open()?;
    let held = State::open(state).map(|state| state.lock().try_lock("look", now));
    if matches!(held, Ok(Ok(None))) {
        return Some(Unfinished::UnderWay);
    }
    // Asked again with the lock held: its run may have come to its end meanwhile.
    open().map(Unfinished::CutOff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_whose_run_holds_the_lock_is_under_way_and_one_without_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        assert!(unfinished_rollback(dir.path(), now).is_none());
        std::fs::write(dir.path().join("rollback.json"), b"nonsense").unwrap();
        let lock = State::open(dir.path()).unwrap().lock();
        let held = lock.try_lock("rollback", now).unwrap();
        assert!(held.is_some());
        assert!(matches!(unfinished_rollback(dir.path(), now), Some(Unfinished::UnderWay)));
        drop(held);
        assert!(matches!(unfinished_rollback(dir.path(), now), Some(Unfinished::CutOff(_))));
        assert!(lock.try_lock("rollback", now).unwrap().is_some(), "looking keeps nobody from the lock");
    }
}
