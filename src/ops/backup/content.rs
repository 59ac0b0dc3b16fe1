//! Members: of whole files, of parts of files, of what has no content.

use crate::archive::pax::{Member, MemberKind, Sparse};
use crate::model::{ContentHash, Entry, Extent, Kind, MapRef, ObjectId, RelPath};
use crate::ops::backup::packer::{LocalExtent, Packer};
use crate::ops::error::{Class, Doing, Result};
use std::collections::BTreeMap;
use std::io;

/// Content is read in steps of this many bytes.
const STEP: usize = 1 << 20;

/// Where content comes from: `ranges` of `size` bytes hold data, the rest is zeros.
pub(super) struct Content<'a> {
    pub(super) size: u64,
    pub(super) ranges: &'a [(u64, u64)],
    /// Reads some bytes at an offset of the file; 0 means that the file has become shorter.
    pub(super) read: &'a mut dyn FnMut(u64, &mut [u8]) -> io::Result<usize>,
}

/// Content that was packed.
#[derive(Debug, Clone)]
pub(super) struct PackedContent {
    pub(super) extents: Vec<LocalExtent>,
    pub(super) hash: ContentHash,
    /// The file's length as packed: shorter than announced when the file shrank.
    pub(super) size: u64,
    /// Offsets of the parts it was laid into; empty when it lies whole.
    pub(super) parts: Vec<u64>,
    /// What of it lies in older archives.
    pub(super) older: Vec<Extent>,
    /// The maps of all its extents, where it has them already.
    pub(super) maps: Vec<MapRef>,
    /// The pieces of its block hashes.
    pub(super) blocks: Vec<ObjectId>,
    /// Members of this run alone do not give it.
    pub(super) refers: bool,
    /// It was found under another path.
    pub(super) copied: bool,
}

impl PackedContent {
    /// Content of which all lies in archives of this run.
    pub(super) fn new(extents: Vec<LocalExtent>, hash: ContentHash, size: u64) -> Self {
        let (parts, older, maps, blocks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { extents, hash, size, parts, older, maps, blocks, refers: false, copied: false }
    }
}

/// Why content could not be packed: the archive failed (the run ends), or the file did (a problem).
pub(super) enum ContentError {
    Run(crate::ops::error::OpError),
    Read(io::Error),
}

impl From<crate::ops::error::OpError> for ContentError {
    fn from(e: crate::ops::error::OpError) -> Self {
        Self::Run(e)
    }
}

/// The path of `path` in an archive.
pub(super) fn member_path(component: &str, path: &RelPath) -> Vec<u8> {
    let mut bytes = component.as_bytes().to_vec();
    if !path.is_root() {
        bytes.push(b'/');
        bytes.extend_from_slice(path.as_bytes());
    }
    bytes
}

pub(super) fn part_path(component: &str, path: &RelPath, first: u64) -> Vec<u8> {
    let mut bytes = b".backstay/parts/".to_vec();
    bytes.extend_from_slice(&member_path(component, path));
    bytes.extend_from_slice(format!("/{first:020}").as_bytes());
    bytes
}

/// The member that says everything about `entry` but its content.
pub(super) fn member<'a>(entry: &'a Entry, kind: MemberKind, path: &'a [u8]) -> Member<'a> {
    Member {
        path,
        kind,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        user: entry.user.as_deref(),
        group: entry.group.as_deref(),
        mtime: entry.mtime,
        size: 0,
        target: entry.target.as_deref(),
        dev: entry.dev,
        xattrs: &entry.xattrs,
        sparse: None,
    }
}

/// What says of a file that lies in parts how it is to be (its own member) says so once. A part must only be readable for whoever joins it.
pub(super) fn part<'a>(entry: &'a Entry, path: &'a [u8]) -> Member<'a> {
    static NONE: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    Member { mode: 0o600, xattrs: &NONE, ..member(entry, MemberKind::File, path) }
}

/// Packs a member without content; sockets and what was left have none.
pub(super) fn pack_bare(packer: &mut Packer<'_>, entry: &Entry) -> Result<()> {
    let kind = match entry.kind {
        Kind::Dir => MemberKind::Dir,
        Kind::Symlink => MemberKind::Symlink,
        Kind::Fifo => MemberKind::Fifo,
        Kind::Char => MemberKind::Char,
        Kind::Block => MemberKind::Block,
        Kind::File | Kind::Socket | Kind::Left => return Ok(()),
    };
    let path = member_path(packer.component(), &entry.path);
    packer.begin(&member(entry, kind, &path))?;
    packer.end(false)
}

/// Packs another name of a file that was packed as `first`.
pub(super) fn pack_hard_link(packer: &mut Packer<'_>, entry: &Entry, first: &RelPath) -> Result<()> {
    let path = member_path(packer.component(), &entry.path);
    let target = member_path(packer.component(), first);
    let link = Member { target: Some(&target), ..member(entry, MemberKind::HardLink, &path) };
    packer.begin(&link)?;
    packer.end(false)
}

/// Packs content that is no longer than an archive, as one member. `entry` gives the metadata; its size is not used.
pub(super) fn pack(
    packer: &mut Packer<'_>,
    entry: &Entry,
    content: &mut Content<'_>,
) -> std::result::Result<PackedContent, ContentError> {
    let bytes: u64 = content.ranges.iter().map(|r| r.1).sum();
    let mut copy = Copy {
        hasher: blake3::Hasher::new(),
        buffer: vec![0; STEP.min(usize::try_from(bytes).unwrap_or(STEP))],
        extents: Vec::new(),
        shrunk_to: None,
    };
    pack_whole(packer, entry, content, &mut copy)?;
    let size = copy.shrunk_to.unwrap_or(content.size);
    let hash = ContentHash(*copy.hasher.finalize().as_bytes());
    Ok(PackedContent::new(copy.extents, hash, size))
}

/// Ranges widened to whole 512-byte blocks (the last may end with the file), neighbours joined: tar programs agree on no other sparse files.
pub(super) fn aligned(ranges: &[(u64, u64)], size: u64) -> Vec<(u64, u64)> {
    let mut wide: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for &(offset, length) in ranges {
        let start = offset / 512 * 512;
        let end = (offset + length).next_multiple_of(512).min(size);
        match wide.last_mut() {
            Some(last) if last.0 + last.1 >= start => last.1 = last.1.max(end - last.0),
            _ if end > start => wide.push((start, end - start)),
            _ => {}
        }
    }
    wide
}

fn pack_whole(
    packer: &mut Packer<'_>,
    entry: &Entry,
    content: &mut Content<'_>,
    copy: &mut Copy,
) -> std::result::Result<(), ContentError> {
    let path = member_path(packer.component(), &entry.path);
    let dense = content.ranges == [(0, content.size)] || content.size == 0;
    let sparse = (!dense).then_some(Sparse { real_size: content.size, ranges: content.ranges });
    let size = content.ranges.iter().map(|r| r.1).sum();
    let whole = Member { size, sparse, ..member(entry, MemberKind::File, &path) };
    let (archive, mut at) = packer.begin(&whole)?;
    for &(offset, length) in content.ranges {
        copy.range(packer, content.read, (offset, length), archive, at)?;
        at += length;
    }
    packer.end(copy.shrunk_to.is_some())?;
    Ok(())
}

pub(super) fn part_line(pairs: &[(u64, u64)]) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(pairs).doing(Class::Failed, || "cannot write a part's line".into())?;
    line.push(b'\n');
    Ok(line)
}

