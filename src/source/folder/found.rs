//! What the parts of a walk found, and how it is put together: in walk order, names of one file with one number.

use crate::model::report::Problem;
use crate::platform::memory::let_go;
use crate::source::folder::links::{Several, number};
use crate::source::folder::scan::Found;

/// Entries are kept in pieces of at most so many, so that putting a million together does not take the room of two.
const PIECE: usize = 1 << 14;

/// What was found in one part of a walk.
#[derive(Debug, Default)]
pub(super) struct Yield {
    pieces: Vec<Vec<Found>>,
    count: usize,
    /// Which of the entries have several names.
    pub(super) several: Vec<Several>,
    /// The exclusion patterns that were met.
    pub(super) rules: Vec<String>,
    pub(super) problems: Vec<Problem>,
    /// Bytes that there are to read.
    pub(super) allocated: u64,
    /// Something that the configuration names is there.
    pub(super) any: bool,
    /// Attributes could not be looked for, because `/proc` is missing.
    pub(super) no_proc: bool,
}

impl Yield {
    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn push(&mut self, found: Found) {
        match self.pieces.last_mut() {
            Some(piece) if piece.len() < PIECE => piece.push(found),
            _ => self.pieces.push(vec![found]),
        }
        self.count += 1;
    }

    /// All entries in one piece.
    fn entries(parts: &mut [Self]) -> Vec<Found> {
        let count = parts.iter().map(Self::len).sum();
        let mut pieces = parts.iter_mut().flat_map(|part| std::mem::take(&mut part.pieces)).peekable();
        if pieces.peek().is_some_and(|first| first.len() == count) {
            return pieces.next().unwrap_or_default();
        }
        let mut entries = Vec::with_capacity(count);
        pieces.for_each(|mut piece| {
            entries.append(&mut piece);
            let_go(piece);
        });
        entries
    }

    /// Puts the parts of a walk together.
    pub(super) fn together(mut parts: Vec<Self>) -> (Vec<Found>, Self) {
        let mut entries = Self::entries(&mut parts);
        let (mut all, mut before) = (Self::default(), 0);
        for part in parts {
            all.several.extend(part.several.into_iter().map(|several| several.behind(before)));
            all.rules.extend(part.rules);
            all.problems.extend(part.problems);
            all.allocated = all.allocated.saturating_add(part.allocated);
            all.any |= part.any;
            all.no_proc |= part.no_proc;
            before += part.count;
        }
        let again = number(&mut entries, &all.several);
        all.allocated = all.allocated.saturating_sub(again);
        (entries, all)
    }
}
