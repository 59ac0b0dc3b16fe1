//! Packing what a walk found: files with retries while they change, other things as they are, databases through SQLite.

use crate::model::entry::{FLAG_CRASH_CONSISTENT, FLAG_DATABASE, FLAG_UNSTEADY, Why};
use crate::model::record::CheckResult;
use crate::model::{ContentHash, Entry, Kind, Problem, ProblemKind, RelPath};
use crate::ops::backup::blocks::Content;
use crate::ops::backup::build::{Build, Item};
use crate::ops::backup::content::{
    ContentError, PackedContent, aligned, pack_bare, pack_hard_link, void_parts,
};
use crate::ops::backup::held::HeldFile;
use crate::ops::backup::large::{pack_file_content, pack_stream};
use crate::ops::backup::reuse::{Cursor, Facts, Whole};
use crate::ops::error::Result;
use crate::platform::memory::let_go;
use crate::source::folder::{Found, OpenError, OpenFile, Scan, Steadiness, Tree};
use crate::source::sqlite::SqliteCapture;
use std::collections::HashMap;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

/// How often a file that changes while it is read is packed again.
const TRIES: usize = 3;

/// What became of the databases of a scan, by their places in it.
#[derive(Default)]
pub(super) struct Databases {
    /// Captured, or packed as bytes.
    pub(super) done: HashMap<usize, Item>,
    /// As they were.
    pub(super) unchanged: HashMap<usize, Item>,
}

/// What was listed is let go in pieces of at least so many entries.
const LET_GO: usize = 1 << 16;

/// Entries that a walk found, from one place on. Those that were listed are let go on the way, so that a million are not held twice.
struct Ahead {
    entries: Vec<Found>,
    /// How many were let go.
    gone: usize,
    /// The next one, among those that are left.
    next: usize,
}

impl Ahead {
    /// The next one's place in the walk.
    fn place(&self) -> usize {
        self.gone + self.next
    }

    fn rest(&self) -> &[Found] {
        self.entries.get(self.next..).unwrap_or_default()
    }

    fn pass(&mut self, count: usize) {
        self.next += count;
        // Half of them at a time: what stays is moved.
        if self.next >= LET_GO.max(self.entries.len() / 2) {
            self.entries.drain(..self.next.min(self.entries.len()));
            self.entries.shrink_to_fit();
            self.gone += std::mem::take(&mut self.next);
        }
    }
}

/// Lists every entry of `scan`, and packs what is not packed yet and not as it was.
pub(super) fn pack_found(build: &mut Build<'_>, scan: Scan, mut databases: Databases) -> Result<()> {
    let Scan { entries, tree, .. } = scan;
    let mut ahead = Ahead { entries, gone: 0, next: 0 };
    let mut links: HashMap<u64, Item> = HashMap::new();
    let mut cursor = Cursor::new(build.old);
    while let Some(found) = ahead.rest().first() {
        while let Some(first) = build.unlisted.first_entry().filter(|first| *first.key() < found.entry.path) {
            let item = first.remove();
            build.list(item);
        }
        if let Some(whole) = whole_stretch(build, &mut cursor, &ahead, &databases, &links) {
            build.alone = false;
            for (entry, facts) in cursor.linked() {
                // Its other names may stand elsewhere, and must say the same.
                let Some(link) = entry.link else { continue };
                links.entry(link).or_insert_with(|| Item::unchanged(entry, facts));
            }
            ahead.pass(usize::try_from(whole.sums.entries).unwrap_or(usize::MAX));
            build.packer.run.progress.advance(whole.sums.size);
            build.listing.push_whole(whole);
            continue;
        }
        let place = ahead.place();
        let known = databases.done.remove(&place).or_else(|| databases.unchanged.remove(&place));
        let item = match known {
            Some(item) => Some(item),
            None => take_entry(build, &tree, found, &links, &mut cursor)?,
        };
        ahead.pass(1);
        let Some(item) = item else { continue };
        build.alone &= item.packed;
        let stored = !matches!(item.entry.kind, Kind::Socket | Kind::Left);
        if let Some(link) = item.entry.link.filter(|_| stored) {
            links.entry(link).or_insert_with(|| item.clone());
        }
        build.list(item);
    }
    for (_, item) in std::mem::take(&mut build.unlisted) {
        build.list(item);
    }
    let_go(ahead.entries);
    Ok(())
}

