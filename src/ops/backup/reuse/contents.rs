//! Content that is known already, under whatever path: renamed and duplicate files cost nothing.
//!
//! Only a hash over all of it, and the same holes, make two contents the same; sizes and inodes only say where to look.

use crate::catalog::known::{KnownStretch, Row, RowRef, Stretch};
use crate::model::path::walk_order;
use crate::model::seldom::Seldom;
use crate::model::{ContentHash, Entry, Extent, Kind, ObjectId};
use crate::ops::backup::blocks::OldTable;
use crate::ops::backup::reuse::Old;
use crate::platform::capture::Ident;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::collections::hash_map::{self, HashMap};
use std::sync::Arc;

/// Files up to this size have no block hashes: they are packed whole.
pub(in crate::ops::backup) const SMALL_BYTES: u64 = 1 << 20;

/// So many stretches are kept unpacked: what lay together is often renamed together.
const OPEN_MAX: usize = 4;

/// Where a row lies: the stretch, and where in it.
type Place = (u32, u32);

/// What of a component is known by content.
pub(in crate::ops::backup) struct Contents<'a> {
    old: Old<'a>,
    index: Option<Index>,
    /// The stretches used last, the youngest at the end.
    open: Vec<(usize, Stretch)>,
    /// What was packed in this run, by hash: its place in the listing.
    made: HashMap<u64, (usize, usize)>,
    made_sizes: HashSet<u64>,
}

#[derive(Default)]
struct Index {
    by_hash: HashMap<u64, Place>,
    /// Of large files: how many have this size.
    sizes: HashMap<u64, u32>,
    /// Of large files: by device and inode.
    inodes: HashMap<(u64, u64), Place>,
}

fn key(hash: &ContentHash) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.0[..8]);
    u64::from_le_bytes(first)
}

impl<'a> Contents<'a> {
    pub(in crate::ops::backup) fn new(old: Old<'a>) -> Self {
        Self { old, index: None, open: Vec::new(), made: HashMap::new(), made_sizes: HashSet::new() }
    }

    fn index(&mut self) -> &Index {
        let old = self.old;
        let stays = |archive: &ObjectId| old.may_use(archive) && !old.drains(archive);
        self.index.get_or_insert_with(|| Index::of(old.stretches, stays))
    }

    fn stretch(&mut self, place: usize) -> Option<&Stretch> {
        let at = match self.open.iter().position(|(p, _)| *p == place) {
            Some(at) => at,
            None => {
                let stretch = self.old.stretches.get(place)?.open()?;
                if self.open.len() >= OPEN_MAX {
                    self.open.remove(0);
                }
                self.open.push((place, stretch));
                self.open.len() - 1
            }
        };
        let used = self.open.remove(at);
        self.open.push(used);
        self.open.last().map(|(_, stretch)| stretch)
    }

    fn at(&mut self, (stretch, row): Place) -> Option<Row> {
        self.stretch(stretch as usize)?.row(row as usize)?.0.decode()
    }

    /// The file that was at `path`.
    pub(in crate::ops::backup) fn row(&mut self, path: &[u8]) -> Option<Row> {
        let before = |last: &[u8]| walk_order(last, path) == Ordering::Less;
        let place = self.old.stretches.partition_point(|s| before(s.last.as_bytes()));
        let stretch = self.stretch(place)?;
        let row = stretch.rows().find(|row| walk_order(row.path, path) != Ordering::Less)?;
        let row = if row.path == path { row.decode() } else { None };
        row.filter(|row| row.entry.kind == Kind::File)
    }

    /// The large file that was in this inode, under whatever path.
    pub(in crate::ops::backup) fn moved(&mut self, ident: &Ident) -> Option<Row> {
        let place = *self.index().inodes.get(&(ident.dev, ident.ino))?;
        self.at(place)
    }

    /// True when a large file other than `row` had `size` bytes, or this run packed one.
    pub(in crate::ops::backup) fn has_another_of(&mut self, size: u64, row: Option<&Row>) -> bool {
        let own = u32::from(row.is_some_and(|row| row.entry.size == size));
        self.made_sizes.contains(&size) || self.index().sizes.get(&size).is_some_and(|count| *count > own)
    }

