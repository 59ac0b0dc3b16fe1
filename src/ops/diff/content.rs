//! Whether two contents are the same. A hash covers only the bytes that lie in an archive, so where they lie counts, too.

use crate::model::{ContentHash, Extent};
use crate::ops::interrupt::Interrupt;
use crate::source::folder::{OpenFile, Steadiness};
use std::io;
use std::os::unix::fs::FileExt;

/// Stretches of a file, `(offset, length)`: in order, apart, none touching the next.
pub(super) type Ranges = Vec<(u64, u64)>;

/// The stretches that extents cover.
pub(super) fn cover(extents: &[Extent]) -> Ranges {
    let mut ranges = Ranges::new();
    for extent in extents {
        add(&mut ranges, extent.offset, extent.length);
    }
    ranges
}

/// Adds a stretch that begins at or behind the end of the last.
pub(super) fn add(ranges: &mut Ranges, offset: u64, length: u64) {
    match ranges.last_mut() {
        Some(last) if last.0 + last.1 == offset => last.1 += length,
        _ if length == 0 => {}
        _ => ranges.push((offset, length)),
    }
}

const STEP: usize = 1 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Compares bytes that come in order of their offsets with a hash over `cover`; outside of that there must be zeros only.
pub(super) struct Judge<'c> {
    cover: &'c [(u64, u64)],
    hasher: blake3::Hasher,
    zeros_outside: bool,
}

impl<'c> Judge<'c> {
    pub(super) fn new(cover: &'c [(u64, u64)]) -> Self {
        Self { cover, hasher: blake3::Hasher::new(), zeros_outside: true }
    }

    /// The next bytes.
    pub(super) fn bytes(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (inside, length) = self.stretch(offset, bytes.len() as u64);
            let (now, rest) = bytes.split_at(usize::try_from(length).unwrap_or(bytes.len()).min(bytes.len()));
            match inside {
                true => drop(self.hasher.update(now)),
                false => self.zeros_outside &= now.iter().all(|byte| *byte == 0),
            }
            (offset, bytes) = (offset + now.len() as u64, rest);
        }
    }

    /// A hole: zeros that need not be read.
    pub(super) fn zeros(&mut self, mut offset: u64, mut length: u64) {
        while length > 0 {
            let (inside, now) = self.stretch(offset, length);
            let mut left = if inside { now } else { 0 };
            while left > 0 {
                let some = left.min(ZEROS.len() as u64);
                self.hasher.update(&ZEROS[..usize::try_from(some).unwrap_or(ZEROS.len())]);
                left -= some;
            }
            (offset, length) = (offset + now, length - now);
        }
    }

    /// Whether `offset` is covered, and for how long that is so, at most `length`.
    fn stretch(&mut self, offset: u64, length: u64) -> (bool, u64) {
        while self.cover.first().is_some_and(|range| range.0 + range.1 <= offset) {
            self.cover = &self.cover[1..];
        }
        match self.cover.first() {
            Some(range) if range.0 <= offset => (true, length.min(range.0 + range.1 - offset)),
            Some(range) => (false, length.min(range.0 - offset)),
            None => (false, length),
        }
    }

    /// True when what came has this hash.
    pub(super) fn is(&self, hash: Option<&ContentHash>) -> bool {
        self.zeros_outside && hash.is_some_and(|h| h.0 == *self.hasher.finalize().as_bytes())
    }

    /// The hash of what came.
    pub(super) fn hash(&self) -> ContentHash {
        ContentHash(*self.hasher.finalize().as_bytes())
    }
}

/// Reads a file to its end. `Ok(false)`: it changed meanwhile, and what was read is of no one moment.
pub(super) fn read_file(open: &OpenFile, interrupt: &Interrupt, judge: &mut Judge<'_>) -> io::Result<bool> {
    let mut buffer = vec![0; STEP.min(usize::try_from(open.entry.size).unwrap_or(STEP)).max(1)];
    let mut at = 0;
    for &(offset, length) in &open.ranges {
        judge.zeros(at, offset - at);
        at = offset;
        while at < offset + length {
            if interrupt.signal().is_some() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let want = (offset + length - at).min(buffer.len() as u64);
            let room = &mut buffer[..usize::try_from(want).unwrap_or(STEP)];
            match open.file.read_at(room, at) {
                Ok(0) => return Ok(false),
                Ok(got) => {
                    judge.bytes(at, &room[..got]);
                    at += got as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
    judge.zeros(at, open.entry.size.saturating_sub(at));
    Ok(matches!(open.after()?, Steadiness::Same))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(cover: &[(u64, u64)], pieces: &[(u64, &[u8])], end: u64) -> (bool, ContentHash) {
        let mut judge = Judge::new(cover);
        let mut at = 0;
        for (offset, bytes) in pieces {
            judge.zeros(at, offset - at);
            judge.bytes(*offset, bytes);
            at = offset + bytes.len() as u64;
        }
        judge.zeros(at, end - at);
        (judge.zeros_outside, judge.hash())
    }

    #[test]
    fn holes_and_written_zeros_are_the_same_content() {
        let bytes = [&[7; 10][..], &[0; 90], &[8; 5]].concat();
        let hash = ContentHash(*blake3::hash(&[&[7; 10][..], &[8; 5]].concat()).as_bytes());
        let cover = [(0, 10), (100, 5)];
        assert_eq!(judged(&cover, &[(0, &bytes)], 105), (true, hash));
        assert_eq!(judged(&cover, &[(0, &[7; 10]), (100, &[8; 5])], 105), (true, hash));
        let whole = ContentHash(*blake3::hash(&bytes).as_bytes());
        assert_eq!(judged(&[(0, 105)], &[(0, &[7; 10]), (100, &[8; 5])], 105), (true, whole));
    }

    #[test]
    fn the_same_bytes_at_another_place_are_other_content() {
        let moved = [&[0; 90][..], &[7; 10]].concat();
        assert!(!judged(&[(0, 10)], &[(0, &moved)], 100).0);
        assert!(!judged(&[(0, 10)], &[(90, &[7; 10])], 100).0);
    }

    #[test]
    fn what_extents_cover_is_told_in_as_few_stretches_as_can_be() {
        let extent = |offset, length| Extent {
            offset,
            archive: crate::model::ObjectId([0; 32]),
            tar_offset: 0,
            length,
        };
        assert_eq!(cover(&[extent(0, 5), extent(5, 5), extent(20, 1)]), [(0, 10), (20, 1)]);
        assert!(cover(&[]).is_empty());
    }
}