/// The stretch that begins here, when all of it is as it was.
fn whole_stretch(
    build: &Build<'_>,
    cursor: &mut Cursor<'_>,
    ahead: &Ahead,
    databases: &Databases,
    links: &HashMap<u64, Item>,
) -> Option<Whole> {
    if !build.listing.at_boundary() {
        return None;
    }
    let (found, place) = (ahead.rest(), ahead.place());
    let whole =
        cursor.whole_stretch(found, build.settled, |at| databases.unchanged.contains_key(&(place + at)))?;
    // A name that is listed already may lie elsewhere now (its archive drained, it was read again): then these are listed one by one, as that says.
    if !cursor
        .linked_fit(|entry| entry.link.and_then(|link| links.get(&link)).is_none_or(|item| item.says(entry)))
    {
        return None;
    }
    if !build.listing.has_room_for(whole.sums.size) {
        return None;
    }
    let last = found.get(usize::try_from(whole.sums.entries).ok()?.checked_sub(1)?)?;
    let next = build.unlisted.first_key_value();
    next.is_none_or(|(path, _)| *path > last.entry.path).then_some(whole)
}

fn take_entry(
    build: &mut Build<'_>,
    tree: &Tree,
    found: &Found,
    links: &HashMap<u64, Item>,
    cursor: &mut Cursor<'_>,
) -> Result<Option<Item>> {
    if let Some(first) = found.entry.link.and_then(|link| links.get(&link)) {
        let entry = Entry { path: found.entry.path.clone(), ..first.entry.clone() };
        if first.packed {
            pack_hard_link(&mut build.packer, &entry, &first.entry.path)?;
        }
        return Ok(Some(Item { entry, ..first.clone() }));
    }
    if let Some((entry, facts)) = cursor.unchanged(found, build.settled) {
        build.packer.run.progress.advance(entry.size);
        return Ok(Some(Item::unchanged(entry, facts)));
    }
    if found.entry.kind != Kind::File {
        // In a delta nobody looks for members that only say what the listing says.
        if build.old.is_empty() {
            pack_bare(&mut build.packer, &found.entry)?;
        }
        return Ok(Some(Item::bare(found.entry.clone())));
    }
    if found.database {
        // One that was passed over, because it was another name of one that is none any more.
        let mut found = found.clone();
        found.entry.flags.push(FLAG_CRASH_CONSISTENT.to_owned());
        build.not_through_sqlite(
            &found.entry.path,
            "became another database while it was to be captured; its bytes were packed as they lie there"
                .into(),
        );
        return pack_file(build, tree, &found);
    }
    pack_file(build, tree, found)
}

/// Packs one file. Gives an entry `left` when it could not be read, nothing when it is gone and need not be told.
pub(super) fn pack_file(build: &mut Build<'_>, tree: &Tree, found: &Found) -> Result<Option<Item>> {
    let mut last: Option<Item> = None;
    let mut parts: Vec<u64> = Vec::new();
    for _ in 0..TRIES {
        let held = build.held.get(&found.entry.path).map(HeldFile::open);
        let open = match held.unwrap_or_else(|| tree.open(found, build.names)) {
            Ok(open) => open,
            // What was packed of it stays, and is said to be unsteady.
            Err(_) if last.is_some() => break,
            Err(error) => return Ok(Some(left_behind(build, found, &error))),
        };
        for warning in &open.warnings {
            build.problem(warning.clone());
        }
        let mut item = match pack_file_content(build, &open) {
            Ok(packed) => finished(&open, packed, &mut parts, build.facts_of(&open)),
            Err(ContentError::Run(e)) => return Err(e),
            Err(ContentError::Read(source)) => {
                build.alone = false; // its archive holds a torso that the listing does not know
                let path = found.entry.path.clone();
                return Ok(Some(left_behind(build, found, &OpenError::Unreadable { path, source })));
            }
        };
        item.database_hint = found.database;
        let steady = match open.after() {
            Ok(Steadiness::Same) => true,
            Ok(Steadiness::Grew) => only_grew(build, &open, &item)?,
            _ => false,
        };
        if steady && item.entry.size == open.entry.size {
            last = Some(item);
            return close(build, last, false);
        }
        last = Some(item);
    }
    close(build, last, true)
}

fn finished(open: &OpenFile, packed: PackedContent, parts: &mut Vec<u64>, facts: Facts) -> Item {
    let superseded = parts.iter().copied().filter(|first| !packed.parts.contains(first)).collect();
    parts.extend(packed.parts.iter().copied().filter(|first| !parts.contains(first)).collect::<Vec<_>>());
    let entry = open.entry.clone();
    Item { superseded, ..packed_item(entry, packed, facts) }
}

/// The item of content that was packed, or is known.
pub(super) fn packed_item(mut entry: Entry, packed: PackedContent, facts: Facts) -> Item {
    (entry.size, entry.hash) = (packed.size, Some(packed.hash));
    (entry.extents, entry.maps) = (packed.older, packed.maps.into());
    let facts = Facts { blocks: packed.blocks, copied: packed.copied, ..facts };
    Item { extents: packed.extents, facts, packed: !packed.refers, ..Item::bare(entry) }
}

