//! The folder of a recovery under way: what was begun, and which components are whole.
//!
//! A component counts as restored only when its report lies here, fsynced: a tree without one is removed and restored anew.

use super::logs::Aside;
use super::moving::{Mover, is_denied};
use super::parts::{Origins, Parts};
use super::place::ComponentPlace;
use super::{RecoverOptions, RecoveredComponent};
use crate::durable::{self, DurableError, FileLock, Held, crash};
use crate::model::index::ComponentKind;
use crate::model::{HostId, ObjectId, Problem, SnapshotId, Timestamp, VaultId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::restore::{RestoreOptions, run as restore, stamp};
use crate::ops::session::Session;
use crate::platform::at;
use crate::platform::remove::remove_tree;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub(super) const FOLDER: &str = ".backstay-recovery";
const FILE: &str = "recovery.json";

/// What a recovery was begun with; a run that goes on must mean the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    /// The project's folder.
    pub(super) dir: PathBuf,
    pub(super) vault: VaultId,
    pub(super) host: HostId,
    pub(super) snapshot: SnapshotId,
    /// SHA-256 of line 1 of its record.
    pub(super) record: ObjectId,
    pub(super) in_place: bool,
    pub(super) only: Vec<String>,
    /// The snapshot that each component comes from; none where an older program began it, which took all from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) components: Option<Origins>,
}

impl Begun {
    /// What was begun in the project folder `dir`, if anything was.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FOLDER).join(FILE);
        let cannot = || format!("cannot read what an interrupted recovery left: {}", path.display());
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).doing(Class::Failed, cannot),
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(e) => Err(e).doing(Class::Failed, cannot),
        }
    }
}

/// A component that was restored, and how that went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Restored {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) databases_checked: u64,
    pub(super) problems: Vec<Problem>,
    /// The folder in which it was restored.
    data: PathBuf,
    /// What could not be moved to its place; filled in once everything else was.
    pub(super) left: Vec<String>,
    /// The folder that it is in because the way to its place was blocked.
    #[serde(default)]
    pub(super) beside: Option<PathBuf>,
    /// It was blocked by modes: this user may not write there.
    #[serde(default)]
    pub(super) denied: bool,
    placed: bool,
}

impl Restored {
    pub(super) fn report(&self, place: &ComponentPlace, parts: &Parts) -> RecoveredComponent {
        RecoveredComponent {
            name: place.name.clone(),
            snapshot: parts.snapshot_of(&place.name).clone(),
            instant: parts.index.component(&place.name).map_or(parts.record.started, |c| c.instant),
            to: place.to.display().to_string(),
            at_its_place: place.at_its_place,
            files: self.files,
            bytes: self.bytes,
            databases_checked: self.databases_checked,
        }
    }
}

/// The folder, locked.
pub(super) struct Work {
    dir: PathBuf,
    project: PathBuf,
    vault: VaultId,
    _held: Held,
}

impl Work {
    /// Makes the folder, or takes up that of an interrupted run.
    pub(super) fn begin(begun: &Begun, now: Timestamp) -> Result<Self> {
        let dir = begun.dir.join(FOLDER);
        let cannot = || format!("cannot begin a recovery in {}", begun.dir.display());
        durable::create_dirs(&begun.dir, 0o755).doing(Class::Failed, cannot)?;
        durable::create_dirs(&dir, 0o700).doing(Class::Failed, cannot)?;
        let held = FileLock::new(dir.join("lock")).try_lock("recover", now).doing(Class::Failed, cannot)?;
        let held = held.ok_or_else(|| {
            let what = format!("another recovery into {} is under way", begun.dir.display());
            OpError::new(Class::Busy, what).hint("wait for it to end")
        })?;
        match Begun::read(&begun.dir)? {
            Some(there) if there == *begun => {}
            Some(_) => {
                return Err(OpError::new(Class::Failed, cannot()).because("another recovery was begun there"));
            }
            None => {
                // Reports of components that nobody begun with would pass for this run's.
                clear_all(&dir).doing(Class::Failed, cannot)?;
                let text = serde_json::to_vec(begun).doing(Class::Failed, cannot)?;
                durable::replace(&dir.join(FILE), &text).doing(Class::Failed, cannot)?;
            }
        }
        Ok(Self { dir, project: begun.dir.clone(), vault: begun.vault.clone(), _held: held })
    }

    /// Restores a component, checked, into a folder of its own; then moves it to its place.
    pub(super) fn bring(
        &self,
        session: &Session,
        options: &RecoverOptions,
        snapshot: &SnapshotId,
        (place, config): (&ComponentPlace, &Path),
    ) -> Result<Restored> {
        let mut restored = match self.read(place)? {
            Some(restored) => restored,
            None => self.restore(session, options, snapshot, place)?,
        };
        if !restored.placed {
            let from = restored.data.join(&place.name);
            let stamp = stamp(session);
            let moved = Mover { project: &self.project, config, stamp: &stamp }.put(place, &from)?;
            crash::point("recover: component moved");
            if moved.left.is_empty() {
                remove(&restored.data)?;
            }
            (restored.beside, restored.denied) = (moved.beside, moved.denied);
            restored.problems.extend(moved.aside.iter().map(Aside::problem));
            restored.left = moved.left.iter().map(|path| path.display().to_string()).collect();
            restored.placed = true;
            self.write(place, &restored)?;
        }
        Ok(restored)
    }

