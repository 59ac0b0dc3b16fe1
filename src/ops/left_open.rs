//! What a run that was killed left in the middle, where somebody has to bring it to an end: an application may stand half-exchanged, or its services may be down.
//!
//! Nothing is written but the note of a lock that is taken to look. What is under way is nobody's concern: its own run ends it.

use crate::durable::FileLock;
use crate::model::Timestamp;
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
