//! A member of a tar stream, as a writer gives it.

use super::BLOCK;
use crate::model::path::PATH_BYTES_MAX;
use std::collections::BTreeMap;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file, whole or sparse.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// Another name of a member before it.
    HardLink,
    /// A FIFO.
    Fifo,
    /// A character device.
    Char,
    /// A block device.
    Block,
}

/// Where the data of a sparse file belongs.
#[derive(Debug, Clone, Copy)]
pub struct Sparse<'a> {
    /// Length of the file in bytes.
    pub real_size: u64,
    /// `[offset, length]` of the stretches that are stored, in order, apart, none empty, all but the last whole blocks of 512 bytes.
    pub ranges: &'a [(u64, u64)],
}

/// A member to be written.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Path from the top of the archive, without a slash at either end.
    pub path: &'a [u8],
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Owner's name, where known.
    pub user: Option<&'a str>,
    /// Group's name, where known.
    pub group: Option<&'a str>,
    /// Seconds since 1970 (may be negative) and nanoseconds (0 to 999,999,999).
    pub mtime: (i64, u32),
    /// Bytes of data that follow: of a sparse file the sum of its ranges; 0 for all but files.
    pub size: u64,
    /// Target of a symbolic link; path in the archive of what a hard link names.
    pub target: Option<&'a [u8]>,
    /// Major and minor number of a device.
    pub dev: Option<(u32, u32)>,
    /// Extended attributes. Those whose name has a `=` are not written: pax cannot say them.
    pub xattrs: &'a BTreeMap<String, Vec<u8>>,
    /// Set for a sparse file.
    pub sparse: Option<Sparse<'a>>,
}

/// Longest path of a member: that of an entry with what an archive puts before and behind it.
pub(super) const MEMBER_PATH_MAX: usize = PATH_BYTES_MAX + 256;
/// Longest target of a symbolic link.
pub(super) const TARGET_MAX: usize = 65_535;

/// Why `path` (without a slash at its end) may not be a member's.
pub(super) fn path_fault(path: &[u8]) -> Option<&'static str> {
    if path.is_empty() {
        return Some("its path is empty");
    }
    if path.len() > MEMBER_PATH_MAX {
        return Some("its path is too long");
    }
    if path.contains(&0) {
        return Some("its path holds a NUL byte");
    }
    path.split(|&b| b == b'/').find_map(|part| match part {
        b"" => Some("a part of its path is empty, or it is absolute"),
        b"." | b".." => Some("its path has a part \".\" or \"..\""),
        _ => None,
    })
}

/// Why `ranges` cannot be those of a sparse file that stores `size` bytes.
pub(super) fn ranges_fault(ranges: &[(u64, u64)], real_size: u64, size: u64) -> Option<&'static str> {
    let (mut end, mut stored) = (0, 0_u64);
    for &(offset, length) in ranges {
        let Some(range_end) = offset.checked_add(length).filter(|e| *e <= real_size) else {
            return Some("a stretch of its sparse map reaches past its end");
        };
        if length == 0 || offset < end {
            return Some("stretches of its sparse map overlap, are empty or out of order");
        }
        // GNU tar begins each stretch at a new block, all others right behind the one before.
        if stored % BLOCK as u64 != 0 {
            return Some("a stretch of its sparse map, not the last, is not whole blocks");
        }
        end = range_end;
        // Cannot overflow: disjoint stretches within a u64.
        stored += length;
    }
    (stored != size).then_some("its sparse map and its size disagree")
}

/// The name under which programs that know nothing of sparse members find one.
pub(super) fn sparse_path(path: &[u8]) -> Vec<u8> {
    let at = path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    [&path[..at], b"GNUSparseFile.0/", &path[at..]].concat()
}
