//! Giving an inode its owner, mode, times and attributes.
//!
//! Every call works on an open file or on a name in an open directory that is never followed.

use crate::platform::at::{self, Facts};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The ACL of a file or directory, as the kernel hands it out.
pub const ACL_ACCESS: &str = "system.posix_acl_access";
/// The ACL that new things in a directory inherit.
pub const ACL_DEFAULT: &str = "system.posix_acl_default";
/// The capabilities of a program; a change of owner takes them away.
pub const CAPABILITY: &str = "security.capability";

/// What metadata is given to.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// What must not or cannot be opened: a symbolic link, a FIFO, a device.
    Named {
        /// The directory it is in.
        dir: BorrowedFd<'a>,
        /// Its name there, one part of a path.
        name: &'a [u8],
    },
}

impl Subject<'_> {
    /// What the system says of it.
    pub fn facts(&self) -> io::Result<Facts> {
        match self {
            Self::Open(fd) => at::facts(fd),
            Self::Named { dir, name } => at::facts_at(dir, name),
        }
    }

    /// Changes owner, group or both; the system takes set-id bits and capabilities away with it. The number 2^32 - 1, which means "leave it" to the system, is refused.
    pub fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(Errno::INVAL.into());
        }
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self {
            Self::Open(fd) => rustix::fs::fchown(fd, uid, gid)?,
            Self::Named { dir, name } => {
                rustix::fs::chownat(dir, *name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(())
    }

    /// Sets the permission bits. A symbolic link has none: `ELOOP`.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        match self {
            Self::Open(fd) => Ok(rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?),
            Self::Named { dir, name } => at::set_mode_at(dir, name, mode),
        }
    }

    /// Sets the time of last modification: seconds since 1970, which may be negative, and nanoseconds. A file system may cut it to what it can hold.
    pub fn set_mtime(&self, mtime: (i64, u32)) -> io::Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() },
        };
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, &times)?,
            Self::Named { dir, name } => {
                rustix::fs::utimensat(dir, *name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(())
    }

    /// Sets an extended attribute, over one of that name. Needs `/proc` for what is not open.
    pub fn set_xattr(&self, name: &str, value: &[u8]) -> io::Result<()> {
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())?,
            Self::Named { .. } => {
                rustix::fs::lsetxattr(self.proc_path(), name, value, XattrFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Takes an extended attribute away; nothing happens where there is none or the file system has none.
    pub fn remove_xattr(&self, name: &str) -> io::Result<()> {
        let removed = match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Named { .. } => rustix::fs::lremovexattr(self.proc_path(), name),
        };
        match removed {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// There are no calls for attributes of a name in a directory; this path leads through the descriptor, and its last part is not followed by the `l…` calls.
    fn proc_path(&self) -> PathBuf {
        match self {
            Self::Open(fd) => format!("/proc/self/fd/{}", fd.as_raw_fd()).into(),
            Self::Named { dir, name } => {
                let mut path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
                path.push(OsStr::from_bytes(name));
                path
            }
        }
    }
}

/// True when new things in directory `dir` inherit an ACL from it.
pub fn bequeaths_acl(dir: impl AsFd) -> bool {
    rustix::fs::fgetxattr_query(dir, ACL_DEFAULT).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_is_changed_and_what_it_leads_to_is_not() {
        let top = tempfile::tempdir().unwrap();
        std::fs::write(top.path().join("file"), "x").unwrap();
        symlink("file", top.path().join("link")).unwrap();
        let base = at::open_place(top.path()).unwrap();
        let before = at::facts_at(&base, b"file").unwrap();
        let link = Subject::Named { dir: base.as_fd(), name: b"link" };
        link.set_mtime((-5, 7)).unwrap();
        assert!(link.set_mode(0o777).is_err());
        let _ = link.set_xattr("user.x", b"1");
        let own = link.facts().unwrap();
        link.set_owner(Some(own.uid), Some(own.gid)).unwrap();
        assert_eq!(at::facts_at(&base, b"file").unwrap(), before);
        assert_eq!(link.facts().unwrap().mtime, (-5, 7));
    }

    #[test]
    fn the_number_that_means_nobody_is_refused() {
        let top = tempfile::tempdir().unwrap();
        let base = at::open_place(top.path()).unwrap();
        let subject = Subject::Open(base.as_fd());
        assert!(subject.set_owner(Some(u32::MAX), None).is_err());
        assert!(subject.set_owner(None, Some(u32::MAX)).is_err());
    }
}
