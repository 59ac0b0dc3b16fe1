//! Older versions of a store's data objects, where the store keeps them: what was overwritten or deleted is read from there, and the name is the
//! proof.

use crate::model::{ObjectId, Problem};
use crate::ops::union::store_problem;
use crate::store::{Key, Listed, Prefix, Put, Store, StoreError, StoreErrorKind, Version};
use ring::digest::{Context, SHA256};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// So much of a version is read at once.
const PIECE: u64 = 8 << 20;

/// One store, read through whichever version of each data object has the bytes that its name says. Reads nothing else.
pub(super) struct OlderVersions {
    store: Arc<dyn Store>,
    /// What was found out: the version, or that there is none.
    known: Mutex<HashMap<Key, Option<Version>>>,
    /// The store refused to show a version, or which there are.
    hidden: AtomicBool,
}

/// That older versions in the store of this name may be whole, and are not shown to these keys.
pub(super) fn hidden(store: &str) -> Problem {
    let what = "what is missing or damaged there may be whole in an older version, and these keys may not see older versions";
    let hint = "give them s3:ListBucketVersions, with the same prefix as s3:ListBucket, and s3:GetObjectVersion (deploy/policies/host.json has both), and do this again";
    store_problem(store, what, hint)
}

impl OlderVersions {
    pub(super) fn of(store: &Arc<dyn Store>) -> Self {
        Self { store: Arc::clone(store), known: Mutex::default(), hidden: AtomicBool::default() }
    }

    /// True when something was not found because the store does not show its older versions.
    pub(super) fn is_hidden(&self) -> bool {
        self.hidden.load(Ordering::Relaxed)
    }

    fn note(&self, error: &StoreError) {
        if error.kind == StoreErrorKind::Denied {
            self.hidden.store(true, Ordering::Relaxed);
        }
    }

    /// The version of `key` that is what its name says: every byte of it was read and hashed.
    fn proved(&self, key: &Key) -> Result<Version, StoreError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        let found = match known {
            Some(found) => found,
            None => {
                let found = self.look(key)?;
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(key.clone(), found.clone());
                found
            }
        };
        found.ok_or_else(|| self.none(key, "no version of it has the bytes that its name says"))
    }

    fn look(&self, key: &Key) -> Result<Option<Version>, StoreError> {
        let (Key::Archive(id) | Key::Manifest(id)) = key else {
            return Ok(None);
        };
        let mut unread = None;
        for version in self.store.versions(key).inspect_err(|e| self.note(e))? {
            match self.hash(key, &version) {
                Ok(found) if found == *id => return Ok(Some(version)),
                Err(e) if e.kind == StoreErrorKind::Interrupted => return Err(e),
                // Another version may be whole; but what could not be read may be, too, and is not known to be none.
                Err(e) if !matches!(e.kind, StoreErrorKind::NotFound | StoreErrorKind::Corrupt) => {
                    self.note(&e);
                    unread.get_or_insert(e);
                }
                _ => {}
            }
        }
        unread.map_or(Ok(None), Err)
    }

    fn hash(&self, key: &Key, version: &Version) -> Result<ObjectId, StoreError> {
        let mut context = Context::new(&SHA256);
        let mut offset = 0;
        while offset < version.size {
            let length = PIECE.min(version.size - offset);
            context.update(&self.store.get_version(key, version, offset, length)?);
            offset += length;
        }
        Ok(ObjectId::of_all(context))
    }

    fn none(&self, key: &Key, why: &str) -> StoreError {
        let (store, subject) = (self.store.name().to_owned(), key.to_string());
        StoreError { kind: StoreErrorKind::NotFound, store, verb: "read", subject, source: why.into() }
    }

    fn refused(&self, key: &Key) -> StoreError {
        StoreError { kind: StoreErrorKind::Other, ..self.none(key, "older versions are only read") }
    }
}

/// The bytes of a version of `key`, the newest first, that `fits` takes. For documents, whose proof is their signature. An error says that none was found,
/// and that not all are shown to these keys; a store that does not answer has none.
pub(super) fn older_document<T>(
    store: &dyn Store,
    key: &Key,
    max_bytes: u64,
    fits: impl Fn(&[u8]) -> Option<T>,
) -> Result<Option<T>, StoreError> {
    let refused = |e: StoreError| if e.kind == StoreErrorKind::Denied { Err(e) } else { Ok(None) };
    let versions = match store.versions(key) {
        Ok(versions) => versions,
        Err(e) => return refused(e),
    };
    let mut unseen = Ok(None);
    for version in versions.iter().filter(|version| version.size <= max_bytes) {
        match store.get_version(key, version, 0, version.size) {
            Ok(bytes) => {
                if let Some(found) = fits(&bytes) {
                    return Ok(Some(found));
                }
            }
            Err(e) => unseen = unseen.and(refused(e)),
        }
    }
    unseen
}

