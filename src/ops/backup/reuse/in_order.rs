//! Stored content read from its beginning to its end, as far as that is worth it.

use crate::archive::{ArchiveReader, RangeRead};
use crate::catalog::known::KnownArchive;
use crate::keys::Identities;
use crate::model::manifest::Frame;
use crate::model::{Extent, ObjectId};
use crate::ops::backup::reuse::stored::Stored;
use crate::store::{Key, Store};
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io;
use std::sync::Arc;

/// So many frames are kept unpacked: a file whose blocks lie in several archives is read from all of them in turn.
const FRAMES_MAX: usize = 16;

/// Frames may be fetched so often on average. Content that lies in more archives than are kept would be fetched hundreds of times.
const TIMES: u64 = 2;

struct StoreRange {
    store: Arc<dyn Store>,
    key: Key,
}

impl RangeRead for StoreRange {
    fn read_range(&self, offset: u64, length: u64) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        Ok(self.store.get_range(&self.key, offset, length)?)
    }
}

/// Content being read.
pub(super) struct InOrder<'a> {
    stored: &'a Stored,
    identities: &'a Identities,
    archives: &'a BTreeMap<ObjectId, KnownArchive>,
    extents: &'a [Extent],
    readers: HashMap<ObjectId, ArchiveReader>,
    /// Unpacked frames, the one used last at the end.
    frames: Vec<(ObjectId, Frame, Vec<u8>)>,
    /// Bytes that may still be unpacked.
    left: u64,
}

impl<'a> InOrder<'a> {
    pub(super) fn new(
        stored: &'a Stored,
        identities: &'a Identities,
        archives: &'a BTreeMap<ObjectId, KnownArchive>,
        extents: &'a [Extent],
    ) -> Self {
        let left = once(archives, extents).saturating_mul(TIMES);
        let (readers, frames) = (HashMap::new(), Vec::new());
        Self { stored, identities, archives, extents, readers, frames, left }
    }

    /// Some bytes from `offset` on.
    pub(super) fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
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
        let left = self.left.checked_sub(frame.tar_length);
        self.left =
            left.ok_or_else(|| io::Error::other("it lies in too many archives to be read in order"))?;
        if !self.readers.contains_key(archive) {
            let known = self.archives.get(archive).ok_or_else(|| io::Error::other("an unknown archive"))?;
            let store = Arc::clone(&self.stored.session.store);
            let range = StoreRange { store, key: Key::Archive(*archive) };
            let reader = ArchiveReader::open(Arc::new(range), known.info.clone(), self.identities);
            self.readers.insert(*archive, reader.map_err(io::Error::other)?);
        }
        let reader = self.readers.get(archive).ok_or_else(|| io::Error::other("internal: no reader"))?;
        let mut contents = reader.read_frames(&[frame]).map_err(io::Error::other)?;
        contents.pop().ok_or_else(|| io::Error::other("internal: no frame was read"))
    }
}

/// Bytes of all frames that `extents` lie in, each counted once.
fn once(archives: &BTreeMap<ObjectId, KnownArchive>, extents: &[Extent]) -> u64 {
    let mut frames: BTreeMap<(ObjectId, u64), u64> = BTreeMap::new();
    for extent in extents {
        let Some(known) = archives.get(&extent.archive) else { continue };
        let touched = known.info.frames_of(extent.tar_offset, extent.length);
        frames.extend(touched.iter().map(|f| ((extent.archive, f.tar_offset), f.tar_length)));
    }
    frames.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
}