    /// A file with this content that may be referred to. `ranges` are those of it that hold data.
    pub(in crate::ops::backup) fn find(
        &mut self,
        hash: &ContentHash,
        size: u64,
        ranges: &[(u64, u64)],
    ) -> Option<Row> {
        let place = *self.index().by_hash.get(&key(hash))?;
        let row = self.at(place)?;
        let entry = &row.entry;
        let same = entry.hash == Some(*hash) && entry.size == size && covers(&entry.extents, ranges);
        if same && self.old.may_stay(&row) {
            return Some(row);
        }
        // Of a file with block hashes it is `extents` that takes off what is packed again.
        if same && row.blocks.is_empty() {
            let _taken = self.old.drained(self.old.draining_of(&row));
        }
        None
    }

    /// Where in the listing a file lies that was packed in this run and may have this content.
    pub(in crate::ops::backup) fn made(&self, hash: &ContentHash) -> Option<(usize, usize)> {
        self.made.get(&key(hash)).copied()
    }

    /// Notes that a file with this content is at `place` of the listing.
    pub(in crate::ops::backup) fn add(&mut self, hash: &ContentHash, size: u64, place: (usize, usize)) {
        self.made.entry(key(hash)).or_insert(place);
        if size > SMALL_BYTES {
            self.made_sizes.insert(size);
        }
    }
}

impl Index {
    /// `stays` says of an archive whether what lies in it may go on being referred to.
    fn of(stretches: &[KnownStretch], stays: impl Fn(&ObjectId) -> bool) -> Self {
        let mut index = Self::default();
        let mut elsewhere = HashSet::new();
        for (number, stretch) in stretches.iter().enumerate() {
            let Some(stretch) = stretch.open() else { continue };
            // Nearly always: then no row need be decoded.
            let all_stay = stretch.archives.iter().all(|(archive, _)| stays(archive));
            let (mut at, number) = (0, u32::try_from(number).unwrap_or(u32::MAX));
            while let Some((row, next)) = stretch.row(at) {
                let place = (number, u32::try_from(at).unwrap_or(u32::MAX));
                at = next;
                if row.kind != Kind::File || row.size == 0 {
                    continue;
                }
                if let Some(hash) = row.hash() {
                    let well = || all_stay || lies_in(&row, &stays);
                    index.put(key(&hash), place, well, &mut elsewhere);
                }
                if row.size > SMALL_BYTES {
                    *index.sizes.entry(row.size).or_default() += 1;
                    index.inodes.extend(row.ident.map(|ident| ((ident.dev, ident.ino), place)));
                }
            }
        }
        index
    }

    /// The first row of a content that may stay where it lies, or else the first: a copy that lies well spares packing again what another lost.
    /// `elsewhere` has those of which there was no such row so far.
    fn put(&mut self, key: u64, place: Place, well: impl Fn() -> bool, elsewhere: &mut HashSet<u64>) {
        match self.by_hash.entry(key) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(place);
                if !well() {
                    elsewhere.insert(key);
                }
            }
            hash_map::Entry::Occupied(mut there) => {
                if elsewhere.contains(&key) && well() {
                    elsewhere.remove(&key);
                    there.insert(place);
                }
            }
        }
    }
}

/// True when all archives in which the content of `row` lies are ones for which `stays` is true.
fn lies_in(row: &RowRef<'_>, stays: &impl Fn(&ObjectId) -> bool) -> bool {
    row.decode().is_some_and(|row| row.entry.extents.iter().all(|extent| stays(&extent.archive)))
}

/// True when `extents`, which are in order, cover just `ranges`.
pub(in crate::ops::backup) fn covers(extents: &[Extent], ranges: &[(u64, u64)]) -> bool {
    joined(extents.iter().map(|e| (e.offset, e.length))).eq(joined(ranges.iter().copied()))
}

/// Ranges with neighbours joined.
pub(super) fn joined(ranges: impl Iterator<Item = (u64, u64)>) -> impl Iterator<Item = (u64, u64)> {
    let mut ranges = ranges.peekable();
    std::iter::from_fn(move || {
        let (offset, mut length) = ranges.next()?;
        while let Some((_, more)) = ranges.next_if(|next| next.0 == offset + length) {
            length += more;
        }
        Some((offset, length))
    })
}

