//! A bucket of an S3 server as a store, below a prefix.
//!
//! What a server can do is probed, remembered and worked round, never assumed: servers differ in whether they refuse to overwrite, compare checksums, or
//! answer ranges. "Already exists" and every outcome that is not certain are settled by reading what is there and comparing SHA-256.
//! This module must never trust an ETag, a listing or a time; never put a secret, a key or a signed header into an error or a file; and
//! never follow a server to another host.

mod address;
mod capabilities;
mod client;
pub mod credentials;
mod examine;
pub(in crate::store) mod failure;
mod limit;
mod list;
mod multipart;
mod probe;
mod put;
mod read;
mod spec;
#[doc(hidden)]
pub mod testing;
pub(in crate::store) mod transport;
mod uploads;
mod versions;
pub(in crate::store) mod xml;

pub use capabilities::{Capabilities, Compared};
pub use examine::{OpenUpload, Strangers, Versions};
pub use list::Orphan;
pub use spec::{Checksum, S3Spec, Sse};
use transport::Body;
pub use transport::Counters;

use crate::model::{ObjectId, Timestamp};
use crate::store::{Key, Listed, Prefix, Put, Store, StoreError, StoreErrorKind, Version, remote};
use bytes::Bytes;
use client::Client;
use failure::Failure;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where keys come from. Asked before every request, so it caches.
pub trait Credentials: CredentialProvider<Credential = AwsCredential> {
    /// Forgets what is cached: the server refused it. The next request gets fresh ones.
    fn refresh(&self);

    /// In words where the keys come from, for errors; never a key.
    fn source(&self) -> String;
}

/// `backstay.json` is not larger than this.
const MAX_STORE_FILE: u64 = 64 << 10;

/// A store in a bucket. Blocking; any number of threads may use it at once.
pub struct S3Store {
    spec: S3Spec,
    client: Arc<Client>,
    /// What the server can do, once that is known.
    capabilities: tokio::sync::Mutex<Option<Capabilities>>,
    /// Keys that are being put: two threads never put one key at once, also where the server would let both win.
    busy: (Mutex<HashSet<Key>>, Condvar),
    /// What was put a short while ago, with the time: "not found" is not believed at once.
    fresh: Mutex<HashMap<Key, Duration>>,
    /// The versions that are read, when the store is read as it stood at some time.
    picked: Option<versions::Picked>,
    /// Uploads that nobody will go on with were looked for. No file is put before that is done: what other threads write down there would be swept away.
    swept: tokio::sync::OnceCell<()>,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// What the last probe of this very place found.
pub fn remembered(spec: &S3Spec) -> Option<Capabilities> {
    capabilities::load(spec)
}

impl S3Store {
    /// Opens the store. [`StoreErrorKind::Missing`] when there is no bucket or no `backstay.json` in it; [`StoreErrorKind::Denied`] and
    /// [`StoreErrorKind::Unreachable`] as they are.
    pub fn open(spec: S3Spec) -> Result<Self, StoreError> {
        let mut store = Self::at(spec, "open")?;
        let location = store.location();
        if let Some(time) = store.spec.as_of {
            let picked =
                store.wait(store.pick(time)).map_err(|e| store.error("list versions of", &location, e))?;
            store.picked = Some(picked);
        }
        let found = store.wait(async { store.bytes_of(&Key::Store, MAX_STORE_FILE).await });
        match found {
            Ok(_) => Ok(store),
            Err(e) if e.is_absent() => {
                // Not every server says of an object that its bucket is not there.
                let no_file = match store.spec.as_of {
                    None => Failure::new(StoreErrorKind::Missing, "there is no backstay.json in it"),
                    Some(_) => {
                        Failure::new(StoreErrorKind::Missing, "there was no backstay.json in it at that time")
                    }
                };
                let why = match store.wait(store.look_into_bucket()) {
                    Err(e) if e.kind == StoreErrorKind::Missing => e,
                    _ => no_file,
                };
                Err(store.error("open", &location, why))
            }
            // Too large or cut short: the store is there, and its reader will say what is wrong with the file.
            Err(e) if e.kind == StoreErrorKind::Corrupt => Ok(store),
            Err(e) => Err(store.error("open", &location, e)),
        }
    }

    /// Reaches a place for a new store, makes its bucket when `create_bucket` says so and it is not there, and writes nothing else. The store
    /// that it gives may be a fresh one, without `backstay.json`.
    pub fn create(spec: S3Spec, create_bucket: bool) -> Result<Self, StoreError> {
        let store = Self::at(spec, "create")?;
        let reached = store.wait(async {
            let made = if create_bucket { store.make_bucket().await } else { Ok(()) };
            match made {
                // Keys that may make no bucket may well use one that is there.
                Err(e) if e.kind == StoreErrorKind::Denied => store.look_into_bucket().await.map_err(|_| e),
                made => {
                    made?;
                    store.look_into_bucket().await
                }
            }
        });
        match reached {
            Ok(()) => Ok(store),
            Err(e) if e.kind == StoreErrorKind::Missing => {
                Err(store.error("create", &store.location(), e.and("--create-bucket makes the bucket")))
            }
            Err(e) => Err(store.error("create", &store.location(), e)),
        }
    }

    fn at(spec: S3Spec, verb: &'static str) -> Result<Self, StoreError> {
        let fail = |e| remote::error(&spec.name, verb, &spec.location(), e);
        let client = Arc::new(Client::new(&spec).map_err(fail)?);
        let (capabilities, busy, fresh, picked, swept) = Default::default();
        Ok(Self { spec, client, capabilities, busy, fresh, picked, swept })
    }

