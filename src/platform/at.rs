//! Files and directories reached from an open directory.
//!
//! A *name* here is one part of a path; a *path* is resolved below its directory or not at all. Nothing in this module may follow a
//! symbolic link or leave the directory it was given, whoever renames things meanwhile. The one exception is [`open_place`], which opens
//! what a person named.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub use crate::platform::beneath::{open_dir_beneath, open_dir_here};

/// Tells one inode of this machine from all others, as long as somebody holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Number of its file system.
    pub dev: u64,
    /// Number of its inode.
    pub ino: u64,
}

/// What the system says of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Which inode.
    pub id: FileId,
    /// Its type.
    pub kind: FileType,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
}

impl Facts {
    #[expect(clippy::useless_conversion, reason = "the fields' types differ between systems")]
    fn of(stat: &Stat) -> Self {
        Self {
            id: FileId { dev: stat.st_dev.into(), ino: stat.st_ino.into() },
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: u32::from(stat.st_mode) & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime.into(), u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        }
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }
}

pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const PRIVATE_DIR: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// `name`, if it is one part of a path.
pub(super) fn part(name: &[u8]) -> io::Result<&[u8]> {
    let wrong = matches!(name, b"" | b"." | b"..") || name.contains(&b'/');
    if wrong { Err(Errno::INVAL.into()) } else { Ok(name) }
}

/// What the system says of an open file.
pub fn facts(fd: impl AsFd) -> io::Result<Facts> {
    Ok(Facts::of(&rustix::fs::fstat(fd)?))
}

/// What the system says of `name` itself, be it a link.
pub fn facts_at(dir: impl AsFd, name: &[u8]) -> io::Result<Facts> {
    Ok(Facts::of(&rustix::fs::statat(dir, part(name)?, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// Like [`facts_at`], with `None` where there is nothing.
pub fn facts_if_any(dir: impl AsFd, name: &[u8]) -> io::Result<Option<Facts>> {
    match facts_at(dir, name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Opens the directory that a person named; links in `path` are followed, as they would be anywhere.
pub fn open_place(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens directory `name` in `dir`.
pub fn open_dir(dir: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, part(name)?, DIRECTORY, Mode::empty())?)
}

/// The names in a directory that was just opened, in no order, without `.` and `..`. What is read of it moves on: once for each opening.
#[cfg(target_os = "linux")]
pub fn names_in(dir: impl AsFd) -> rustix::io::Result<Vec<CString>> {
    /// A name has at most 255 bytes: a call gives many.
    const ROOM: usize = 16 << 10;
    let mut room = Vec::with_capacity(ROOM);
    let mut entries = rustix::fs::RawDir::new(dir, room.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// The same where the system has no call for it.
#[cfg(not(target_os = "linux"))]
pub fn names_in(dir: impl AsFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Opens the directory above an open one. The caller must compare whose it is: a directory can be moved at any time.
pub fn open_parent(dir: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, "..", DIRECTORY, Mode::empty())?)
}

/// Makes directory `name`, which must not exist, readable by its owner alone whatever the umask, and opens it.
pub fn create_dir(dir: impl AsFd, name: &[u8]) -> io::Result<(OwnedFd, Facts)> {
    let dir = dir.as_fd();
    rustix::fs::mkdirat(dir, part(name)?, Mode::from_raw_mode(PRIVATE_DIR))?;
    let fd = match open_dir(dir, name) {
        // A umask such as 0777 took the owner's rights away, too.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            set_mode_at(dir, name, PRIVATE_DIR)?;
            open_dir(dir, name)?
        }
        other => other?,
    };
    let facts = private(&fd, PRIVATE_DIR)?;
    Ok((fd, facts))
}

/// Makes file `name`, which must not exist, accessible to its owner alone whatever the umask; open for reading and writing.
pub fn create_file(dir: impl AsFd, name: &[u8]) -> io::Result<(File, Facts)> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, part(name)?, flags, Mode::from_raw_mode(PRIVATE_FILE))?;
    let facts = private(&fd, PRIVATE_FILE)?;
    Ok((fd.into(), facts))
}

/// Umask and set-group-id parents change the mode that was asked for; one more call only where they did.
fn private(fd: &OwnedFd, mode: u32) -> io::Result<Facts> {
    let mut found = facts(fd)?;
    if found.mode != mode {
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?;
        found.mode = mode;
    }
    Ok(found)
}

/// Opens file `name` for reading and writing. Never waits for the other end of a FIFO.
pub fn open_file(dir: impl AsFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, part(name)?, flags, Mode::empty())?.into())
}

/// Opens file `name` for reading. Never waits for the other end of a FIFO.
pub fn open_to_read(dir: impl AsFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, part(name)?, flags, Mode::empty())?.into())
}

