//! Capturing the databases that a walk found, before any file of it is read: each once, by the name that is in use.

use crate::durable::crash;
use crate::model::entry::Entry;
use crate::model::{Problem, ProblemKind, RelPath};
use crate::ops::backup::build::{Build, Item};
use crate::ops::backup::capture::{Run, chain_text};
use crate::ops::backup::content::ContentError;
use crate::ops::backup::files::{Databases, pack_database, pack_file};
use crate::ops::backup::held::HeldDatabases;
use crate::ops::backup::reuse::{Facts, bring, same_database};
use crate::ops::error::Result;
use crate::source::folder::{Doubt, Found, Groups, Scan};
use crate::source::sqlite::{SqliteCapture, SqliteError, SqliteSpec, capture};
use std::collections::HashSet;

/// A database of which the capture has begun, or need not.
pub(super) struct Begun {
    /// The name that is in use.
    name: RelPath,
    /// Its entry, by its first name; with a link only where that is true of what is captured.
    entry: Entry,
    state: State,
}

enum State {
    Unchanged(Box<Item>),
    Opened(Box<Opened>),
}

struct Opened {
    captured: std::result::Result<SqliteCapture, SqliteError>,
    facts: Facts,
    /// What is packed where SQLite did not give it, as it was then.
    parts: Vec<Found>,
}

/// How often it is begun anew, when the name that was in use is another file's by then or another one is in use.
const TRIES: usize = 3;

impl Begun {
    /// The group of names that this one stands for.
    pub(super) fn link(&self) -> Option<u64> {
        self.entry.link
    }

    /// What is packed in its place, because SQLite does not give it.
    pub(super) fn parts(&self) -> &[Found] {
        match &self.state {
            State::Opened(opened) => &opened.parts,
            State::Unchanged(_) => &[],
        }
    }
}

impl<'a> Run<'a> {
    /// Captures what was not begun already while services were stopped.
    pub(super) fn databases(
        &self,
        build: &mut Build<'a>,
        scan: &Scan,
        held: &mut HeldDatabases,
    ) -> Result<Databases> {
        let mut databases = Databases::default();
        let (mut linked, groups) = (HashSet::new(), scan.groups());
        for (place, found) in scan.entries.iter().enumerate().filter(|(_, f)| f.database) {
            if found.entry.link.is_some_and(|link| linked.contains(&link)) {
                continue; // another name of one that is captured: it becomes a link to that
            }
            let begun = match held.remove(&place) {
                Some(begun) => begun,
                None => self.begin_database(build, scan, (place, &groups), true)?,
            };
            match begun.state {
                State::Unchanged(item) => {
                    linked.extend(item.entry.link);
                    databases.unchanged.insert(place, *item);
                }
                State::Opened(opened) => {
                    let which = (place, begun.entry, &begun.name);
                    let Some(item) = pack_opened(build, scan, which, *opened, &mut databases)? else {
                        continue;
                    };
                    linked.extend(item.entry.link);
                    databases.done.insert(place, item);
                }
            }
        }
        Ok(databases)
    }

    /// Begins the capture of the database at a place of a walk, unless it is as it was. What it is compared with is brought from the store where the network may be waited for.
    pub(super) fn begin_database(
        &self,
        build: &mut Build<'a>,
        scan: &Scan,
        (place, groups): (usize, &Groups),
        may_wait: bool,
    ) -> Result<Begun> {
        let found = &scan.entries[place];
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let in_use = scan.in_use(place, groups);
            let mut entry = found.entry.clone();
            entry.link = entry.link.filter(|_| in_use.shared);
            let name = in_use.name.clone();
            let path = scan.tree.real_path(&name);
            let facts = Facts::of_database(&path, build.settled);
            if let Some(item) = build.unchanged_database(&entry, facts.as_ref()) {
                build.doubted(&entry.path, in_use.doubt.as_ref());
                return Ok(Begun { name, entry, state: State::Unchanged(Box::new(item)) });
            }
            if may_wait {
                let ident = facts.as_ref().and_then(|facts| facts.ident.as_ref());
                bring(build, &entry.path, ident)?;
            }
            crash::point("backup: database chosen");
            let spec = SqliteSpec { component: build.name.to_string(), ..self.found_spec(path) };
            let captured = capture(&spec);
            // It was opened by its name, which may be another file's by then, or not the one in use any more.
            let then = scan.in_use(place, groups);
            let same = *then.name == name && (!in_use.shared || scan.is_name_of(place, &name));
            if !same && tries > 0 {
                continue;
            }
            entry.link = entry.link.filter(|_| same && then.shared);
            build.doubted(&entry.path, then.doubt.as_ref().or(in_use.doubt.as_ref()));
            let parts = match &captured {
                Ok(_) => Vec::new(),
                Err(_) => parts(build, scan, (place, &entry), &name),
            };
            let opened = Opened { captured, facts: facts.unwrap_or_default(), parts };
            return Ok(Begun { name, entry, state: State::Opened(Box::new(opened)) });
        }
    }
}

