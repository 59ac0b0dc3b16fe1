//! How much of a database changed, in pages.

use crate::archive::Pool;
use crate::model::{Entry, Extent, Problem, ProblemKind, RelPath};
use crate::ops::diff::content::{Ranges, add};
use crate::ops::diff::live::scratch;
use crate::ops::error::{Class, Doing, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::restore::read::{Piece, Reading, Sink};
use crate::ops::restore::{Listing, Opened};
use crate::ops::select::Selection;
use serde::Serialize;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Pages of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pages {
    /// Length of a page in bytes.
    pub size: u32,
    /// How many the newer state has.
    pub total: u64,
    /// How many differ, or are on one side only.
    pub changed: u64,
    /// They were compared byte by byte. Else this is how many were stored anew, of which some may be the same as before.
    pub exact: bool,
}

/// A database in a snapshot, and where its bytes lie.
pub(super) struct StoredDatabase<'a> {
    opened: &'a Opened,
    listing: Listing,
    entry: Entry,
    extents: Vec<Extent>,
}

impl<'a> StoredDatabase<'a> {
    pub(super) fn find(opened: &'a Opened, component: &str, path: &RelPath) -> Result<Option<Self>> {
        let selection = Selection { component: component.to_owned(), paths: vec![path.clone()] };
        let listing = Listing::read(&opened.reader(), &opened.index, &selection)?;
        let Some(place) = listing.entries.iter().position(|e| e.path == *path) else { return Ok(None) };
        let extents = listing.extents(place).to_vec();
        let entry = listing.entries[place].clone();
        Ok(Some(Self { opened, listing, entry, extents }))
    }

    /// Brings the bytes of `ranges` to their places in a scratch file. `None`: some of them cannot be had.
    fn bytes(&self, ranges: &[(u64, u64)], interrupt: &Interrupt) -> Result<Option<File>> {
        let stretches: Vec<Extent> = self.extents.iter().flat_map(|e| within(e, ranges)).collect();
        let pieces = stretches.iter().map(|extent| Piece { extent, file: 0 }).collect();
        let mut sink = ToFile { file: scratch()?, lost: false };
        sink.file.set_len(self.entry.size).doing(Class::Failed, || "cannot write a scratch file".into())?;
        let reading = Reading {
            sources: &self.opened.sources,
            record: &self.opened.record,
            identities: &self.opened.identities,
            pool: &Pool::for_machine(),
            interrupt,
        };
        reading.deliver(pieces, &self.listing.archives, &mut sink)?;
        Ok((!sink.lost).then_some(sink.file))
    }
}

struct ToFile {
    file: File,
    lost: bool,
}

impl Sink for ToFile {
    fn bytes(&mut self, _: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).doing(Class::Failed, || "cannot write a scratch file".into())
    }

    fn lost(&mut self, _: usize, _: &str) -> Result<()> {
        self.lost = true;
        Ok(())
    }
}

/// The parts of `extent` that lie in `ranges`.
fn within<'r>(extent: &Extent, ranges: &'r [(u64, u64)]) -> impl Iterator<Item = Extent> + use<'r> {
    let extent = *extent;
    let end = extent.offset + extent.length;
    let first = ranges.partition_point(|range| range.0 + range.1 <= extent.offset);
    let near = ranges.get(first..).unwrap_or(&[]).iter().take_while(move |range| range.0 < end);
    near.map(move |range| {
        let (from, to) = (range.0.max(extent.offset), (range.0 + range.1).min(end));
        let tar_offset = extent.tar_offset + (from - extent.offset);
        Extent { offset: from, tar_offset, length: to - from, ..extent }
    })
}

/// The stretches of `0..end` in which two layouts do not refer to the same bytes of the same archive.
fn apart(a: &[Extent], b: &[Extent], end: u64) -> Ranges {
    let (mut ranges, mut at, mut from) = (Ranges::new(), 0, 0);
    for extent in a {
        let stop = extent.offset + extent.length;
        while b.get(from).is_some_and(|other| other.offset + other.length <= extent.offset) {
            from += 1;
        }
        for other in b.get(from..).unwrap_or(&[]).iter().take_while(|other| other.offset < stop) {
            let (begin, stop) = (extent.offset.max(other.offset), stop.min(other.offset + other.length));
            let place = |e: &Extent| (e.archive, e.tar_offset + (begin - e.offset));
            if place(extent) == place(other) {
                add(&mut ranges, at, begin - at);
                at = stop;
            }
        }
    }
    add(&mut ranges, at, end.saturating_sub(at));
    ranges
}

/// Compares two stored states. More than `read_up_to` bytes are not read, and then the pages that were stored anew are counted.
pub(super) fn stored(
    old: &StoredDatabase<'_>,
    new: &StoredDatabase<'_>,
    read_up_to: u64,
    interrupt: &Interrupt,
) -> Result<Option<Pages>> {
    let (before, after) = (old.entry.size, new.entry.size);
    let ranges = apart(&old.extents, &new.extents, before.max(after));
    let Some(size) = page_size(new, interrupt)? else { return Ok(None) };
    let bytes: u64 = ranges.iter().map(|range| range.1).sum();
    let total = after.div_ceil(u64::from(size));
    if bytes > read_up_to {
        let changed = touched(&ranges, size).map(|(from, to)| to - from).sum();
        return Ok(Some(Pages { size, total, changed, exact: false }));
    }
    let (Some(a), Some(b)) = (old.bytes(&ranges, interrupt)?, new.bytes(&ranges, interrupt)?) else {
        return Ok(None);
    };
    let changed = differing(&ranges, (&a, before), (&b, after), size)
        .doing(Class::Failed, || "cannot read a scratch file".into())?;
    Ok(Some(Pages { size, total, changed, exact: true }))
}

