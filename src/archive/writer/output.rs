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
        let failed = |path: &Path, source| ArchiveError::Io { path: path.to_owned(), source };
        let mut random = [0; 16];
        let filled = SystemRandom::new().fill(&mut random);
        filled.map_err(|_| failed(dir, io::Error::other("the system gives no random numbers")))?;
        let name = data_encoding::HEXLOWER.encode(&random);
        let path = dir.join(format!("archive-{name}.partial"));
        let file = crash::around("create archive", || create_private(&path)).map_err(|e| failed(&path, e))?;
        Ok(Self { file, path, hash: Context::new(&SHA256), size: 0, finished: false })
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
        written.map_err(|source| ArchiveError::Io { path: self.path.clone(), source })
    }

    /// Makes the file durable, if asked, and lets it stay; gives its path and name. A failed fsync must never be tried again: the
    /// kernel may have dropped the pages and would then report success.
    pub(super) fn finish(mut self, durable: bool) -> Result<(PathBuf, ObjectId), ArchiveError> {
        if durable {
            let synced = crash::around("fsync archive", || self.file.sync_all());
            synced.map_err(|source| ArchiveError::Io { path: self.path.clone(), source })?;
        }
        let mut id = [0; 32];
        id.copy_from_slice(self.hash.clone().finish().as_ref());
        self.finished = true;
        Ok((std::mem::take(&mut self.path), ObjectId(id)))
    }
}

/// Mode 0600 whatever the umask: open so that it never has more, then set in case the umask left less.
fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let file = options.mode(0o600).open(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing better can be done: whoever owns the folder finds it by its name's end.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
