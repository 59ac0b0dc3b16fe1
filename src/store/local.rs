//! A directory as a store: a disk, a mounted share, a second machine's export.
//!
//! Every object is written under `.incoming/` or in a spool on the same file system, fsynced, and renamed to its name without replacing.
//! This module must never take a directory that is not the store (an empty mount point) for an empty store, and never follow a
//! symbolic link below the root: whoever may write into the store could lead us out of it.

use crate::durable::{self, Dir, DurableError, Swept};
use crate::model::{ObjectId, SignerId, Timestamp};
use crate::store::{Key, Listed, Prefix, Put, Store, StoreError, StoreErrorKind};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

mod bytes;
mod list;
mod put;

use bytes::{forget_cached, hash_file};

const INCOMING: &str = ".incoming";
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A store in a directory. Holds no descriptor between calls, so that a disk can be unmounted.
#[derive(Debug)]
pub struct LocalStore {
    name: String,
    root: PathBuf,
    /// Device and inode of the root: after an unmount another directory lies at the same path.
    identity: (u64, u64),
    /// The folder in `.incoming/` that is this writer's alone; without one, `.incoming/` itself.
    own: Option<String>,
    /// Folders whose own names this process has made durable.
    settled: Mutex<HashSet<PathBuf>>,
}

impl LocalStore {
    /// Makes the folders of a store at `path` (mode 0700) where they are missing, and writes nothing else. The store that it gives may be
    /// a fresh one, without `backstay.json`.
    pub fn create(name: &str, path: &Path) -> Result<Self, StoreError> {
        let fail = |e| missing_root(error(name, "create", path.display().to_string(), e));
        durable::create_dirs(path, DIR_MODE).map_err(fail)?;
        let root = Dir::open(path).map_err(fail)?;
        let folders =
            [Prefix::Archives, Prefix::Manifests, Prefix::Records, Prefix::Marks, Prefix::Tombstones];
        for folder in folders.map(Prefix::dir).into_iter().chain([INCOMING]) {
            root.ensure_child(folder, DIR_MODE).map_err(fail)?;
        }
        Self::at(name, path, &root)
    }

    /// Opens the store at `path`. [`StoreErrorKind::Missing`] when there is no directory, or one without `backstay.json`: a disk that is
    /// not mounted, or a store that was never made.
    pub fn open(name: &str, path: &Path) -> Result<Self, StoreError> {
        let root = open_root(name, path, "open")?;
        let store = Self::at(name, path, &root)?;
        match root.info(Key::Store.to_string()) {
            Ok(_) => Ok(store),
            Err(e) if e.is_not_found() => {
                let why = "there is no backstay.json in it; is the disk mounted?";
                Err(store.error_of(StoreErrorKind::Missing, "open", &path.display(), why))
            }
            Err(e) => Err(error(name, "open", path.display().to_string(), e)),
        }
    }

    fn at(name: &str, path: &Path, root: &Dir) -> Result<Self, StoreError> {
        let identity = root.identity().map_err(|e| error(name, "open", path.display().to_string(), e))?;
        Ok(Self {
            name: name.to_owned(),
            root: path.to_owned(),
            identity,
            own: None,
            settled: Mutex::default(),
        })
    }

    /// Prepares everything in a folder of its own in `.incoming/`. Several hosts may share the store: what a killed run of this one left can then be
    /// told from what another is writing just now.
    #[must_use]
    pub fn writing_as(mut self, writer: &SignerId) -> Self {
        self.own = Some(writer.to_string());
        self
    }

    /// Removes files in `.incoming/` that were last changed before `older_than` and that no process has locked: what killed runs left.
    pub fn sweep_incoming(&self, older_than: Timestamp) -> Result<Swept, StoreError> {
        let fail = |e| self.error("sweep", &INCOMING, e);
        match self.root("sweep")?.child(INCOMING) {
            Ok(incoming) => durable::sweep(&incoming, older_than, &|_| true).map_err(fail),
            Err(e) if e.is_not_found() => Ok(Swept::default()),
            Err(e) => Err(fail(e)),
        }
    }

