//! A store that is not here, for what must go on without one: the end of a rollback needs nothing of it.

use crate::model::ObjectId;
use crate::store::{Key, Listed, Prefix, Put, Store, StoreError, StoreErrorKind};
use std::path::Path;

/// Answers every question with the same error: it is not here.
#[derive(Debug)]
pub struct AbsentStore {
    name: String,
    place: String,
}

impl AbsentStore {
    /// The store called `name`, which would be at `place`.
    pub fn new(name: &str, place: &str) -> Self {
        Self { name: name.to_owned(), place: place.to_owned() }
    }

    fn not_here<T>(&self, verb: &'static str, subject: impl ToString) -> Result<T, StoreError> {
        let (kind, store, subject) = (StoreErrorKind::Missing, self.name.clone(), subject.to_string());
        Err(StoreError { kind, store, verb, subject, source: "the store is not here".into() })
    }
}

impl Store for AbsentStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self) -> String {
        self.place.clone()
    }

    fn put_file(&self, key: &Key, _: &Path, _: u64, _: &ObjectId) -> Result<Put, StoreError> {
        self.not_here("write", key)
    }

    fn put_bytes(&self, key: &Key, _: &[u8]) -> Result<Put, StoreError> {
        self.not_here("write", key)
    }

    fn get(&self, key: &Key, _: u64) -> Result<Vec<u8>, StoreError> {
        self.not_here("read", key)
    }

    fn get_range(&self, key: &Key, _: u64, _: u64) -> Result<Vec<u8>, StoreError> {
        self.not_here("read", key)
    }

    fn read_back(&self, key: &Key, _: &mut dyn FnMut(u64)) -> Result<(u64, ObjectId), StoreError> {
        self.not_here("read", key)
    }

    fn head(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.not_here("look at", key)
    }

    fn list(&self, _: Prefix) -> Result<Vec<Listed>, StoreError> {
        self.not_here("list", "objects")
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.not_here("delete", key)
    }
}
