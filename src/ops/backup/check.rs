//! What a merged listing must be, looked at before it is put: a mistake here would make a snapshot that no reader takes.

use crate::model::entry::{MAP_RANGE, check_extents};
use crate::model::{Entry, ObjectId, RelPath};
use std::collections::HashMap;

/// Looks at entries in order.
#[derive(Debug, Default)]
pub(super) struct Checker {
    last: Option<RelPath>,
    /// The first entry of each file with several names.
    links: HashMap<u64, Entry>,
}

impl Checker {
    /// A stretch of an earlier listing, from one path to another.
    pub(super) fn stretch(&mut self, first: &RelPath, last: &RelPath) -> Result<(), String> {
        if self.last.as_ref().is_some_and(|before| before >= first) || first > last {
            return Err(format!("{first} is out of order or listed twice"));
        }
        self.last = Some(last.clone());
        Ok(())
    }

    /// An entry with all its extents.
    pub(super) fn entry(&mut self, entry: &Entry) -> Result<(), String> {
        self.stretch(&entry.path, &entry.path)?;
        let mut archives: Vec<ObjectId> = entry.extents.iter().map(|e| e.archive).collect();
        archives.sort_unstable();
        archives.dedup();
        let place = |id| archives.binary_search(id).map_or(u32::MAX, |place| place as u32);
        let rows: Vec<_> =
            entry.extents.iter().map(|e| (e.offset, place(&e.archive), e.tar_offset, e.length)).collect();
        check_extents(&rows, &archives, entry.size).map_err(|why| format!("{}: {why}", entry.path))?;
        let mapped: Vec<u64> = entry.maps.iter().map(|m| m.offset / MAP_RANGE).collect();
        if !mapped.is_empty() && entry.extents.iter().any(|e| !mapped.contains(&(e.offset / MAP_RANGE))) {
            return Err(format!("{}: no map covers one of its extents", entry.path));
        }
        self.link(entry)
    }

    /// An entry that may be one of several names of a file.
    pub(super) fn link(&mut self, entry: &Entry) -> Result<(), String> {
        let Some(link) = entry.link else {
            return Ok(());
        };
        let first = self.links.entry(link).or_insert_with(|| entry.clone());
        let same = *first == Entry { path: first.path.clone(), ..entry.clone() };
        same.then_some(())
            .ok_or_else(|| format!("{}: another name of the same file says otherwise", entry.path))
    }
}
