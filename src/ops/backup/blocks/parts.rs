//! A sink that gathers new bytes into parts and makes extents of all.

use crate::model::entry::MAP_RANGE;
use crate::model::{Extent, ObjectId};
use crate::ops::backup::blocks::compare::Sink;

/// A part holds at most this many bytes of content. Its offsets stand in front of it, so all of it is known before the first byte is packed.
pub(crate) const PART_BYTES: usize = 8 << 20;

/// Which archive a stretch lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// One that is in the store.
    Stored(ObjectId),
    /// One of this run, which has no name yet.
    Packed(usize),
}

/// An extent whose archive may have no name yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Offset in the file, in bytes.
    pub(crate) offset: u64,
    /// The archive.
    pub(crate) home: Home,
    /// Offset in the archive's tar stream, in bytes.
    pub(crate) tar_offset: u64,
    /// Length in bytes, never 0; a stretch does not cross a multiple of 256 MiB of the file.
    pub(crate) length: u64,
}

/// Gathers new bytes and gives them to `pack` in parts: pairs `[offset, length]` in order, neighbours joined, and their bytes. It says in which
/// archive of the run and at which tar offset the first byte went; the others follow it.
pub(crate) struct Parts<P> {
    pack: P,
    most: usize,
    bytes: Vec<u8>,
    pairs: Vec<(u64, u64)>,
    /// In file order. Those of `pairs` are at `open`, and get their place when the part is packed.
    made: Vec<Stretch>,
    open: Vec<usize>,
}

impl<E, P: FnMut(&[(u64, u64)], &[u8]) -> Result<(usize, u64), E>> Parts<P> {
    /// Parts of at most `most` bytes of content, at least 1.
    pub(crate) fn new(most: usize, pack: P) -> Self {
        Self {
            pack,
            most: most.max(1),
            bytes: Vec::new(),
            pairs: Vec::new(),
            made: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Packs what is gathered and gives all stretches in file order, neighbours joined.
    pub(crate) fn finish(mut self) -> Result<Vec<Stretch>, E> {
        self.flush()?;
        let mut joined: Vec<Stretch> = Vec::with_capacity(self.made.len());
        for mut stretch in self.made {
            while stretch.length > 0 {
                let length = stretch.length.min(MAP_RANGE - stretch.offset % MAP_RANGE);
                let piece = Stretch { length, ..stretch };
                match joined.last_mut() {
                    Some(last) if follows(last, &piece) && !piece.offset.is_multiple_of(MAP_RANGE) => {
                        last.length += length;
                    }
                    _ => joined.push(piece),
                }
                stretch.offset += length;
                stretch.tar_offset += length;
                stretch.length -= length;
            }
        }
        Ok(joined)
    }

    fn flush(&mut self) -> Result<(), E> {
        if self.pairs.is_empty() {
            return Ok(());
        }
        let (archive, mut tar_offset) = (self.pack)(&self.pairs, &self.bytes)?;
        for place in self.open.drain(..) {
            if let Some(stretch) = self.made.get_mut(place) {
                (stretch.home, stretch.tar_offset) = (Home::Packed(archive), tar_offset);
                tar_offset += stretch.length;
            }
        }
        self.pairs.clear();
        self.bytes.clear();
        Ok(())
    }

    fn gather(&mut self, offset: u64, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let length = bytes.len() as u64;
        let last_made = self.made.len().wrapping_sub(1);
        if let (Some(pair), Some(&place)) = (self.pairs.last_mut(), self.open.last())
            && place == last_made
            && pair.0 + pair.1 == offset
        {
            pair.1 += length;
            self.made[place].length += length;
            return;
        }
        self.pairs.push((offset, length));
        self.open.push(self.made.len());
        self.made.push(Stretch { offset, home: Home::Packed(usize::MAX), tar_offset: 0, length });
    }
}

fn follows(last: &Stretch, next: &Stretch) -> bool {
    let at = |s: &Stretch| (s.offset + s.length, s.tar_offset + s.length);
    last.home == next.home && at(last) == (next.offset, next.tar_offset)
}

impl<E, P: FnMut(&[(u64, u64)], &[u8]) -> Result<(usize, u64), E>> Sink for Parts<P> {
    type Error = E;

    fn kept(&mut self, extent: Extent) -> Result<(), E> {
        let Extent { offset, archive, tar_offset, length } = extent;
        let next = Stretch { offset, home: Home::Stored(archive), tar_offset, length };
        match self.made.last_mut() {
            Some(last) if follows(last, &next) => last.length += length,
            _ => self.made.push(next),
        }
        Ok(())
    }

    fn fresh(&mut self, mut offset: u64, mut bytes: &[u8]) -> Result<(), E> {
        while !bytes.is_empty() {
            let (these, rest) = bytes.split_at(bytes.len().min(self.most - self.bytes.len()));
            self.gather(offset, these);
            if self.bytes.len() == self.most {
                self.flush()?;
            }
            offset += these.len() as u64;
            bytes = rest;
        }
        Ok(())
    }
}

/// For each range of 256 MiB of a file of `size` bytes whether its extents are what they were, so that its map can stay. Both lists are in order and cut at these ranges.
pub(crate) fn unchanged_ranges(old: &[Extent], new: &[Extent], size: u64) -> Vec<bool> {
    let of = |extents: &[Extent], range: u64| {
        let place = |end: u64| extents.partition_point(|e| e.offset / MAP_RANGE < end);
        place(range)..place(range + 1)
    };
    (0..size.div_ceil(MAP_RANGE)).map(|range| old[of(old, range)] == new[of(new, range)]).collect()
}