    /// Finds out, with throw-away objects below `.backstay-probe/`, what the server can do, and remembers it.
    pub fn probe(&self) -> Result<Capabilities, StoreError> {
        self.wait(async {
            let mut known = self.capabilities.lock().await;
            let found = self.probe_now().await?;
            *known = Some(found.clone());
            Ok(found)
        })
        .map_err(|e| self.error("probe", &self.location(), e))
    }

    /// What the last probe found, if there was one.
    pub fn known(&self) -> Option<Capabilities> {
        capabilities::load(&self.spec)
    }

    /// Uploads in parts below this store's prefix that were begun and never ended. They cost room and are in no listing.
    pub fn list_uploads(&self) -> Result<Vec<Orphan>, StoreError> {
        self.wait(async { self.uploads_below().await })
            .map_err(|e| self.error("list uploads of", &self.location(), e))
    }

    /// Aborts the uploads that were begun before `older_than` (seven days are enough for any writer), and says how many.
    pub fn abort_uploads(&self, older_than: Timestamp) -> Result<u64, StoreError> {
        self.wait(async { self.abort_older(older_than).await })
            .map_err(|e| self.error("abort uploads of", &self.location(), e))
    }

    /// What this store's requests came to.
    pub fn counters(&self) -> Counters {
        self.client.transport().counts().now()
    }

    /// Seconds that the server's clock was ahead of this machine's at its last answer.
    pub fn skew(&self) -> Option<i64> {
        self.client.transport().skew()
    }

    /// The key in the bucket.
    fn path(&self, key: &dyn fmt::Display) -> String {
        match self.spec.prefix.as_str() {
            "" => key.to_string(),
            prefix => format!("{prefix}/{key}"),
        }
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        remote::wait(&*self.spec.interrupted, work)
    }

    fn error(&self, verb: &'static str, subject: &dyn fmt::Display, failure: Failure) -> StoreError {
        remote::error(&self.spec.name, verb, subject, failure)
    }

    /// Waits until no other thread puts `key`, and keeps others waiting while it lives.
    fn alone_with(&self, key: &Key) -> Alone<'_> {
        let (keys, freed) = &self.busy;
        let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
        while !keys.insert(key.clone()) {
            keys = freed.wait(keys).unwrap_or_else(PoisonError::into_inner);
        }
        Alone { store: self, key: key.clone() }
    }

    fn fresh(&self) -> MutexGuard<'_, HashMap<Key, Duration>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Alone<'a> {
    store: &'a S3Store,
    key: Key,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let (keys, freed) = &self.store.busy;
        keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        freed.notify_all();
    }
}

impl Store for S3Store {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn location(&self) -> String {
        self.spec.location()
    }

    fn put_file(&self, key: &Key, path: &Path, size: u64, sha256: &ObjectId) -> Result<Put, StoreError> {
        self.refuse_past().map_err(|e| self.error("write", key, e))?;
        let _alone = self.alone_with(key);
        self.wait(self.put_file_now(key, path, size, sha256, false)).map_err(|e| self.error("write", key, e))
    }

    fn put_bytes(&self, key: &Key, bytes: &[u8]) -> Result<Put, StoreError> {
        self.refuse_past().map_err(|e| self.error("write", key, e))?;
        let _alone = self.alone_with(key);
        let body = Bytes::copy_from_slice(bytes);
        self.wait(self.put_whole(key, Body::Bytes(body), ObjectId::of(bytes), false))
            .map_err(|e| self.error("write", key, e))
    }

    fn get(&self, key: &Key, max_bytes: u64) -> Result<Vec<u8>, StoreError> {
        self.wait(self.bytes_of(key, max_bytes)).map_err(|e| self.error("read", key, e))
    }

    fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Vec<u8>, StoreError> {
        self.wait(self.range_of(key, offset, length)).map_err(|e| self.error("read", key, e))
    }

    /// Servers cannot be told to pass their caches; what they send is read whole. Other bytes than the name says are read once more.
    fn read_back(&self, key: &Key, seen: &mut dyn FnMut(u64)) -> Result<(u64, ObjectId), StoreError> {
        self.wait(self.hash_of(key, seen)).map_err(|e| self.error("read", key, e))
    }

    fn head(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.wait(self.size_of(key)).map_err(|e| self.error("look at", key, e))
    }

    fn list(&self, prefix: Prefix) -> Result<Vec<Listed>, StoreError> {
        self.wait(self.keys_below(prefix)).map_err(|e| self.error("list", &prefix.dir(), e))
    }

    fn versions(&self, key: &Key) -> Result<Vec<Version>, StoreError> {
        self.wait(self.versions_of(key)).map_err(|e| self.error("list versions of", key, e))
    }

    fn get_version(
        &self,
        key: &Key,
        version: &Version,
        offset: u64,
        length: u64,
    ) -> Result<Vec<u8>, StoreError> {
        self.wait(self.range_of_version(key, version, offset, length)).map_err(|e| self.error("read", key, e))
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.refuse_past().map_err(|e| self.error("delete", key, e))?;
        self.wait(self.delete_now(key)).map_err(|e| self.error("delete", key, e))
    }

    fn clock_ahead(&self) -> Option<jiff::SignedDuration> {
        self.client.transport().skew().map(jiff::SignedDuration::from_secs)
    }

    /// As the last probe found it; with object lock there are always versions.
    fn keeps_versions(&self) -> Option<bool> {
        let known = capabilities::load(&self.spec)?;
        known.versioning.map(|versions| versions || known.object_lock == Some(true))
    }

    fn replace(&self, key: &Key, path: &Path, size: u64, sha256: &ObjectId) -> Result<(), StoreError> {
        self.refuse_past().map_err(|e| self.error("replace", key, e))?;
        let _alone = self.alone_with(key);
        let replaced = self.wait(self.replace_now(key, path, size, sha256));
        replaced.map_err(|e| self.error("replace", key, e))
    }
}