/// Compares a stored state with a live one, whose bytes are in `copy`.
pub(super) fn live(
    old: &StoredDatabase<'_>,
    copy: &File,
    size_after: u64,
    interrupt: &Interrupt,
) -> Result<Option<Pages>> {
    let ranges = vec![(0, old.entry.size.max(size_after))];
    let mut head = [0; 100];
    let read = copy.read_exact_at(&mut head, 0);
    let Some(size) = read.ok().and_then(|()| crate::ops::backup::database_page(&head)) else {
        return Ok(None);
    };
    let Some(a) = old.bytes(&ranges, interrupt)? else { return Ok(None) };
    let changed = differing(&ranges, (&a, old.entry.size), (copy, size_after), size)
        .doing(Class::Failed, || "cannot read a scratch file".into())?;
    Ok(Some(Pages { size, total: size_after.div_ceil(u64::from(size)), changed, exact: true }))
}

fn page_size(database: &StoredDatabase<'_>, interrupt: &Interrupt) -> Result<Option<u32>> {
    let Some(file) = database.bytes(&[(0, 100)], interrupt)? else { return Ok(None) };
    let mut head = [0; 100];
    Ok(file.read_exact_at(&mut head, 0).ok().and_then(|()| crate::ops::backup::database_page(&head)))
}

/// The numbers of the pages that ranges touch, as half-open stretches that do not overlap.
fn touched(ranges: &[(u64, u64)], size: u32) -> impl Iterator<Item = (u64, u64)> {
    let size = u64::from(size);
    let mut done = 0;
    ranges.iter().map(move |&(offset, length)| {
        let (from, to) = ((offset / size).max(done), (offset + length).div_ceil(size));
        done = done.max(to);
        (from, to.max(from))
    })
}

fn differing(ranges: &[(u64, u64)], a: (&File, u64), b: (&File, u64), size: u32) -> io::Result<u64> {
    let length = size as usize;
    let (mut one, mut two) = (vec![0; length], vec![0; length]);
    let mut changed = 0;
    for page in touched(ranges, size).flat_map(|(from, to)| from..to) {
        let offset = page * u64::from(size);
        let there = |end: u64| offset + u64::from(size) <= end;
        if !there(a.1) || !there(b.1) {
            changed += 1;
            continue;
        }
        a.0.read_exact_at(&mut one, offset)?;
        b.0.read_exact_at(&mut two, offset)?;
        changed += u64::from(one != two);
    }
    Ok(changed)
}

/// That pages could not be counted, because bytes of them are damaged.
pub(super) fn damaged(component: &str, path: &RelPath) -> Problem {
    let what = "its pages cannot be compared, because some of them are damaged";
    Problem::at_path(ProblemKind::Damaged, component, path.as_bytes(), what)
        .hint("`backstay sync --read-data` finds what is damaged, and mends it from another store")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectId;

    fn extent(offset: u64, archive: u8, tar_offset: u64, length: u64) -> Extent {
        Extent { offset, archive: ObjectId([archive; 32]), tar_offset, length }
    }

    #[test]
    fn what_lies_in_the_same_bytes_of_the_same_archive_is_not_compared() {
        let a = [extent(0, 1, 100, 1000)];
        let b = [extent(0, 1, 100, 300), extent(300, 2, 0, 100), extent(400, 1, 500, 600)];
        assert_eq!(apart(&a, &b, 1000), [(300, 100)]);
        assert_eq!(apart(&b, &a, 1000), [(300, 100)]);
        assert_eq!(apart(&a, &a, 1000), []);
        assert_eq!(apart(&a, &[], 1000), [(0, 1000)]);
        assert_eq!(apart(&a, &[extent(0, 1, 101, 1000)], 1000), [(0, 1000)]);
        assert_eq!(apart(&a, &b, 1200), [(300, 100), (1000, 200)]);
    }

    #[test]
    fn pages_that_two_ranges_touch_are_counted_once() {
        let count = |ranges: &[(u64, u64)]| touched(ranges, 100).map(|(from, to)| to - from).sum::<u64>();
        assert_eq!(count(&[(0, 100)]), 1);
        assert_eq!(count(&[(10, 5), (50, 5)]), 1);
        assert_eq!(count(&[(10, 100), (150, 100)]), 3);
        assert_eq!(count(&[]), 0);
    }

    #[test]
    fn parts_of_extents_keep_their_places() {
        let parts: Vec<Extent> =
            within(&extent(100, 1, 7, 100), &[(0, 120), (150, 10), (190, 500)]).collect();
        assert_eq!(parts, [extent(100, 1, 7, 20), extent(150, 1, 57, 10), extent(190, 1, 97, 10)]);
    }
}
