//! A component of a snapshot, segment by segment.

use crate::model::index::{IndexComponent, SegmentRef};
use crate::model::{Entry, ObjectId, RelPath};
use crate::ops::diff::walk::{Listed, Thing};
use crate::ops::error::Result;
use crate::ops::interrupt::Interrupt;
use crate::ops::restore::Opened;
use crate::ops::select::Selection;
use std::collections::HashSet;

/// Entries at or below a path, of the segments that are not passed over.
pub(super) struct Stored<'a> {
    opened: &'a Opened,
    interrupt: Interrupt,
    component: &'a IndexComponent,
    selection: Selection,
    segments: std::vec::IntoIter<&'a SegmentRef>,
    entries: std::vec::IntoIter<Entry>,
    top: RelPath,
}

impl<'a> Stored<'a> {
    /// All of a component at or below `top`.
    pub(super) fn all(
        opened: &'a Opened,
        component: &'a IndexComponent,
        top: &RelPath,
        interrupt: &Interrupt,
    ) -> Self {
        Self::without(opened, component, top, &HashSet::new(), interrupt)
    }

    /// The same component of two snapshots, without the segments that both have: an object's name is the hash of its bytes, so these say the same.
    pub(super) fn pair(
        (old, a): (&'a Opened, &'a IndexComponent),
        (new, b): (&'a Opened, &'a IndexComponent),
        top: &RelPath,
        interrupt: &Interrupt,
    ) -> (Self, Self) {
        let in_a: HashSet<ObjectId> = a.segments.iter().map(|s| s.object).collect();
        let both = b.segments.iter().map(|s| s.object).filter(|id| in_a.contains(id)).collect();
        (Self::without(old, a, top, &both, interrupt), Self::without(new, b, top, &both, interrupt))
    }

    fn without(
        opened: &'a Opened,
        component: &'a IndexComponent,
        top: &RelPath,
        passed_over: &HashSet<ObjectId>,
        interrupt: &Interrupt,
    ) -> Self {
        let paths = if top.is_root() { Vec::new() } else { vec![top.clone()] };
        let selection = Selection { component: component.name.to_string(), paths };
        let wanted =
            |s: &&SegmentRef| !passed_over.contains(&s.object) && selection.touches(&s.first, &s.last);
        let segments: Vec<&SegmentRef> = component.segments.iter().filter(wanted).collect();
        let entries = Vec::new().into_iter();
        let interrupt = interrupt.clone();
        let (segments, top) = (segments.into_iter(), top.clone());
        Self { opened, interrupt, component, selection, segments, entries, top }
    }
}

impl<'s> Listed<'s> for Stored<'_> {
    fn next(&mut self) -> Result<Option<Thing<'s>>> {
        loop {
            let top = &self.top;
            if let Some(entry) = self.entries.find(|e| e.path.is_within(top)) {
                return Ok(Some(Thing::Stored(Box::new(entry))));
            }
            let Some(reference) = self.segments.next() else { return Ok(None) };
            self.interrupt.check()?;
            let segment = self.selection.read(&self.opened.reader(), self.component, reference)?;
            self.entries = segment.entries.into_iter();
        }
    }
}
