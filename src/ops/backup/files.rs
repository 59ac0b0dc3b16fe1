//! Packing what a walk found: files with retries while they change, other things as they are, databases through SQLite.

use crate::model::entry::{FLAG_DATABASE, FLAG_UNSTEADY, Why};
use crate::model::record::CheckResult;
use crate::model::{Entry, Kind, Problem, ProblemKind, RelPath};
use crate::ops::backup::build::{Build, Item};
use crate::ops::backup::content::{
    Content, ContentError, PackedContent, pack, pack_bare, pack_hard_link, void_parts,
};
use crate::ops::error::Result;
use crate::source::folder::{Found, OpenError, OpenFile, Scan, Steadiness};
use crate::source::sqlite::SqliteCapture;
use rustix::io::pread;
use std::collections::HashMap;
use std::io::{self, Read};

/// How often a file that changes while it is read is packed again.
const TRIES: usize = 3;

/// Packs every entry of `scan` that is not packed yet. `done` has the databases, by their place in the scan.
pub(super) fn pack_found(build: &mut Build<'_>, scan: &Scan, mut done: HashMap<usize, Item>) -> Result<()> {
    let mut links: HashMap<u64, usize> = HashMap::new();
    for (place, found) in scan.entries.iter().enumerate() {
        let item = match done.remove(&place) {
            Some(item) => Some(item),
            None => pack_entry(build, scan, found, &links)?,
        };
        let Some(item) = item else { continue };
        let stored = !matches!(item.entry.kind, Kind::Socket | Kind::Left);
        if let Some(link) = item.entry.link.filter(|_| stored) {
            links.entry(link).or_insert(build.items.len());
        }
        build.items.push(item);
    }
    Ok(())
}

fn pack_entry(
    build: &mut Build<'_>,
    scan: &Scan,
    found: &Found,
    links: &HashMap<u64, usize>,
) -> Result<Option<Item>> {
    let first = found.entry.link.and_then(|link| links.get(&link)).and_then(|&place| build.items.get(place));
    if let Some(first) = first.cloned() {
        let entry = Entry { path: found.entry.path.clone(), ..first.entry.clone() };
        pack_hard_link(&mut build.packer, &entry, &first.entry.path)?;
        return Ok(Some(Item { entry, ..first }));
    }
    if found.entry.kind != Kind::File {
        pack_bare(&mut build.packer, &found.entry)?;
        return Ok(Some(Item::bare(found.entry.clone())));
    }
    pack_file(build, scan, found)
}

/// Packs one file. Gives an entry `left` when it could not be read, nothing when it is gone and need not be told.
pub(super) fn pack_file(build: &mut Build<'_>, scan: &Scan, found: &Found) -> Result<Option<Item>> {
    let mut last: Option<Item> = None;
    let mut parts: Vec<u64> = Vec::new();
    for _ in 0..TRIES {
        let open = match scan.tree.open(found, build.names) {
            Ok(open) => open,
            // What was packed of it stays, and is said to be unsteady.
            Err(_) if last.is_some() => break,
            Err(error) => return Ok(Some(left_behind(build, found, &error))),
        };
        for warning in &open.warnings {
            build.problem(warning.clone());
        }
        let mut item = match pack_open(build, &open) {
            Ok(packed) => finished(&open.entry, packed, &mut parts),
            Err(ContentError::Run(e)) => return Err(e),
            Err(ContentError::Read(source)) => {
                build.alone = false; // its archive holds a torso that the listing does not know
                let path = found.entry.path.clone();
                return Ok(Some(left_behind(build, found, &OpenError::Unreadable { path, source })));
            }
        };
        item.database_hint = found.database;
        if matches!(open.after(), Ok(Steadiness::Same | Steadiness::Grew))
            && item.entry.size == open.entry.size
        {
            last = Some(item);
            return close(build, last, false);
        }
        last = Some(item);
    }
    close(build, last, true)
}

fn finished(entry: &Entry, packed: PackedContent, parts: &mut Vec<u64>) -> Item {
    let superseded = parts.iter().copied().filter(|first| !packed.parts.contains(first)).collect();
    parts.extend(packed.parts.iter().copied().filter(|first| !parts.contains(first)).collect::<Vec<_>>());
    let mut entry = entry.clone();
    entry.size = packed.size;
    entry.hash = Some(packed.hash);
    Item { entry, extents: packed.extents, superseded, database_hint: false }
}

