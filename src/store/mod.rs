//! Row 2: places where objects live.
//!
//! A store knows bytes under keys and nothing of what they mean. It must never overwrite an object, never say that something was stored
//! before it is durable, and never decide by a listing, a time or an ETag alone that something is there.

pub mod absent;
mod buffers;
#[cfg(any(feature = "gcs", feature = "azure"))]
pub mod cloud;
pub mod layout;
pub mod local;
mod remote;
pub mod s3;
#[doc(hidden)]
pub mod testing;

pub use absent::AbsentStore;
pub use layout::{Key, Prefix};
pub use local::LocalStore;

use crate::model::ObjectId;
use std::path::{Path, PathBuf};

/// What went wrong with a store, as far as callers must tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store itself is not there.
    Missing,
    /// The object is not there.
    NotFound,
    /// An object of that name is there already, with other bytes.
    Exists,
    /// Access was refused.
    Denied,
    /// The store cannot be reached just now; trying again may help.
    Unreachable,
    /// No room.
    Full,
    /// What came back is not what was asked for: wrong length, too large.
    Corrupt,
    /// The wait for it was interrupted.
    Interrupted,
    /// Anything else.
    Other,
}

/// A store's error: what was to be done, to which object of which store, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {subject} in store {store:?}")]
pub struct StoreError {
    /// What kind.
    pub kind: StoreErrorKind,
    /// The store's name.
    pub store: String,
    /// What was to be done: `read`, `write`, `list`, ….
    pub verb: &'static str,
    /// The object or place.
    pub subject: String,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// An object in a listing. A listing never proves that something is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
    /// When the store says it was put; informative only.
    pub modified: Option<jiff::Timestamp>,
}

/// A version that a store keeps of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The store's name for it.
    pub id: String,
    /// Its size in bytes.
    pub size: u64,
    /// When the store says it was put.
    pub modified: jiff::Timestamp,
}

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object was created.
    Created,
    /// Created, and the store itself compared the SHA-256 of what it keeps.
    Proved,
    /// The same bytes were there already (read and compared).
    AlreadyThere,
}

/// A place where objects live. Blocking; shared between threads.
pub trait Store: Send + Sync {
    /// The name it has in the configuration.
    fn name(&self) -> &str;

    /// Where it is, for people; never holds a secret.
    fn location(&self) -> String;

    /// A directory on the store's own file system where data objects may be prepared, so that [`Store::put_file`] can move them into place.
    fn spool_dir(&self) -> Option<PathBuf> {
        None
    }

    /// Puts the file at `path`, which has `size` bytes with SHA-256 `sha256` and, where the store has a [`Store::spool_dir`], is fsynced,
    /// under `key`, create-only, durable on return.
    /// On success the file at `path` is gone (moved or removed).
    fn put_file(&self, key: &Key, path: &Path, size: u64, sha256: &ObjectId) -> Result<Put, StoreError>;

    /// Puts the file at `path` (as for [`Store::put_file`]) under `key` in the place of what is there: after a crash there is the old object
    /// or the new one. Only for what was read and proved wrong just now: a data object with other bytes than its name says, or a document or
    /// instruction whose signature does not hold. Nothing else is ever replaced.
    fn replace(&self, key: &Key, path: &Path, size: u64, sha256: &ObjectId) -> Result<(), StoreError> {
        let _ = (path, size, sha256);
        Err(StoreError {
            kind: StoreErrorKind::Other,
            store: self.name().to_owned(),
            verb: "replace",
            subject: key.to_string(),
            source: "this store cannot replace objects".into(),
        })
    }

    /// Puts `bytes` under `key`, create-only, durable on return.
    fn put_bytes(&self, key: &Key, bytes: &[u8]) -> Result<Put, StoreError>;

    /// Reads a whole object of at most `max_bytes` (more is `Corrupt`).
    fn get(&self, key: &Key, max_bytes: u64) -> Result<Vec<u8>, StoreError>;

    /// Reads exactly `length` bytes from `offset` (fewer is `Corrupt`).
    fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Vec<u8>, StoreError>;

    /// Reads a whole object from the medium, past caches where that can be had, and gives its size and SHA-256.
    /// `seen` hears how many bytes each step read.
    fn read_back(&self, key: &Key, seen: &mut dyn FnMut(u64)) -> Result<(u64, ObjectId), StoreError>;

    /// The object's size, or `None` when it is certain that it is not there.
    fn head(&self, key: &Key) -> Result<Option<u64>, StoreError>;

    /// All objects below `prefix`, sorted by key. Names that are no keys of the format are left out.
    fn list(&self, prefix: Prefix) -> Result<Vec<Listed>, StoreError>;

    /// Every version of `key` that the store still holds, the newest first: empty where it keeps none. Says nothing about what is in them.
    fn versions(&self, key: &Key) -> Result<Vec<Version>, StoreError> {
        let _ = key;
        Ok(Vec::new())
    }

    /// Reads exactly `length` bytes from `offset` of one of [`Store::versions`].
    fn get_version(
        &self,
        key: &Key,
        version: &Version,
        offset: u64,
        length: u64,
    ) -> Result<Vec<u8>, StoreError> {
        let _ = (version, offset, length);
        Err(StoreError {
            kind: StoreErrorKind::NotFound,
            store: self.name().to_owned(),
            verb: "read",
            subject: key.to_string(),
            source: "this store keeps no versions".into(),
        })
    }

    /// Removes an object; one that is not there is no error.
    fn delete(&self, key: &Key) -> Result<(), StoreError>;

    /// How far the store's clock was ahead of this machine's at its last answer; `None` when it does not tell.
    fn clock_ahead(&self) -> Option<jiff::SignedDuration> {
        None
    }

    /// True when a delete only hides, because the store keeps versions; `None` when that is not known.
    fn keeps_versions(&self) -> Option<bool> {
        None
    }
}
