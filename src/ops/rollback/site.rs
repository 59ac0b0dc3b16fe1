//! Where the parts of a component lie that are exchanged, and the folder beside them that holds what is not live.

use crate::config::{Component, Spec};
use crate::durable::{crash, own_names};
use crate::model::entry::{FLAG_CRASH_CONSISTENT, FLAG_DATABASE};
use crate::model::index::IndexComponent;
use crate::model::{ComponentName, Entry, Kind, RelPath};
use crate::ops::error::{Class, Doing, Result};
use crate::ops::layout::base_of;
use crate::ops::rollback::left::{Left, Nothing, is_database, not_here, sidecars_of};
use crate::ops::rollback::step::{Below, Ground, can_exchange};
use crate::ops::rollback::tree::{Found, Gather};
use crate::ops::select::Selection;
use crate::ops::session::Session;
use crate::platform::at;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A directory of which everything, or some names, are exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) component: ComponentName,
    /// The directory. Steps are relative to it, and the site's own folder lies in it.
    pub(super) base: PathBuf,
    pub(super) what: What,
    /// Of names, those that are databases in the snapshot: what SQLite keeps beside them goes with them.
    databases: Vec<RelPath>,
}

/// What of a directory is exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// All that does not stay.
    Whole,
    /// The same of what is mounted on this path of the component.
    Below(RelPath),
    /// These paths of the component, which lie in the directory by their last parts.
    Names(Vec<RelPath>),
    /// This database, with what SQLite keeps beside it.
    Database(RelPath),
}

/// The sites of a component of the snapshot, as today's configuration has it.
pub(super) fn sites_of(session: &Session, of: &IndexComponent, entries: &[Entry]) -> Result<Vec<Site>> {
    let config = session.config()?;
    let name = of.name.as_str();
    let Some(component) = config.component(name) else {
        return Err(not_here(name, "today's configuration has no component of that name"));
    };
    let (base, single) = base_of(component, Some(config));
    let site = |base: &Path, what| Site {
        component: component.name.clone(),
        base: base.to_owned(),
        what,
        databases: Vec::new(),
    };
    let found = |path: &RelPath| entries.iter().any(|entry| entry.path == *path);
    let one = || entries.iter().map(|entry| &entry.path).find(|path| !path.is_root()).cloned();
    let names = |base: &Path, paths: Vec<RelPath>| Site {
        databases: databases_of(entries, &paths),
        ..site(base, What::Names(with_logs(entries, paths)))
    };
    let sites = match &component.spec {
        // Dumps have no place among files.
        Spec::Command { .. } | Spec::Postgres { .. } => Vec::new(),
        // What the snapshot could not read stays.
        _ if of.single && entries.first().is_some_and(|entry| entry.kind == Kind::Left) => Vec::new(),
        Spec::Sqlite { .. } => vec![site(&base, What::Database(named(component, one())?))],
        Spec::Folder { .. } if single || of.single => {
            vec![names(&base, vec![named(component, one())?])]
        }
        Spec::Folder { .. } => {
            let mounted = mounted_below(&base).unwrap_or_default();
            let apart = mounted.into_iter().filter(found);
            let apart = apart.map(|path| (base.join(OsStr::from_bytes(path.as_bytes())), path));
            let apart = apart.filter(|(place, _)| place.is_dir());
            let apart = apart.map(|(place, path)| site(&place, What::Below(path)));
            std::iter::once(site(&base, What::Whole)).chain(apart).collect()
        }
        Spec::Paths { paths } => {
            let mut by_base: BTreeMap<PathBuf, Vec<RelPath>> = BTreeMap::new();
            for path in paths {
                let Some(listed) = in_component(&base, path).filter(found) else {
                    continue;
                };
                let parent = path.parent().unwrap_or(Path::new("/"));
                by_base.entry(parent.to_owned()).or_default().push(listed);
            }
            by_base.into_iter().map(|(base, paths)| names(&base, paths)).collect()
        }
    };
    for site in &sites {
        if !site.base.is_dir() {
            let why = format!("there is no folder {} to put it into; make it first", site.base.display());
            return Err(not_here(name, &why));
        }
    }
    Ok(sites)
}