/// Makes symbolic link `name`, which says `target`.
pub fn symlink(target: &[u8], dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::symlinkat(target, dir, part(name)?)?)
}

/// Makes FIFO `name`.
pub fn make_fifo(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    let mode = Mode::from_raw_mode(PRIVATE_FILE);
    Ok(rustix::fs::mknodat(dir, part(name)?, FileType::Fifo, mode, 0)?)
}

/// Makes device `name` (`kind` is `CharacterDevice` or `BlockDevice`). Numbers that the kernel would cut short, and so take for another
/// device's, are refused.
pub fn make_device(dir: impl AsFd, name: &[u8], kind: FileType, numbers: (u32, u32)) -> io::Result<()> {
    let (major, minor) = numbers;
    if major >= 1 << 12 || minor >= 1 << 20 {
        return Err(Errno::INVAL.into());
    }
    let dev = rustix::fs::makedev(major, minor);
    let mode = Mode::from_raw_mode(PRIVATE_FILE);
    Ok(rustix::fs::mknodat(dir, part(name)?, kind, mode, dev)?)
}

/// Gives the inode called `old` in `old_dir` (a link itself, not what it leads to) the further name `new`, which must be free.
pub fn link(old_dir: impl AsFd, old: &[u8], new_dir: impl AsFd, new: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::linkat(old_dir, part(old)?, new_dir, part(new)?, AtFlags::empty())?)
}

/// Removes `name`, which is not a directory.
pub fn unlink(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, part(name)?, AtFlags::empty())?)
}

/// Removes the empty directory `name`.
pub fn remove_dir(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, part(name)?, AtFlags::REMOVEDIR)?)
}

/// Renames within a directory; what `new` was is gone (a directory only where it is empty).
pub fn rename(dir: impl AsFd, old: &[u8], new: &[u8]) -> io::Result<()> {
    let dir = dir.as_fd();
    Ok(rustix::fs::renameat(dir, part(old)?, dir, part(new)?)?)
}

/// Renames within a directory to a name that must be free.
pub fn rename_new(dir: impl AsFd, old: &[u8], new: &[u8]) -> io::Result<()> {
    let dir = dir.as_fd();
    Ok(rustix::fs::renameat_with(dir, part(old)?, dir, part(new)?, RenameFlags::NOREPLACE)?)
}

/// Moves `name` from one directory to another under the same name, which must be free there. False when it is not, or when the other
/// directory is on another file system: then nothing was done.
pub fn move_new(from: impl AsFd, name: &[u8], to: impl AsFd) -> io::Result<bool> {
    move_new_as(from, name, to, name)
}

/// The same with another name.
pub fn move_new_as(from: impl AsFd, old: &[u8], to: impl AsFd, new: &[u8]) -> io::Result<bool> {
    let (from, to) = (from.as_fd(), to.as_fd());
    match try_move(from, part(old)?, to, part(new)?) {
        // A directory that its own mode closes cannot be given another parent.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let facts = facts_at(from, old)?;
            if !facts.is_dir() || facts.mode & 0o200 != 0 {
                return Err(e);
            }
            set_mode_at(from, old, facts.mode | 0o200)?;
            let moved = try_move(from, old, to, new);
            let (place, name) = if matches!(moved, Ok(true)) { (to, new) } else { (from, old) };
            set_mode_at(place, name, facts.mode)?;
            moved
        }
        other => other,
    }
}

