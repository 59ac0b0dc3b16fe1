//! What was made or changed since the snapshot and goes away with the rollback: told in the plan, by names, sizes and times. No file is read: a plan
//! of forty thousand files must not keep anybody waiting.
//!
//! Nothing here may fail a rollback: what cannot be looked at counts as changed.

use crate::model::entry::FLAG_DATABASE;
use crate::model::index::IndexComponent;
use crate::model::{Entry, Kind, RelPath, Timestamp};
use crate::ops::rollback::left::{Left, Seen};
use crate::ops::rollback::site::{Site, What, mounted_below};
use crate::ops::rollback::tree::Leaves as _;
use serde::Serialize;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// So many are named, the last changed first: they are the likeliest to be somebody's work.
const NAMED: usize = 5;

/// What goes away of a component: files, links and the like that are no folders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The component.
    pub component: String,
    /// So many are not in the snapshot.
    pub made: u64,
    /// So many are other ones there.
    pub changed: u64,
    /// How large both are.
    pub bytes: u64,
    /// Some of them, by their paths in the component, the last changed first.
    pub names: Vec<String>,
}

/// Compares what is live with what the snapshot has of a component, whose `left` stays. A database of its own has none.
pub(super) fn since(of: &IndexComponent, entries: &[Entry], sites: &[Site], left: Option<&Left>) -> Lost {
    let mut found = Found::default();
    let then: HashMap<&RelPath, &Entry> = entries.iter().map(|entry| (&entry.path, entry)).collect();
    match left {
        Some(left) => below(of, &then, sites, left, &mut found),
        None => sites.iter().for_each(|site| database(of, &then, site, &mut found)),
    }
    found.told(of.name.to_string())
}

#[derive(Default)]
struct Found {
    lost: Lost,
    names: Vec<((i64, u32), String)>,
}

impl Found {
    fn add(&mut self, path: &RelPath, size: u64, mtime: (i64, u32), is_new: bool) {
        *(if is_new { &mut self.lost.made } else { &mut self.lost.changed }) += 1;
        self.lost.bytes = self.lost.bytes.saturating_add(size);
        self.names.push((mtime, path.to_string()));
    }

    fn told(mut self, component: String) -> Lost {
        self.names.sort_by(|(a, a_name), (b, b_name)| b.cmp(a).then_with(|| a_name.cmp(b_name)));
        let names = self.names.into_iter().take(NAMED).map(|(_, name)| name).collect();
        Lost { component, names, ..self.lost }
    }
}

fn below(
    of: &IndexComponent,
    then: &HashMap<&RelPath, &Entry>,
    sites: &[Site],
    left: &Left,
    found: &mut Found,
) {
    // What is mounted now and was not there then stays.
    let whole = sites.iter().filter(|site| site.what == What::Whole);
    let mounted = whole.flat_map(|site| mounted_below(&site.base).unwrap_or_default());
    let mounted: Vec<RelPath> = mounted.filter(|path| !then.contains_key(path)).collect();
    for (path, seen) in left.taken().filter(|(_, seen)| !matches!(seen.kind, Kind::Dir | Kind::Left)) {
        let old = then.get(path).copied();
        let differs = old.is_none_or(|old| is_other(old, seen, &left.real_path(path), of.started));
        // Asked last: rules cost more than numbers.
        let goes = || {
            old.is_none_or(|old| old.kind != Kind::Left)
                && sites.iter().any(|site| site.reaches(path))
                && !mounted.iter().any(|top| path.is_within(top))
                && !left.stays(path, false)
        };
        if differs && goes() {
            found.add(path, seen.size, seen.mtime, old.is_none());
        }
    }
}

/// True when what is live is not what the snapshot has, as far as numbers tell.
fn is_other(old: &Entry, seen: &Seen, place: &Path, started: Timestamp) -> bool {
    if old.kind != seen.kind {
        return true;
    }
    match seen.kind {
        Kind::Symlink => {
            let target = std::fs::read_link(place).ok();
            target.as_ref().map(|to| to.as_os_str().as_bytes()) != old.target.as_deref()
        }
        Kind::File if seen.database && old.has_flag(FLAG_DATABASE) => {
            seen.mtime != old.mtime || log_was_written(place, started)
        }
        Kind::File => (seen.size, seen.mtime) != (old.size, old.mtime),
        _ => false,
    }
}

/// A database that is a component of its own.
fn database(of: &IndexComponent, then: &HashMap<&RelPath, &Entry>, site: &Site, found: &mut Found) {
    let What::Database(path) = &site.what else { return };
    let place = site.base.join(std::ffi::OsStr::from_bytes(path.name()));
    let Ok(facts) = place.symlink_metadata() else { return };
    let mtime = (facts.mtime(), u32::try_from(facts.mtime_nsec()).unwrap_or(0));
    let old = then.get(path).copied();
    if old.is_none_or(|old| old.mtime != mtime) || log_was_written(&place, of.started) {
        found.add(path, facts.len(), mtime, old.is_none());
    }
}

/// True when the log of the database at `place` holds something, and was written after `started`: until it is checkpointed, only the log tells of a
/// change.
fn log_was_written(place: &Path, started: Timestamp) -> bool {
    let mut log = place.as_os_str().to_owned();
    log.push("-wal");
    let facts = PathBuf::from(log).symlink_metadata().ok().filter(|facts| facts.len() > 0);
    let written = facts.and_then(|facts| facts.modified().ok());
    written.is_some_and(|written| written > std::time::SystemTime::from(started))
}
