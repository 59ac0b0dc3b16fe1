//! What stands in the columns of the catalog, and the sums that prove it.

use crate::catalog::known::wire::{Source, put, put_bytes, put_signed};
use crate::catalog::known::{KnownArchive, KnownStretch};
use crate::model::id::RecipientId;
use crate::model::manifest::{ArchiveInfo, Frame};
use crate::model::{ObjectId, RelPath};

/// Over everything in a row, so that no part of it can change unnoticed or move to another row.
pub(super) fn sum(table: u8, component: i64, id: &[u8], parts: [&[u8]; 2]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[table]).update(&component.to_le_bytes());
    for part in [id, parts[0], parts[1]] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    *hasher.finalize().as_bytes()
}

/// What a generation holds of one component.
#[derive(Debug, Clone, Default)]
pub(super) struct Body {
    /// Numbers of rows of `stretches`.
    pub(super) stretches: Vec<i64>,
    pub(super) archives: Vec<ObjectId>,
    /// See [`crate::catalog::known::Known::full`].
    pub(super) full: i64,
}

impl Body {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.stretches.len() as u64);
        for row in &self.stretches {
            put(&mut out, row.cast_unsigned());
        }
        put(&mut out, self.archives.len() as u64);
        for id in &self.archives {
            out.extend_from_slice(&id.0);
        }
        put_signed(&mut out, self.full);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut source = Source(bytes);
        let count = source.count(1)?;
        let stretches = (0..count).map(|_| Some(source.number()?.cast_signed())).collect::<Option<_>>()?;
        let count = source.count(32)?;
        let archives = (0..count).map(|_| source.array().map(ObjectId)).collect::<Option<_>>()?;
        let full = source.signed()?;
        source.is_empty().then_some(Self { stretches, archives, full })
    }
}

pub(super) fn put_recipients(out: &mut Vec<u8>, recipients: &[RecipientId]) {
    put(out, recipients.len() as u64);
    for id in recipients {
        out.extend_from_slice(&id.0);
    }
}

pub(super) fn get_recipients(source: &mut Source<'_>) -> Option<Vec<RecipientId>> {
    let count = source.count(16)?;
    (0..count).map(|_| source.array().map(RecipientId)).collect()
}

pub(super) fn archive_body(archive: &KnownArchive) -> Vec<u8> {
    let mut out = Vec::new();
    let info = &archive.info;
    let delta = u64::from(archive.delta);
    for number in [info.size, info.payload, info.tar, archive.age, delta, archive.content] {
        put(&mut out, number);
    }
    put_recipients(&mut out, &archive.recipients);
    put(&mut out, info.frames.len() as u64);
    for frame in &info.frames {
        for number in [frame.tar_offset, frame.offset, frame.length, frame.tar_length] {
            put(&mut out, number);
        }
    }
    out
}

pub(super) fn get_archive(sha256: ObjectId, body: &[u8]) -> Option<KnownArchive> {
    let mut source = Source(body);
    let (size, payload, tar) = (source.number()?, source.number()?, source.number()?);
    let (age, delta, content) = (source.number()?, source.number()? != 0, source.number()?);
    let recipients = get_recipients(&mut source)?;
    let count = source.count(4)?;
    let mut frame = || {
        Some(Frame {
            tar_offset: source.number()?,
            offset: source.number()?,
            length: source.number()?,
            tar_length: source.number()?,
        })
    };
    let frames = (0..count).map(|_| frame()).collect::<Option<Vec<_>>>()?;
    let info = ArchiveInfo { sha256, size, payload, tar, frames };
    Some(KnownArchive { info, age, delta, content, recipients })
}

pub(super) fn stretch_body(stretch: &KnownStretch) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, stretch.size);
    put_recipients(&mut out, &stretch.recipients);
    put_bytes(&mut out, stretch.first.as_bytes());
    put_bytes(&mut out, stretch.last.as_bytes());
    for list in [&stretch.maps, &stretch.archives] {
        put(&mut out, list.len() as u64);
        for (id, number) in list {
            out.extend_from_slice(&id.0);
            put(&mut out, *number);
        }
    }
    put(&mut out, u64::from(stretch.shared));
    put(&mut out, stretch.content);
    put(&mut out, stretch.blocks.len() as u64);
    for id in &stretch.blocks {
        out.extend_from_slice(&id.0);
    }
    out
}

pub(super) fn get_stretch(segment: ObjectId, body: &[u8], packed: &[u8]) -> Option<KnownStretch> {
    let mut source = Source(body);
    let (size, recipients) = (source.number()?, get_recipients(&mut source)?);
    let first = RelPath::new(source.bytes()?).ok()?;
    let last = RelPath::new(source.bytes()?).ok()?;
    let (maps, archives) = (get_list(&mut source)?, get_list(&mut source)?);
    let (shared, content) = (source.number()? != 0, source.number()?);
    let blocks = get_blocks(&mut source)?;
    let whole = source.is_empty() && first <= last;
    whole.then(|| KnownStretch {
        row: 0,
        segment,
        size,
        recipients,
        first,
        last,
        maps,
        blocks,
        archives,
        shared,
        content,
        packed: packed.to_vec(),
    })
}

fn get_list(source: &mut Source<'_>) -> Option<Vec<(ObjectId, u64)>> {
    let count = source.count(33)?;
    (0..count).map(|_| Some((ObjectId(source.array()?), source.number()?))).collect()
}

fn get_blocks(source: &mut Source<'_>) -> Option<Vec<ObjectId>> {
    let count = source.count(32)?;
    (0..count).map(|_| source.array().map(ObjectId)).collect()
}

/// The kept block hashes that a stretch with this body refers to; none where it makes no sense.
pub(super) fn blocks_of(segment: ObjectId, body: &[u8]) -> Vec<ObjectId> {
    get_stretch(segment, body, &[]).map(|stretch| stretch.blocks).unwrap_or_default()
}
