//! Moving what was restored to its place: by rename, never over something. What cannot be moved stays where it is, and is told.

use super::logs::{self, Aside};
use super::place::ComponentPlace;
use super::way::{self, Target};
use crate::durable::{Dir, DurableError};
use crate::model::index::ComponentKind;
use crate::model::{Problem, ProblemKind};
use crate::ops::error::{Class, Doing, Result};
use crate::platform::apply::Subject;
use crate::platform::at;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Says that something recovered could not be moved to its place.
pub(super) fn left_problem(path: &str) -> Problem {
    Problem {
        kind: ProblemKind::NotRestored,
        component: None,
        subject: path.to_owned(),
        what: "it could not be moved to its place: something is there already, it is on another file system, or this user may not write there"
            .into(),
        hint: Some(
            "compare the two, and move it by hand (cp -a, or mv), as a user who may; where a database goes back, what lies there with its name and -wal, -shm or -journal behind goes aside first: it would be replayed over it".into(),
        ),
    }
}

/// Where a component came to.
#[derive(Default)]
pub(super) struct Moved {
    /// What could not be moved, and stays where it is.
    pub(super) left: Vec<PathBuf>,
    /// The folder that it is in because the way to its place was blocked.
    pub(super) beside: Option<PathBuf>,
    /// The way was blocked by modes: this user may not write there.
    pub(super) denied: bool,
    /// Logs that lay beside the places of databases, and were moved aside.
    pub(super) aside: Vec<Aside>,
}

impl Moved {
    /// The whole component stays in `from`.
    fn stays(&mut self, from: &Path) {
        (self.denied, self.beside) = (true, Some(from.to_owned()));
        self.left.push(from.to_owned());
    }
}

/// True for what this user may not do here, or nobody on a medium that is read only.
pub(super) fn is_denied(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::ACCESS | Errno::PERM | Errno::ROFS))
}

/// Moves components to their places.
pub(super) struct Mover<'m> {
    /// The project's folder.
    pub(super) project: &'m Path,
    /// The configuration that is to be written.
    pub(super) config: &'m Path,
    /// The time, for names under which something is kept.
    pub(super) stamp: &'m str,
}

