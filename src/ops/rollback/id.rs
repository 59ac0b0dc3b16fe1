//! Which inode it is, in a form that outlives the process: what tells after a kill which of two trees is where.

use crate::platform::at::{self, Facts};
use rustix::fs::{AtFlags, StatxFlags};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::BorrowedFd;

/// An inode of this machine, told also from a later one that got its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inode {
    dev: u64,
    ino: u64,
    /// When it was made, where the file system keeps that: seconds and nanoseconds.
    born: Option<(i64, u32)>,
}

impl Inode {
    /// What `name` in `dir` is, and what the system says of it; none when there is nothing.
    pub(super) fn at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<(Self, Facts)>> {
        let Some(facts) = at::facts_if_any(dir, name)? else {
            return Ok(None);
        };
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
        let kept = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        let born = kept.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec));
        Ok(Some((Self { dev: facts.id.dev, ino: facts.id.ino, born }, facts)))
    }
}