impl Old<'_> {
    /// Where the content of `row` lies, as far as it goes on being referred to.
    pub(in crate::ops::backup) fn extents(&self, row: &Row) -> Vec<Extent> {
        let mut kept = Vec::with_capacity(row.entry.extents.len());
        for extent in row.entry.extents.iter().filter(|e| self.may_use(&e.archive)) {
            let again = if self.drains(&extent.archive) { self.drained(extent.length) } else { 0 };
            if again < extent.length {
                let Extent { offset, archive, tar_offset, length } = *extent;
                let (offset, tar_offset, length) = (offset + again, tar_offset + again, length - again);
                kept.push(Extent { offset, archive, tar_offset, length });
            }
        }
        kept
    }

    /// True when all of the content of `row` may be referred to, and none of it is to be packed again now. Of a file with block hashes a part can be.
    pub(in crate::ops::backup) fn may_stay(&self, row: &Row) -> bool {
        if !row.entry.extents.iter().all(|e| self.may_use(&e.archive)) {
            return false;
        }
        let again = self.draining_of(row);
        again == 0 || (row.blocks.is_empty() && again > self.left())
    }

    /// How many bytes of `row` lie where they are to be packed again.
    fn draining_of(&self, row: &Row) -> u64 {
        row.entry.extents.iter().filter(|e| self.drains(&e.archive)).map(|e| e.length).sum()
    }

    /// The entry of `row`, without its maps where one of them may not be referred to: they are written again then.
    pub(in crate::ops::backup) fn entry_of(&self, row: Row) -> Entry {
        let mut entry = row.entry;
        if !entry.maps.iter().all(|map| self.may_use(&map.object)) {
            entry.maps = Seldom::default();
        }
        entry
    }

    /// The block hashes of a file, if they are kept.
    pub(in crate::ops::backup) fn table(&self, pieces: &[ObjectId]) -> Option<Arc<OldTable>> {
        self.reuse.table(pieces)
    }

    /// Keeps a range of block hashes for later snapshots, and gives its name.
    pub(in crate::ops::backup) fn keep_piece(&self, piece: Vec<u8>) -> ObjectId {
        self.reuse.keep_piece(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RelPath;
    use crate::ops::backup::reuse::stretch_of;

    const CONTENT: &[u8] = b"the same";

    fn id(n: u64) -> ObjectId {
        ObjectId::of(&n.to_le_bytes())
    }

    /// Files with the same content, each with the archives that parts of it lie in.
    fn stretch(files: &[(&str, &[u64])]) -> KnownStretch {
        let row = |(name, archives): &(&str, &[u64])| {
            let mut entry = Entry::new(RelPath::new(name.as_bytes()).unwrap(), Kind::File);
            (entry.size, entry.hash) = (archives.len() as u64, Some(ContentHash::of(CONTENT)));
            for (offset, archive) in (0..).zip(*archives) {
                let extent = Extent { offset, archive: id(*archive), tar_offset: 1536, length: 1 };
                entry.extents.push(extent);
            }
            Row::new(entry, None, false)
        };
        let rows: Vec<Row> = files.iter().map(row).collect();
        stretch_of(&rows)
    }

    /// Which file is found when what lies in these archives may stay there.
    fn found(stretches: &[KnownStretch], stay: &[u64]) -> String {
        let index = Index::of(stretches, |archive| stay.iter().any(|n| id(*n) == *archive));
        let (number, at) = index.by_hash[&key(&ContentHash::of(CONTENT))];
        let stretch = stretches[number as usize].open().unwrap();
        let row = stretch.row(at as usize).unwrap().0;
        String::from_utf8(row.path.to_vec()).unwrap()
    }

    #[test]
    fn of_rows_with_the_same_content_the_first_that_may_be_used_is_found() {
        let stretches = [
            stretch(&[("a", &[1]), ("b", &[2, 3])]),
            stretch(&[("c", &[1, 4]), ("d", &[4])]),
            stretch(&[("e", &[2])]),
        ];
        assert_eq!(found(&stretches, &[1, 2, 3, 4]), "a", "the first where all may be");
        assert_eq!(found(&stretches, &[2, 3, 4]), "b", "in the same stretch");
        assert_eq!(found(&stretches, &[3, 4]), "d", "all of it must lie well");
        assert_eq!(found(&stretches, &[2]), "e");
        assert_eq!(found(&stretches, &[3]), "a", "there is none");
    }
}
