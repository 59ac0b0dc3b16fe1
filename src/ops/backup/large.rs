//! Packing the content of a file: what is known already is referred to, and of what is large only changed blocks are packed.
//!
//! Content is read in one pass where that can be. A large file that may be a copy of another is read once more before, because only its hash tells.

use crate::archive::pax::{Member, MemberKind};
use crate::catalog::known::Row;
use crate::model::{ContentHash, Entry, Extent, Kind};
use crate::ops::backup::blocks::{
    self, CompareError, Compared, Home, OldTable, PART_BYTES, Parts, Request, Sink, Stretch, block_size,
};
use crate::ops::backup::build::{Build, Item};
use crate::ops::backup::content::{
    Content, ContentError, PackedContent, aligned, member, member_path, pack, part, part_line, part_path,
};
use crate::ops::backup::laying::Laying;
use crate::ops::backup::packer::{LocalExtent, Packer, level_of_changes, resolve};
use crate::ops::backup::reuse::{Brought, SMALL_BYTES, covers};
use crate::ops::error::{Class, OpError, Result};
use crate::platform::capture::Ident;
use crate::source::folder::OpenFile;
use rustix::io::pread;
use std::io;
use std::sync::Arc;

type Packed = std::result::Result<PackedContent, ContentError>;
type Read<'r> = dyn FnMut(u64, &mut [u8]) -> io::Result<usize> + 'r;

/// What content is compared with: its blocks as they were, and where they lie.
type Before = (Arc<OldTable>, Vec<Extent>);

/// Where block hashes go, a range at a time.
type Keep<'k> = dyn FnMut(Vec<u8>) + 'k;

/// Packs the content of an open file.
pub(super) fn pack_file_content(build: &mut Build<'_>, open: &OpenFile) -> Packed {
    let mut read =
        |offset: u64, buffer: &mut [u8]| pread(&open.file, buffer, offset).map_err(io::Error::from);
    let ranges = aligned(&open.ranges, open.entry.size);
    let (entry, size) = (&open.entry, open.entry.size);
    if size <= SMALL_BYTES {
        return pack_small(build, entry, &ranges, &mut read);
    }
    let row = if build.old.is_empty() { None } else { build.contents.row(entry.path.as_bytes()) };
    // Without block hashes only the whole tells whether it is what it was.
    let bare = row.as_ref().is_some_and(|row| row.blocks.is_empty() && row.entry.size == size);
    let copy = !build.old.is_empty() && (bare || build.contents.has_another_of(size, row.as_ref()));
    if copy && let Some(packed) = find_copy(build, entry, &ranges, &mut read)? {
        return Ok(packed);
    }
    let own = row.filter(|row| row.entry.size > SMALL_BYTES);
    let before = before(build, Some(&open.ident), own, blocks::Content::File)?;
    let content = Content { size, ranges: &ranges, read: &mut read };
    pack_blocks(build, entry, content, blocks::Content::File, before)
}

/// Packs content that can be read once, from its beginning to its end: a database, the output of a command. `ident` is the file's, where it is one that may have had
/// another name.
pub(super) fn pack_stream(
    build: &mut Build<'_>,
    entry: &Entry,
    size: u64,
    (kind, ident): (blocks::Content, Option<&Ident>),
    read: &mut Read<'_>,
) -> Packed {
    let before = match build.brought.take_if(|brought| brought.path == entry.path) {
        Some(Brought { row, table, .. }) => table.map(|table| (table, build.old.extents(&row))),
        None => {
            let row = if build.old.is_empty() { None } else { build.contents.row(entry.path.as_bytes()) };
            before(build, ident, row, kind)?
        }
    };
    let ranges = if size == 0 { Vec::new() } else { vec![(0, size)] };
    pack_blocks(build, entry, Content { size, ranges: &ranges, read }, kind, before)
}

/// The blocks that content is compared with: those of `own`, what its path had, else those of the large file that its inode was under another.
fn before(
    build: &mut Build<'_>,
    ident: Option<&Ident>,
    own: Option<Row>,
    kind: blocks::Content,
) -> Result<Option<Before>> {
    if build.old.is_empty() {
        return Ok(None);
    }
    let row = own.or_else(|| build.contents.moved(ident?));
    row.map_or(Ok(None), |row| blocks_of(build, &row, kind))
}

fn blocks_of(build: &Build<'_>, row: &Row, kind: blocks::Content) -> Result<Option<Before>> {
    let table = match build.old.table(&row.blocks) {
        Some(kept) => Some(kept),
        None if row.entry.size > SMALL_BYTES => {
            build.old.table_of_stored(row, Some(kind), &build.packer.run)?
        }
        None => None,
    };
    Ok(table.map(|table| (table, build.old.extents(row))))
}

