//! What a worker does with a window of content: it hashes it, and says which blocks are what they were.

use crate::ops::backup::blocks::sums::Sums;
use crate::ops::backup::blocks::table::{BlockTable, Short, short};
use crate::ops::backup::blocks::tree::{GROUP, group_hash};
use blake3::hazmat::ChainingValue;
use std::ops::Range;
use std::sync::Arc;

/// What workers do.
pub(super) struct Plan {
    /// Block size of the table to be made.
    pub(super) block: usize,
    /// The content has no holes, so that offsets in the file are offsets in what is hashed.
    pub(super) dense: bool,
    /// Make sums, by which blocks are found at other offsets.
    pub(super) sums: bool,
    pub(super) old: Option<Arc<BlockTable>>,
}

impl Plan {
    /// The block size that is compared: that of the old table.
    pub(super) fn compared(&self) -> usize {
        self.old.as_ref().map_or(self.block, |old| old.block as usize)
    }
}

/// A window that was hashed.
pub(super) struct Hashed {
    /// Offset in the file.
    pub(super) at: u64,
    /// The content, holes as zeros.
    pub(super) data: Vec<u8>,
    pub(super) hashes: Vec<Short>,
    /// Keys of [`Sums`], if the plan says so.
    pub(super) sums: Vec<u64>,
    /// Of dense content.
    pub(super) groups: Vec<ChainingValue>,
    /// For each block of [`Plan::compared`] bytes whether it is what it was at this offset.
    pub(super) kept: Vec<bool>,
}

/// Hashes `data`, which begins at `at`, a multiple of both block sizes and of [`GROUP`].
pub(super) fn hash(plan: &Plan, at: u64, data: Vec<u8>) -> Hashed {
    let (hashes, sums, groups, kept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut hashed = Hashed { at, data: Vec::new(), hashes, sums, groups, kept };
    if plan.dense {
        let group = |(i, bytes)| group_hash(at + (i * GROUP) as u64, bytes);
        hashed.groups = data.chunks(GROUP).enumerate().map(group).collect();
    }
    let like = |old: &&BlockTable| old.block as usize == plan.block && old.sums.is_empty() != plan.sums;
    let like_old = plan.old.as_deref().filter(like);
    if plan.block >= GROUP {
        hash_blocks(plan, like_old, at, &data, &mut hashed);
    } else {
        for (i, bytes) in data.chunks(GROUP).enumerate() {
            let (offset, group) = (at + (i * GROUP) as u64, hashed.groups.get(i));
            match like_old.and_then(|old| Some((old, unchanged(old, offset, bytes.len(), group?)?))) {
                Some((old, blocks)) => {
                    hashed.hashes.extend_from_slice(&old.hashes[blocks.clone()]);
                    hashed.sums.extend_from_slice(old.sums.get(blocks).unwrap_or_default());
                    hashed.kept.resize(hashed.hashes.len(), true);
                }
                None => hash_blocks(plan, like_old, offset, bytes, &mut hashed),
            }
        }
    }
    if let Some(old) = plan.old.as_deref().filter(|_| like_old.is_none()) {
        let size = old.block as usize;
        let same = |(i, bytes)| is_old(old, at + (i * size) as u64, &block_hash(bytes));
        hashed.kept = data.chunks(size).enumerate().map(same).collect();
    }
    hashed.data = data;
    hashed
}

/// Which blocks are in the group of `length` bytes at `offset`, if it is what it was.
fn unchanged(old: &BlockTable, offset: u64, length: usize, group: &ChainingValue) -> Option<Range<usize>> {
    let place = usize::try_from(offset / GROUP as u64).ok()?;
    let same = old.groups.get(place) == Some(&short(group));
    let block = old.block as usize;
    let first = usize::try_from(offset / block as u64).ok()?;
    // A group that is equal is as long as it was, and so has as many blocks.
    let blocks = first..first.checked_add(length.div_ceil(block))?;
    (same && blocks.end <= old.hashes.len()).then_some(blocks)
}

fn hash_blocks(plan: &Plan, old: Option<&BlockTable>, offset: u64, bytes: &[u8], hashed: &mut Hashed) {
    for (i, bytes) in bytes.chunks(plan.block).enumerate() {
        let hash = block_hash(bytes);
        hashed.kept.push(old.is_some_and(|old| is_old(old, offset + (i * plan.block) as u64, &hash)));
        hashed.hashes.push(hash);
        if plan.sums {
            hashed.sums.push(Sums::of(bytes).key());
        }
    }
}

pub(super) fn block_hash(bytes: &[u8]) -> Short {
    short(blake3::hash(bytes).as_bytes())
}

fn is_old(old: &BlockTable, offset: u64, hash: &Short) -> bool {
    let index = usize::try_from(offset / u64::from(old.block)).ok();
    index.and_then(|i| old.hashes.get(i)) == Some(hash)
}