/// The paths below `base` on which something is mounted, where the system tells.
pub(super) fn mounted_below(base: &Path) -> Option<Vec<RelPath>> {
    let real = base.canonicalize().ok()?;
    let below = |place: PathBuf| RelPath::new(place.strip_prefix(&real).ok()?.as_os_str().as_bytes()).ok();
    Some(crate::platform::mounts::mounts_below(base).ok()?.into_iter().filter_map(below).collect())
}

/// The one file of a component. It is put back under the name that it has in today's configuration.
fn named(component: &Component, found: Option<RelPath>) -> Result<RelPath> {
    let today = match &component.spec {
        Spec::Folder { path } | Spec::Sqlite { path, .. } => path.file_name().map(OsStr::as_bytes),
        _ => None,
    };
    match found {
        Some(path) if Some(path.as_bytes()) == today => Ok(path),
        Some(_) => {
            Err(not_here(component.name.as_str(), "its file had another name when the snapshot was made"))
        }
        None => Err(not_here(component.name.as_str(), "the snapshot has no file of it")),
    }
}

/// Those of `paths` that the snapshot has as databases.
fn databases_of(entries: &[Entry], paths: &[RelPath]) -> Vec<RelPath> {
    let is_one = |e: &&Entry| e.has_flag(FLAG_DATABASE) || e.has_flag(FLAG_CRASH_CONSISTENT);
    let databases = entries.iter().filter(is_one).map(|e| &e.path).filter(|path| paths.contains(path));
    databases.cloned().collect()
}

/// `paths`, with the logs that the snapshot has beside them: those of a database that it has as bytes.
fn with_logs(entries: &[Entry], mut paths: Vec<RelPath>) -> Vec<RelPath> {
    let databases = databases_of(entries, &paths);
    let logs = { databases.iter() }
        .flat_map(|path| sidecars_of(path.as_bytes()))
        .filter_map(|log| entries.iter().find(|e| e.kind == Kind::File && e.path.as_bytes() == log))
        .map(|entry| entry.path.clone());
    let logs: Vec<RelPath> = logs.filter(|log| !paths.contains(log)).collect();
    paths.extend(logs);
    paths
}

/// How a path of a list is called in its component.
fn in_component(base: &Path, path: &Path) -> Option<RelPath> {
    match path.strip_prefix(base) {
        Ok(below) => RelPath::new(below.as_os_str().as_bytes()).ok(),
        Err(_) => RelPath::new(&[b"_root", path.as_os_str().as_bytes()].concat()).ok(),
    }
}

impl Site {
    /// What is exchanged of it, as places of this machine.
    pub(super) fn places(&self) -> Vec<PathBuf> {
        let name = |path: &RelPath| self.base.join(OsStr::from_bytes(path.name()));
        match &self.what {
            What::Whole | What::Below(_) => vec![self.base.clone()],
            What::Names(paths) => paths.iter().map(name).collect(),
            What::Database(path) => vec![name(path)],
        }
    }

    /// True when `path` of the component is exchanged here, unless something keeps it.
    pub(super) fn reaches(&self, path: &RelPath) -> bool {
        match &self.what {
            What::Whole => true,
            What::Below(top) | What::Database(top) => path.is_within(top),
            What::Names(paths) => paths.iter().any(|named| path.is_within(named)),
        }
    }

    /// What is fetched for it.
    pub(super) fn selection(&self) -> Selection {
        let paths = match &self.what {
            What::Whole => Vec::new(),
            What::Below(path) => vec![path.clone()],
            What::Names(paths) => paths.clone(),
            What::Database(path) => vec![path.clone()],
        };
        Selection { component: self.component.to_string(), paths }
    }