impl Mover<'_> {
    /// Moves the component whose tree is `from` to its place. What cannot be moved stays, and is given back.
    pub(super) fn put(&self, place: &ComponentPlace, from: &Path) -> Result<Moved> {
        let cannot = || format!("cannot move component {} to {}", place.name, place.to.display());
        let mut moved = Moved::default();
        self.put_outside(place, from, &mut moved)?;
        let (target, beside) = match self.open_target(place) {
            Err(e) if is_denied(e.errno()) => {
                if from.symlink_metadata().is_ok() {
                    moved.stays(from);
                }
                return Ok(moved);
            }
            other => other.doing(Class::Failed, cannot)?,
        };
        moved.beside = beside;
        if from.symlink_metadata().is_err() {
            return Ok(moved); // an interrupted run had moved all of it
        }
        if moved.beside.is_none() {
            put_config_aside(place, from, self.config).doing(Class::Failed, cannot)?;
        }
        match target {
            Target::Whole(dir, name) => match move_one(from, &dir, &name) {
                Err(e) if is_denied(Errno::from_io_error(&e)) => moved.stays(from),
                other => {
                    if !other.doing(Class::Failed, cannot)? {
                        moved.left.push(from.to_owned());
                    }
                }
            },
            Target::Blocked => moved.left.push(from.to_owned()),
            Target::Into(dir) => {
                if place.to == self.project && place.kind == ComponentKind::Folder && !place.single {
                    like(from, &dir).doing(Class::Failed, cannot)?;
                }
                self.into(from, &dir, &mut moved)?;
            }
        }
        Ok(moved)
    }

    /// Puts paths that lay outside of the component's folder where they go. Apart from the rest: what cannot be moved of them must not go along.
    fn put_outside(&self, place: &ComponentPlace, from: &Path, moved: &mut Moved) -> Result<()> {
        let cannot = || format!("cannot move component {} to {}", place.name, place.root.display());
        let mut apart = from.as_os_str().to_owned();
        apart.push("-outside");
        let apart = PathBuf::from(apart);
        let outside = from.join("_root");
        if place.kind == ComponentKind::Paths && outside.symlink_metadata().is_ok() {
            std::fs::rename(&outside, &apart).doing(Class::Failed, cannot)?;
        }
        if apart.symlink_metadata().is_err() {
            return Ok(());
        }
        let top = if place.root.starts_with(self.project) { self.project } else { &place.root };
        match way::open(top, &place.root).doing(Class::Failed, cannot)? {
            Some(root) => self.into(&apart, &root, moved),
            None => {
                moved.left.push(apart);
                Ok(())
            }
        }
    }

    /// The way to the component's place; where that is blocked, the way to a folder beside, which is given back, too.
    fn open_target(
        &self,
        place: &ComponentPlace,
    ) -> std::result::Result<(Target, Option<PathBuf>), DurableError> {
        let target = way::target(place)?;
        if !matches!(target, Target::Blocked) || place.to == place.beside {
            return Ok((target, None));
        }
        let there =
            ComponentPlace { to: place.beside.clone(), top: self.project.to_owned(), ..place.clone() };
        Ok(match way::target(&there)? {
            Target::Blocked => (Target::Blocked, None),
            free => (free, Some(there.to)),
        })
    }

    /// Moves what is in the folder `from` into the open folder `to`, and removes `from` if nothing stays in it.
    fn into(&self, from: &Path, to: &Dir, moved: &mut Moved) -> Result<()> {
        let cannot = || format!("cannot move what is in {} to {}", from.display(), to.path().display());
        let merge_all = |moved: &mut Moved| -> io::Result<()> {
            let source = at::open_place(from)?;
            self.merge((source.as_fd(), from), (to.as_fd(), to.path()), moved)?;
            at::sync_dir(to)?;
            if at::is_empty(&source)? { std::fs::remove_dir(from) } else { Ok(()) }
        };
        merge_all(moved).doing(Class::Failed, cannot)
    }

    fn merge(
        &self,
        (from, here): (BorrowedFd<'_>, &Path),
        (to, there): (BorrowedFd<'_>, &Path),
        moved: &mut Moved,
    ) -> io::Result<()> {
        let mut names = at::names(from)?;
        // So that a database comes before its own logs.
        names.sort_by(|one, other| one.0.cmp(&other.0));
        for (name, _) in names {
            let path = here.join(OsStr::from_bytes(&name));
            if logs::waits_for_its_database(from, &name)? {
                moved.left.push(path);
                continue;
            }
            if self.move_in(from, &name, (to, there), moved)? {
                continue;
            }
            // Reports of an earlier recovery, which came with the snapshot, would pass for this one's.
            let both = name != super::work::FOLDER.as_bytes()
                && at::facts_at(from, &name)?.is_dir()
                && at::facts_if_any(to, &name)?.is_some_and(|there| there.is_dir());
            let target = if both { open_unless_denied(to, &name)? } else { None };
            let Some(target) = target else {
                moved.left.push(path);
                continue;
            };
            let source = at::open_dir(from, &name)?;
            let below = there.join(OsStr::from_bytes(&name));
            self.merge((source.as_fd(), &path), (target.as_fd(), &below), moved)?;
            at::sync_dir(&target)?;
            if at::is_empty(&source)? {
                at::remove_dir(from, &name)?;
            }
        }
        Ok(())
    }

    /// Moves one name. False when it is not free, lies on another file system, or is not this user's to give.
    fn move_in(
        &self,
        from: BorrowedFd<'_>,
        name: &[u8],
        (to, there): (BorrowedFd<'_>, &Path),
        moved: &mut Moved,
    ) -> io::Result<bool> {
        match logs::move_without(from, name, (to, there), self.stamp) {
            Ok(None) => Ok(false),
            Ok(Some(aside)) => {
                moved.aside.extend(aside);
                Ok(true)
            }
            Err(e) if is_denied(Errno::from_io_error(&e)) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// So many older configurations are kept beside each other.
const ASIDE_MAX: u32 = 10_000;

/// The configuration that lay in a component is that of the old machine: it must not stand where commands look for one. One that an
/// earlier recovery put aside came with the snapshot, and stays.
fn put_config_aside(place: &ComponentPlace, from: &Path, config: &Path) -> io::Result<()> {
    let Ok(inside) = config.strip_prefix(&place.to) else {
        return Ok(());
    };
    let (Some(above), Some(name)) = (inside.parent(), inside.file_name()) else {
        return Ok(());
    };
    let mut dir = at::open_place(from)?;
    for part in above.components() {
        dir = match at::open_dir(&dir, part.as_os_str().as_bytes()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound || at::is_not_a_directory(&e) => return Ok(()),
            other => other?,
        };
    }
    let name = name.as_bytes();
    if !at::facts_if_any(&dir, name)?.is_some_and(|facts| facts.kind == FileType::RegularFile) {
        return Ok(());
    }
    for number in 1..=ASIDE_MAX {
        let number = if number == 1 { String::new() } else { format!("-{number}") };
        let aside = [name, b".before-recovery", number.as_bytes()].concat();
        if at::move_new_as(&dir, name, &dir, &aside)? {
            return Ok(());
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn open_unless_denied(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<OwnedFd>> {
    match at::open_dir(dir, name) {
        Err(e) if is_denied(Errno::from_io_error(&e)) => Ok(None),
        other => other.map(Some),
    }
}

/// Gives the folder `to` mode and, where that is allowed, owner of `from`.
fn like(from: &Path, to: &Dir) -> io::Result<()> {
    let facts = at::facts(at::open_place(from)?)?;
    let subject = Subject::Open(to.as_fd());
    if at::facts(to)?.uid != facts.uid || at::facts(to)?.gid != facts.gid {
        subject.set_owner(Some(facts.uid), Some(facts.gid))?;
    }
    subject.set_mode(facts.mode)
}

/// Renames to a name of an open folder that must be free. False when it is not, or lies on another file system.
fn move_one(from: &Path, to: &Dir, name: &OsStr) -> io::Result<bool> {
    let source = at::open_place(from.parent().unwrap_or(Path::new("/")))?;
    let old = from.file_name().map(|n| n.as_bytes().to_vec()).unwrap_or_default();
    let moved = at::move_new_as(source.as_fd(), &old, to.as_fd(), name.as_bytes())?;
    at::sync_dir(to)?;
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_moves_a_database_by_hand_is_told_that_old_logs_go_aside_first() {
        let hint = left_problem("/app/.backstay-recovery/data-db/agent.db").hint.unwrap_or_default();
        let logs = ["-wal", "-shm", "-journal"].iter().all(|log| hint.contains(log));
        assert!(logs && hint.contains("goes aside first"), "{hint}");
    }
}