impl Store for OlderVersions {
    fn name(&self) -> &str {
        self.store.name()
    }

    fn location(&self) -> String {
        self.store.location()
    }

    fn put_file(&self, key: &Key, _: &Path, _: u64, _: &ObjectId) -> Result<Put, StoreError> {
        Err(self.refused(key))
    }

    fn put_bytes(&self, key: &Key, _: &[u8]) -> Result<Put, StoreError> {
        Err(self.refused(key))
    }

    fn get(&self, key: &Key, max_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let version = self.proved(key)?;
        if version.size > max_bytes {
            return Err(StoreError { kind: StoreErrorKind::Corrupt, ..self.none(key, "it is too large") });
        }
        self.store.get_version(key, &version, 0, version.size)
    }

    fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Vec<u8>, StoreError> {
        let version = self.proved(key)?;
        self.store.get_version(key, &version, offset, length)
    }

    fn read_back(&self, key: &Key, seen: &mut dyn FnMut(u64)) -> Result<(u64, ObjectId), StoreError> {
        let version = self.proved(key)?;
        seen(version.size);
        Ok((version.size, self.hash(key, &version)?))
    }

    fn head(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        match self.proved(key) {
            Ok(version) => Ok(Some(version.size)),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn list(&self, prefix: Prefix) -> Result<Vec<Listed>, StoreError> {
        self.store.list(prefix)
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        Err(self.refused(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::store::testing::MemoryStore;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A store that keeps these versions of everything, and does not answer the first so many reads of one.
    struct Versioned {
        present: MemoryStore,
        kept: Vec<Vec<u8>>,
        silent: AtomicUsize,
    }

    impl Store for Versioned {
        fn name(&self) -> &str {
            self.present.name()
        }
        fn location(&self) -> String {
            self.present.location()
        }
        fn put_file(&self, key: &Key, path: &Path, size: u64, id: &ObjectId) -> Result<Put, StoreError> {
            self.present.put_file(key, path, size, id)
        }
        fn put_bytes(&self, key: &Key, bytes: &[u8]) -> Result<Put, StoreError> {
            self.present.put_bytes(key, bytes)
        }
        fn get(&self, key: &Key, max_bytes: u64) -> Result<Vec<u8>, StoreError> {
            self.present.get(key, max_bytes)
        }
        fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Vec<u8>, StoreError> {
            self.present.get_range(key, offset, length)
        }
        fn read_back(&self, key: &Key, seen: &mut dyn FnMut(u64)) -> Result<(u64, ObjectId), StoreError> {
            self.present.read_back(key, seen)
        }
        fn head(&self, key: &Key) -> Result<Option<u64>, StoreError> {
            self.present.head(key)
        }
        fn list(&self, prefix: Prefix) -> Result<Vec<Listed>, StoreError> {
            self.present.list(prefix)
        }
        fn versions(&self, _: &Key) -> Result<Vec<Version>, StoreError> {
            let version = |(place, bytes): (usize, &Vec<u8>)| Version {
                id: place.to_string(),
                size: bytes.len() as u64,
                modified: Timestamp::UNIX_EPOCH,
            };
            Ok(self.kept.iter().enumerate().map(version).collect())
        }
        fn get_version(&self, key: &Key, version: &Version, _: u64, _: u64) -> Result<Vec<u8>, StoreError> {
            let silent = self.silent.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if silent.is_ok() {
                let (store, subject) = (self.name().to_owned(), key.to_string());
                let kind = StoreErrorKind::Unreachable;
                return Err(StoreError { kind, store, verb: "read", subject, source: "busy".into() });
            }
            Ok(self.kept[version.id.parse::<usize>().unwrap()].clone())
        }
        fn delete(&self, key: &Key) -> Result<(), StoreError> {
            self.present.delete(key)
        }
    }

    fn older(kept: &[&[u8]], silent: usize) -> OlderVersions {
        let kept = kept.iter().map(|bytes| bytes.to_vec()).collect();
        let present = MemoryStore::new("far");
        let store: Arc<dyn Store> = Arc::new(Versioned { present, kept, silent: AtomicUsize::new(silent) });
        OlderVersions::of(&store)
    }

    #[test]
    fn a_version_that_could_not_be_read_is_asked_for_again() {
        let key = Key::Archive(ObjectId::of(b"whole"));
        let store = older(&[b"other", b"whole"], 2);
        assert_eq!(store.get(&key, 9).unwrap_err().kind, StoreErrorKind::Unreachable);
        assert_eq!(store.get(&key, 9).unwrap(), b"whole");
        // One that cannot be read does not hide another that can.
        assert_eq!(older(&[b"whole", b"whole"], 1).get(&key, 9).unwrap(), b"whole");
        let none = older(&[b"other"], 0);
        assert_eq!(none.get(&key, 9).unwrap_err().kind, StoreErrorKind::NotFound);
        assert_eq!(none.head(&key).unwrap(), None);
    }
}
