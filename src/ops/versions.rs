//! Older versions of a store's data objects, where the store keeps them: what was overwritten or deleted is read from there, and the name is the
//! proof.

use crate::model::ObjectId;
use crate::store::{Key, Listed, Prefix, Put, Store, StoreError, StoreErrorKind, Version};
use ring::digest::{Context, SHA256};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// So much of a version is read at once.
const PIECE: u64 = 8 << 20;

/// One store, read through whichever version of each data object has the bytes that its name says. Reads nothing else.
pub(super) struct OlderVersions {
    store: Arc<dyn Store>,
    /// What was found out: the version, or that there is none.
    known: Mutex<HashMap<Key, Option<Version>>>,
}

impl OlderVersions {
    pub(super) fn of(store: &Arc<dyn Store>) -> Self {
        Self { store: Arc::clone(store), known: Mutex::default() }
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
        for version in self.store.versions(key)? {
            match self.hash(key, &version) {
                Ok(found) if found == *id => return Ok(Some(version)),
                Err(e) if e.kind == StoreErrorKind::Interrupted => return Err(e),
                // Another version may be whole.
                _ => {}
            }
        }
        Ok(None)
    }

    fn hash(&self, key: &Key, version: &Version) -> Result<ObjectId, StoreError> {
        let mut context = Context::new(&SHA256);
        let mut offset = 0;
        while offset < version.size {
            let length = PIECE.min(version.size - offset);
            context.update(&self.store.get_version(key, version, offset, length)?);
            offset += length;
        }
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        Ok(ObjectId(id))
    }

    fn none(&self, key: &Key, why: &str) -> StoreError {
        let (store, subject) = (self.store.name().to_owned(), key.to_string());
        StoreError { kind: StoreErrorKind::NotFound, store, verb: "read", subject, source: why.into() }
    }

    fn refused(&self, key: &Key) -> StoreError {
        StoreError { kind: StoreErrorKind::Other, ..self.none(key, "older versions are only read") }
    }
}

/// The bytes of a version of `key`, the newest first, that `fits` takes. For documents, whose proof is their signature.
pub(super) fn older_document<T>(
    store: &dyn Store,
    key: &Key,
    max_bytes: u64,
    fits: impl Fn(&[u8]) -> Option<T>,
) -> Option<T> {
    let versions = store.versions(key).ok()?;
    versions.iter().filter(|version| version.size <= max_bytes).find_map(|version| {
        let bytes = store.get_version(key, version, 0, version.size).ok()?;
        fits(&bytes)
    })
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
