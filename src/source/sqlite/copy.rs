//! A copy of a database in the spool, sent after the transaction ended.

use crate::source::sqlite::error::{Cause, Failure};
use crate::source::sqlite::outlet::Outlet;
use crate::source::sqlite::wire::CHUNK;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// SQLite locks this byte and stores nothing in its page.
const PENDING_BYTE: u64 = 0x4000_0000;

fn prefix(process: u32) -> String {
    format!("sqlite-{process}-")
}

/// Removes what a child of this number, which has ended, left in `spool`.
pub(super) fn remove_copies(spool: &Path, process: u32) {
    let prefix = prefix(process);
    let entries = std::fs::read_dir(spool).into_iter().flatten().flatten();
    for entry in entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)) {
        // What stays is removed with everything else in the spool when the next run begins.
        drop(std::fs::remove_file(entry.path()));
    }
}

/// A file in the spool, readable by its owner alone, removed when dropped.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Copy {
    /// Makes an empty one.
    pub(super) fn create(spool: &Path) -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = spool.join(format!("{}{number}.tmp", prefix(std::process::id())));
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                // Left by a killed child of the same process number.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => return Ok(Self { file: other?, path }),
            }
        }
    }

    /// Sends bytes `from..size`; the page that SQLite uses for locks is sent as zeros.
    pub(super) fn send(&self, outlet: &Outlet, from: u64, size: u64, page_size: u32) -> Result<(), Failure> {
        let mut at = from;
        while at < size {
            let length = (size - at).min(CHUNK as u64);
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(CHUNK)];
            let read = self.file.read_exact_at(&mut bytes, at);
            read.map_err(|e| {
                Failure::new(Cause::Unreadable, &format!("the copy in the spool is cut short: {e}"))
            })?;
            blank_lock_page(&mut bytes, at, page_size);
            outlet.data(bytes)?;
            at += length;
        }
        Ok(())
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // A leftover is removed with everything else in the spool when the next run begins.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Zeroes what of the lock page lies in `bytes`, which begin at `at` of the database.
pub(super) fn blank_lock_page(bytes: &mut [u8], at: u64, page_size: u32) {
    let end = at + bytes.len() as u64;
    let (from, to) = (PENDING_BYTE.max(at), (PENDING_BYTE + u64::from(page_size)).min(end));
    if from < to
        && let (Ok(from), Ok(to)) = (usize::try_from(from - at), usize::try_from(to - at))
    {
        bytes[from..to].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lock_page_is_blanked() {
        let mut bytes = vec![1; 3 * 4096];
        blank_lock_page(&mut bytes, PENDING_BYTE - 4096, 4096);
        assert!(bytes[..4096].iter().chain(&bytes[8192..]).all(|b| *b == 1));
        assert!(bytes[4096..8192].iter().all(|b| *b == 0));
        let mut elsewhere = vec![1; 4096];
        blank_lock_page(&mut elsewhere, PENDING_BYTE + 4096, 4096);
        blank_lock_page(&mut elsewhere, 0, 4096);
        assert!(elsewhere.iter().all(|b| *b == 1));
    }

    #[test]
    fn a_copy_is_private_and_goes_away() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let copy = Copy::create(dir.path()).unwrap();
        assert_eq!(copy.file.metadata().unwrap().permissions().mode() & 0o077, 0);
        drop(copy);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