    fn error(&self, verb: &'static str, subject: &dyn fmt::Display, source: DurableError) -> StoreError {
        error(&self.name, verb, subject.to_string(), source)
    }

    fn error_of(
        &self,
        kind: StoreErrorKind,
        verb: &'static str,
        subject: &dyn fmt::Display,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        let (store, subject, source) = (self.name.clone(), subject.to_string(), source.into());
        StoreError { kind, store, verb, subject, source }
    }

    /// The root, when it is still the directory that was opened.
    fn root(&self, verb: &'static str) -> Result<Dir, StoreError> {
        let root = open_root(&self.name, &self.root, verb)?;
        let identity = root.identity().map_err(|e| self.error(verb, &self.root.display(), e))?;
        if identity == self.identity {
            return Ok(root);
        }
        let why = "another directory lies there now; was the disk unmounted or exchanged?";
        Err(self.error_of(StoreErrorKind::Missing, verb, &self.root.display(), why))
    }

    /// The directory that holds `key`, and the last part of the key. [`StoreErrorKind::NotFound`] when a folder is not there.
    fn folder(&self, verb: &'static str, key: &Key) -> Result<(Dir, String), StoreError> {
        let text = key.to_string();
        let mut dir = self.root(verb)?;
        let mut parts = text.split('/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return Ok((dir, part.to_owned()));
            }
            dir = dir.child(part).map_err(|e| self.error(verb, key, e))?;
        }
        Ok((dir, text))
    }

    /// The same for writing: folders that are missing are made, and all names down to it are durable.
    fn folder_for_writing(&self, key: &Key) -> Result<(Dir, String), StoreError> {
        let text = key.to_string();
        let mut dir = self.root("write")?;
        let mut parts = text.split('/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return Ok((dir, part.to_owned()));
            }
            dir = self.settled_child(&dir, part).map_err(|e| self.error("write", key, e))?;
        }
        Ok((dir, text))
    }

    fn settled_child(&self, dir: &Dir, name: &str) -> Result<Dir, DurableError> {
        let path = dir.path().join(name);
        let settled = || self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if settled().contains(&path) {
            match dir.child(name) {
                Err(e) if e.errno() == Some(Errno::NOENT) => {}
                other => return other,
            }
        }
        // Also when it is there: whoever made it may not have made its name durable yet.
        let child = dir.ensure_child(name, DIR_MODE)?;
        settled().insert(path);
        Ok(child)
    }

    fn incoming(&self) -> Result<PathBuf, StoreError> {
        let dir = self.settled_child(&self.root("write")?, INCOMING);
        let dir = dir.and_then(|dir| match &self.own {
            Some(own) => self.settled_child(&dir, own),
            None => Ok(dir),
        });
        dir.map(|dir| dir.path().to_owned()).map_err(|e| self.error("write", &INCOMING, e))
    }

    fn open_object(&self, verb: &'static str, key: &Key) -> Result<(File, u64), StoreError> {
        let (dir, name) = self.folder(verb, key)?;
        let file = dir.open_file(name).map_err(|e| self.error(verb, key, e))?;
        let size = file.metadata().map_err(|e| self.io(verb, key, e))?.len();
        Ok((file, size))
    }

    fn io(&self, verb: &'static str, key: &Key, source: std::io::Error) -> StoreError {
        self.error_of(kind_of(Errno::from_io_error(&source)), verb, key, source)
    }

    fn not_a_file(&self, verb: &'static str, key: &Key) -> StoreError {
        self.error_of(StoreErrorKind::Corrupt, verb, key, "it is not a regular file")
    }
}

fn open_root(name: &str, path: &Path, verb: &'static str) -> Result<Dir, StoreError> {
    Dir::open(path).map_err(|e| missing_root(error(name, verb, path.display().to_string(), e)))
}

