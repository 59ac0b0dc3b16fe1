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

    /// Moves to the first stretch that does not end before `path`.
    fn move_to(&mut self, path: &[u8]) -> Option<()> {
        while walk_order(self.old.stretches.get(self.place)?.last.as_bytes(), path) == Ordering::Less {
            self.place += 1;
        }
        Some(())
    }

    /// The row of `path`. Paths must come in walk order.
    pub(in crate::ops::backup) fn seek(&mut self, path: &[u8]) -> Option<RowRef<'_>> {
        self.move_to(path)?;
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
        // Not past one that has `path` in its middle: it begins no whole one, but its entries are looked up next.
        self.move_to(path)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::known::{Known, KnownStretch};
    use crate::model::{Kind, RelPath, VaultId};
    use crate::ops::backup::reuse::Reuse;
    use crate::ops::backup::reuse::lines::Late;
    use std::collections::{BTreeSet, HashMap, HashSet};
    use std::path::PathBuf;
    use std::sync::Mutex;

    fn stretch(names: &[&str]) -> KnownStretch {
        let path = |name: &&str| RelPath::new(name.as_bytes()).unwrap();
        let rows: Vec<Row> =
            names.iter().map(|name| Row::new(Entry::new(path(name), Kind::Dir), None, false)).collect();
        KnownStretch {
            row: 0,
            segment: ObjectId::of(names[0].as_bytes()),
            size: 1,
            recipients: Vec::new(),
            first: path(&names[0]),
            last: path(&names[names.len() - 1]),
            maps: Vec::new(),
            blocks: Vec::new(),
            archives: Vec::new(),
            shared: false,
            content: 0,
            packed: Stretch::encode(&rows).unwrap(),
        }
    }

    /// One component, of number 7.
    fn known(stretches: Vec<KnownStretch>) -> Reuse {
        Reuse {
            path: PathBuf::new(),
            proved: stretches.iter().map(|s| s.segment).collect(),
            known: Known { components: HashMap::from([(7, stretches)]), ..Known::default() },
            lost: BTreeSet::new(),
            usable: HashSet::from([7]),
            recipients: Vec::new(),
            standing: HashMap::new(),
            instance: VaultId::from_random([0; 17]),
            last_backup: None,
            late: Late::default(),
            alive: HashSet::new(),
            drains: HashMap::new(),
            gathered: Mutex::default(),
            stored: None,
        }
    }

    #[test]
    fn a_segment_that_begins_in_the_middle_of_an_earlier_one_hides_nothing_of_that() {
        let known = known(vec![stretch(&["a", "c", "e"]), stretch(&["g", "i"])]);
        let mut cursor = Cursor::new(known.component(7));
        assert!(cursor.seek(b"a").is_some());
        // `b` is new, and ends a segment.
        assert!(cursor.seek(b"b").is_none());
        assert!(cursor.whole(b"c", 4, |_, _| true).is_none());
        assert!(cursor.seek(b"c").is_some() && cursor.seek(b"e").is_some());
        assert!(cursor.whole(b"f", 3, |_, _| true).is_none());
        assert!(cursor.seek(b"f").is_none());
        assert!(cursor.whole(b"g", 2, |_, _| true).is_some());
    }
}
