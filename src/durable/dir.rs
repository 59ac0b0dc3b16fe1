//! Directories: opened once, then used by descriptor, so that no link put in the way is followed.

use crate::durable::crash;
use crate::durable::error::DurableError;
use crate::durable::parent_of;
use crate::model::Timestamp;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What is known of a name in a directory, without following a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Size in bytes.
    pub size: u64,
    /// When it was last changed.
    pub modified: Option<Timestamp>,
    /// True for a regular file; false for a directory, a link and all else.
    pub regular: bool,
    /// True for a directory.
    pub directory: bool,
}

/// An open directory. All names are single parts below it, and links are never followed.
#[derive(Debug)]
pub struct Dir {
    file: File,
    path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Dir {
    /// Opens the directory at `path`; links on the way to it and at its end are followed, because whoever configured it meant them.
    pub fn open(path: &Path) -> Result<Self, DurableError> {
        let open = || rustix::fs::openat(CWD, path, DIR_FLAGS, Mode::empty()).map_err(io::Error::from);
        let fd =
            crash::around("open directory", open).map_err(|e| DurableError::io("open directory", path, e))?;
        Ok(Self { file: File::from(fd), path: path.to_owned() })
    }

    /// Opens the directory `name` in this one. A symbolic link is refused with `ELOOP`, never taken for "not there".
    pub fn child(&self, name: impl AsRef<OsStr>) -> Result<Self, DurableError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        let open = || {
            let flags = DIR_FLAGS | OFlags::NOFOLLOW;
            match rustix::fs::openat(&self.file, name, flags, Mode::empty()) {
                // O_DIRECTORY with O_NOFOLLOW says ENOTDIR of a link; only something else there makes that true.
                Err(Errno::NOTDIR) if self.is_link(name) => Err(Errno::LOOP.into()),
                other => other.map_err(io::Error::from),
            }
        };
        let fd = crash::around("open directory", open)
            .map_err(|e| DurableError::io("open directory", &path, e))?;
        Ok(Self { file: File::from(fd), path })
    }

    /// Opens the directory `name` in this one and makes it, with `mode`, when it is not there. Its name is durable on return, also when
    /// another process made it a moment ago.
    pub fn ensure_child(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Self, DurableError> {
        let name = name.as_ref();
        let make = || match rustix::fs::mkdirat(&self.file, name, Mode::from_raw_mode(mode)) {
            Err(Errno::EXIST) => Ok(()),
            other => other.map_err(io::Error::from),
        };
        crash::around("make directory", make)
            .map_err(|e| DurableError::io("make directory", &self.path.join(name), e))?;
        let child = self.child(name)?;
        self.sync()?;
        Ok(child)
    }

    /// Writes the directory's names to the medium. A failure is final: see the module.
    pub fn sync(&self) -> Result<(), DurableError> {
        crash::around("fsync directory", || self.file.sync_all())
            .map_err(|e| DurableError::io("fsync directory", &self.path, e))
    }

    /// Device and inode: tells whether another directory lies at the same path now.
    pub fn identity(&self) -> Result<(u64, u64), DurableError> {
        let meta = self.file.metadata().map_err(|e| DurableError::io("look at", &self.path, e))?;
        Ok((meta.dev(), meta.ino()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `name` is; an error that [`DurableError::is_not_found`] when there is none.
    pub fn info(&self, name: impl AsRef<OsStr>) -> Result<Info, DurableError> {
        let name = name.as_ref();
        let look = || Ok(rustix::fs::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW)?);
        let stat = crash::around::<_, io::Error>("look at", look)
            .map_err(|e| DurableError::io("look at", &self.path.join(name), e))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let nanoseconds = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        Ok(Info {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: Timestamp::new(stat.st_mtime, nanoseconds).ok(),
            regular: kind == FileType::RegularFile,
            directory: kind == FileType::Directory,
        })
    }

    /// Opens the regular file `name` for reading. A link is refused with `ELOOP`, all else that is no file with `EINVAL`; a FIFO never blocks.
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> Result<File, DurableError> {
        let name = name.as_ref();
        let open = || {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(&self.file, name, flags, Mode::empty())?);
            if file.metadata()?.is_file() {
                return Ok(file);
            }
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
        };
        crash::around("open", open).map_err(|e| DurableError::io("open", &self.path.join(name), e))
    }

    /// The names in it, in no order, without `.` and `..`.
    pub fn names(&self) -> Result<Vec<OsString>, DurableError> {
        let read = || {
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(&self.file)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.push(OsStr::from_bytes(name).to_owned());
                }
            }
            Ok::<_, io::Error>(names)
        };
        crash::around("read directory", read).map_err(|e| DurableError::io("read directory", &self.path, e))
    }

