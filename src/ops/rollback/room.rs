//! Room in the state directory, kept from before the first service is stopped: the disk may fill meanwhile, by what is rebuilt or by a service that goes on,
//! and without its journal nothing goes on, so that services would stay down.
//!
//! One file for each turn that may be left, written over in place: room that is only set free goes to whoever is quicker, which may be what filled the disk.

use crate::durable::{self, DurableError};
use crate::ops::error::{Class, Doing, Result};
use crate::ops::rollback::journal::{BYTES_MAX, Journal};
use crate::ops::rollback::step::Step;
use std::path::{Path, PathBuf};

/// What writes of a way there and back come after the last at which there is nothing to lose: exchanging, rebuilding, starting, halting, undoing, restarting,
/// undone, and what is kept of it. Each database and each dump that is fed is one more.
const TURNS: usize = 8;
/// Of the longest journals there is room for no more than `ALL` in all, but for so many.
const FEWEST: u64 = 3;
const ALL: u64 = 256 << 20;
/// A journal grows: by why it goes back, by logs that go aside, by what is found nowhere. Half of its length and so much is more than that.
const GROWS: u64 = 16 << 10;
/// Set free for others the first time that the disk is full: the script for a database's server, what a service writes as it starts.
const OTHERS: u64 = 1 << 20;

const PREFIX: &str = "rollback.room-";

/// Whether the disk was full, and whether that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Full {
    #[default]
    Never,
    Met,
    Told,
}

impl Journal {
    /// Takes the room that the rest of the way may need, when its sites have the steps `found`.
    ///
    /// # Errors
    /// There is not so much; what was taken stays until the journal is closed.
    pub(super) fn keep_room(&self, state: &Path, found: &[Vec<Step>]) -> Result<()> {
        let mut full = self.clone();
        for (site, steps) in full.sites.iter_mut().zip(found) {
            site.steps.clone_from(steps);
        }
        // What could not be read again is better refused now than with services down.
        full.refuse_long(BYTES_MAX)?;
        let length = full.encode()?.len() as u64;
        let length = length + length / 2 + GROWS;
        let turns = (TURNS + self.databases.len() + self.feeds.len()) as u64;
        let copies = turns.min((ALL / length).max(FEWEST));
        let cannot =
            || format!("there is not enough room in {} to bring a rollback to its end", state.display());
        let kept = durable::create_dirs(&state.join(Self::KEPT), 0o700)
            .and_then(|()| durable::reserve(&others(state), OTHERS))
            .and_then(|()| {
                (0..copies).try_for_each(|n| durable::reserve(&state.join(format!("{PREFIX}{n:03}")), length))
            });
        kept.doing(Class::Failed, cannot).map_err(|e| {
            e.hint("nothing was stopped or changed; make room on the disk of the state directory")
        })
    }
}

fn others(state: &Path) -> PathBuf {
    state.join(format!("{PREFIX}others"))
}

/// What is there of it, in order; that for others is the last.
fn rooms(state: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(state).into_iter().flatten().flatten();
    let own = listed.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    let mut rooms: Vec<PathBuf> = own.map(|entry| entry.path()).collect();
    rooms.sort();
    rooms
}

/// Writes `bytes` as `path`, over what is there; where the disk is full, into room that was kept. True when it was.
pub(super) fn write(state: &Path, path: &Path, bytes: &[u8]) -> std::result::Result<bool, DurableError> {
    let mut full = match durable::replace(path, bytes) {
        Err(e) if e.is_full() => e,
        other => return other.map(|()| false),
    };
    for room in rooms(state) {
        match durable::replace_in(&room, path, bytes) {
            Ok(()) => {
                // Only now: the journal must not have to be quicker than others.
                let _goes_at_the_end = durable::remove(&others(state));
                return Ok(true);
            }
            Err(e) if e.is_full() => {}
            Err(e) => return Err(e),
        }
        // A file system that never writes in place gives its room back only so.
        let _or_stays = durable::remove(&room);
        match durable::replace(path, bytes) {
            Err(e) if e.is_full() => full = e,
            other => return other.map(|()| true),
        }
    }
    Err(full)
}

/// Gives it up. What cannot be removed is in nobody's way but its room's, and the next rollback uses it.
pub(super) fn give_up(state: &Path) {
    for room in rooms(state) {
        let _stays = durable::remove(&room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::crash;
    use crate::model::{SnapshotId, Timestamp};
    use rustix::io::Errno;

    #[test]
    fn on_a_full_disk_or_an_exhausted_quota_a_journal_is_written_into_the_room_that_was_kept() {
        for refused in [Errno::NOSPC, Errno::DQUOT] {
            let dir = tempfile::tempdir().unwrap();
            let (state, path) = (dir.path(), dir.path().join("rollback.json"));
            let journal = Journal::new(SnapshotId::new(Timestamp::UNIX_EPOCH, [0; 5]), Timestamp::UNIX_EPOCH);
            journal.keep_room(state, &[]).unwrap();
            assert_eq!(rooms(state).len(), TURNS + 1);
            assert!(!write(state, &path, b"there is room").unwrap());
            assert_eq!(rooms(state).len(), TURNS + 1);
            crash::fail_call(1, refused.raw_os_error());
            assert!(write(state, &path, b"there is none").unwrap(), "{refused}");
            assert!(crash::fired());
            assert_eq!(std::fs::read(&path).unwrap(), b"there is none");
            // One is the journal now, and what was kept for others is theirs.
            assert_eq!(rooms(state).len(), TURNS - 1);
            assert!(!others(state).exists());
            // Whatever else is wrong stays an error.
            crash::fail_call(1, Errno::ACCESS.raw_os_error());
            assert!(write(state, &path, b"refused").is_err());
            assert_eq!(
                (std::fs::read(&path).unwrap(), rooms(state).len()),
                (b"there is none".to_vec(), TURNS - 1)
            );
            give_up(state);
            assert!(rooms(state).is_empty());
        }
    }
}
