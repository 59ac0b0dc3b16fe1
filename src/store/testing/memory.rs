//! A store in memory.

use crate::model::{ObjectId, Timestamp};
use crate::store::{Key, Listed, Prefix, Put, Store, StoreError, StoreErrorKind};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone)]
struct Object {
    bytes: Vec<u8>,
    modified: Option<Timestamp>,
}

/// A store in memory. Keeps the contract, forgets all with its process.
#[derive(Debug)]
pub struct MemoryStore {
    name: String,
    objects: Mutex<BTreeMap<Key, Object>>,
}

impl MemoryStore {
    /// An empty store, without `backstay.json`.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), objects: Mutex::default() }
    }

    /// Puts `bytes` whatever was there: damage done by hand.
    pub fn force(&self, key: &Key, bytes: &[u8]) {
        self.objects().insert(key.clone(), Object { bytes: bytes.to_vec(), modified: None });
    }

    /// Says when the object was put; listings tell it.
    pub fn set_modified(&self, key: &Key, modified: Option<Timestamp>) {
        if let Some(object) = self.objects().get_mut(key) {
            object.modified = modified;
        }
    }

    /// All keys there are, sorted.
    pub fn keys(&self) -> Vec<Key> {
        self.objects().keys().cloned().collect()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Key, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(
        &self,
        kind: StoreErrorKind,
        verb: &'static str,
        key: &Key,
        why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError { kind, store: self.name.clone(), verb, subject: key.to_string(), source: why.into() }
    }

    fn read(&self, key: &Key) -> Result<Vec<u8>, StoreError> {
        let found = self.objects().get(key).map(|object| object.bytes.clone());
        found.ok_or_else(|| self.error(StoreErrorKind::NotFound, "read", key, "it is not there"))
    }
}

impl Store for MemoryStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn put_file(&self, key: &Key, path: &Path, size: u64, sha256: &ObjectId) -> Result<Put, StoreError> {
        let fail = |e: std::io::Error| self.error(StoreErrorKind::Other, "write", key, e);
        let bytes = std::fs::read(path).map_err(fail)?;
        if bytes.len() as u64 != size || ObjectId::of(&bytes) != *sha256 {
            let why = "the file to be put is not what it was said to be";
            return Err(self.error(StoreErrorKind::Corrupt, "write", key, why));
        }
        let put = self.put_bytes(key, &bytes)?;
        std::fs::remove_file(path).map_err(fail)?;
        Ok(put)
    }

    fn replace(&self, key: &Key, path: &Path, size: u64, sha256: &ObjectId) -> Result<(), StoreError> {
        let fail = |e: std::io::Error| self.error(StoreErrorKind::Other, "replace", key, e);
        let bytes = std::fs::read(path).map_err(fail)?;
        if bytes.len() as u64 != size || ObjectId::of(&bytes) != *sha256 {
            let why = "the file to be put is not what it was said to be";
            return Err(self.error(StoreErrorKind::Corrupt, "replace", key, why));
        }
        self.force(key, &bytes);
        std::fs::remove_file(path).map_err(fail)
    }

    fn put_bytes(&self, key: &Key, bytes: &[u8]) -> Result<Put, StoreError> {
        let mut objects = self.objects();
        match objects.get(key) {
            None => {
                objects.insert(key.clone(), Object { bytes: bytes.to_vec(), modified: None });
                Ok(Put::Created)
            }
            Some(object) if object.bytes == bytes => Ok(Put::AlreadyThere),
            Some(_) => Err(self.error(StoreErrorKind::Exists, "write", key, "other bytes are there")),
        }
    }

    fn get(&self, key: &Key, max_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let bytes = self.read(key)?;
        if bytes.len() as u64 <= max_bytes {
            return Ok(bytes);
        }
        Err(self.error(StoreErrorKind::Corrupt, "read", key, "it is larger than expected"))
    }

    fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Vec<u8>, StoreError> {
        slice(&self.read(key)?, offset, length)
            .ok_or_else(|| self.error(StoreErrorKind::Corrupt, "read", key, "it ends before"))
    }

    fn read_back(&self, key: &Key, seen: &mut dyn FnMut(u64)) -> Result<(u64, ObjectId), StoreError> {
        let bytes = self.read(key)?;
        seen(bytes.len() as u64);
        Ok((bytes.len() as u64, ObjectId::of(&bytes)))
    }

    fn head(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        Ok(self.objects().get(key).map(|object| object.bytes.len() as u64))
    }

    fn list(&self, prefix: Prefix) -> Result<Vec<Listed>, StoreError> {
        let folder = format!("{}/", prefix.dir());
        let listed = |(key, object): (&Key, &Object)| Listed {
            key: key.clone(),
            size: object.bytes.len() as u64,
            modified: object.modified,
        };
        let objects = self.objects();
        Ok(objects.iter().filter(|(key, _)| key.to_string().starts_with(&folder)).map(listed).collect())
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.objects().remove(key);
        Ok(())
    }
}

/// The `length` bytes from `offset`, when they are all there.
pub(super) fn slice(bytes: &[u8], offset: u64, length: u64) -> Option<Vec<u8>> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(length)?).ok()?;
    bytes.get(start..end).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{FaultStore, contract};
    use std::sync::Arc;

    #[test]
    fn a_store_in_memory_keeps_the_contract() {
        contract(&|| Box::new(MemoryStore::new("m")));
    }

    #[test]
    fn a_wrapped_store_without_orders_keeps_the_contract() {
        contract(&|| Box::new(FaultStore::new(Arc::new(MemoryStore::new("m")))));
    }
}