fn close(build: &mut Build<'_>, last: Option<Item>, unsteady: bool) -> Result<Option<Item>> {
    let Some(mut item) = last else {
        return Ok(None);
    };
    let superseded = std::mem::take(&mut item.superseded);
    void_parts(&mut build.packer, &item.entry, &superseded)?;
    if unsteady {
        item.entry.flags.push(FLAG_UNSTEADY.to_owned());
        // Times say nothing of it; what was packed of it is known all the same.
        let Facts { blocks, copied, .. } = item.facts;
        item.facts = Facts { blocks, copied, ..Facts::default() };
        build.unsteady(&item.entry.path);
    }
    Ok(Some(item))
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

/// Packs a database that is captured through SQLite, as the file `entry`. `facts` are from before the capture.
pub(super) fn pack_database(
    build: &mut Build<'_>,
    mut entry: Entry,
    mut capture: SqliteCapture,
    facts: Facts,
) -> std::result::Result<Item, ContentError> {
    let (size, page_size) = (capture.size, capture.page_size);
    let mut at = 0;
    let mut read = |offset: u64, buffer: &mut [u8]| {
        if offset != at {
            return Err(io::Error::other("a database is read from its beginning to its end"));
        }
        let got = capture.read(buffer)?;
        at += got as u64;
        Ok(got)
    };
    let which = (Content::Database(page_size), facts.ident.as_ref());
    let packed = pack_stream(build, &entry, size, which, &mut read)?;
    if packed.size != size {
        return Err(ContentError::Read(io::Error::other("the capture was cut short")));
    }
    let outcome = capture.finish().map_err(|e| ContentError::Read(io::Error::other(e)))?;
    let check = build.checked(&entry.path, outcome.result, &outcome.messages);
    entry.flags.push(FLAG_DATABASE.to_owned());
    let facts = Facts { check: Some(check), ..facts };
    Ok(packed_item(entry, packed, facts))
}

/// True when a file that is longer now still begins with what was packed of it. One that was written anew, and ended longer, does not.
fn only_grew(build: &Build<'_>, open: &OpenFile, item: &Item) -> Result<bool> {
    let size = open.entry.size;
    let ranges = aligned(&open.ranges, size);
    if !open.ranges_now().is_ok_and(|now| aligned(&now, size) == ranges) {
        return Ok(false);
    }
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; 1 << 20]);
    for (mut offset, mut left) in ranges {
        while left > 0 {
            build.packer.run.interrupt.check()?;
            let want = usize::try_from(left).unwrap_or(buffer.len()).min(buffer.len());
            match open.file.read_at(&mut buffer[..want], offset) {
                Ok(0) => return Ok(false),
                Ok(got) => {
                    hasher.update(&buffer[..got]);
                    (offset, left) = (offset + got as u64, left - got as u64);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(false),
            }
        }
    }
    Ok(item.entry.hash == Some(ContentHash(*hasher.finalize().as_bytes())))
}

impl Build<'_> {
    /// Adds an entry to the listing; later files may turn out to be copies of it.
    pub(super) fn list(&mut self, item: Item) {
        let fits = self.listing.has_room_for(item.entry.size);
        let item = if fits { item } else { self.beyond(&item.entry.path) };
        let content = item.entry.hash.map(|hash| (hash, item.entry.size));
        let place = self.listing.push(item);
        if let Some((hash, size)) = content.filter(|(_, size)| *size > 0 && !self.old.is_empty()) {
            self.contents.add(&hash, size, place);
        }
    }

    /// The entry of what a listing cannot count any more: nobody would read one that says a number of 2^53 or more.
    fn beyond(&mut self, path: &RelPath) -> Item {
        self.alone = false; // an archive may hold what the listing does not know
        let mut entry = Entry::new(path.clone(), Kind::Left);
        entry.why = Some(Why::Unreadable);
        if !self.allow.covers(path, false) {
            let what = "with it the component has more bytes than can be listed (8 PiB, holes and further names of files included)";
            self.unreadable(path, what.into());
        }
        Item::bare(entry)
    }

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

    /// Notes what a database's or a dump's check said, and gives what is known by that. A check that could not be run is left to a drill: it must not
    /// pass for one that had nothing to find, nor be hidden by others that passed.
    pub(super) fn checked(
        &mut self,
        path: &RelPath,
        result: CheckResult,
        messages: &[String],
    ) -> CheckResult {
        let unchecked = result != CheckResult::Failed && !messages.is_empty();
        let result = if unchecked { CheckResult::Deferred } else { result };
        self.check = self.check.max(result);
        if unchecked {
            self.warn(path, format!("the database was captured, but not checked: {}", messages.join("; ")));
        }
        if result == CheckResult::Failed {
            let what = format!("the database check failed: {}", messages.join("; "));
            let problem =
                Problem::at_path(ProblemKind::CheckFailed, self.name.as_str(), path.as_bytes(), what);
            self.problem(problem.hint("the snapshot is kept but does not count as good; repair the database, or go back to an older snapshot"));
        }
        result
    }
}
