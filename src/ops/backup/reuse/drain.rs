//! What is packed again: what the chosen archives hold that is still in use goes from the live files into a new archive, and the reference is dropped.
//!
//! So the space of half-empty archives comes free, and a component never hangs on very many little ones. It is only a wish: what does not fit into a run's share goes
//! on being referred to, and the next run continues.

use crate::catalog::known::{KnownArchive, KnownStretch, Usage};
use crate::model::ObjectId;
use crate::ops::backup::reuse::choose::{Share, choose, small_max};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

/// At most this part of a component is packed again in a run.
const PART: u64 = 4;

/// So many bytes may be packed again in any case: a part of very little is nothing.
const BYTES_MIN: u64 = 1 << 20;

/// Archives of one component that are packed again in this run.
#[derive(Debug, Default)]
pub(in crate::ops::backup) struct Drain {
    archives: HashSet<ObjectId>,
    /// Bytes that may still be packed again.
    left: AtomicU64,
}

/// How many bytes a run may pack again of a component of which archives hold `used` bytes. Sizes of files are no measure: a thin image of a terabyte may have ten
/// gigabytes, and ten names of a file have its bytes once.
pub(super) fn share_of(used: u64) -> u64 {
    (used / PART).max(BYTES_MIN)
}

impl Drain {
    /// What of the component with these stretches is to be packed again, where archives are sealed at `full` bytes. Archives that may not be referred to any more are not
    /// counted: they are packed anew in any case.
    pub(super) fn plan(
        stretches: &[KnownStretch],
        known: &BTreeMap<ObjectId, KnownArchive>,
        full: u64,
        usable: impl Fn(&ObjectId) -> bool,
    ) -> Self {
        let share = |(archive, used): (ObjectId, u64)| {
            let known = known.get(&archive).filter(|_| usable(&archive))?;
            let KnownArchive { info, age, delta, content, .. } = known;
            Some(Share { archive, used, of: *content, size: info.size, age: *age, delta: *delta })
        };
        let shares: Vec<Share> = used(stretches).into_iter().filter_map(share).collect();
        let left = share_of(shares.iter().map(|s| s.used).fold(0, u64::saturating_add));
        Self { archives: choose(&shares, full, left, small_max()), left: AtomicU64::new(left) }
    }

    /// True when what lies in this archive is packed again, as long as there is a share left.
    pub(super) fn has(&self, archive: &ObjectId) -> bool {
        self.archives.contains(archive) && self.left() > 0
    }

    /// How many bytes may still be packed again.
    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes `bytes` off, as far as there are any left, and gives how many.
    pub(super) fn spend(&self, bytes: u64) -> u64 {
        let take = |left: u64| Some(left.saturating_sub(bytes));
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        left.unwrap_or_default().min(bytes)
    }
}

