//! Finds old blocks at other offsets, as rsync does: sums are rolled over content that is not what it was at its place, and a block's hash confirms.

use crate::ops::backup::blocks::hashing::block_hash;
use crate::ops::backup::blocks::sums::{Index, Sums};
use crate::ops::backup::blocks::table::BlockTable;
use std::ops::Range;
use std::sync::Arc;

/// Hashing a byte of a block takes about an eighth of the time of rolling over one.
const CREDIT: u64 = 8;
/// So many blocks may always be hashed in vain.
const CREDIT_BLOCKS: u64 = 64;

/// A stretch of what was fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// Which bytes of [`Search::bytes`].
    pub(super) range: Range<usize>,
    /// Where these bytes were in the old content; nothing when they were not found.
    pub(super) old: Option<u64>,
}

/// Searches a contiguous stretch of content, which is fed piece by piece. Holds less than a block between pieces.
pub(super) struct Search {
    old: Arc<BlockTable>,
    index: Option<Index>,
    /// Offset in the file of the first byte of `bytes`.
    pub(super) at: u64,
    /// What is not decided yet.
    pub(super) bytes: Vec<u8>,
    /// Sums of the block at the beginning of `bytes`, which is not known.
    sums: Option<Sums>,
    /// The old block that comes next if nothing was changed since the last one found.
    expected: Option<usize>,
    /// How many bytes may be hashed in vain: content made to be like old blocks in its sums, but not in its hash, must not stop the run.
    credit: u64,
    #[cfg(test)]
    pub(super) in_vain: usize,
}

impl Search {
    /// A search for the blocks of `old`, if it has sums.
    pub(super) fn new(old: &Arc<BlockTable>) -> Option<Self> {
        let block = u64::from(old.block);
        (!old.sums.is_empty()).then(|| Self {
            old: old.clone(),
            index: None,
            at: 0,
            bytes: Vec::new(),
            sums: None,
            expected: None,
            credit: block * CREDIT_BLOCKS,
            #[cfg(test)]
            in_vain: 0,
        })
    }

    /// Adds content at `offset`, which follows what was fed before, if anything is left of that.
    pub(super) fn feed(&mut self, offset: u64, bytes: &[u8]) {
        if self.bytes.is_empty() {
            self.at = offset;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// What is decided, in order, from the beginning of `bytes`; all of it when this is the `last` of a stretch.
    pub(super) fn cuts(&mut self, last: bool) -> Vec<Cut> {
        let (mut cuts, mut from, mut at) = (Vec::new(), 0, 0);
        loop {
            let found = match self.expected {
                Some(block) if !last && self.bytes.len() - at < self.length(block) => break,
                Some(block) if self.is(block, at) => Some(block),
                _ => self.roll(&mut at),
            };
            self.expected = None;
            let Some(block) = found else { break };
            if from < at {
                cuts.push(Cut { range: from..at, old: None });
            }
            from = at + self.length(block);
            cuts.push(Cut { range: at..from, old: Some(block as u64 * u64::from(self.old.block)) });
            at = from;
            self.expected = Some(block + 1).filter(|next| self.length(*next) > 0);
        }
        let end = if last { self.bytes.len() } else { at };
        if from < end {
            cuts.push(Cut { range: from..end, old: None });
        }
        cuts
    }

    /// Forgets the bytes that `cuts` decided.
    pub(super) fn forget(&mut self, cuts: &[Cut], last: bool) {
        let decided = cuts.last().map_or(0, |cut| cut.range.end);
        self.bytes.drain(..decided);
        self.at += decided as u64;
        if last {
            (self.sums, self.expected) = (None, None);
        }
    }

    /// Length of an old block; 0 behind the last.
    fn length(&self, block: usize) -> usize {
        let begin = block as u64 * u64::from(self.old.block);
        let length = self.old.size.saturating_sub(begin).min(u64::from(self.old.block));
        usize::try_from(length).unwrap_or(0)
    }

    fn is(&self, block: usize, at: usize) -> bool {
        let bytes = self.bytes.get(at..at + self.length(block));
        bytes.is_some_and(|bytes| self.old.hashes.get(block) == Some(&block_hash(bytes)))
    }

    /// Rolls from `at` to where an old block begins, or to where too little is left.
    fn roll(&mut self, at: &mut usize) -> Option<usize> {
        let length = self.old.block as usize;
        let first = self.bytes.get(*at..*at + length)?;
        let fresh = self.sums.is_none();
        let mut sums = self.sums.take().unwrap_or_else(|| Sums::of(first));
        let whole = usize::try_from(self.old.size / length as u64).unwrap_or(0);
        let index = self.index.take().unwrap_or_else(|| Index::new(&self.old.sums, whole));
        let mut found = None;
        if fresh {
            found = index.find(sums.key()).filter(|block| self.confirm(*block, *at));
        }
        while found.is_none() {
            let (rolled, candidate) = index.roll(&self.bytes[*at..], length, &mut sums);
            self.credit = (self.credit + rolled as u64 * CREDIT).min(length as u64 * CREDIT_BLOCKS);
            *at += rolled;
            match candidate {
                Some(block) => found = Some(block).filter(|block| self.confirm(*block, *at)),
                None => break,
            }
        }
        self.index = Some(index);
        self.sums = found.is_none().then_some(sums);
        found
    }

    fn confirm(&mut self, block: usize, at: usize) -> bool {
        let cost = u64::from(self.old.block);
        let Some(left) = self.credit.checked_sub(cost) else { return false };
        let is = self.is(block, at);
        if !is {
            self.credit = left;
            #[cfg(test)]
            {
                self.in_vain += 1;
            }
        }
        is
    }
}