    /// Makes its own folder: `new` for what is fetched, `old` for what goes away.
    pub(super) fn make_staging(&self, staging: &str) -> Result<OwnedFd> {
        let what = || format!("cannot prepare a rollback in {}", self.base.display());
        let base = at::open_place(&self.base).doing(Class::Failed, what)?;
        let (dir, _) = at::create_dir(&base, staging.as_bytes()).doing(Class::Failed, what)?;
        let (new, _) = at::create_dir(&dir, b"new").doing(Class::Failed, what)?;
        at::create_dir(&dir, b"old").doing(Class::Failed, what)?;
        // For a week it lies in what may be somebody's working tree.
        let (mut ignored, _) = at::create_file(&dir, b".gitignore").doing(Class::Failed, what)?;
        ignored.write_all(b"*\n").doing(Class::Failed, what)?;
        at::sync_dir(&dir).and_then(|()| at::sync_dir(&base)).doing(Class::Failed, what)?;
        crash::point("rollback: folder made");
        Ok(new)
    }

    /// The steps from what is live now to what was fetched.
    pub(super) fn gather(&self, staging: &str, left: Option<&Left>, apart: &[RelPath]) -> Result<Found> {
        let what = || format!("cannot compare {} with what was fetched", self.base.display());
        let ground = Ground::open(&self.base).doing(Class::Failed, what)?;
        let dir = ground.open_dir(&Below(staging.as_bytes().to_vec())).doing(Class::Failed, what)?;
        let exchanges = can_exchange(&dir).doing(Class::Failed, what)?;
        let gather = |leaves, run: &dyn Fn(&mut Gather<'_>) -> std::io::Result<()>| {
            let found = Found::default();
            let mounted = mounted_below(&self.base).map(|paths| paths.into_iter().collect());
            let mut gather = Gather { ground: &ground, leaves, staging, exchanges, mounted, apart, found };
            run(&mut gather).doing(Class::Failed, what)?;
            Ok(gather.found)
        };
        let waiting = |path: &RelPath| Below([staging.as_bytes(), b"/new/", path.as_bytes()].concat());
        let all = Below([staging.as_bytes(), b"/new"].concat());
        match (&self.what, left) {
            (What::Whole, Some(left)) => gather(left, &|g| g.whole(&all)),
            (What::Whole, None) => gather(&Nothing, &|g| g.whole(&all)),
            (What::Below(path), Some(left)) => gather(&left.from(path), &|g| g.whole(&waiting(path))),
            (What::Below(path), None) => gather(&Nothing, &|g| g.whole(&waiting(path))),
            (What::Database(path), _) => gather(&Nothing, &|g| {
                for sidecar in sidecars_of(path.name()) {
                    g.one(&sidecar, None)?;
                }
                g.one(path.name(), Some(&waiting(path)))
            }),
            (What::Names(paths), left) => {
                let prefix = paths.first().and_then(RelPath::parent).unwrap_or_else(RelPath::root);
                let stays = left.map(|left| left.from(&prefix));
                let leaves: &dyn crate::ops::rollback::tree::Leaves = match &stays {
                    Some(stays) => stays,
                    None => &Nothing,
                };
                gather(leaves, &|g| {
                    paths.iter().try_for_each(|path| {
                        if self.databases.contains(path)
                            || is_database(&self.base.join(OsStr::from_bytes(path.name())))
                        {
                            let named = |log: &[u8]| paths.iter().any(|path| path.name() == log);
                            g.logs_of(path.name(), &named)?;
                        }
                        g.one(path.name(), Some(&waiting(path)))
                    })
                })
            }
        }
    }
}

/// A name for the folder of a rollback, the same in every site of it.
pub(super) fn staging_name(digits: &str) -> String {
    format!("{}{digits}", String::from_utf8_lossy(own_names::ROLLBACK))
}

/// Removes a site's own folder with all that is in it; false when there is none.
pub(super) fn remove_staging(base: &Path, staging: &str) -> Result<bool> {
    let what = || format!("cannot remove {}", base.join(staging).display());
    let dir = match at::open_place(base) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.doing(Class::Failed, what)?,
    };
    let remove = || crate::platform::remove::remove_tree(dir.as_fd(), staging.as_bytes());
    match crash::around("rollback: a folder removed", remove) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true).doing(Class::Failed, what),
    }
}