/// Packs a file without block hashes, unless its content is known.
fn pack_small(build: &mut Build<'_>, entry: &Entry, ranges: &[(u64, u64)], read: &mut Read<'_>) -> Packed {
    let size = entry.size;
    if build.old.is_empty() {
        return pack(&mut build.packer, entry, &mut Content { size, ranges, read });
    }
    let mut bytes = Vec::new();
    for &(offset, length) in ranges {
        let begin = bytes.len();
        bytes.resize(begin + usize::try_from(length).unwrap_or(0), 0);
        let got = fill(read, offset, &mut bytes[begin..]).map_err(ContentError::Read)?;
        if (got as u64) < length {
            // It became shorter: what there is of it is packed as it comes.
            return pack(&mut build.packer, entry, &mut Content { size, ranges, read });
        }
    }
    let hash = ContentHash(*blake3::hash(&bytes).as_bytes());
    if bytes.is_empty() {
        let extents = Vec::new();
        return Ok(PackedContent { refers: true, ..PackedContent::new(extents, hash, size) });
    }
    if let Some(known) = known(build, entry, &hash, size, ranges) {
        build.packer.run.progress.advance(bytes.len() as u64);
        return Ok(known);
    }
    let mut at = 0;
    // Whoever packs reads the ranges once, in order.
    let mut again = |_: u64, buffer: &mut [u8]| {
        let rest = bytes.get(at..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        at += length;
        Ok(length)
    };
    pack(&mut build.packer, entry, &mut Content { size, ranges, read: &mut again })
}

fn fill(read: &mut Read<'_>, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match read(offset + got as u64, &mut buffer[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

/// Where this content lies already: in an archive of this run, or in an older one that may be referred to.
fn known(
    build: &mut Build<'_>,
    entry: &Entry,
    hash: &ContentHash,
    size: u64,
    ranges: &[(u64, u64)],
) -> Option<PackedContent> {
    let made = build.contents.made(hash).and_then(|place| build.listing.get(place));
    if let Some(item) = made.filter(|item| lies_in(item, hash, size, ranges)) {
        let mut known = PackedContent::new(item.extents.clone(), *hash, size);
        known.older.clone_from(&item.entry.extents);
        (known.blocks, known.refers, known.copied) = (item.facts.blocks.clone(), true, true);
        return Some(known);
    }
    let row = build.contents.find(hash, size, ranges)?;
    let mut known = PackedContent::new(Vec::new(), *hash, size);
    (known.refers, known.copied) = (true, row.copied || row.entry.path != entry.path);
    known.blocks.clone_from(&row.blocks);
    let entry = build.old.entry_of(row);
    (known.older, known.maps) = (entry.extents, entry.maps.to_vec());
    Some(known)
}

fn lies_in(item: &Item, hash: &ContentHash, size: u64, ranges: &[(u64, u64)]) -> bool {
    let same = item.entry.kind == Kind::File && item.entry.hash == Some(*hash) && item.entry.size == size;
    // Whichever archive it is: only what is covered matters.
    let archive = crate::model::ObjectId([0; 32]);
    let local = item.extents.iter().map(|e| LocalExtent { archive: 0, ..*e }).collect::<Vec<_>>();
    let Ok(mut extents) = resolve(&local, &[archive]) else { return false };
    extents.extend(item.entry.extents.iter().copied());
    extents.sort_unstable_by_key(|e| e.offset);
    same && covers(&extents, ranges)
}

/// Reads all of a large file, and refers to its content if that is known. The block hashes are kept in any case.
fn find_copy(
    build: &mut Build<'_>,
    entry: &Entry,
    ranges: &[(u64, u64)],
    read: &mut Read<'_>,
) -> std::result::Result<Option<PackedContent>, ContentError> {
    let kind = blocks::Content::File;
    let block = block_size(kind, entry.size, None);
    let pool = build.packer.run.pool.clone();
    let request = Request { pool: &pool, block, size: entry.size, ranges, content: kind, old: None };
    let mut hashes = Vec::new();
    let mut keep = |range| hashes.push(range);
    let compared = compare(&request, read, &mut blocks::Nowhere(build.packer.run.interrupt), &mut keep)?;
    if compared.size != entry.size {
        return Ok(None);
    }
    let Some(mut known) = known(build, entry, &compared.hash, compared.size, ranges) else { return Ok(None) };
    build.packer.run.progress.advance(ranges.iter().map(|r| r.1).sum());
    if known.blocks.is_empty() {
        known.blocks = hashes.into_iter().map(|range| build.old.keep_piece(range)).collect();
    }
    Ok(Some(known))
}

fn worker(e: crate::archive::PoolGone) -> OpError {
    OpError::new(Class::Failed, "cannot compare a file with what it was").because(e)
}

/// Reads content once, packs what is new of it and refers to the rest.
fn pack_blocks(
    build: &mut Build<'_>,
    entry: &Entry,
    content: Content<'_>,
    kind: blocks::Content,
    before: Option<Before>,
) -> Packed {
    let Content { size, ranges, read } = content;
    let block = block_size(kind, size, before.as_ref().map(|(table, _)| table.block));
    let pool = build.packer.run.pool.clone();
    let old = before.as_ref().map(|(table, extents)| blocks::Old { table, extents });
    let compares = old.is_some();
    let request = Request { pool: &pool, block, size, ranges, content: kind, old };
    let (mut names, kept) = (Vec::new(), build.old);
    let mut keep = |range| names.push(kept.keep_piece(range));
    let (compared, mut packed) = match compares {
        true => pack_changes(&mut build.packer, entry, &request, read, &mut keep)?,
        false => pack_all(&mut build.packer, entry, &request, read, &mut keep)?,
    };
    (packed.hash, packed.size, packed.blocks) = (compared.hash, compared.size, names);
    Ok(packed)
}

fn compare<S: Sink<Error = OpError>>(
    request: &Request<'_>,
    read: &mut Read<'_>,
    sink: &mut S,
    keep: &mut Keep<'_>,
) -> std::result::Result<Compared, ContentError> {
    blocks::compare(request, read, sink, keep).map_err(|error| match error {
        CompareError::Read(e) => ContentError::Read(e),
        CompareError::Sink(e) => ContentError::Run(e),
        CompareError::Worker(e) => ContentError::Run(worker(e)),
    })
}

/// All of it is new.
fn pack_all(
    packer: &mut Packer<'_>,
    entry: &Entry,
    request: &Request<'_>,
    read: &mut Read<'_>,
    keep: &mut Keep<'_>,
) -> std::result::Result<(Compared, PackedContent), ContentError> {
    let mut laying = Laying::begin(packer, entry, request.size, request.ranges)?;
    let compared = compare(request, read, &mut laying, keep);
    let laid = match &compared {
        Err(ContentError::Run(_)) => None,
        // The member must come out at its announced length also when the file could not be read to its end.
        _ => Some(laying.finish()?),
    };
    let compared = compared?;
    let (extents, parts) = laid.unwrap_or_default();
    let packed = PackedContent::new(extents, compared.hash, compared.size);
    Ok((compared, PackedContent { parts, ..packed }))
}

/// Changed blocks are packed as parts, and a little smaller than all else.
fn pack_changes(
    packer: &mut Packer<'_>,
    entry: &Entry,
    request: &Request<'_>,
    read: &mut Read<'_>,
    keep: &mut Keep<'_>,
) -> std::result::Result<(Compared, PackedContent), ContentError> {
    let usual = packer.run.level;
    packer.set_level(level_of_changes(usual));
    let packed = pack_parts(packer, entry, request, read, keep);
    packer.set_level(usual);
    packed
}

fn pack_parts(
    packer: &mut Packer<'_>,
    entry: &Entry,
    request: &Request<'_>,
    read: &mut Read<'_>,
    keep: &mut Keep<'_>,
) -> std::result::Result<(Compared, PackedContent), ContentError> {
    let run = packer.run.clone();
    let mut begun = false;
    let parts = Parts::new(PART_BYTES, |pairs: &[(u64, u64)], bytes: &[u8]| -> Result<(usize, u64)> {
        if !begun {
            begun = true;
            let path = member_path(packer.component(), &entry.path);
            packer.begin(&member(entry, MemberKind::File, &path))?;
            packer.end(false)?;
        }
        let line = part_line(pairs)?;
        let path = part_path(packer.component(), &entry.path, pairs.first().map_or(0, |p| p.0));
        let size = (line.len() + bytes.len()) as u64;
        let (archive, at) = packer.begin(&Member { size, ..part(entry, &path) })?;
        packer.plain(&line)?;
        packer.data(bytes)?;
        packer.end(false)?;
        Ok((archive, at + line.len() as u64))
    });
    let mut telling = Telling { parts, run: &run };
    let compared = compare(request, read, &mut telling, keep)?;
    let stretches = telling.parts.finish()?;
    let mut packed = PackedContent::new(Vec::new(), compared.hash, compared.size);
    packed.refers = true;
    for Stretch { offset, home, tar_offset, length } in stretches {
        match home {
            Home::Stored(archive) => packed.older.push(Extent { offset, archive, tar_offset, length }),
            Home::Packed(archive) => packed.extents.push(LocalExtent { offset, archive, tar_offset, length }),
        }
    }
    Ok((compared, packed))
}

/// Counts what is kept as done, and stops where a person wants it to.
struct Telling<'a, P> {
    parts: Parts<P>,
    run: &'a crate::ops::backup::packer::PackRun<'a>,
}

impl<P: FnMut(&[(u64, u64)], &[u8]) -> Result<(usize, u64)>> Sink for Telling<'_, P> {
    type Error = OpError;

    fn kept(&mut self, extent: Extent) -> Result<()> {
        self.run.interrupt.check()?;
        self.run.progress.advance(extent.length);
        self.parts.kept(extent)
    }

    fn fresh(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.parts.fresh(offset, bytes)
    }
}
