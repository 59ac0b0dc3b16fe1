//! Google Cloud Storage and Azure Blob Storage as stores, in builds with the features `gcs` and `azure`.
//!
//! The requests are made by `object_store`; they travel, are limited, watched and repeated as those to S3 are (`link`). Both services refuse
//! to overwrite where they are asked to. Neither compares a SHA-256, so nothing here is ever said to be proved: whoever wants that reads back.
//! This module must never trust an ETag, a listing or a time, and never show a key, a token or a signed address.

#[cfg(feature = "azure")]
mod azure;
mod fault;
#[cfg(feature = "gcs")]
mod gcs;
mod link;
mod put;
mod read;

use crate::bridge::{RealTimer, Timer};
use crate::model::ObjectId;
use crate::store::s3::Counters;
use crate::store::s3::failure::Failure;
use crate::store::s3::transport::{Line, Transport};
use crate::store::{Key, Listed, Prefix, Put, Store, StoreError, StoreErrorKind, remote};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path as Place;
use object_store::{ObjectStore, ObjectStoreExt};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whose service it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Google Cloud Storage.
    #[cfg(feature = "gcs")]
    Gcs,
    /// Azure Blob Storage.
    #[cfg(feature = "azure")]
    Azure,
}

/// A bucket (a container, in Azure's words) and a prefix in it.
#[derive(Clone)]
pub struct CloudSpec {
    /// The store's name in the configuration.
    pub name: String,
    /// Whose service.
    pub service: Service,
    /// The bucket or container.
    pub bucket: String,
    /// What every key begins with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The server; Google's own where there is none. Azure's names the account: `https://ACCOUNT.blob.core.windows.net`.
    pub endpoint: Option<String>,
    /// Where credentials are, in place of the environment: Google's JSON, or a connection string of Azure.
    pub credentials_file: Option<PathBuf>,
    /// A file with certificates (PEM) that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Bytes a second sent at most.
    pub limit_upload: Option<u64>,
    /// Bytes a second received at most.
    pub limit_download: Option<u64>,
    /// Asked every 100 ms while something is waited for; true ends the wait with [`StoreErrorKind::Interrupted`].
    pub interrupted: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Time; tests bring their own.
    pub timer: Arc<dyn Timer>,
}

impl CloudSpec {
    /// A bucket of `service`, everything else as when nothing is configured.
    pub fn new(name: &str, service: Service, bucket: &str) -> Self {
        Self {
            name: name.to_owned(),
            service,
            bucket: bucket.to_owned(),
            prefix: String::new(),
            endpoint: None,
            credentials_file: None,
            ca_file: None,
            limit_upload: None,
            limit_download: None,
            interrupted: Arc::new(|| false),
            timer: Arc::new(RealTimer::default()),
        }
    }

    /// Where it is, for people.
    pub fn location(&self) -> String {
        let scheme = match self.service {
            #[cfg(feature = "gcs")]
            Service::Gcs => "gs",
            #[cfg(feature = "azure")]
            Service::Azure => "az",
        };
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        let place = format!("{scheme}://{}{slash}{}", self.bucket, self.prefix);
        match &self.endpoint {
            Some(endpoint) => format!("{place} at {endpoint}"),
            None => place,
        }
    }
}

impl fmt::Debug for CloudSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudSpec")
            .field("name", &self.name)
            .field("location", &self.location())
            .finish_non_exhaustive()
    }
}

/// `backstay.json` is not larger than this.
const MAX_STORE_FILE: u64 = 64 << 10;

/// A store in a bucket of Google's or a container of Azure's. Blocking; any number of threads may use it at once.
pub struct CloudStore {
    spec: CloudSpec,
    transport: Arc<Transport>,
    remote: Arc<dyn ObjectStore>,
}

