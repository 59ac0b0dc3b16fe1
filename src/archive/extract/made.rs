//! What an extractor made, so that it never trusts a name alone.

use crate::platform::at::FileId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A path, short: the first 16 bytes of its BLAKE3, which nobody can make two paths share.
pub(super) type Key = [u8; 16];

/// The key of a path.
pub(super) fn key(path: &[u8]) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(path).as_bytes()[..16]);
    key
}

/// Something that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    /// Which inode it is.
    pub(super) id: FileId,
    /// What it is.
    pub(super) sort: Sort,
}

/// As much of a type as an extractor must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// A directory: things may lie in it.
    Dir,
    /// A file: it may be opened.
    File,
    /// Anything else: it may have further names, and must not be opened.
    Node,
}

/// Everything that was made, by path. 40 bytes an entry.
#[derive(Debug, Default)]
pub(super) struct Register(Mutex<HashMap<Key, Made>>);

impl Register {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Made>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, key: Key, id: FileId, sort: Sort) {
        self.lock().insert(key, Made { id, sort });
    }

    pub(super) fn get(&self, key: &Key) -> Option<Made> {
        self.lock().get(key).copied()
    }

    pub(super) fn remove(&self, key: &Key) {
        self.lock().remove(key);
    }
}
