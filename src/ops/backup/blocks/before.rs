//! The blocks of content as it was. Those of a database are looked at where they were, so a range of it is in memory at a time; of a file they may be found anywhere, and
//! are all there.

use crate::model::entry::MAP_RANGE;
use crate::ops::backup::blocks::table::{BlockTable, TableError};
use std::sync::Arc;

/// Gives the bytes of a range, by its number; nothing once they cannot be had any more.
type Read = dyn Fn(usize) -> Option<Vec<u8>> + Send + Sync;

/// The hashes of blocks of content as it was.
pub(crate) struct OldTable {
    /// Length of a block in bytes.
    pub(crate) block: u32,
    /// Length of the content in bytes.
    pub(crate) size: u64,
    sums: bool,
    ranges: usize,
    read: Box<Read>,
}

impl OldTable {
    /// Of so many ranges, each of which is read once to see that they are a whole table. What cannot be read later counts as changed.
    pub(crate) fn new(
        ranges: usize,
        read: impl Fn(usize) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Option<Self> {
        let (mut block, mut size, mut sums) = (0, 0, false);
        for number in 0..ranges {
            let range = BlockTable::decode(&[read(number)?]).ok()?;
            let same = number == 0 || (range.block, !range.sums.is_empty()) == (block, sums);
            let whole = range.size == MAP_RANGE || number + 1 == ranges;
            if !same || !whole {
                return None;
            }
            (block, size, sums) = (range.block, size + range.size, !range.sums.is_empty());
        }
        Some(Self { block, size, sums, ranges, read: Box::new(read) })
    }

    /// From ranges that are in memory.
    pub(crate) fn of(ranges: Vec<Vec<u8>>) -> Option<Self> {
        Self::new(ranges.len(), move |number| ranges.get(number).cloned())
    }

    /// Whether its blocks may be found elsewhere than where they were.
    pub(super) fn has_sums(&self) -> bool {
        self.sums
    }

    /// All of it at once.
    pub(super) fn whole(&self) -> Option<BlockTable> {
        let ranges: Option<Vec<Vec<u8>>> = (0..self.ranges).map(|number| (self.read)(number)).collect();
        BlockTable::decode(&ranges?).ok()
    }

    fn range(&self, number: usize) -> Option<BlockTable> {
        let range: Result<BlockTable, TableError> = BlockTable::decode(&[(self.read)(number)?]);
        range.ok().filter(|range| range.block == self.block)
    }
}

/// A stretch of a table.
pub(super) struct Range {
    /// Where in the content it begins.
    pub(super) from: u64,
    pub(super) table: Arc<BlockTable>,
}

/// Gives ranges in the order of the content.
pub(super) struct Ranges<'b> {
    before: Option<&'b OldTable>,
    /// All of it, where it is there.
    whole: Option<Arc<Range>>,
    current: Option<(usize, Option<Arc<Range>>)>,
}

impl<'b> Ranges<'b> {
    pub(super) fn new(before: Option<&'b OldTable>, whole: Option<&Arc<BlockTable>>) -> Self {
        let whole = whole.map(|table| Arc::new(Range { from: 0, table: table.clone() }));
        Self { before, whole, current: None }
    }

    /// What holds the blocks at `offset`, and all others before the next multiple of 256 MiB.
    pub(super) fn at(&mut self, offset: u64) -> Option<Arc<Range>> {
        if self.whole.is_some() {
            return self.whole.clone();
        }
        let before = self.before?;
        let number = usize::try_from(offset / MAP_RANGE).ok().filter(|number| *number < before.ranges)?;
        match &self.current {
            Some((there, range)) if *there == number => range.clone(),
            _ => {
                let table = before.range(number).map(Arc::new);
                let range = table.map(|table| Arc::new(Range { from: number as u64 * MAP_RANGE, table }));
                self.current = Some((number, range.clone()));
                range
            }
        }
    }
}
