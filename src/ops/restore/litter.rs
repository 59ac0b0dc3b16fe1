//! What killed restores in place left: hidden folders and unfinished names that nothing uses any more.
//!
//! Must never remove what a living restore is using: each has its hidden folder locked as long as it runs.

use crate::durable::own_names::{is_partial, is_staging};
use crate::platform::{at, remove::remove_tree};
use rustix::fs::{FlockOperation, flock};
use std::collections::HashSet;
use std::io;
use std::os::fd::BorrowedFd;

/// Removes the hidden folders that killed restores left in `dir`. False when a living restore, of which the folder is not among `ours`, may be at work there.
pub(super) fn clear_staging(dir: BorrowedFd<'_>, ours: &[&[u8]]) -> io::Result<bool> {
    let mut alone = true;
    for (name, kind) in at::names(dir)? {
        if !is_staging(&name) || !kind.is_dir() || ours.contains(&name.as_slice()) {
            continue;
        }
        let opened = match at::open_dir(dir, &name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => remove_tree(dir, &name)?,
            // In use, or a file system without locks: then nobody can tell.
            Err(_) => alone = false,
        }
    }
    Ok(alone)
}

/// Removes unfinished names and hidden folders from live directories, once from each.
#[derive(Default)]
pub(super) struct Unfinished(HashSet<at::FileId>);

impl Unfinished {
    /// Clears `dir`, unless that was done already. Only when no other restore is at work.
    pub(super) fn clear(&mut self, dir: BorrowedFd<'_>) -> io::Result<()> {
        if !self.0.insert(at::facts(dir)?.id) {
            return Ok(());
        }
        clear_staging(dir, &[])?;
        for (name, kind) in at::names(dir)? {
            // A directory of that kind is a restore elsewhere that may still be wanted.
            if is_partial(&name) && !kind.is_dir() {
                at::unlink(dir, &name)?;
            }
        }
        Ok(())
    }
}
