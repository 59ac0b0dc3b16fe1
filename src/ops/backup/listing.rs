//! A component's entries in walk order, cut into segments as they come.

use crate::catalog::known::Sums;
use crate::model::entry::{EXTENTS_INLINE_MAX, MAP_RANGE};
use crate::model::manifest::NUMBER_END;
use crate::model::segment_cut::{Cutter, estimated_bytes};
use crate::ops::backup::build::Item;
use crate::ops::backup::folded::Folded;
use crate::ops::backup::packer::LocalExtent;
use crate::ops::backup::reuse::Whole;

/// What becomes one segment.
#[derive(Debug)]
pub(super) enum Piece {
    /// All of an earlier one.
    Whole(Whole),
    /// These entries, never none.
    Items(Vec<Item>),
    /// The same, in little memory.
    Folded(Folded),
}

/// So many entries are held as they are; with more, earlier pieces are folded.
const LOOSE_MAX: usize = 1 << 16;

/// Entries in walk order.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pieces: Vec<Piece>,
    open: Vec<Item>,
    cutter: Cutter,
    sums: Sums,
    /// Whether pieces may be folded: nobody looks entries up then.
    folds: bool,
    /// Entries in pieces that are not folded.
    loose: usize,
    /// Pieces before this one are folded, or cannot be.
    folded: usize,
}

impl Listing {
    /// One whose pieces may be folded: [`Listing::get`] finds nothing in those.
    pub(super) fn folding() -> Self {
        Self { folds: true, ..Self::default() }
    }

    /// True when with `bytes` more its sum can still be said in a listing: all of the component counts, holes and further names, too.
    pub(super) fn has_room_for(&self, bytes: u64) -> bool {
        self.sums.size.checked_add(bytes).is_some_and(|sum| sum < NUMBER_END)
    }

    /// Adds an entry, and says where it is.
    pub(super) fn push(&mut self, item: Item) -> (usize, usize) {
        let bytes = bytes_of(&item);
        if self.cutter.must_cut_before(bytes) {
            self.cut();
        }
        self.sums.count(&item.entry);
        let ends = self.cutter.add(&item.entry, bytes);
        let place = (self.pieces.len(), self.open.len());
        self.open.push(item);
        if ends {
            self.cut();
        }
        place
    }

    /// The entry at a place that was given for it.
    pub(super) fn get(&self, (piece, at): (usize, usize)) -> Option<&Item> {
        match self.pieces.get(piece) {
            Some(Piece::Items(items)) => items.get(at),
            Some(Piece::Whole(_) | Piece::Folded(_)) => None,
            None => self.open.get(at),
        }
    }

    /// True when the next entry begins a segment.
    pub(super) fn at_boundary(&self) -> bool {
        self.open.is_empty()
    }

    /// Adds all entries of an earlier segment; only at a boundary.
    pub(super) fn push_whole(&mut self, whole: Whole) {
        self.sums.add(whole.sums);
        self.pieces.push(Piece::Whole(whole));
    }

    fn cut(&mut self) {
        if !self.open.is_empty() {
            self.loose += self.open.len();
            self.pieces.push(Piece::Items(std::mem::take(&mut self.open)));
            self.fold();
        }
        self.cutter.reset();
    }

    fn fold(&mut self) {
        while self.folds && self.loose > LOOSE_MAX {
            let Some(piece) = self.pieces.get_mut(self.folded) else { return };
            if let Piece::Items(items) = piece {
                self.loose -= items.len();
                // What cannot be folded stays as it is.
                if let Some(folded) = Folded::of(items) {
                    *piece = Piece::Folded(folded);
                }
            }
            self.folded += 1;
        }
    }

    /// Sums over all entries.
    pub(super) fn sums(&self) -> Sums {
        self.sums
    }

    /// The segments to be.
    pub(super) fn finish(mut self) -> Vec<Piece> {
        self.cut();
        self.pieces
    }
}

/// About how many bytes an entry will take, once its extents have their archives' names: the same for the same entry in whatever archives it lies.
fn bytes_of(item: &Item) -> usize {
    let ranges = |e: &LocalExtent| (e.offset + e.length.max(1) - 1) / MAP_RANGE - e.offset / MAP_RANGE + 1;
    let own: usize = item.extents.iter().map(|e| ranges(e) as usize).sum();
    let all = own + item.entry.extents.len();
    let size = usize::try_from(item.entry.size.div_ceil(MAP_RANGE)).unwrap_or(usize::MAX >> 8);
    let lies = if all <= EXTENTS_INLINE_MAX { all * 64 } else { size * 96 };
    estimated_bytes(&item.entry) + lies
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Entry, Kind, RelPath};

    #[test]
    fn a_component_is_never_larger_than_a_listing_can_say() {
        let mut listing = Listing::default();
        assert!(listing.has_room_for(NUMBER_END - 1) && !listing.has_room_for(NUMBER_END));
        let mut entry = Entry::new(RelPath::new(b"sparse").unwrap(), Kind::File);
        entry.size = NUMBER_END - 10;
        listing.push(Item::bare(entry));
        assert!(listing.has_room_for(9) && !listing.has_room_for(10) && !listing.has_room_for(u64::MAX));
    }
}
