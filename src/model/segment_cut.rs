//! Where a component's listing is cut into segments: where the path of an entry says so, so that an unchanged stretch gives the same
//! segment again and is reused.

use crate::model::entry::Entry;

/// No segment is cut by hash before it has this many entries.
pub const ENTRIES_MIN: usize = 512;
/// A segment has at most this many entries.
pub const ENTRIES_MAX: usize = 16_384;
/// A segment is cut before its entries would take more than this many bytes.
pub const BYTES_MAX: usize = 8 << 20;

/// Decides, entry by entry, whether a cut follows.
#[derive(Debug, Default)]
pub struct Cutter {
    entries: usize,
    bytes: usize,
}

impl Cutter {
    /// True when a new segment must begin before an entry of about `bytes` bytes of JSON.
    pub fn must_cut_before(&self, bytes: usize) -> bool {
        self.entries > 0 && self.bytes + bytes > BYTES_MAX
    }

    /// Counts an entry; true when the segment ends with it.
    pub fn add(&mut self, entry: &Entry, bytes: usize) -> bool {
        self.entries += 1;
        self.bytes += bytes;
        let by_hash = self.entries >= ENTRIES_MIN && path_says_so(entry.path.as_bytes());
        by_hash || self.entries >= ENTRIES_MAX
    }

    /// Begins a new segment.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

fn path_says_so(path: &[u8]) -> bool {
    let hash = blake3::hash(path);
    let mut first = [0; 4];
    first.copy_from_slice(&hash.as_bytes()[..4]);
    u32::from_le_bytes(first).is_multiple_of(2048)
}

/// About how many bytes an entry takes as JSON, without what says where its content lies; an upper estimate, cheap to compute, the same for the same entry.
pub fn estimated_bytes(entry: &Entry) -> usize {
    let xattrs: usize = entry.xattrs.iter().map(|(k, v)| k.len() + v.len() * 4 / 3 + 16).sum();
    let target = entry.target.as_ref().map_or(0, |t| t.len() * 2);
    320 + entry.path.as_bytes().len() * 2 + xattrs + target
}