/// At the root "not found" is about the store, never about an object.
fn missing_root(mut error: StoreError) -> StoreError {
    if error.kind == StoreErrorKind::NotFound {
        error.kind = StoreErrorKind::Missing;
    }
    error
}

fn error(store: &str, verb: &'static str, subject: String, source: DurableError) -> StoreError {
    let kind = kind_of(source.errno());
    StoreError { kind, store: store.to_owned(), verb, subject, source: source.into() }
}

fn kind_of(errno: Option<Errno>) -> StoreErrorKind {
    match errno {
        Some(Errno::NOENT | Errno::NOTDIR) => StoreErrorKind::NotFound,
        Some(Errno::NOSPC | Errno::DQUOT) => StoreErrorKind::Full,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => StoreErrorKind::Denied,
        // A share or a FUSE mount whose other end is away.
        Some(Errno::STALE | Errno::NOTCONN | Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::HOSTUNREACH) => {
            StoreErrorKind::Unreachable
        }
        _ => StoreErrorKind::Other,
    }
}

impl Store for LocalStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }

    /// `.incoming/`, made when it is missing; `None` when it cannot be, as on a read-only medium.
    fn spool_dir(&self) -> Option<PathBuf> {
        self.incoming().ok()
    }

    fn put_file(&self, key: &Key, path: &Path, size: u64, sha256: &ObjectId) -> Result<Put, StoreError> {
        self.put_file_new(key, path, size, sha256)
    }

    fn replace(&self, key: &Key, path: &Path, size: u64, sha256: &ObjectId) -> Result<(), StoreError> {
        self.replace_whole(key, path, size, sha256)
    }

    fn put_bytes(&self, key: &Key, bytes: &[u8]) -> Result<Put, StoreError> {
        self.put_bytes_new(key, bytes)
    }

    fn get(&self, key: &Key, max_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let (file, size) = self.open_object("read", key)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size.min(max_bytes)).unwrap_or(0));
        file.take(max_bytes.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| self.io("read", key, e))?;
        if bytes.len() as u64 <= max_bytes {
            return Ok(bytes);
        }
        let why = format!("it has {size} bytes, and no more than {max_bytes} were expected");
        Err(self.error_of(StoreErrorKind::Corrupt, "read", key, why))
    }

    fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Vec<u8>, StoreError> {
        let (file, size) = self.open_object("read", key)?;
        let fits = offset.checked_add(length).is_some_and(|end| end <= size);
        let short = || {
            let why = format!("{length} bytes from {offset} were asked for, and it has {size}");
            self.error_of(StoreErrorKind::Corrupt, "read", key, why)
        };
        // Compared before room is made: the numbers come from a manifest, and what it asks for need not exist.
        let length = usize::try_from(length).ok().filter(|_| fits).ok_or_else(short)?;
        let mut bytes = vec![0; length];
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Err(short()),
            Err(e) => Err(self.io("read", key, e)),
        }
    }

    fn read_back(&self, key: &Key, seen: &mut dyn FnMut(u64)) -> Result<(u64, ObjectId), StoreError> {
        let (mut file, _) = self.open_object("read", key)?;
        forget_cached(&file);
        hash_file(&mut file, seen).map_err(|e| self.io("read", key, e))
    }

    fn head(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        let found = self
            .folder("look at", key)
            .and_then(|(dir, name)| dir.info(name).map_err(|e| self.error("look at", key, e)));
        match found {
            Ok(info) if info.regular => Ok(Some(info.size)),
            Ok(_) => Err(self.not_a_file("look at", key)),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn list(&self, prefix: Prefix) -> Result<Vec<Listed>, StoreError> {
        self.list_all(prefix)
    }

    fn keeps_versions(&self) -> Option<bool> {
        Some(false)
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        match self.folder("delete", key) {
            Ok((dir, name)) => dir.remove(name).map(drop).map_err(|e| self.error("delete", key, e)),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests;
