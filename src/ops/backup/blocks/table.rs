//! The hashes of a file's blocks, as the catalog keeps them.

use crate::model::entry::MAP_RANGE;
use crate::ops::backup::blocks::tree::GROUP;

/// BLAKE3, its first 16 bytes: collisions cost 2^64 tries, and whoever makes them harms his own file.
pub(super) type Short = [u8; 16];

/// The first 16 bytes of a hash.
pub(super) fn short(hash: &[u8; 32]) -> Short {
    let mut short = [0; 16];
    short.copy_from_slice(&hash[..16]);
    short
}

/// The hashes of a file's blocks: of all of it, or of one range of [`MAP_RANGE`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockTable {
    /// Length of a block in bytes, a power of two; the file's last one may be shorter.
    pub(super) block: u32,
    /// Length of what they are of, in bytes.
    pub(super) size: u64,
    /// One a block: BLAKE3 of its content, holes read as zeros.
    pub(super) hashes: Vec<Short>,
    /// One a group of [`GROUP`] bytes, at its place in the file; none where the file has holes, or where blocks are as long themselves.
    pub(super) groups: Vec<Short>,
    /// One a block: a sum that can be rolled over content in which the block may lie elsewhere; none for databases.
    pub(super) sums: Vec<u64>,
}

/// A stored table that cannot be used: it is as if there were none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the block hashes of range {range} are damaged")]
pub(crate) struct TableError {
    range: usize,
}

/// Written in front of each range; another number is another layout.
const LAYOUT: u8 = 1;
const HAS_GROUPS: u8 = 1;
const HAS_SUMS: u8 = 2;
/// Layout, what there is, block, bytes of the range.
const HEAD: usize = 1 + 1 + 4 + 8;
/// Bytes of a sum that are kept.
const SUM: usize = 5;

/// A table in the making. Each range of 256 MiB leaves it as soon as it is full, to be kept apart: so no more than one is held, however long the file is, and a range in
/// which nothing changed gives the same bytes.
pub(super) struct Making<'t> {
    block: u32,
    /// Where the first range begins that has not left.
    from: u64,
    hashes: Vec<Short>,
    groups: Vec<Short>,
    sums: Vec<u64>,
    take: &'t mut dyn FnMut(Vec<u8>),
}

impl<'t> Making<'t> {
    pub(super) fn new(block: u32, take: &'t mut dyn FnMut(Vec<u8>)) -> Self {
        Self { block, from: 0, hashes: Vec::new(), groups: Vec::new(), sums: Vec::new(), take }
    }

    /// How many blocks were added.
    pub(super) fn blocks(&self) -> u64 {
        self.from / u64::from(self.block) + self.hashes.len() as u64
    }

    /// Adds groups; what they are of is added next.
    pub(super) fn add_groups(&mut self, groups: impl Iterator<Item = Short>) {
        self.groups.extend(groups);
    }

    /// Adds blocks; `sums` is empty, or has one for each.
    pub(super) fn add(&mut self, hashes: &[Short], sums: &[u64]) {
        self.hashes.extend_from_slice(hashes);
        self.sums.extend_from_slice(sums);
        // One that is just full may be the last, and its last block shorter.
        while self.hashes.len() > self.blocks_a_range() {
            self.leave(MAP_RANGE);
        }
    }

    /// Adds `count` blocks that are all the same, however many they are.
    pub(super) fn add_same(&mut self, mut count: u64, hash: Short, sum: Option<u64>) {
        while count > 0 {
            if self.hashes.len() == self.blocks_a_range() {
                self.leave(MAP_RANGE);
            }
            let room = self.blocks_a_range() - self.hashes.len();
            let these = usize::try_from(count).unwrap_or(room).min(room);
            self.hashes.resize(self.hashes.len() + these, hash);
            self.sums.extend(sum.into_iter().flat_map(|sum| std::iter::repeat_n(sum, these)));
            count -= these as u64;
        }
    }

