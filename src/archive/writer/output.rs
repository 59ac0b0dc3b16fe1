//! The file an archive is written to, and its SHA-256.

use crate::archive::error::ArchiveError;
use crate::durable::crash;
use crate::model::ObjectId;
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that is removed again unless it is finished.
pub(super) struct Output {
    file: File,
    path: PathBuf,
    hash: Context,
    size: u64,
    finished: bool,
}

impl Output {
    /// A new file in `dir` that only its owner may read, under a name that nobody can have prepared.
    pub(super) fn create(dir: &Path) -> Result<Self, ArchiveError> {
        let failed = |path: &Path, source| ArchiveError::Io {
            path: path.to_owned(),
            source,
        };
        let mut random = [0; 16];
        let filled = SystemRandom::new().fill(&mut random);
        filled.map_err(|_| failed(dir, io::Error::other("the system gives no random numbers")))?;
        let name = data_encoding::HEXLOWER.encode(&random);
        let path = dir.join(format!("archive-{name}.partial"));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = crash::around("create archive", || options.open(&path))
            .map_err(|e| failed(&path, e))?;
        Ok(Self {
            file,
            path,
            hash: Context::new(&SHA256),
            size: 0,
            finished: false,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        let written = crash::around("write archive", || self.file.write_all(bytes));
        written.map_err(|source| ArchiveError::Io {
            path: self.path.clone(),
            source,
        })
    }

    /// Makes the file durable and lets it stay; gives its path and name. A failed fsync must never be tried again: the kernel may
    /// have dropped the pages and would then report success.
    pub(super) fn finish(mut self) -> Result<(PathBuf, ObjectId), ArchiveError> {
        let synced = crash::around("fsync archive", || self.file.sync_all());
        synced.map_err(|source| ArchiveError::Io {
            path: self.path.clone(),
            source,
        })?;
        let mut id = [0; 32];
        id.copy_from_slice(self.hash.clone().finish().as_ref());
        self.finished = true;
        Ok((std::mem::take(&mut self.path), ObjectId(id)))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing better can be done: the spool is cleared of `.partial` files at the next run.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
