//! Capturing the databases that a walk found, before any file of it is read: each once, by the name that is in use.

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
    Opened(Box<(std::result::Result<SqliteCapture, SqliteError>, Facts)>),
}

impl Begun {
    /// The group of names that this one stands for.
    pub(super) fn link(&self) -> Option<u64> {
        self.entry.link
    }

    /// What is packed in its place, because SQLite does not give it.
    pub(super) fn parts(&self, build: &Build<'_>, scan: &Scan) -> Vec<Found> {
        match &self.state {
            State::Opened(opened) if opened.0.is_err() => parts(build, scan, &self.entry, &self.name),
            _ => Vec::new(),
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
            let link = begun.link();
            match begun.state {
                State::Unchanged(item) => drop(databases.unchanged.insert(place, *item)),
                State::Opened(opened) => {
                    let (captured, facts) = *opened;
                    let packed = pack_opened(
                        build,
                        scan,
                        (begun.entry, &begun.name),
                        (captured, facts),
                        &mut databases,
                    )?;
                    let Some(item) = packed else { continue };
                    databases.done.insert(place, item);
                }
            }
            linked.extend(link);
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
        let in_use = scan.in_use(place, groups);
        if let Some(doubt) = &in_use.doubt {
            build.doubted(&found.entry.path, doubt);
        }
        let mut entry = found.entry.clone();
        entry.link = entry.link.filter(|_| in_use.shared);
        let name = in_use.name.clone();
        let path = scan.tree.real_path(&name);
        let facts = Facts::of_database(&path, build.settled);
        if let Some(item) = build.unchanged_database(&entry, facts.as_ref()) {
            return Ok(Begun { name, entry, state: State::Unchanged(Box::new(item)) });
        }
        if may_wait {
            let ident = facts.as_ref().and_then(|facts| facts.ident.as_ref());
            bring(build, &entry.path, ident)?;
        }
        let spec = SqliteSpec { component: build.name.to_string(), ..self.found_spec(path) };
        let captured = capture(&spec);
        // It was opened by its name: another file may have had that by then.
        entry.link = entry.link.filter(|_| scan.in_use(place, groups).shared);
        Ok(Begun { name, entry, state: State::Opened(Box::new((captured, facts.unwrap_or_default()))) })
    }
}

fn pack_opened(
    build: &mut Build<'_>,
    scan: &Scan,
    (entry, name): (Entry, &RelPath),
    (captured, facts): (std::result::Result<SqliteCapture, SqliteError>, Facts),
    databases: &mut Databases,
) -> Result<Option<Item>> {
    let what = match captured {
        Ok(captured) => match pack_database(build, entry.clone(), captured, facts) {
            Ok(item) => return Ok(Some(item)),
            Err(ContentError::Run(e)) => return Err(e),
            Err(ContentError::Read(e)) => {
                // Its archive holds a torso that the listing does not know.
                build.alone = false;
                build.not_through_sqlite(&entry.path, packed_as_bytes(&e));
                return as_bytes(build, scan, (&entry, name), databases);
            }
        },
        Err(error) => (packed_as_bytes(&error), error),
    };
    match what {
        (what, SqliteError::NotADatabase { .. }) => build.warn(&entry.path, what),
        (what, _) => build.not_through_sqlite(&entry.path, what),
    }
    as_bytes(build, scan, (&entry, name), databases)
}

fn packed_as_bytes(error: &dyn std::error::Error) -> String {
    let why = chain_text(error);
    format!("cannot be captured through SQLite ({why}); its bytes were packed as they lie there")
}

/// The files that a database is: itself, by its first name, and what lies beside the name that is in use.
fn parts(build: &Build<'_>, scan: &Scan, entry: &Entry, name: &RelPath) -> Vec<Found> {
    let mut parts = scan.as_bytes(name, build.names);
    for part in parts.iter_mut().filter(|part| part.entry.path == *name) {
        (part.entry.path, part.entry.link) = (entry.path.clone(), entry.link);
    }
    parts
}

/// A database that SQLite would not give: its bytes and sidecars as they lie there.
fn as_bytes(
    build: &mut Build<'_>,
    scan: &Scan,
    (entry, name): (&Entry, &RelPath),
    databases: &mut Databases,
) -> Result<Option<Item>> {
    let mut itself = None;
    for part in parts(build, scan, entry, name) {
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
    fn not_through_sqlite(&mut self, path: &RelPath, what: String) {
        if self.allow.covers(path, false) {
            self.warn(path, what);
        } else {
            self.unreadable(path, what);
        }
    }

    /// Says why the log of a database may be missing.
    fn doubted(&mut self, path: &RelPath, doubt: &Doubt) {
        let (what, hint) = doubt.told();
        let sure = matches!(doubt, Doubt::Elsewhere(_)) || self.allow.covers(path, false);
        let kind = if sure { ProblemKind::Warning } else { ProblemKind::Unreadable };
        if !sure {
            (self.complete, self.unreadable_count) = (false, self.unreadable_count + 1);
        }
        self.problem(Problem::at_path(kind, self.name.as_str(), path.as_bytes(), what).hint(hint));
    }
}
