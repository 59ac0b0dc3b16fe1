//! Sums that can be rolled over content byte by byte, and the old blocks found by them. A sum proves nothing: whoever finds a block compares its hash.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Sums keep this many bits: with 2^20 blocks one position in a million is looked at in vain.
const BITS: u32 = 40;

/// Two sums over a stretch of `n` bytes: of the bytes, and of the bytes weighted with `n`, `n - 1`, …, 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sums {
    plain: u64,
    weighted: u64,
}

/// Bytes in a row when sums are made in columns, and rows before the columns could overflow.
const COLUMNS: usize = 32;
const ROWS: usize = 2048;

impl Sums {
    /// The sums of `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut sums = Self::default();
        let (rows, rest) = bytes.as_chunks::<COLUMNS>();
        for rows in rows.chunks(ROWS) {
            sums.append(Self::of_rows(rows), rows.len() * COLUMNS);
        }
        for byte in rest {
            sums.append(Self { plain: (*byte).into(), weighted: (*byte).into() }, 1);
        }
        sums
    }

    /// Column by column, with nothing but additions, so that the compiler makes vector instructions of it.
    fn of_rows(rows: &[[u8; COLUMNS]]) -> Self {
        let (mut plain, mut weighted) = ([0u32; COLUMNS], [0u32; COLUMNS]);
        for row in rows {
            for column in 0..COLUMNS {
                plain[column] += u32::from(row[column]);
                weighted[column] += plain[column];
            }
        }
        let mut sums = Self::default();
        for (column, (plain, weighted)) in plain.into_iter().zip(weighted).enumerate() {
            // A byte of row r counts (rows - r) times in `weighted`; its weight is COLUMNS times that, less its column.
            sums.plain += u64::from(plain);
            sums.weighted += COLUMNS as u64 * u64::from(weighted) - column as u64 * u64::from(plain);
        }
        sums
    }

    /// The sums of what is followed by `length` bytes with the sums `next`.
    fn append(&mut self, next: Self, length: usize) {
        self.weighted += self.plain * length as u64 + next.weighted;
        self.plain += next.plain;
    }

    /// Moves the stretch of `length` bytes on by one.
    #[inline]
    fn roll(&mut self, length: u64, out: u8, next: u8) {
        self.plain = self.plain + u64::from(next) - u64::from(out);
        self.weighted = self.weighted + self.plain - length * u64::from(out);
    }

    /// One number of both, [`BITS`] long; 0 for zeros.
    #[inline]
    pub(super) fn key(self) -> u64 {
        let mixed = self.plain.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ self.weighted.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        mixed >> (64 - BITS)
    }
}

/// Blocks by their sums' keys.
pub(super) struct Index {
    /// A bit for every key that occurs, by its high bits: nearly all positions end here.
    seen: Vec<u64>,
    /// How far to shift a key to get its bit's number.
    shift: u32,
    blocks: HashMap<u64, usize, BuildHasherDefault<Mixed>>,
}

impl Index {
    /// An index of the first `count` blocks. Zeros are not in it.
    pub(super) fn new(keys: &[u64], count: usize) -> Self {
        let keys = &keys[..count.min(keys.len())];
        let words = (keys.len() * 2).next_power_of_two().max(64);
        let shift = BITS.saturating_sub(words.trailing_zeros() + 6);
        let blocks = HashMap::with_capacity_and_hasher(keys.len(), BuildHasherDefault::default());
        let mut index = Self { seen: vec![0; words], shift, blocks };
        for (block, &key) in keys.iter().enumerate().filter(|(_, key)| **key != 0) {
            let bit = (key >> shift) as usize;
            if let Some(word) = index.seen.get_mut(bit / 64) {
                *word |= 1 << (bit % 64);
            }
            index.blocks.entry(key).or_insert(block);
        }
        index
    }

    /// Whether a block with this key is likely.
    #[inline]
    fn may_have(&self, key: u64) -> bool {
        let bit = (key >> self.shift) as usize;
        self.seen.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    /// The first block with this key.
    pub(super) fn find(&self, key: u64) -> Option<usize> {
        self.blocks.get(&key).copied()
    }

    /// Rolls `sums`, which are those of the first `length` of `bytes`: how far, and the block that may begin there; without one where the bytes are used up.
    pub(super) fn roll(&self, bytes: &[u8], length: usize, sums: &mut Sums) -> (usize, Option<usize>) {
        let next = bytes.get(length..).unwrap_or_default();
        let mut rolling = *sums;
        for (rolled, (out, next)) in bytes.iter().zip(next).enumerate() {
            rolling.roll(length as u64, *out, *next);
            if self.may_have(rolling.key())
                && let Some(block) = self.find(rolling.key())
            {
                *sums = rolling;
                return (rolled + 1, Some(block));
            }
        }
        *sums = rolling;
        (next.len(), None)
    }
}

/// Keys are mixed already.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rolled_sums_are_those_of_the_stretch() {
        let bytes: Vec<u8> = (0..200_000_u64).map(|i| (i * i % 255) as u8).collect();
        for length in [1, 31, 32, 33, 4096, 65_536, 70_001] {
            let mut sums = Sums::of(&bytes[..length]);
            for at in 0..1000 {
                sums.roll(length as u64, bytes[at], bytes[at + length]);
            }
            let stretch = &bytes[1000..1000 + length];
            let weight = |(i, byte): (usize, &u8)| (length - i) as u64 * u64::from(*byte);
            let plain = stretch.iter().map(|b| u64::from(*b)).sum();
            assert_eq!(sums, Sums { plain, weighted: stretch.iter().enumerate().map(weight).sum() });
            assert_eq!(sums, Sums::of(stretch));
        }
    }

    #[test]
    fn sums_of_the_longest_blocks_do_not_overflow() {
        assert_eq!(Sums::of(&vec![255; 64 << 20]).plain, 255 << 26);
        assert_eq!(Sums::of(&vec![0; 1 << 20]).key(), 0);
    }

    #[test]
    fn the_index_finds_the_first_block_of_a_key_and_no_zeros() {
        let index = Index::new(&[5, 0, 7, 5, 9], 4);
        assert_eq!([5, 7, 0, 9, 6].map(|key| index.find(key)), [Some(0), Some(2), None, None, None]);
    }
}