impl fmt::Debug for CloudStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudStore").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl CloudStore {
    /// Opens the store. [`StoreErrorKind::Missing`] when there is no bucket or no `backstay.json` in it; [`StoreErrorKind::Denied`] and
    /// [`StoreErrorKind::Unreachable`] as they are.
    pub fn open(spec: CloudSpec) -> Result<Self, StoreError> {
        let store = Self::at(spec, "open")?;
        match store.wait(store.bytes_of(&Key::Store, MAX_STORE_FILE)) {
            Ok(_) => Ok(store),
            Err(e) if e.kind == StoreErrorKind::Corrupt => Ok(store),
            Err(e) if e.kind == StoreErrorKind::NotFound => {
                let no_file = Failure::new(StoreErrorKind::Missing, "there is no backstay.json in it");
                let why = match store.wait(store.look_into_bucket()) {
                    Err(e) if e.kind == StoreErrorKind::Missing => e,
                    _ => no_file,
                };
                Err(store.error("open", &store.location(), why))
            }
            Err(e) => Err(store.error("open", &store.location(), e)),
        }
    }

    /// Reaches the place of a new store, and writes nothing. The bucket must be there: it is made with its provider's own tools.
    pub fn create(spec: CloudSpec) -> Result<Self, StoreError> {
        let store = Self::at(spec, "create")?;
        match store.wait(store.look_into_bucket()) {
            Ok(()) => Ok(store),
            Err(e) => Err(store.error("create", &store.location(), e)),
        }
    }

    fn at(spec: CloudSpec, verb: &'static str) -> Result<Self, StoreError> {
        let fail = |e| remote::error(&spec.name, verb, &spec.location(), e);
        let line = Line {
            ca_file: spec.ca_file.as_deref(),
            plain: false,
            limit_upload: spec.limit_upload,
            limit_download: spec.limit_download,
            timer: &spec.timer,
        };
        let transport = Arc::new(Transport::new(&line).map_err(fail)?);
        let link = link::Link::new(Arc::clone(&transport));
        let remote = match spec.service {
            #[cfg(feature = "gcs")]
            Service::Gcs => gcs::bucket(&spec, link),
            #[cfg(feature = "azure")]
            Service::Azure => azure::container(&spec, link),
        };
        let remote = remote.map_err(fail)?;
        Ok(Self { spec, transport, remote })
    }

    /// What this store's requests came to.
    pub fn counters(&self) -> Counters {
        self.transport.counts().now()
    }

    fn place(&self, key: &dyn fmt::Display) -> Result<Place, Failure> {
        let slash = if self.spec.prefix.is_empty() { "" } else { "/" };
        let path = format!("{}{slash}{key}", self.spec.prefix);
        Place::parse(path.trim_end_matches('/'))
            .map_err(|e| Failure::new(StoreErrorKind::Other, "the key makes no name there").because(e))
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        remote::wait(&*self.spec.interrupted, work)
    }

    fn error(&self, verb: &'static str, subject: &dyn fmt::Display, failure: Failure) -> StoreError {
        remote::error(&self.spec.name, verb, subject, failure)
    }

    /// Asks for a page of names, to see whether the bucket is there and may be read.
    async fn look_into_bucket(&self) -> Result<(), Failure> {
        let prefix = self.place(&"")?;
        let mut names = self.remote.list(Some(&prefix));
        let first = names.try_next().await.map(drop).map_err(fault::failure);
        first.map_err(|mut failure| {
            if failure.kind == StoreErrorKind::NotFound {
                failure.kind = StoreErrorKind::Missing;
            }
            failure
        })
    }

    async fn keys_below(&self, prefix: Prefix) -> Result<Vec<Listed>, Failure> {
        let folder = self.place(&prefix.dir())?;
        let mut found = Vec::new();
        let mut names = self.remote.list(Some(&folder));
        while let Some(meta) = names.try_next().await.map_err(fault::failure)? {
            let name = meta.location.as_ref();
            let inner = match self.spec.prefix.as_str() {
                "" => Some(name),
                prefix => name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')),
            };
            let modified = jiff::Timestamp::from_second(meta.last_modified.timestamp()).ok();
            if let Some(key) = inner.and_then(Key::parse) {
                found.push(Listed { key, size: meta.size, modified });
            }
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found.dedup_by(|a, b| a.key == b.key);
        Ok(found)
    }

    async fn delete_now(&self, key: &Key) -> Result<(), Failure> {
        match self.remote.delete(&self.place(key)?).await.map_err(fault::failure) {
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

impl Store for CloudStore {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn location(&self) -> String {
        self.spec.location()
    }

    fn put_file(&self, key: &Key, path: &Path, size: u64, sha256: &ObjectId) -> Result<Put, StoreError> {
        self.wait(self.put_file_now(key, path, size, sha256, false)).map_err(|e| self.error("write", key, e))
    }

    fn replace(&self, key: &Key, path: &Path, size: u64, sha256: &ObjectId) -> Result<(), StoreError> {
        self.wait(self.replace_now(key, path, size, sha256)).map_err(|e| self.error("replace", key, e))
    }

    fn put_bytes(&self, key: &Key, bytes: &[u8]) -> Result<Put, StoreError> {
        let body = Bytes::copy_from_slice(bytes);
        self.wait(self.put_whole(key, body, ObjectId::of(bytes), false))
            .map_err(|e| self.error("write", key, e))
    }

    fn get(&self, key: &Key, max_bytes: u64) -> Result<Vec<u8>, StoreError> {
        self.wait(self.bytes_of(key, max_bytes)).map_err(|e| self.error("read", key, e))
    }

    fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Vec<u8>, StoreError> {
        self.wait(self.range_of(key, offset, length)).map_err(|e| self.error("read", key, e))
    }

    /// These services cannot be told to pass their caches; what they send is read whole. Other bytes than the name says are read once more.
    fn read_back(&self, key: &Key, seen: &mut dyn FnMut(u64)) -> Result<(u64, ObjectId), StoreError> {
        self.wait(self.hash_of(key, seen)).map_err(|e| self.error("read", key, e))
    }

    fn head(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.wait(self.size_of(key)).map_err(|e| self.error("look at", key, e))
    }

    fn list(&self, prefix: Prefix) -> Result<Vec<Listed>, StoreError> {
        self.wait(self.keys_below(prefix)).map_err(|e| self.error("list", &prefix.dir(), e))
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.wait(self.delete_now(key)).map_err(|e| self.error("delete", key, e))
    }
}