fn close(build: &mut Build<'_>, last: Option<Item>, unsteady: bool) -> Result<Option<Item>> {
    let Some(mut item) = last else {
        return Ok(None);
    };
    let superseded = std::mem::take(&mut item.superseded);
    void_parts(&mut build.packer, &item.entry, &superseded)?;
    if unsteady {
        item.entry.flags.push(FLAG_UNSTEADY.to_owned());
        build.unsteady(&item.entry.path);
    }
    Ok(Some(item))
}

fn pack_open(build: &mut Build<'_>, open: &OpenFile) -> std::result::Result<PackedContent, ContentError> {
    let mut read =
        |offset: u64, buffer: &mut [u8]| pread(&open.file, buffer, offset).map_err(io::Error::from);
    let mut content = Content { size: open.entry.size, ranges: &open.ranges, read: &mut read };
    pack(&mut build.packer, &open.entry, &mut content)
}

/// The entry that says that something is there (or was) but not in this snapshot.
fn left_behind(build: &mut Build<'_>, found: &Found, error: &OpenError) -> Item {
    let path = found.entry.path.clone();
    let mut entry = Entry::new(path.clone(), Kind::Left);
    let (why, what) = match error {
        OpenError::Vanished { .. } => (Why::Vanished, "vanished before it could be read".to_owned()),
        OpenError::Changed { .. } => {
            (Why::Vanished, "became something else while it was to be read".to_owned())
        }
        OpenError::Unreadable { source, .. } => (Why::Unreadable, format!("cannot be read: {source}")),
    };
    entry.why = Some(why);
    if why == Why::Vanished {
        build.warn(&path, what);
    } else if !build.allow.covers(&path, false) {
        build.unreadable(&path, what);
    }
    Item::bare(entry)
}

/// Packs a database that is captured through SQLite, as the file `entry`.
pub(super) fn pack_database(
    build: &mut Build<'_>,
    mut entry: Entry,
    mut capture: SqliteCapture,
) -> std::result::Result<Item, ContentError> {
    let size = capture.size;
    let mut at = 0;
    let mut read = |offset: u64, buffer: &mut [u8]| {
        if offset != at {
            return Err(io::Error::other("a database is read from its beginning to its end"));
        }
        let got = capture.read(buffer)?;
        at += got as u64;
        Ok(got)
    };
    let ranges = if size == 0 { Vec::new() } else { vec![(0, size)] };
    let packed = pack(&mut build.packer, &entry, &mut Content { size, ranges: &ranges, read: &mut read })?;
    if packed.size != size {
        return Err(ContentError::Read(io::Error::other("the capture was cut short")));
    }
    let outcome = capture.finish().map_err(|e| ContentError::Read(io::Error::other(e)))?;
    build.checked(&entry.path, outcome.result, &outcome.messages);
    entry.size = size;
    entry.hash = Some(packed.hash);
    entry.flags.push(FLAG_DATABASE.to_owned());
    Ok(Item { entry, extents: packed.extents, superseded: Vec::new(), database_hint: false })
}

impl Build<'_> {
    /// Notes that something could not be captured.
    pub(super) fn unreadable(&mut self, path: &RelPath, what: String) {
        self.unreadable_count += 1;
        self.complete = false;
        self.problem(Problem::at_path(ProblemKind::Unreadable, self.name.as_str(), path.as_bytes(), what));
    }

    /// Notes something worth knowing.
    pub(super) fn warn(&mut self, path: &RelPath, what: String) {
        self.problem(Problem::at_path(ProblemKind::Warning, self.name.as_str(), path.as_bytes(), what));
    }

    fn unsteady(&mut self, path: &RelPath) {
        let what = format!("changed each of the {TRIES} times it was read; what is kept may be a mixture");
        if self.strict {
            self.unreadable(path, what);
        } else {
            self.warn(path, what);
        }
    }

    /// Notes what a database's or a dump's check said.
    pub(super) fn checked(&mut self, path: &RelPath, result: CheckResult, messages: &[String]) {
        self.check = self.check.max(result);
        if result == CheckResult::Failed {
            let what = format!("the database check failed: {}", messages.join("; "));
            let problem =
                Problem::at_path(ProblemKind::CheckFailed, self.name.as_str(), path.as_bytes(), what);
            self.problem(problem.hint("the snapshot is kept but does not count as good; repair the database, or go back to an older snapshot"));
        }
    }
}