    /// The last range leaves: the file is `size` bytes long.
    pub(super) fn finish(mut self, size: u64) {
        if size > self.from {
            self.leave(size - self.from);
        }
    }

    fn blocks_a_range(&self) -> usize {
        BlockTable::blocks_of(MAP_RANGE, self.block)
    }

    fn leave(&mut self, length: u64) {
        fn first<T>(all: &mut Vec<T>, count: usize) -> impl Iterator<Item = T> {
            all.drain(..count.min(all.len()))
        }
        let blocks = BlockTable::blocks_of(length, self.block);
        let mut bytes = vec![LAYOUT, 0];
        bytes.extend_from_slice(&self.block.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend(first(&mut self.hashes, blocks).flatten());
        if !self.groups.is_empty() {
            bytes[1] |= HAS_GROUPS;
            bytes.extend(first(&mut self.groups, BlockTable::blocks_of(length, GROUP as u32)).flatten());
        }
        if !self.sums.is_empty() {
            bytes[1] |= HAS_SUMS;
            for sum in first(&mut self.sums, blocks) {
                bytes.extend_from_slice(&sum.to_le_bytes()[..SUM]);
            }
        }
        self.from += length;
        (self.take)(bytes);
    }
}

impl BlockTable {
    /// How many blocks of `block` bytes `size` bytes have.
    pub(super) fn blocks_of(size: u64, block: u32) -> usize {
        usize::try_from(size.div_ceil(u64::from(block.max(1)))).unwrap_or(usize::MAX)
    }

    /// The table from its ranges. Whoever keeps them proves that they are the bytes that were written; here only their shape is looked at.
    pub(super) fn decode<R: AsRef<[u8]>>(ranges: &[R]) -> Result<Self, TableError> {
        let mut table = Self { block: 0, size: 0, hashes: Vec::new(), groups: Vec::new(), sums: Vec::new() };
        let mut has = 0;
        for (range, bytes) in ranges.iter().enumerate() {
            let last = range + 1 == ranges.len();
            has = table.add(bytes.as_ref(), last, has).ok_or(TableError { range })?;
        }
        Ok(table)
    }

    fn add(&mut self, bytes: &[u8], last: bool, had: u8) -> Option<u8> {
        let (head, mut rest) = bytes.split_at_checked(HEAD)?;
        let (has, block) = (head[1], u32::from_le_bytes(head[2..6].try_into().ok()?));
        let length = u64::from_le_bytes(head[6..].try_into().ok()?);
        let first = self.size == 0;
        let sane = head[0] == LAYOUT && (512..=MAP_RANGE).contains(&block.into()) && block.is_power_of_two();
        let whole = length == MAP_RANGE || (last && length > 0 && length < MAP_RANGE);
        if !sane || !whole || has > (HAS_GROUPS | HAS_SUMS) || (!first && (has != had || block != self.block))
        {
            return None;
        }
        (self.block, self.size) = (block, self.size + length);
        let blocks = Self::blocks_of(length, block);
        rest = take(rest, blocks, &mut self.hashes)?;
        if has & HAS_GROUPS > 0 {
            rest = take(rest, Self::blocks_of(length, GROUP as u32), &mut self.groups)?;
        }
        if has & HAS_SUMS > 0 {
            let (sums, after) = rest.split_at_checked(blocks.checked_mul(SUM)?)?;
            let wide = |s: &[u8]| s.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            self.sums.extend(sums.chunks_exact(SUM).map(wide));
            rest = after;
        }
        rest.is_empty().then_some(has)
    }
}

fn take<'a>(bytes: &'a [u8], count: usize, into: &mut Vec<Short>) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count.checked_mul(16)?)?;
    into.extend_from_slice(taken.as_chunks().0);
    Some(rest)
}

