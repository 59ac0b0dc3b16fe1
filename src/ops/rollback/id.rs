//! Which inode it is, in a form that outlives the process and the next boot: what tells after a kill which of two trees is where.

use crate::platform::at::{self, Facts};
use rustix::fs::{AtFlags, StatxFlags};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::BorrowedFd;

/// An inode of a file system, told also from a later one that got its number.
#[derive(Debug, Clone, Copy, Eq, Serialize, Deserialize)]
pub(super) struct Inode {
    /// The file system's number when this was written. Another boot may give it another: it says nothing of what is the same.
    dev: u64,
    ino: u64,
    /// When it was made, where the file system keeps that: seconds and nanoseconds.
    born: Option<(i64, u32)>,
    /// The mount that it was found on, where the system tells; of this process alone.
    #[serde(skip)]
    mount: Option<u64>,
}

impl PartialEq for Inode {
    fn eq(&self, other: &Self) -> bool {
        (self.ino, self.born) == (other.ino, other.born)
    }
}

impl Inode {
    /// What `name` in `dir` is, and what the system says of it; none when there is nothing.
    pub(super) fn at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<(Self, Facts)>> {
        let Some(facts) = at::facts_if_any(dir, name)? else {
            return Ok(None);
        };
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
        let stat = rustix::fs::statx(dir, name, flags, wanted)?;
        let kept = StatxFlags::from_bits_retain(stat.stx_mask);
        let born =
            kept.contains(StatxFlags::BTIME).then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec));
        let mount = kept.contains(StatxFlags::MNT_ID).then_some(stat.stx_mnt_id);
        Ok(Some((Self { dev: facts.id.dev, ino: facts.id.ino, born, mount }, facts)))
    }

    /// True unless it is known to lie on another mount than the open directory `base`. Numbers of file systems do not tell that: subvolumes of one
    /// mount have several.
    pub(super) fn is_on_the_mount_of(&self, base: BorrowedFd<'_>) -> io::Result<bool> {
        let stat = rustix::fs::statx(base, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
        let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID);
        Ok(!told || self.mount.is_none_or(|mount| mount == stat.stx_mnt_id))
    }
}
