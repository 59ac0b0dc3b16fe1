//! Putting objects: never over another, and durable before it is said.

use crate::durable::{Dir, DurableError, NewFile, crash};
use crate::model::ObjectId;
use crate::store::local::bytes::{copy_hashed, hash_file};
use crate::store::local::{FILE_MODE, LocalStore, kind_of};
use crate::store::{Key, Put, StoreError, StoreErrorKind};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

/// How often a put looks again when the object in its way vanishes meanwhile.
const TRIES: u32 = 3;

impl LocalStore {
    pub(super) fn put_file_new(
        &self,
        key: &Key,
        path: &Path,
        size: u64,
        sha256: &ObjectId,
    ) -> Result<Put, StoreError> {
        for _ in 0..TRIES {
            let source = self.check_source(key, path, size)?;
            if let Some(put) = self.put_once(key, path, source, sha256)? {
                crash::point("remove spooled file");
                match std::fs::remove_file(path) {
                    // Moved.
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                    other => {
                        other.map_err(|e| self.io("clear away the spooled file of", key, e))?;
                    }
                }
                crash::point("remove spooled file");
                return Ok(put);
            }
        }
        Err(self.restless(key))
    }

    /// Lays a copy of the file over what is there; the file itself is removed.
    pub(super) fn replace_whole(
        &self,
        key: &Key,
        path: &Path,
        size: u64,
        sha256: &ObjectId,
    ) -> Result<(), StoreError> {
        let mut source = self.check_source(key, path, size)?;
        let (dir, name) = self.folder_for_writing(key)?;
        let fail = |e| self.error("replace", key, e);
        let mut copy = NewFile::create_in(&self.incoming()?).map_err(fail)?;
        let copied = copy_hashed(&mut source, &mut copy).map_err(|e| self.io("replace", key, e))?;
        if copied != *sha256 {
            let why = "the file to be put has another SHA-256 than its name says";
            return Err(self.error_of(StoreErrorKind::Corrupt, "replace", key, why));
        }
        copy.finish_over_in(&dir, &name, FILE_MODE).map_err(fail)?;
        std::fs::remove_file(path).map_err(|e| self.io("clear away the spooled file of", key, e))
    }

    pub(super) fn put_bytes_new(&self, key: &Key, bytes: &[u8]) -> Result<Put, StoreError> {
        for _ in 0..TRIES {
            let (dir, name) = self.folder_for_writing(key)?;
            let mut file = NewFile::create_in(&self.incoming()?).map_err(|e| self.error("write", key, e))?;
            file.write_all(bytes).map_err(|e| self.io("write", key, e))?;
            match file.finish_in(&dir, &name, FILE_MODE) {
                Ok(()) => return Ok(Put::Created),
                Err(DurableError::Exists { .. }) => {}
                Err(e) => return Err(self.error("write", key, e)),
            }
            let same = |there: &mut File| {
                let mut found = Vec::new();
                there.take(bytes.len() as u64 + 1).read_to_end(&mut found)?;
                Ok(found == bytes)
            };
            if let Some(put) = self.compare(key, &dir, &name, same)? {
                return Ok(put);
            }
        }
        Err(self.restless(key))
    }

    /// Says what a put found in its way: `None` when it is gone again.
    fn compare(
        &self,
        key: &Key,
        dir: &Dir,
        name: &str,
        same: impl FnOnce(&mut File) -> std::io::Result<bool>,
    ) -> Result<Option<Put>, StoreError> {
        let mut file = match dir.open_file(name) {
            Ok(file) => file,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(self.error("compare", key, e)),
        };
        if !same(&mut file).map_err(|e| self.io("compare", key, e))? {
            let why = "an object of that name is there already, with other bytes";
            return Err(self.error_of(StoreErrorKind::Exists, "write", key, why));
        }
        // Whoever put it may have been killed, or it was copied there by hand: it is durable only now.
        file.sync_all().map_err(|e| self.io("write", key, e))?;
        dir.sync().map_err(|e| self.error("write", key, e))?;
        Ok(Some(Put::AlreadyThere))
    }

    fn restless(&self, key: &Key) -> StoreError {
        let why = "an object of that name comes and goes; is another program at work in the store?";
        self.error_of(StoreErrorKind::Other, "write", key, why)
    }

    fn check_source(&self, key: &Key, path: &Path, size: u64) -> Result<File, StoreError> {
        let fail = |e: DurableError| match kind_of(e.errno()) {
            // What is missing here is the caller's file, not an object of the store.
            StoreErrorKind::NotFound => self.error_of(StoreErrorKind::Other, "write", key, e),
            kind => self.error_of(kind, "write", key, e),
        };
        let dir = Dir::open(path.parent().unwrap_or(Path::new("/"))).map_err(fail)?;
        let file = dir.open_file(path.file_name().unwrap_or_default()).map_err(fail)?;
        let found = file.metadata().map_err(|e| self.io("write", key, e))?.len();
        if found == size {
            return Ok(file);
        }
        let why = format!("the file to be put has {found} bytes, not {size}");
        Err(self.error_of(StoreErrorKind::Corrupt, "write", key, why))
    }

    /// Copies a file from another file system; `None` when the name is taken.
    fn copy_in(
        &self,
        key: &Key,
        mut source: File,
        sha256: &ObjectId,
        dir: &Dir,
        name: &str,
    ) -> Result<Option<Put>, StoreError> {
        let mut copy = NewFile::create_in(&self.incoming()?).map_err(|e| self.error("write", key, e))?;
        let copied = copy_hashed(&mut source, &mut copy).map_err(|e| self.io("write", key, e))?;
        if copied != *sha256 {
            let why = "the file to be put has another SHA-256 than its name says";
            return Err(self.error_of(StoreErrorKind::Corrupt, "write", key, why));
        }
        match copy.finish_in(dir, name, FILE_MODE) {
            Ok(()) => Ok(Some(Put::Created)),
            Err(DurableError::Exists { .. }) => Ok(None),
            Err(e) => Err(self.error("write", key, e)),
        }
    }

    fn put_once(
        &self,
        key: &Key,
        path: &Path,
        source: File,
        sha256: &ObjectId,
    ) -> Result<Option<Put>, StoreError> {
        let (dir, name) = self.folder_for_writing(key)?;
        let size = source.metadata().map_err(|e| self.io("write", key, e))?.len();
        let put = match dir.take_new(path, &name) {
            Ok(()) => return Ok(Some(Put::Created)),
            Err(DurableError::Exists { .. }) => None,
            // From another file system. When the name is taken there is nothing to copy.
            Err(e) if e.errno() == Some(Errno::XDEV) && dir.info(&name).is_ok() => None,
            Err(e) if e.errno() == Some(Errno::XDEV) => self.copy_in(key, source, sha256, &dir, &name)?,
            Err(e) => return Err(self.error("write", key, e)),
        };
        if put.is_some() {
            return Ok(put);
        }
        self.compare(key, &dir, &name, |there| Ok(hash_file(there, &mut |_| {})? == (size, *sha256)))
    }
}
