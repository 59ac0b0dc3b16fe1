//! Going through what is known of a component beside a walk, both in walk order.

use crate::catalog::known::{Row, RowRef, Stretch, Sums};
use crate::model::path::walk_order;
use crate::model::{Entry, ObjectId};
use crate::ops::backup::reuse::{Facts, Old};
use std::cmp::Ordering;

/// A place in what is known of a component. It only moves forward.
pub(super) struct Opened {
    place: usize,
    stretch: Stretch,
    /// Where the next row begins.
    at: usize,
}

/// Looks rows up in walk order.
pub(in crate::ops::backup) struct Cursor<'a> {
    pub(in crate::ops::backup) old: Old<'a>,
    place: usize,
    open: Option<Opened>,
    /// Rows of the last whole stretch that are names of a file with several.
    linked: Vec<Row>,
}

/// A whole stretch of which every entry is as it was.
#[derive(Debug, Clone)]
pub(in crate::ops::backup) struct Whole {
    /// Its place among the component's stretches.
    pub(in crate::ops::backup) place: usize,
    /// Its sums.
    pub(in crate::ops::backup) sums: Sums,
    /// The archives it refers to.
    pub(in crate::ops::backup) archives: Vec<(ObjectId, u64)>,
    /// True when some of its entries are names of a file with several.
    pub(in crate::ops::backup) links: bool,
}

impl<'a> Cursor<'a> {
    pub(in crate::ops::backup) fn new(old: Old<'a>) -> Self {
        Self { old, place: 0, open: None, linked: Vec::new() }
    }

    fn opened(&mut self) -> Option<&mut Opened> {
        let place = self.place;
        if self.open.as_ref().is_none_or(|open| open.place != place) {
            let stretch = self.old.stretches.get(place)?.open()?;
            self.open = Some(Opened { place, stretch, at: 0 });
        }
        self.open.as_mut()
    }

    /// The row of `path`. Paths must come in walk order.
    pub(in crate::ops::backup) fn seek(&mut self, path: &[u8]) -> Option<RowRef<'_>> {
        while walk_order(self.old.stretches.get(self.place)?.last.as_bytes(), path) == Ordering::Less {
            self.place += 1;
        }
        if walk_order(self.old.stretches.get(self.place)?.first.as_bytes(), path) == Ordering::Greater {
            return None;
        }
        let open = self.opened()?;
        loop {
            let (order, next) = {
                let (row, next) = open.stretch.row(open.at)?;
                (walk_order(row.path, path), next)
            };
            match order {
                Ordering::Less => open.at = next,
                Ordering::Equal => return open.stretch.row(open.at).map(|(row, _)| row),
                Ordering::Greater => return None,
            }
        }
    }

    /// The stretch that begins with `path`, when it has `entries` entries or fewer, may be used, and `same` says of each row that it is as it was.
    pub(in crate::ops::backup) fn whole(
        &mut self,
        path: &[u8],
        entries: usize,
        mut same: impl FnMut(usize, &RowRef<'_>) -> bool,
    ) -> Option<Whole> {
        while walk_order(self.old.stretches.get(self.place)?.first.as_bytes(), path) == Ordering::Less {
            self.place += 1;
        }
        let (place, count) = (self.place, self.old.stretches.len());
        let known = self.old.stretches.get(place)?;
        let old = self.old;
        let usable = known.first.as_bytes() == path
            && old.may_use(&known.segment)
            && known.maps.iter().all(|(id, _)| old.may_use(id));
        if !usable {
            return None;
        }
        let stretch = &self.opened()?.stretch;
        let rows = usize::try_from(stretch.sums.entries).ok()?;
        // The last stretch ended because the listing did; with more behind it, it would be longer.
        let fits = rows <= entries && (place + 1 < count || rows == entries);
        if !fits || !stretch.archives.iter().all(|(id, _)| old.may_use(id) && !old.drains(id)) {
            return None;
        }
        let (mut seen, mut linked) = (0, Vec::new());
        for row in stretch.rows() {
            if seen >= rows || !same(seen, &row) {
                return None;
            }
            seen += 1;
            linked.extend(row.link.and_then(|_| row.decode()));
        }
        let (sums, archives) = (stretch.sums, stretch.archives.clone());
        let whole = Whole { place, sums, archives, links: !linked.is_empty() };
        if seen != rows {
            return None;
        }
        self.linked = linked;
        Some(whole)
    }

    /// True when `fits` says so of all entries of the last whole stretch that are names of a file with several.
    pub(in crate::ops::backup) fn linked_fit(&self, fits: impl Fn(&Entry) -> bool) -> bool {
        self.linked.iter().all(|row| fits(&row.entry))
    }

    /// Of the last whole stretch, the entries of files that have several names.
    pub(in crate::ops::backup) fn linked(&mut self) -> Vec<(Entry, Facts)> {
        let rows = std::mem::take(&mut self.linked);
        rows.into_iter().map(|row| (row.entry.clone(), Facts::of_row(&row))).collect()
    }
}