    /// Removes the file `name`, durably. False when it was not there.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<bool, DurableError> {
        let name = name.as_ref();
        let unlink = || Ok(rustix::fs::unlinkat(&self.file, name, AtFlags::empty())?);
        match crash::around::<_, io::Error>("unlink", unlink) {
            Ok(()) => self.sync().map(|()| true),
            // Gone by another hand, perhaps a moment ago: on return it is gone for good.
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.sync().map(|()| false),
            Err(e) => Err(DurableError::io("remove", &self.path.join(name), e)),
        }
    }

    /// Moves the fsynced file at `from` to `name` in this directory, never over something, durably. When the directory cannot be synced the
    /// file goes back to `from`, so that a second attempt moves it anew and does not rest on a sync that only seems to succeed.
    pub fn take_new(&self, from: &Path, name: impl AsRef<OsStr>) -> Result<(), DurableError> {
        let name = name.as_ref();
        let to = self.path.join(name);
        let rename = |old: &Dir, old_name: &OsStr, new: &Dir, new_name: &OsStr| {
            rustix::fs::renameat_with(&old.file, old_name, &new.file, new_name, RenameFlags::NOREPLACE)
        };
        let source = Self::open(parent_of(from))?;
        let from_name = from.file_name().unwrap_or_default();
        let renamed = crash::around::<_, io::Error>("rename", || Ok(rename(&source, from_name, self, name)?));
        match renamed.as_ref().map_err(Errno::from_io_error) {
            Ok(()) => self.sync().inspect_err(|_| {
                let _ = rename(self, name, &source, from_name);
            }),
            Err(Some(Errno::EXIST)) => Err(DurableError::Exists { path: to }),
            Err(Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)) => {
                self.link_new(&source, from_name, name)
            }
            Err(_) => renamed.map_err(|e| DurableError::io("move into place", &to, e)),
        }
    }

    /// The same by hard link, where the file system has no rename that does not replace.
    pub(super) fn link_new(&self, source: &Dir, from: &OsStr, name: &OsStr) -> Result<(), DurableError> {
        let to = self.path.join(name);
        let link = || Ok(rustix::fs::linkat(&source.file, from, &self.file, name, AtFlags::empty())?);
        let linked = crash::around::<_, io::Error>("link", link);
        match linked.as_ref().map_err(Errno::from_io_error) {
            Ok(()) => {}
            Err(Some(Errno::EXIST)) => return Err(DurableError::Exists { path: to }),
            Err(Some(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP)) => {
                return linked.map_err(|source| DurableError::NoCreateOnly { path: to, source });
            }
            Err(_) => return linked.map_err(|e| DurableError::io("move into place", &to, e)),
        }
        // The first name goes only when the second is on the medium.
        self.sync().inspect_err(|_| {
            let _ = rustix::fs::unlinkat(&self.file, name, AtFlags::empty());
        })?;
        crash::point("unlink first name");
        // A first name that stays is litter, which a sweep removes; the object is in place and durable.
        let _ = rustix::fs::unlinkat(&source.file, from, AtFlags::empty());
        crash::point("unlink first name");
        Ok(())
    }

    /// Moves the fsynced file at `from` to `name` in this directory, over what is there, durably.
    pub(super) fn take_over(&self, from: &Path, name: &OsStr) -> Result<(), DurableError> {
        crash::around("rename over", || Ok(rustix::fs::renameat(CWD, from, &self.file, name)?))
            .map_err(|e: io::Error| DurableError::io("replace", &self.path.join(name), e))?;
        self.sync()
    }

    fn is_link(&self, name: &OsStr) -> bool {
        let stat = rustix::fs::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
    }
}

/// Writes the names in the directory at `path` to the medium.
pub fn sync_dir(path: &Path) -> Result<(), DurableError> {
    Dir::open(path)?.sync()
}

/// Makes the directory at `path` and those above it that are missing, each with `mode` (the umask may take bits away) and each durable.
/// Directories that are there already keep their modes.
pub fn create_dirs(path: &Path, mode: u32) -> Result<(), DurableError> {
    match Dir::open(path) {
        Ok(_) => return Ok(()),
        Err(e) if e.errno() == Some(Errno::NOENT) => {}
        Err(e) => return Err(e),
    }
    let parent = parent_of(path);
    if let Some(name) = path.file_name() {
        create_dirs(parent, mode)?;
        Dir::open(parent)?.ensure_child(name, mode)?;
        return Ok(());
    }
    Err(DurableError::io("make directory", path, Errno::NOENT))
}

/// How many bytes this process may still write to the file system that holds `path`.
pub fn free_space(path: &Path) -> Result<u64, DurableError> {
    let stat = rustix::fs::statvfs(path).map_err(|e| DurableError::io("ask the free space of", path, e))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