    fn restore(
        &self,
        session: &Session,
        options: &RecoverOptions,
        snapshot: &SnapshotId,
        place: &ComponentPlace,
    ) -> Result<Restored> {
        let data = self.data_of(place);
        clear(&data)?;
        let report = restore(
            session,
            &RestoreOptions {
                snapshot: snapshot.to_string(),
                paths: vec![place.name.clone()],
                to: data.clone(),
                accept_untrusted: false,
                ignore_owners: options.ignore_owners,
                // The next snapshot that has the component whole is named instead.
                salvage: false,
            },
        )?;
        crash::point("recover: component restored");
        let restored = Restored {
            files: report.files,
            bytes: report.bytes,
            databases_checked: report.databases_checked,
            problems: report.problems,
            data,
            left: Vec::new(),
            beside: None,
            denied: false,
            placed: false,
        };
        self.write(place, &restored)?;
        Ok(restored)
    }

    /// Where a component is restored: on the file system of its place, so that it can be moved there in one step; where this user may make nothing
    /// there, in the work folder, from which somebody who may can move it.
    fn data_of(&self, place: &ComponentPlace) -> PathBuf {
        let inside = place.to.starts_with(&self.project) || place.kind == ComponentKind::Paths;
        // Not below what came from the snapshot: a link of it would lead elsewhere.
        let top = usize::from(place.top == place.to);
        let near = place.top.ancestors().skip(top).find(|path| path.is_dir()).filter(|_| !inside);
        let name = format!("{FOLDER}-{}-{}", self.vault, place.name);
        match near {
            Some(near) if may_make(near, &name) => near.join(name),
            _ => self.dir.join(format!("data-{}", place.name)),
        }
    }

    fn file_of(&self, place: &ComponentPlace) -> PathBuf {
        self.dir.join(format!("{}.json", place.name))
    }

    fn read(&self, place: &ComponentPlace) -> Result<Option<Restored>> {
        let path = self.file_of(place);
        match std::fs::read(&path) {
            Ok(text) => {
                let read = serde_json::from_slice(&text);
                read.map(Some).doing(Class::Failed, || format!("cannot read {}", path.display()))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).doing(Class::Failed, || format!("cannot read {}", path.display())),
        }
    }

    fn write(&self, place: &ComponentPlace, restored: &Restored) -> Result<()> {
        let path = self.file_of(place);
        let cannot = || format!("cannot write {}", path.display());
        let text = serde_json::to_vec(restored).doing(Class::Failed, cannot)?;
        durable::replace(&path, &text).doing(Class::Failed, cannot)
    }

    /// Removes the folder, unless something stays in it that a person must look at.
    pub(super) fn end(self, remove_all: bool) -> std::result::Result<(), DurableError> {
        if !remove_all {
            // Without this file a later run does not take it for one to go on with.
            return durable::remove(&self.dir.join(FILE)).map(drop);
        }
        durable::remove(&self.dir.join(FILE))?;
        let parent = durable::Dir::open(&self.project)?;
        // What cannot be removed is empty or ours; nothing depends on it.
        let _litter =
            at::open_place(&self.project).and_then(|place| remove_tree(place.as_fd(), FOLDER.as_bytes()));
        parent.sync()
    }
}

/// False where this user may make no folder in `near`. What else stands in the way is told when something is made there.
fn may_make(near: &Path, name: &str) -> bool {
    let made = at::open_place(near).and_then(|dir| {
        at::create_dir(&dir, name.as_bytes())?;
        at::remove_dir(&dir, name.as_bytes())
    });
    !made.is_err_and(|e| is_denied(Errno::from_io_error(&e)))
}

/// Removes everything in the work folder but its lock.
fn clear_all(dir: &Path) -> std::io::Result<()> {
    let place = at::open_place(dir)?;
    for (name, _) in at::names(&place)? {
        if name != b"lock" {
            remove_tree(place.as_fd(), &name)?;
        }
    }
    Ok(())
}

/// Removes what killed runs left at and beside `data`: a tree without a report, and unfinished ones.
fn clear(data: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (data.parent(), data.file_name()) else {
        return Ok(());
    };
    let unfinished = [b".".as_slice(), name.as_bytes(), b".backstay-partial-"].concat();
    let sweep = || -> std::io::Result<()> {
        let dir = at::open_place(parent)?;
        for (found, _) in at::names(&dir)? {
            if found == name.as_bytes() || found.starts_with(&unfinished) {
                remove_tree(dir.as_fd(), &found)?;
            }
        }
        Ok(())
    };
    sweep()
        .doing(Class::Failed, || format!("cannot clear what an interrupted run left in {}", parent.display()))
}

fn remove(data: &Path) -> Result<()> {
    let cannot = || format!("cannot remove {}", data.display());
    let (Some(parent), Some(name)) = (data.parent(), data.file_name()) else {
        return Ok(());
    };
    let removed = at::open_place(parent).and_then(|dir| match at::facts_if_any(&dir, name.as_bytes())? {
        Some(_) => remove_tree(dir.as_fd(), name.as_bytes()),
        None => Ok(()),
    });
    removed.doing(Class::Failed, cannot)
}
