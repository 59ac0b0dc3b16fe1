//! What is gone under one name and there under another, with the same hash.

use crate::model::{ContentHash, Entry};
use crate::ops::diff::content::{Ranges, cover};
use crate::ops::diff::live::Live;
use crate::ops::diff::report::{Aspects, Change, Status};
use crate::ops::error::Result;
use std::collections::{HashMap, HashSet};

/// Bytes and where they lie; where they lie is not known of a file that is laid over maps.
#[derive(Debug)]
struct Bytes {
    hash: ContentHash,
    cover: Option<Ranges>,
}

/// A file that is on one side only, and the place of its change in the report.
#[derive(Debug)]
struct Lone<T> {
    change: usize,
    size: u64,
    bytes: T,
}

#[derive(Debug)]
enum New {
    Stored(Bytes),
    /// A live file: which component's, and its place in the scan. It is read only when something of its size is gone.
    Live(usize, usize),
}

/// Files that may have been renamed.
#[derive(Debug, Default)]
pub(super) struct Renames {
    gone: Vec<Lone<Bytes>>,
    new: Vec<Lone<New>>,
}

fn bytes_of(entry: &Entry) -> Option<Bytes> {
    let cover = entry.maps.is_empty().then(|| cover(&entry.extents));
    Some(Bytes { hash: entry.hash?, cover })
}

impl Renames {
    /// A file of the older side that is gone. Empty files are all the same, and never renamed.
    pub(super) fn gone(&mut self, change: usize, entry: &Entry) {
        if let Some(bytes) = bytes_of(entry).filter(|_| entry.size > 0) {
            self.gone.push(Lone { change, size: entry.size, bytes });
        }
    }

    /// A file of the newer snapshot that is new.
    pub(super) fn new_stored(&mut self, change: usize, entry: &Entry) {
        if let Some(bytes) = bytes_of(entry).filter(|_| entry.size > 0) {
            self.new.push(Lone { change, size: entry.size, bytes: New::Stored(bytes) });
        }
    }

    /// A live file that is new.
    pub(super) fn new_live(&mut self, change: usize, size: u64, component: usize, place: usize) {
        if size > 0 {
            self.new.push(Lone { change, size, bytes: New::Live(component, place) });
        }
    }

    /// How many files are new.
    pub(super) fn new_count(&self) -> usize {
        self.new.len()
    }

    /// Turns pairs in `changes` into renames; the other half of each goes.
    pub(super) fn pair(self, changes: &mut Vec<Change>, lives: &mut [Live]) -> Result<()> {
        let mut gone: HashMap<(u64, ContentHash), Vec<Lone<Bytes>>> = HashMap::new();
        let sizes: HashSet<u64> = self.gone.iter().map(|lone| lone.size).collect();
        for lone in self.gone {
            gone.entry((lone.size, lone.bytes.hash)).or_default().push(lone);
        }
        lives.iter_mut().for_each(|live| live.reader.rewind());
        let mut drop_these = HashSet::new();
        for lone in self.new.into_iter().filter(|lone| sizes.contains(&lone.size)) {
            let bytes = match lone.bytes {
                New::Stored(bytes) => Some(bytes),
                New::Live(component, place) => hash_live(lives, component, place)?,
            };
            let Some(bytes) = bytes else { continue };
            let Some(others) = gone.get_mut(&(lone.size, bytes.hash)) else { continue };
            let Some(old) = take_match(others, &bytes, changes, lone.change) else { continue };
            drop_these.insert(old);
            let (from, size_before) = (changes[old].path.clone(), changes[old].size_before);
            let change = &mut changes[lone.change];
            change.status = Status::Renamed;
            (change.from, change.size_before, change.what) = (Some(from), size_before, Aspects::default());
        }
        let mut place = 0;
        changes.retain(|_| {
            place += 1;
            !drop_these.contains(&(place - 1))
        });
        Ok(())
    }
}

fn hash_live(lives: &mut [Live], component: usize, place: usize) -> Result<Option<Bytes>> {
    let Some(Live { scan, reader }) = lives.get_mut(component) else { return Ok(None) };
    let Some(found) = scan.entries.get(place) else { return Ok(None) };
    let hashed = reader.hash(scan, found)?;
    Ok(hashed.map(|(hash, cover)| Bytes { hash, cover: Some(cover) }))
}

/// Takes one that holds the same bytes in the same places: one of the same file name if there is one, else the first.
fn take_match(
    others: &mut Vec<Lone<Bytes>>,
    bytes: &Bytes,
    changes: &[Change],
    change: usize,
) -> Option<usize> {
    let alike = |lone: &Lone<Bytes>| match (&lone.bytes.cover, &bytes.cover) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    let name = |change: usize| changes[change].path.rsplit('/').next();
    let by_name = others.iter().position(|lone| alike(lone) && name(lone.change) == name(change));
    let place = by_name.or_else(|| others.iter().position(alike))?;
    Some(others.remove(place).change)
}