/// The bytes of each archive that are in use; what several files refer to counts once.
pub(super) fn used(stretches: &[KnownStretch]) -> BTreeMap<ObjectId, u64> {
    if !stretches.iter().any(|s| s.shared) {
        let mut sums = BTreeMap::new();
        for (archive, used) in stretches.iter().flat_map(|s| &s.archives) {
            *sums.entry(*archive).or_insert(0) += used;
        }
        return sums;
    }
    let mut usage = Usage::default();
    for stretch in stretches.iter().filter_map(KnownStretch::open) {
        for row in stretch.rows().filter_map(|row| row.decode()) {
            usage.add(&row.entry.extents);
        }
    }
    usage.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::known::{Row, Stretch};
    use crate::model::manifest::ArchiveInfo;
    use crate::model::{Entry, Extent, Kind, RelPath};
    use crate::ops::backup::reuse::stretch_of;

    const FULL: u64 = 32 << 20;

    fn id(n: u64) -> ObjectId {
        ObjectId::of(&n.to_le_bytes())
    }

    fn archive(n: u64, content: u64, delta: bool) -> (ObjectId, KnownArchive) {
        let info =
            ArchiveInfo { sha256: id(n), size: content, payload: 200, tar: content, frames: Vec::new() };
        (id(n), KnownArchive { info, age: n, delta, content, recipients: Vec::new() })
    }

    /// One file for each pair: of an archive so many bytes, at `at`.
    fn stretch(name: &str, files: &[(u64, u64, u64)], copied: bool) -> KnownStretch {
        let row = |(place, (archive, at, length)): (usize, &(u64, u64, u64))| {
            let path = RelPath::new(format!("{name}{place:04}").as_bytes()).unwrap();
            let mut entry = Entry::new(path, Kind::File);
            entry.size = *length;
            let extent = Extent { offset: 0, archive: id(*archive), tar_offset: at + 1536, length: *length };
            entry.extents.push(extent);
            let mut row = Row::new(entry, None, false);
            row.copied = copied;
            row
        };
        let rows: Vec<Row> = files.iter().enumerate().map(row).collect();
        stretch_of(&rows)
    }

    fn draining(stretches: &[KnownStretch], archives: Vec<(ObjectId, KnownArchive)>, full: u64) -> Vec<u64> {
        let known: BTreeMap<_, _> = archives.into_iter().collect();
        let drain = Drain::plan(stretches, &known, full, |_| true);
        (0..100).filter(|n| drain.has(&id(*n))).collect()
    }

    #[test]
    fn archives_of_which_less_than_half_is_in_use_drain() {
        let stretches = [stretch("a", &[(1, 0, 6000), (2, 0, 2000), (3, 0, 500)], false)];
        let archives = vec![archive(1, 10_000, false), archive(2, 10_000, true), archive(3, 2036, true)];
        assert_eq!(draining(&stretches, archives, FULL), [2], "of the third all is in use, little as it is");
    }

    #[test]
    fn what_several_files_use_does_not_make_an_archive_fuller() {
        let same = [(1, 0, 2000)];
        let stretches = ["a", "b", "c"].map(|name| stretch(name, &same, true));
        assert_eq!(draining(&stretches, vec![archive(1, 10_000, false)], FULL), [1]);
        let other = [stretch("a", &same, false), stretch("b", &[(1, 4000, 2000)], false)];
        assert_eq!(draining(&other, vec![archive(1, 10_000, false)], FULL), [0_u64; 0]);
    }

    #[test]
    fn the_smallest_are_folded_when_there_are_too_many_and_full_ones_never() {
        let deltas = |count: u64, full: u64| -> Vec<u64> {
            let files: Vec<_> = (1..=count).map(|n| (n, 0, 10_000 - n * 10 - 1536)).collect();
            let archives = (1..=count).map(|n| archive(n, 10_000, true)).collect();
            draining(&[stretch("a", &files, false)], archives, full)
        };
        assert_eq!(deltas(32, FULL), [0_u64; 0]);
        assert_eq!(deltas(33, FULL).len(), 33, "they all fit into one");
        assert_eq!(deltas(33, 21_000), [31, 32, 33], "these fill one");
        assert_eq!(deltas(40, 21_000), (32..=40).collect::<Vec<u64>>(), "and so many are too many");
        assert_eq!(deltas(90, 18_000), [0_u64; 0], "each is half as large as one may be");
    }

    #[test]
    fn archives_that_may_not_be_used_are_not_counted() {
        let files: Vec<_> = (1..=34).map(|n| (n, 0, 8464)).collect();
        let known: BTreeMap<_, _> = (1..=34).map(|n| archive(n, 10_000, true)).collect();
        let gone = [id(1), id(2)];
        let drain = Drain::plan(&[stretch("a", &files, false)], &known, FULL, |id| !gone.contains(id));
        assert!(known.keys().all(|id| !drain.has(id)));
    }

    #[test]
    fn a_run_packs_a_quarter_again_and_no_more() {
        // With its headers it uses just 40 MiB.
        let stretches = [stretch("a", &[(1, 0, (40 << 20) - 1536)], false)];
        let known: BTreeMap<_, _> = [archive(1, 1 << 30, false)].into_iter().collect();
        let drain = Drain::plan(&stretches, &known, FULL, |_| true);
        assert_eq!(drain.left(), 10 << 20);
        assert_eq!((drain.spend(6 << 20), drain.spend(6 << 20)), (6 << 20, 4 << 20));
        assert!(!drain.has(&id(1)), "nothing is left of the share");
    }

    #[test]
    fn a_quarter_is_one_of_what_archives_hold_and_not_of_the_sizes_of_files() {
        let known: BTreeMap<_, _> = [archive(1, 1 << 30, false)].into_iter().collect();
        let left = |stretches: &[KnownStretch]| Drain::plan(stretches, &known, FULL, |_| true).left();
        let once = [stretch("a", &[(1, 0, (40 << 20) - 1536)], true)];
        // Ten names, and an image that is mostly holes.
        let names: Vec<_> = (0..10).map(|_| (1, 0, (40 << 20) - 1536)).collect();
        assert_eq!(left(&[stretch("a", &names, true)]), left(&once));
        let mut rows: Vec<Row> = once[0].open().unwrap().rows().filter_map(|row| row.decode()).collect();
        rows[0].entry.size = 1 << 40;
        let packed = Stretch::encode(&rows).unwrap();
        let content = Stretch::open(&packed).unwrap().sums.size;
        let thin = KnownStretch { content, packed, ..once[0].clone() };
        assert_eq!((thin.content, left(&[thin])), (1 << 40, 10 << 20));
    }
}
