//! What a rollback leaves as it is: whatever a snapshot of today would not take, whatever the snapshot's own rules left out, and what `leave` names.
//!
//! A log of a database is never left without its database: replayed over another one it destroys it.

use crate::config::Component;
use crate::model::entry::Why;
use crate::model::{Entry, Kind, RelPath};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::layout::folder_spec;
use crate::ops::rollback::tree::Leaves;
use crate::ops::session::Session;
use crate::platform::at;
use crate::source::folder::{Excluded, Found, Tree, is_database_at, is_log_at, scan};
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

const SIDECARS: [&[u8]; 3] = [b"-wal", b"-shm", b"-journal"];

/// What stays of a component, by paths in the component.
pub(super) struct Left {
    tree: Tree,
    /// What a snapshot of today would take.
    taken: HashMap<RelPath, Seen>,
    /// What the snapshot says was there, and does not have: what could not be read, was another component's, or on another file system.
    not_read: HashSet<RelPath>,
    then: Excluded,
    leave: Excluded,
}

/// What was seen of something live, without opening it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// [`Kind::Left`]: it goes with its database.
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) mtime: (i64, u32),
    pub(super) database: bool,
}

impl Seen {
    fn of(found: &Found) -> Self {
        let Entry { kind, size, mtime, .. } = found.entry;
        Self { kind, size, mtime, database: found.database }
    }
}

impl Left {
    /// Looks at what is there. `rules` and `entries` are the snapshot's.
    pub(super) fn of(
        session: &Session,
        component: &Component,
        rules: &[String],
        entries: &[Entry],
    ) -> Result<Self> {
        let config = session.config()?;
        let spec = folder_spec(component, &config.components, session)?;
        let cannot = || format!("cannot look at what is there of component {}", component.name);
        let mut unlisted = None;
        let found = scan(&spec, &session.names, &mut |problem| unlisted = Some(problem))
            .doing(Class::Failed, cannot)?;
        let mut taken: HashMap<RelPath, Seen> = HashMap::new();
        let mut sidecars = Vec::new();
        for found in found.entries {
            let seen = Seen::of(&found);
            match found.entry.why {
                Some(Why::Sidecar) if seen.kind == Kind::Left => sidecars.push((found.entry.path, seen)),
                _ if seen.kind == Kind::Left => {}
                _ => {
                    taken.insert(found.entry.path, seen);
                }
            }
        }
        // A sidecar goes where its database goes; one of another component's database stays with that.
        let own = |path: &RelPath| database_of(path).is_some_and(|database| taken.contains_key(&database));
        let sidecars: Vec<(RelPath, Seen)> = sidecars.into_iter().filter(|(path, _)| own(path)).collect();
        taken.extend(sidecars);
        // Where rules leave a database out and not its log, that was found as a file like any other.
        let tree = found.tree;
        let lonely = |path: &RelPath| {
            database_of(path).is_some_and(|db| !taken.contains_key(&db) && is_database(&tree.real_path(&db)))
        };
        let lonely: Vec<RelPath> = taken.keys().filter(|path| lonely(path)).cloned().collect();
        taken.retain(|path, _| !lonely.contains(path));
        let not_read = entries.iter().filter(|e| e.kind == Kind::Left && e.why != Some(Why::Sidecar));
        let not_read = not_read.map(|e| e.path.clone()).collect();
        let (then, _) = Excluded::from_rules(rules);
        let leave = Excluded::from_patterns(&component.leave);
        Ok(Self { tree, taken, not_read, then, leave })
    }

    /// What a snapshot of today would take, in no order.
    pub(super) fn taken(&self) -> impl Iterator<Item = (&RelPath, &Seen)> {
        self.taken.iter()
    }

    /// True when something is at `path`, and stays.
    pub(super) fn keeps(&self, path: &RelPath, is_dir: bool) -> bool {
        self.real_path(path).symlink_metadata().is_ok() && self.stays(path, is_dir)
    }