fn try_move(from: BorrowedFd<'_>, old: &[u8], to: BorrowedFd<'_>, new: &[u8]) -> io::Result<bool> {
    let moved = match rustix::fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        // A file system without that: looking first is all there is.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match facts_if_any(to, new)? {
            Some(_) => return Ok(false),
            None => rustix::fs::renameat(from, old, to, new),
        },
        other => other,
    };
    match moved {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::NOTEMPTY | Errno::XDEV) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Exchanges two names of a directory in one step.
pub fn exchange(dir: impl AsFd, one: &[u8], other: &[u8]) -> io::Result<()> {
    let dir = dir.as_fd();
    Ok(rustix::fs::renameat_with(dir, part(one)?, dir, part(other)?, RenameFlags::EXCHANGE)?)
}

/// True when an error says that this system or file system does not have the operation at all.
pub fn is_unsupported(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

/// True when an error says that a part of a path is a symbolic link or no directory.
pub fn is_not_a_directory(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::LOOP | Errno::NOTDIR))
}

/// The names in a directory, without `.` and `..`, and their types where the file system tells them with the name (else `Unknown`).
pub fn names(dir: impl AsFd) -> io::Result<Vec<(Vec<u8>, FileType)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    Ok(names)
}

/// True when there is nothing in a directory.
pub fn is_empty(dir: impl AsFd) -> io::Result<bool> {
    for entry in Dir::read_from(dir)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// True when something is mounted on `name`, so that it cannot be renamed.
pub fn is_mount_point(dir: impl AsFd, name: &[u8]) -> io::Result<bool> {
    let dir = dir.as_fd();
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::statx(dir, part(name)?, flags, StatxFlags::BASIC_STATS) {
        Ok(stat) if stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        Ok(_) | Err(Errno::NOSYS) => Ok(facts_at(dir, name)?.id.dev != facts(dir)?.id.dev),
        Err(e) => Err(e.into()),
    }
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsync(dir)?)
}

/// Makes everything on the file system of `fd` durable. An error must never be answered by trying again: the kernel reports it once.
pub fn sync_file_system(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fd)?)
}

/// Sets the permission bits of `name` (never of what a link leads to; a link has none). Needs `/proc`.
pub fn set_mode_at(dir: impl AsFd, name: &[u8], mode: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, part(name)?, flags, Mode::empty())?;
    if facts(&fd)?.kind == FileType::Symlink {
        return Err(Errno::LOOP.into());
    }
    // The descriptor names the inode itself, so nothing can be put in its way.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink as link_to;

    #[test]
    fn what_is_made_is_private_and_never_replaces() {
        let top = tempfile::tempdir().unwrap();
        let base = open_place(top.path()).unwrap();
        assert_eq!(create_dir(&base, b"d").unwrap().1.mode, 0o700);
        assert_eq!(create_file(&base, b"f").unwrap().1.mode, 0o600);
        link_to("/nowhere/at/all", top.path().join("l")).unwrap();
        for name in ["d", "f", "l"] {
            let name = name.as_bytes();
            assert_eq!(create_dir(&base, name).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(create_file(&base, name).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
        assert!(open_file(&base, b"l").is_err());
        assert!(set_mode_at(&base, b"l", 0o777).is_err());
        set_mode_at(&base, b"f", 0o4711).unwrap();
        assert_eq!(facts_at(&base, b"f").unwrap().mode, 0o4711);
    }

    #[test]
    fn device_numbers_that_would_be_cut_short_are_refused() {
        let top = tempfile::tempdir().unwrap();
        let base = open_place(top.path()).unwrap();
        for numbers in [(1 << 12, 3), (1, 1 << 20), (u32::MAX, 0)] {
            let made = make_device(&base, b"dev", FileType::CharacterDevice, numbers);
            assert_eq!(made.unwrap_err().raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        }
        assert!(is_empty(&base).unwrap());
    }

    #[test]
    fn mount_points_are_known() {
        let root = open_place(Path::new("/")).unwrap();
        assert!(is_mount_point(&root, b"proc").unwrap());
        let top = tempfile::tempdir().unwrap();
        let base = open_place(top.path()).unwrap();
        create_dir(&base, b"d").unwrap();
        assert!(!is_mount_point(&base, b"d").unwrap());
    }
}
