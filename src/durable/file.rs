//! Files that get their name when they are whole.

use crate::durable::crash;
use crate::durable::dir::Dir;
use crate::durable::error::{DurableError, random_bytes};
use crate::durable::parent_of;
use crate::durable::sweep::temp_name;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A file being written under a temporary name (mode 0600). It is locked while it is open, so that a sweep leaves it alone, and goes
/// away unless it is finished.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    path: PathBuf,
    keep: bool,
}

impl NewFile {
    /// Begins a file in the directory `dir`; it can be finished anywhere on the same file system.
    pub fn create_in(dir: &Path) -> Result<Self, DurableError> {
        let path = dir.join(temp_name(random_bytes()?));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR);
        let fd = crash::around("create", || open().map_err(io::Error::from))
            .map_err(|e| DurableError::io("create", &path, e))?;
        // Where locks are not to be had, the sweep goes by age alone.
        let _ = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive);
        Ok(Self { file: File::from(fd), path, keep: false })
    }

    /// Its temporary name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, for writing in place or reading again.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Ends it as `to`, with `mode`, never over something; durable on return.
    pub fn finish_new(self, to: &Path, mode: u32) -> Result<(), DurableError> {
        let dir = Dir::open(parent_of(to))?;
        self.finish_in(&dir, to.file_name().unwrap_or_default(), mode)
    }

    /// Ends it as `name` in `dir`, with `mode`, never over something; durable on return.
    pub fn finish_in(mut self, dir: &Dir, name: impl AsRef<OsStr>, mode: u32) -> Result<(), DurableError> {
        self.seal(mode)?;
        dir.take_new(&self.path, name)?;
        self.keep = true;
        Ok(())
    }

    /// Ends it as `to`, with `mode`, over what is there; durable on return. For state files only.
    pub fn finish_over(mut self, to: &Path, mode: u32) -> Result<(), DurableError> {
        self.seal(mode)?;
        let dir = Dir::open(parent_of(to))?;
        // Whether or not the directory can be synced afterwards, the temporary name is gone.
        dir.take_over(&self.path, to.file_name().unwrap_or_default())?;
        self.keep = true;
        Ok(())
    }

    /// Ends it as `name` in `dir`, with `mode`, over what is there; durable on return. For objects of a store that were proved damaged.
    pub fn finish_over_in(
        mut self,
        dir: &Dir,
        name: impl AsRef<OsStr>,
        mode: u32,
    ) -> Result<(), DurableError> {
        self.seal(mode)?;
        dir.take_over(&self.path, name.as_ref())?;
        self.keep = true;
        Ok(())
    }

    /// Ends it as `to` with the mode that it has, over what is there; not durable.
    fn rename_over(mut self, to: &Path) -> Result<(), DurableError> {
        crash::around("rename", || std::fs::rename(&self.path, to))
            .map_err(|e| DurableError::io("rename to", to, e))?;
        self.keep = true;
        Ok(())
    }

    fn seal(&self, mode: u32) -> Result<(), DurableError> {
        let permissions = std::fs::Permissions::from_mode(mode);
        crash::around("set mode", || self.file.set_permissions(permissions))
            .map_err(|e| DurableError::io("set the mode of", &self.path, e))?;
        crash::around("fsync", || self.file.sync_all()).map_err(|e| DurableError::io("fsync", &self.path, e))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        crash::around("write", || self.file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.keep {
            crash::point("remove temporary file");
            let _ = std::fs::remove_file(&self.path);
            crash::point("remove temporary file");
        }
    }
}

fn written(dir: &Path, bytes: &[u8]) -> Result<NewFile, DurableError> {
    let mut file = NewFile::create_in(dir)?;
    match file.write_all(bytes) {
        Ok(()) => Ok(file),
        Err(e) => Err(DurableError::io("write", file.path(), e)),
    }
}

/// Writes `bytes` as the new file `path` with `mode`, whatever the umask. Never overwrites; whole or absent after a crash; durable on return.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    written(parent_of(path), bytes)?.finish_new(path, mode)
}

/// Writes `bytes` as `path` (mode 0600), over what is there. After a crash there is the old file or the new one. For state files.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    written(parent_of(path), bytes)?.finish_over(path, 0o600)
}

/// Writes `bytes` as `path` (mode 0600), over what is there, without waiting for the medium: whole or as before when the process is killed, anything
/// after a power cut. For files that only spare a later run work, and that it checks.
pub fn write_passing(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    written(parent_of(path), bytes)?.rename_over(path)
}

/// Moves the fsynced file at `from` to `to` on the same file system, never over something; durable on return.
pub fn move_new(from: &Path, to: &Path) -> Result<(), DurableError> {
    Dir::open(parent_of(to))?.take_new(from, to.file_name().unwrap_or_default())
}

/// Removes the file at `path`, durably. False when it was not there.
pub fn remove(path: &Path) -> Result<bool, DurableError> {
    Dir::open(parent_of(path))?.remove(path.file_name().unwrap_or_default())
}
