//! How much of archives is in use.

use crate::model::{Extent, ObjectId};
use std::collections::{BTreeMap, BTreeSet};

/// What a file's headers take in a tar stream, mostly: a pax header, its records, the header itself.
const HEADERS: u64 = 1536;

/// Counts bytes of archives' tar streams. What several files refer to counts once.
#[derive(Debug, Default)]
pub struct Usage {
    /// Stretches `[from, to)` of each archive.
    stretches: BTreeMap<ObjectId, Vec<(u64, u64)>>,
}

impl Usage {
    /// Counts what a file refers to.
    pub fn add(&mut self, extents: &[Extent]) {
        let mut begun = BTreeSet::new();
        for extent in extents {
            // Headers stand in front of a file's content, or of its first part in an archive.
            let headers = if begun.insert(extent.archive) { HEADERS } else { 0 };
            let from = extent.tar_offset.saturating_sub(headers);
            let to = extent.tar_offset.saturating_add(extent.length);
            self.stretches.entry(extent.archive).or_default().push((from, to));
        }
    }

    /// The bytes in use of each archive.
    pub fn bytes(self) -> BTreeMap<ObjectId, u64> {
        self.stretches.into_iter().map(|(archive, stretches)| (archive, covered(stretches))).collect()
    }
}

fn covered(mut stretches: Vec<(u64, u64)>) -> u64 {
    stretches.sort_unstable();
    let (mut sum, mut end) = (0, 0);
    for (from, to) in stretches {
        let from = from.max(end);
        if to > from {
            sum += to - from;
            end = to;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_files_use_counts_once() {
        let (one, two) = (ObjectId::of(b"1"), ObjectId::of(b"2"));
        let extent = |archive, tar_offset, length| Extent { offset: 0, archive, tar_offset, length };
        let mut usage = Usage::default();
        usage.add(&[extent(one, 2048, 100), extent(one, 4096, 50), extent(two, 1536, 8)]);
        usage.add(&[extent(one, 2048, 100)]);
        usage.add(&[extent(one, 4100, 100)]);
        let bytes = usage.bytes();
        // The third file begins inside what the first uses, and its headers reach back to 2564.
        assert_eq!(bytes[&one], 1536 + 100 + 50 + (4200 - 2564) - 50);
        assert_eq!(bytes[&two], 1536 + 8);
    }
}