/// Replaces parts of an earlier try that the last one does not have, so that tar alone does not find them.
pub(super) fn void_parts(packer: &mut Packer<'_>, entry: &Entry, firsts: &[u64]) -> Result<()> {
    let line = part_line(&[])?;
    for &first in firsts {
        let path = part_path(packer.component(), &entry.path, first);
        packer.begin(&Member { size: line.len() as u64, ..part(entry, &path) })?;
        packer.plain(&line)?;
        packer.end(false)?;
    }
    Ok(())
}

/// Cuts ranges into runs of at most `most` bytes.
pub(super) fn cut_into_parts(ranges: &[(u64, u64)], most: u64) -> Vec<Vec<(u64, u64)>> {
    let mut parts: Vec<Vec<(u64, u64)>> = vec![Vec::new()];
    let mut room = most;
    for &(mut offset, mut length) in ranges {
        while length > 0 {
            if room == 0 {
                parts.push(Vec::new());
                room = most;
            }
            let step = length.min(room);
            if let Some(part) = parts.last_mut() {
                part.push((offset, step));
            }
            (offset, length, room) = (offset + step, length - step, room - step);
        }
    }
    parts
}

/// Copies ranges into members, hashing what it copies and noting where it went.
struct Copy {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    extents: Vec<LocalExtent>,
    shrunk_to: Option<u64>,
}

impl Copy {
    fn range(
        &mut self,
        packer: &mut Packer<'_>,
        read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<usize>,
        (offset, length): (u64, u64),
        archive: usize,
        tar_offset: u64,
    ) -> std::result::Result<(), ContentError> {
        let mut done = 0;
        while done < length && self.shrunk_to.is_none() {
            let want = usize::try_from(length - done).unwrap_or(STEP).min(self.buffer.len());
            match read(offset + done, &mut self.buffer[..want]) {
                Ok(0) => self.shrunk_to = Some(offset + done),
                Ok(got) => {
                    self.hasher.update(&self.buffer[..got]);
                    packer.data(&self.buffer[..got])?;
                    done += got as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    // The member must still come out at its announced length, or the archive is lost for all others.
                    packer.end(true)?;
                    return Err(ContentError::Read(e));
                }
            }
        }
        if done > 0 {
            self.extents.push(LocalExtent { offset, archive, tar_offset, length: done });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_every_byte_once_and_none_is_larger_than_an_archive() {
        let ranges = [(0, 10), (20, 25), (100, 1)];
        let parts = cut_into_parts(&ranges, 8);
        assert!(parts.iter().all(|p| p.iter().map(|r| r.1).sum::<u64>() <= 8));
        let mut bytes = Vec::new();
        for (offset, length) in parts.into_iter().flatten() {
            bytes.extend(offset..offset + length);
        }
        let all: Vec<u64> = ranges.iter().flat_map(|r| r.0..r.0 + r.1).collect();
        assert_eq!(bytes, all);
    }

    #[test]
    fn sparse_ranges_are_whole_blocks_and_cover_what_they_covered() {
        assert_eq!(aligned(&[(0, 700)], 700), [(0, 700)]);
        assert_eq!(aligned(&[(100, 1), (600, 500), (5000, 10)], 9000), [(0, 1536), (4608, 512)]);
        assert_eq!(aligned(&[(0, 512), (512, 512)], 4096), [(0, 1024)]);
        assert_eq!(aligned(&[], 4096), []);
    }

    #[test]
    fn parts_lie_below_the_path_of_their_file_by_offset() {
        let path = RelPath::new(b"data/big").unwrap();
        assert_eq!(part_path("db", &path, 7), b".backstay/parts/db/data/big/00000000000000000007");
        assert_eq!(member_path("db", &RelPath::root()), b"db");
    }
}
