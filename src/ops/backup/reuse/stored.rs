//! Block hashes of content that lies in the store, for when the catalog that had them was lost: so that of a file that changed meanwhile only changed blocks are packed.

use crate::archive::{ArchiveReader, Pool, RangeRead};
use crate::catalog::known::{KnownArchive, Row};
use crate::keys::Identities;
use crate::model::manifest::Frame;
use crate::model::{Extent, ObjectId};
use crate::ops::backup::blocks::{self, BlockTable, Request, block_size};
use crate::ops::backup::reuse::{Old, contents::joined};
use crate::store::{Key, Store};
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io;
use std::sync::Arc;

/// What reads earlier archives.
pub(super) struct Stored {
    pub(super) store: Arc<dyn Store>,
    pub(super) identities: Identities,
}

/// So many frames are kept unpacked: a file whose blocks lie in several archives is read from all of them in turn.
const FRAMES_MAX: usize = 16;

struct StoreRange {
    store: Arc<dyn Store>,
    key: Key,
}

impl RangeRead for StoreRange {
    fn read_range(&self, offset: u64, length: u64) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        Ok(self.store.get_range(&self.key, offset, length)?)
    }
}

impl Old<'_> {
    /// The block hashes of `row` as it lies in the store; `None` when that cannot be read now, or is not what its hash says.
    pub(in crate::ops::backup) fn table_of_stored(
        &self,
        row: &Row,
        kind: blocks::Content,
        pool: &Pool,
    ) -> Option<Arc<BlockTable>> {
        let stored = self.reuse.stored.as_ref()?;
        let (extents, size) = (&row.entry.extents, row.entry.size);
        if size == 0 || !extents.iter().all(|e| self.may_use(&e.archive)) {
            return None;
        }
        let mut reading = Reading {
            stored,
            archives: &self.reuse.known.archives,
            extents,
            readers: HashMap::new(),
            frames: Vec::new(),
        };
        let ranges: Vec<(u64, u64)> = joined(extents.iter().map(|e| (e.offset, e.length))).collect();
        let block = block_size(kind, size, None);
        let request = Request { pool, block, size, ranges: &ranges, content: kind, old: None };
        let mut read = |offset: u64, buffer: &mut [u8]| reading.read(offset, buffer);
        let compared = blocks::compare(&request, &mut read, &mut blocks::Nowhere).ok()?;
        let same = compared.size == size && row.entry.hash == Some(compared.hash);
        same.then(|| Arc::new(compared.table))
    }
}

/// Content being read from its beginning to its end.
struct Reading<'a> {
    stored: &'a Stored,
    archives: &'a BTreeMap<ObjectId, KnownArchive>,
    extents: &'a [Extent],
    readers: HashMap<ObjectId, ArchiveReader>,
    /// Unpacked frames, the one used last at the end.
    frames: Vec<(ObjectId, Frame, Vec<u8>)>,
}

impl Reading<'_> {
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let place = self.extents.partition_point(|e| e.offset + e.length <= offset);
        let extent = self.extents.get(place).filter(|e| e.offset <= offset);
        let extent = *extent.ok_or_else(|| io::Error::other("no extent covers it"))?;
        let at = extent.tar_offset + (offset - extent.offset);
        let left = extent.offset + extent.length - offset;
        let (frame, content) = self.frame(&extent.archive, at)?;
        let from = usize::try_from(at - frame.tar_offset).unwrap_or(usize::MAX);
        let rest = content.get(from..).unwrap_or_default();
        let length = rest.len().min(buffer.len()).min(usize::try_from(left).unwrap_or(usize::MAX));
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    /// The frame that holds the byte at `at` of the archive's tar stream.
    fn frame(&mut self, archive: &ObjectId, at: u64) -> io::Result<(Frame, &[u8])> {
        let holds = |f: &Frame| f.tar_offset <= at && at < f.tar_offset + f.tar_length;
        let open = self.frames.iter().position(|(of, frame, _)| of == archive && holds(frame));
        let used = match open {
            Some(place) => self.frames.remove(place),
            None => {
                let known = self.archives.get(archive);
                let frame = known.and_then(|known| known.info.frames.iter().copied().find(holds));
                let frame = frame.ok_or_else(|| io::Error::other("no listing says where its frame lies"))?;
                let content = self.unpack(archive, frame)?;
                if self.frames.len() >= FRAMES_MAX {
                    self.frames.remove(0);
                }
                (*archive, frame, content)
            }
        };
        self.frames.push(used);
        let last = self.frames.last().map(|(_, frame, content)| (*frame, content.as_slice()));
        last.ok_or_else(|| io::Error::other("internal: no frame"))
    }

    fn unpack(&mut self, archive: &ObjectId, frame: Frame) -> io::Result<Vec<u8>> {
        if !self.readers.contains_key(archive) {
            let known = self.archives.get(archive).ok_or_else(|| io::Error::other("an unknown archive"))?;
            let range = StoreRange { store: Arc::clone(&self.stored.store), key: Key::Archive(*archive) };
            let reader = ArchiveReader::open(Arc::new(range), known.info.clone(), &self.stored.identities);
            self.readers.insert(*archive, reader.map_err(io::Error::other)?);
        }
        let reader = self.readers.get(archive).ok_or_else(|| io::Error::other("internal: no reader"))?;
        let mut contents = reader.read_frames(&[frame]).map_err(io::Error::other)?;
        contents.pop().ok_or_else(|| io::Error::other("internal: no frame was read"))
    }
}