#[cfg(test)]
impl BlockTable {
    /// The ranges of a whole table, as they leave one in the making.
    pub(super) fn encode(&self) -> Vec<Vec<u8>> {
        let mut ranges = Vec::new();
        let mut take = |range| ranges.push(range);
        let mut making = Making::new(self.block, &mut take);
        making.add_groups(self.groups.iter().copied());
        making.add(&self.hashes, &self.sums);
        making.finish(self.size);
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(size: u64, block: u32, holes: bool, sums: bool) -> BlockTable {
        let some = |count: usize, salt: u64| -> Vec<Short> {
            (0..count as u64).map(|i| short(blake3::hash(&(i ^ salt).to_le_bytes()).as_bytes())).collect()
        };
        let blocks = BlockTable::blocks_of(size, block);
        let groups =
            if holes || block as usize >= GROUP { 0 } else { BlockTable::blocks_of(size, GROUP as u32) };
        let sums = if sums {
            (0..blocks as u64).map(|i| (i * 0x1_2345_6789) & 0xff_ffff_ffff).collect()
        } else {
            Vec::new()
        };
        BlockTable { block, size, hashes: some(blocks, 1 << 40), groups: some(groups, 1 << 50), sums }
    }

    #[test]
    fn tables_come_back_from_their_ranges() {
        for size in [0, 1, 5000, MAP_RANGE - 100, MAP_RANGE, MAP_RANGE + 1, 2 * MAP_RANGE + 70_000] {
            for (block, holes, sums) in
                [(4096, false, false), (4096, true, false), (8192, false, true), (65536, false, true)]
            {
                let table = table(size, block, holes, sums);
                let ranges = table.encode();
                assert_eq!(ranges.len() as u64, size.div_ceil(MAP_RANGE));
                let back = BlockTable::decode(&ranges).unwrap();
                assert!(back == table || size == 0, "{size} {block} {holes} {sums}");
            }
        }
    }

    #[test]
    fn ranges_without_a_change_keep_their_bytes() {
        let mut table = table(3 * MAP_RANGE + 5, 1 << 20, false, true);
        let before = table.encode();
        table.hashes[300] = [7; 16];
        let after = table.encode();
        let same: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a == b).collect();
        assert_eq!(same, [true, false, true, true]);
    }

    #[test]
    fn a_table_in_the_making_holds_no_more_than_a_range() {
        let (block, count) = (1 << 20, 3 * 256 + 7);
        let mut ranges = Vec::new();
        let mut take = |range| ranges.push(range);
        let mut making = Making::new(block, &mut take);
        for n in 0..10_u8 {
            making.add(&[[n; 16]], &[n.into()]);
        }
        making.add_same(count - 11, [9; 16], Some(0));
        assert_eq!((making.blocks(), making.hashes.len(), making.sums.len()), (count - 1, 6, 6));
        making.add(&[[8; 16]], &[1]);
        making.finish((count << 20) - 5);
        let table = BlockTable::decode(&ranges).unwrap();
        assert_eq!((ranges.len(), table.size, table.hashes.len() as u64), (4, (count << 20) - 5, count));
        assert_eq!((table.hashes[9], table.hashes[10], table.hashes[774]), ([9; 16], [9; 16], [8; 16]));
        assert_eq!((table.sums[9], table.sums[10], table.sums[774]), (9, 0, 1));
        assert_eq!(ranges, table.encode());
    }

    #[test]
    fn damaged_ranges_are_refused() {
        let good = table(MAP_RANGE + 70_000, 8192, false, true).encode();
        let refused = |ranges: &[Vec<u8>]| BlockTable::decode(ranges).is_err();
        assert!(!refused(&good));
        for at in [0, 1, 2, 5, 8, 13] {
            let mut bad = good.clone();
            bad[1][at] ^= 0x40;
            assert!(refused(&bad), "byte {at}");
        }
        let mut short = good.clone();
        short[0].pop();
        assert!(refused(&short));
        let mut long = good.clone();
        long[1].push(0);
        assert!(refused(&long));
        assert!(refused(&[good[1].clone(), good[0].clone()]), "a short range before the end");
        assert!(refused(&[Vec::new()]));
    }
}
