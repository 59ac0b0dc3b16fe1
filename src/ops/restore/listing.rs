//! What was asked for of a component, and where its bytes lie.

mod salvage;

use crate::model::index::{Index, IndexComponent, SegmentRef};
use crate::model::{Entry, Extent, ObjectId};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::many::try_each;
use crate::ops::objects::SnapshotReader;
use crate::ops::restore::read::Archives;
use crate::ops::select::{self, Selection};
use crate::ops::shape;
use std::collections::{BTreeSet, HashMap, HashSet};

/// So many segments are read at once: one takes up to 8 MiB and some times that while it is decoded.
pub(crate) const SEGMENTS_AT_ONCE: usize = 4;

/// The segments that may hold what is asked for.
pub(crate) fn touched<'c>(
    component: &'c IndexComponent,
    selection: &'c Selection,
) -> impl Iterator<Item = &'c SegmentRef> {
    component.segments.iter().filter(|s| selection.touches(&s.first, &s.last))
}

/// A component's entries that were asked for, and where their bytes lie.
pub(crate) struct Listing {
    pub(crate) component: IndexComponent,
    pub(crate) entries: Vec<Entry>,
    pub(crate) archives: Archives,
    /// By place, the extents of files with maps: those of all others stand in their entries, and a million need not be held twice.
    mapped: HashMap<usize, Vec<Extent>>,
}

impl Listing {
    /// Reads what `selection` asks for. `with_content` also reads maps.
    pub(crate) fn read(reader: &SnapshotReader<'_>, index: &Index, selection: &Selection) -> Result<Self> {
        let component = select::component(index, &selection.component)?.clone();
        let mut listing =
            Self { component, entries: Vec::new(), archives: Archives::default(), mapped: HashMap::new() };
        let touched: Vec<SegmentRef> = touched(&listing.component, selection).cloned().collect();
        if selection.paths.is_empty() {
            // As many as there are: doubling would take twice the room.
            let count: u64 = touched.iter().map(|segment| segment.entries).sum();
            listing.entries.try_reserve_exact(usize::try_from(count).unwrap_or(0)).unwrap_or_default();
        }
        for some in touched.chunks(SEGMENTS_AT_ONCE) {
            for segment in try_each(some, |reference| selection.read(reader, &listing.component, reference))?
            {
                listing.archives.add(segment.archives);
                listing.entries.extend(segment.entries);
            }
        }
        shape::check(&listing.component, &listing.entries)?;
        for (place, entry) in listing.entries.iter().enumerate().filter(|(_, e)| !e.maps.is_empty()) {
            let (extents, archives) = reader.extents(&listing.component, entry)?;
            listing.mapped.insert(place, extents);
            listing.archives.add(archives);
        }
        listing.settle()?;
        selection.check_found(&listing.entries)?;
        Ok(listing)
    }

    fn settle(&mut self) -> Result<()> {
        self.archives.settle().map_err(|why| {
            let what = format!("the listing of component {} is damaged", self.component.name);
            OpError::new(Class::Damage, what).because(why).of_a_listing()
        })
    }

    /// True when these are all entries of the component.
    pub(super) fn is_whole(&self) -> bool {
        self.entries.len() as u64 == self.component.entries
    }

    /// Where the bytes of the entry at `place` lie, by offset; none of what is no file.
    pub(crate) fn extents(&self, place: usize) -> &[Extent] {
        match (self.mapped.get(&place), self.entries.get(place)) {
            (Some(extents), _) => extents,
            (None, Some(entry)) => &entry.extents,
            (None, None) => &[],
        }
    }

    fn all_extents(&self) -> impl Iterator<Item = &Extent> {
        (0..self.entries.len()).flat_map(|place| self.extents(place))
    }

    /// The archives that must be there whole: of a whole component all, else those that content lies in.
    pub(super) fn archives_needed(&self) -> BTreeSet<ObjectId> {
        let all = self.component.archives.iter().filter(|_| self.is_whole()).copied();
        all.chain(self.all_extents().map(|e| e.archive)).collect()
    }

    /// Bytes of content.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_of(|_| true)
    }

    /// Bytes of content of the entries that are `wanted`. A file with several names is written, and takes room, once.
    pub(crate) fn bytes_of(&self, wanted: impl Fn(&Entry) -> bool) -> u64 {
        let mut counted = HashSet::new();
        let entries = self.entries.iter().enumerate().filter(|(_, entry)| wanted(entry));
        let files = entries.filter(|(_, entry)| entry.link.is_none_or(|link| counted.insert(link)));
        files.flat_map(|(place, _)| self.extents(place)).map(|extent| extent.length).sum()
    }
}
