//! What a worker does with a window of content: it hashes it, and says which blocks are what they were.

use crate::ops::backup::blocks::before;
use crate::ops::backup::blocks::sums::Sums;
use crate::ops::backup::blocks::table::{Short, short};
use crate::ops::backup::blocks::tree::{GROUP, group_hash};
use blake3::hazmat::ChainingValue;
use std::ops::Range;

/// What workers do.
pub(super) struct Plan {
    /// Block size of the table to be made.
    pub(super) block: usize,
    /// The content has no holes, so that offsets in the file are offsets in what is hashed.
    pub(super) dense: bool,
    /// Make sums, by which blocks are found at other offsets.
    pub(super) sums: bool,
    /// The block size that is compared: that of the old table.
    pub(super) compared: usize,
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
    /// For each block of [`Plan::compared`] bytes, a few at the end aside, whether it is what it was at this offset.
    pub(super) kept: Vec<bool>,
}

/// Hashes `data`, which begins at `at`, a multiple of both block sizes and of [`GROUP`], and compares it with what `old` has there.
pub(super) fn hash(plan: &Plan, old: Option<&before::Range>, at: u64, data: Vec<u8>) -> Hashed {
    let (hashes, sums, groups, kept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut hashed = Hashed { at, data: Vec::new(), hashes, sums, groups, kept };
    if plan.dense {
        let group = |(i, bytes)| group_hash(at + (i * GROUP) as u64, bytes);
        hashed.groups = data.chunks(GROUP).enumerate().map(group).collect();
    }
    let like = |old: &&before::Range| {
        old.table.block as usize == plan.block && old.table.sums.is_empty() != plan.sums
    };
    let like_old = old.filter(like);
    if plan.block >= GROUP {
        hash_blocks(plan, like_old, at, &data, &mut hashed);
    } else {
        for (i, bytes) in data.chunks(GROUP).enumerate() {
            let (offset, group) = (at + (i * GROUP) as u64, hashed.groups.get(i));
            match like_old.and_then(|old| Some((old, unchanged(old, offset, bytes.len(), group?)?))) {
                Some((old, blocks)) => {
                    hashed.hashes.extend_from_slice(&old.table.hashes[blocks.clone()]);
                    hashed.sums.extend_from_slice(old.table.sums.get(blocks).unwrap_or_default());
                    hashed.kept.resize(hashed.hashes.len(), true);
                }
                None => hash_blocks(plan, like_old, offset, bytes, &mut hashed),
            }
        }
    }
    if like_old.is_none() {
        let size = plan.compared;
        let same = |old, (i, bytes)| is_old(old, at + (i * size) as u64, &block_hash(bytes));
        let blocks = data.chunks(size).enumerate();
        hashed.kept = match old {
            Some(old) => blocks.map(|block| same(old, block)).collect(),
            None => vec![false; blocks.len()],
        };
    }
    hashed.data = data;
    hashed
}

/// Which blocks are in the group of `length` bytes at `offset`, if it is what it was.
fn unchanged(old: &before::Range, offset: u64, length: usize, group: &ChainingValue) -> Option<Range<usize>> {
    let (offset, old) = (offset.checked_sub(old.from)?, &old.table);
    let place = usize::try_from(offset / GROUP as u64).ok()?;
    let same = old.groups.get(place) == Some(&short(group));
    let block = old.block as usize;
    let first = usize::try_from(offset / block as u64).ok()?;
    // A group that is equal is as long as it was, and so has as many blocks.
    let blocks = first..first.checked_add(length.div_ceil(block))?;
    (same && blocks.end <= old.hashes.len()).then_some(blocks)
}

fn hash_blocks(plan: &Plan, old: Option<&before::Range>, offset: u64, bytes: &[u8], hashed: &mut Hashed) {
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

fn is_old(old: &before::Range, offset: u64, hash: &Short) -> bool {
    let block = u64::from(old.table.block);
    let index = offset.checked_sub(old.from).and_then(|offset| usize::try_from(offset / block).ok());
    index.and_then(|i| old.table.hashes.get(i)) == Some(hash)
}