fn pack_opened(
    build: &mut Build<'_>,
    scan: &Scan,
    (place, entry, name): (usize, Entry, &RelPath),
    Opened { captured, facts, parts: held }: Opened,
    databases: &mut Databases,
) -> Result<Option<Item>> {
    let error = match captured {
        Ok(captured) => match pack_database(build, entry.clone(), captured, facts) {
            Ok(item) => return Ok(Some(item)),
            Err(ContentError::Run(e)) => return Err(e),
            Err(ContentError::Read(e)) => {
                // Its archive holds a torso that the listing does not know.
                build.alone = false;
                build.not_through_sqlite(&entry.path, packed_as_bytes(&e));
                let parts = parts(build, scan, (place, &entry), name);
                return as_bytes(build, scan, &entry, parts, databases);
            }
        },
        Err(error) => error,
    };
    let what = packed_as_bytes(&error);
    match error {
        SqliteError::NotADatabase { .. } => build.warn(&entry.path, what),
        _ => build.not_through_sqlite(&entry.path, what),
    }
    as_bytes(build, scan, &entry, held, databases)
}

fn packed_as_bytes(error: &dyn std::error::Error) -> String {
    let why = chain_text(error);
    format!("cannot be captured through SQLite ({why}); its bytes were packed as they lie there")
}

/// The files that a database is: itself, by its first name, and what lies beside the name that is in use.
fn parts(build: &Build<'_>, scan: &Scan, (place, entry): (usize, &Entry), name: &RelPath) -> Vec<Found> {
    let mut parts = scan.as_bytes(name, build.names);
    let found = scan.entries[place].ident();
    for part in parts.iter_mut().filter(|part| part.entry.path == *name) {
        let ident = part.ident();
        // Only as long as it is the file that its other names are of.
        let same = (ident.dev, ident.ino) == (found.dev, found.ino);
        (part.entry.path, part.entry.link) = (entry.path.clone(), entry.link.filter(|_| same));
    }
    parts
}

/// A database that SQLite would not give: its bytes and sidecars as they lie there, or as they were held.
fn as_bytes(
    build: &mut Build<'_>,
    scan: &Scan,
    entry: &Entry,
    parts: Vec<Found>,
    databases: &mut Databases,
) -> Result<Option<Item>> {
    let mut itself = None;
    for part in parts {
        let place = scan.entries.binary_search_by(|f| f.entry.path.cmp(&part.entry.path));
        let Some(item) = pack_file(build, &scan.tree, &part)? else {
            continue;
        };
        match place {
            _ if part.entry.path == entry.path => itself = Some(item),
            Ok(place) => drop(databases.done.insert(place, item)),
            // A sidecar that was not there when the folder was listed.
            Err(_) => drop(build.unlisted.insert(part.entry.path.clone(), item)),
        }
    }
    Ok(itself)
}

impl Build<'_> {
    /// The item of a database that is as it was. `facts` are of now.
    pub(super) fn unchanged_database(&mut self, entry: &Entry, facts: Option<&Facts>) -> Option<Item> {
        let row = same_database(&self.old, entry.path.as_bytes(), facts?, self.settled)
            // Their times tell of it; but what an older version of this program stored had none at all.
            .filter(|row| row.entry.xattrs == entry.xattrs)?;
        self.checked(&entry.path, row.check, &[]);
        self.alone = false;
        let facts = Facts::of_row(&row);
        Some(Item::unchanged(Entry { link: entry.link, ..self.old.entry_of(row) }, facts))
    }

    /// Notes that SQLite does not give a database, of which the bytes are had: that makes the snapshot incomplete, unless it is allowed.
    pub(super) fn not_through_sqlite(&mut self, path: &RelPath, what: String) {
        if self.allow.covers(path, false) {
            self.warn(path, what);
        } else {
            self.unreadable(path, what);
        }
    }

    /// Says why the log of a database may be missing.
    fn doubted(&mut self, path: &RelPath, doubt: Option<&Doubt>) {
        let Some(doubt) = doubt else { return };
        let (what, hint) = doubt.told();
        let sure = matches!(doubt, Doubt::Elsewhere(_)) || self.allow.covers(path, false);
        let kind = if sure { ProblemKind::Warning } else { ProblemKind::Unreadable };
        if !sure {
            (self.complete, self.unreadable_count) = (false, self.unreadable_count + 1);
        }
        self.problem(Problem::at_path(kind, self.name.as_str(), path.as_bytes(), what).hint(hint));
    }
}