    /// Where `path` of the component lies on this machine.
    pub(super) fn real_path(&self, path: &RelPath) -> PathBuf {
        self.tree.real_path(path)
    }

    /// The same for paths that begin at `prefix` of the component.
    pub(super) fn from<'a>(&'a self, prefix: &'a RelPath) -> LeftFrom<'a> {
        LeftFrom { left: self, prefix }
    }
}

impl Leaves for Left {
    fn stays(&self, path: &RelPath, is_dir: bool) -> bool {
        self.judge(path, is_dir, Excluded::covers) || self.lies_in_not_read(path)
    }

    fn stays_here(&self, path: &RelPath, is_dir: bool) -> bool {
        self.judge(path, is_dir, Excluded::covers_itself)
    }
}

impl Left {
    fn judge(&self, path: &RelPath, is_dir: bool, covers: fn(&Excluded, &RelPath, bool) -> bool) -> bool {
        let database = (!is_dir).then(|| database_of(path)).flatten();
        if let Some(database) = database.filter(|d| self.taken.contains_key(d)) {
            return self.judge(&database, false, covers);
        }
        !self.taken.contains_key(path)
            || self.not_read.contains(path)
            || covers(&self.leave, path, is_dir)
            || covers(&self.then, path, is_dir)
    }

    fn lies_in_not_read(&self, path: &RelPath) -> bool {
        // Asked of every name while services are down.
        !self.not_read.is_empty()
            && std::iter::successors(path.parent(), RelPath::parent).any(|dir| self.not_read.contains(&dir))
    }
}

/// What stays, by paths below a directory of the component.
pub(super) struct LeftFrom<'a> {
    left: &'a Left,
    prefix: &'a RelPath,
}

impl Leaves for LeftFrom<'_> {
    fn stays(&self, path: &RelPath, is_dir: bool) -> bool {
        self.full(path).is_none_or(|full| self.left.stays(&full, is_dir))
    }

    fn stays_here(&self, path: &RelPath, is_dir: bool) -> bool {
        self.full(path).is_none_or(|full| self.left.stays_here(&full, is_dir))
    }
}

impl LeftFrom<'_> {
    fn full(&self, path: &RelPath) -> Option<RelPath> {
        path.parts().try_fold(self.prefix.clone(), |full, part| full.join(part).ok())
    }
}

/// Nothing stays: a database that is a component of its own.
pub(super) struct Nothing;

impl Leaves for Nothing {
    fn stays(&self, _: &RelPath, _: bool) -> bool {
        false
    }
}

/// The database that `path` would be a log of, by its name.
pub(super) fn database_of(path: &RelPath) -> Option<RelPath> {
    let name = path.as_bytes();
    let base = SIDECARS.iter().find_map(|suffix| name.strip_suffix(*suffix))?;
    RelPath::new(base).ok()
}

/// True when a SQLite database is at `path` now.
pub(super) fn is_database(path: &Path) -> bool {
    place_of(path).is_some_and(|(dir, name)| is_database_at(dir, name))
}

/// True when a log of SQLite is at `path` now, be its database one that can be told or not: encrypted ones cannot.
pub(super) fn is_log(path: &Path) -> bool {
    place_of(path).is_some_and(|(dir, name)| is_log_at(dir, name))
}

fn place_of(path: &Path) -> Option<(OwnedFd, &[u8])> {
    Some((at::open_place(path.parent()?).ok()?, path.file_name()?.as_bytes()))
}

/// The names of what SQLite keeps beside database `name`.
pub(super) fn sidecars_of(name: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    SIDECARS.into_iter().map(move |suffix| [name, suffix].concat())
}

/// An error for a component that cannot be exchanged.
pub(super) fn not_here(component: &str, why: &str) -> OpError {
    OpError::new(Class::Failed, format!("component {component} cannot be rolled back: {why}"))
        .hint("roll the others back with --only NAME, and bring this one back with `backstay restore ID NAME --to DIR`")
}
