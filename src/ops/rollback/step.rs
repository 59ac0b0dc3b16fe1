//! The steps of an exchange, taken and taken back. What is where is told by inodes, never by how far a list was worked off: so every function here may
//! be called again after a kill at any moment.
//!
//! Nothing here may remove anything, or rename over something.

use crate::durable::crash;
use crate::ops::rollback::id::Inode;
use crate::platform::apply::Subject;
use crate::platform::at;
use rustix::fs::{FileType, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A path below the base of a site; bytes that are not UTF-8 survive the journal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Spelled", into = "Spelled")]
pub(super) struct Below(pub(super) Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Spelled {
    Text(String),
    Bytes { b64: String },
}

impl From<Below> for Spelled {
    fn from(path: Below) -> Self {
        match String::from_utf8(path.0) {
            Ok(text) => Self::Text(text),
            Err(e) => Self::Bytes { b64: data_encoding::BASE64.encode(e.as_bytes()) },
        }
    }
}

impl From<Spelled> for Below {
    fn from(spelled: Spelled) -> Self {
        match spelled {
            Spelled::Text(text) => Self(text.into_bytes()),
            // The journal is compared with its hash when it is read: what is no base64 here was never written.
            Spelled::Bytes { b64 } => Self(data_encoding::BASE64.decode(b64.as_bytes()).unwrap_or_default()),
        }
    }
}

impl Below {
    pub(super) fn join(&self, name: &[u8]) -> Self {
        if self.0.is_empty() { Self(name.to_vec()) } else { Self([&self.0, &b"/"[..], name].concat()) }
    }

    /// The directory that it lies in, and its name there.
    fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (b".", &self.0),
        }
    }
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::model::path::escape(&self.0))
    }
}

/// Mode, owner and time of a directory that stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Look {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
}

impl Look {
    pub(super) fn of(facts: &at::Facts) -> Self {
        Self { mode: facts.mode, uid: facts.uid, gid: facts.gid, mtime: facts.mtime }
    }
}

/// One step. `live` is a path of the application; `aside` one in the site's own folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "lowercase")]
pub(super) enum Step {
    /// What is live goes aside; nothing takes its place.
    Out { live: Below, aside: Below, old: Inode },
    /// What is live and what waits aside exchange their places.
    Exchange { live: Below, aside: Below, old: Inode, new: Inode },
    /// What waits aside becomes live, where nothing was.
    In { live: Below, aside: Below, new: Inode },
    /// A directory that stays gets other metadata.
    Meta { live: Below, old: Look, new: Look },
}

/// A step cannot be taken or taken back.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// The system refused.
    #[error("cannot move {}", path.display())]
    Io {
        /// What was to move.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What should be at one of two places is at neither.
    #[error("{} is not where it was: somebody moved or replaced it meanwhile", path.display())]
    Strange {
        /// What was to move.
        path: PathBuf,
    },
}

/// A directory with what is live in it and, in a folder of its own, what is not.
pub(super) struct Ground<'a> {
    base: &'a Path,
    fd: OwnedFd,
}

impl<'a> Ground<'a> {
    pub(super) fn open(base: &'a Path) -> io::Result<Self> {
        Ok(Self { base, fd: at::open_place(base)? })
    }

    pub(super) fn dir(&self, path: &Below) -> io::Result<(OwnedFd, Vec<u8>)> {
        let (dir, name) = path.split();
        Ok((at::open_dir_beneath(self.fd.as_fd(), dir)?, name.to_vec()))
    }

    pub(super) fn inode(&self, path: &Below) -> io::Result<Option<(Inode, at::Facts)>> {
        match self.dir(path) {
            Ok((dir, name)) => Inode::at(dir.as_fd(), &name),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The file at `path`, where one is and nothing is mounted on it.
    pub(super) fn own_file(&self, path: &Below) -> io::Result<Option<Inode>> {
        let found = self.inode(path)?.filter(|(_, facts)| facts.kind == FileType::RegularFile);
        match found {
            Some((inode, _)) if inode.is_on_the_mount_of(self.fd.as_fd())? => Ok(Some(inode)),
            _ => Ok(None),
        }
    }

    /// Opens a directory below the base; the base itself for the empty path.
    pub(super) fn open_dir(&self, path: &Below) -> io::Result<OwnedFd> {
        at::open_dir_beneath(self.fd.as_fd(), if path.0.is_empty() { b"." } else { &path.0 })
    }

    /// How a directory below the base looks.
    pub(super) fn look(&self, path: &Below) -> io::Result<Look> {
        Ok(Look::of(&at::facts(self.open_dir(path)?)?))
    }

    /// True when something is mounted on `path`.
    pub(super) fn is_mounted(&self, path: &Below) -> io::Result<bool> {
        let (dir, name) = self.dir(path)?;
        at::is_mount_point(dir, &name)
    }

    pub(super) fn path(&self, path: &Below) -> PathBuf {
        self.base.join(OsStr::from_bytes(&path.0))
    }

    fn failed(&self, path: &Below, source: io::Error) -> StepError {
        StepError::Io { path: self.path(path), source }
    }

    fn where_is(&self, wanted: &Inode, path: &Below) -> Result<bool, StepError> {
        let is = || match self.inode(path)? {
            Some((inode, _)) if inode == *wanted => inode.is_on_the_mount_of(self.fd.as_fd()),
            _ => Ok(false),
        };
        is().map_err(|e| self.failed(path, e))
    }

    fn taken(&self, path: &Below) -> Result<bool, StepError> {
        Ok(self.inode(path).map_err(|e| self.failed(path, e))?.is_some())
    }

    /// Renames, with `flags` that keep it from replacing anything. Both directories are made durable.
    fn rename(&self, from: &Below, to: &Below, flags: RenameFlags) -> Result<(), StepError> {
        let moved = || -> io::Result<()> {
            let (from_dir, from_name) = self.dir(from)?;
            let (to_dir, to_name) = self.dir(to)?;
            crash::around("rollback: a step", || {
                Ok::<_, io::Error>(renameat_with(&from_dir, &*from_name, &to_dir, &*to_name, flags)?)
            })?;
            at::sync_dir(&from_dir)?;
            at::sync_dir(&to_dir)
        };
        moved().map_err(|e| self.failed(from, e))
    }

    fn set(&self, path: &Below, look: &Look) -> Result<(), StepError> {
        let set = || -> io::Result<()> {
            let dir = self.open_dir(path)?;
            let subject = Subject::Open(dir.as_fd());
            let facts = subject.facts()?;
            if (facts.uid, facts.gid) != (look.uid, look.gid) {
                match subject.set_owner(Some(look.uid), Some(look.gid)) {
                    // Who is not root cannot give things away; the plan said so.
                    Err(e) if e.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {}
                    other => other?,
                }
            }
            subject.set_mode(look.mode)?;
            subject.set_mtime(look.mtime)?;
            // Before the journal says that all is exchanged: a mode that a power cut takes with it would be nobody's to put back.
            at::sync_dir(&dir)
        };
        set().map_err(|e| self.failed(path, e))
    }

    /// Takes the step, unless it is taken already.
    pub(super) fn take(&self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::Out { live, aside, old } if self.where_is(old, live)? => {
                self.rename(live, aside, RenameFlags::NOREPLACE)
            }
            Step::Exchange { live, aside, old, new }
                if self.where_is(old, live)? && self.where_is(new, aside)? =>
            {
                self.rename(aside, live, RenameFlags::EXCHANGE)
            }
            Step::In { live, aside, new } if self.where_is(new, aside)? => {
                self.rename(aside, live, RenameFlags::NOREPLACE)
            }
            Step::Meta { live, new, .. } => self.set(live, new),
            Step::Out { aside, live, old } => self.there(old, aside, live),
            Step::Exchange { live, new, .. } | Step::In { live, new, .. } => self.there(new, live, live),
        }
    }

    /// Takes the step back, unless that is done. What came into its place meanwhile goes aside and is kept.
    pub(super) fn take_back(&self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::Out { live, aside, old } | Step::Exchange { live, aside, old, .. }
                if self.where_is(old, aside)? =>
            {
                let flags = if self.taken(live)? { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
                self.rename(aside, live, flags)
            }
            // Never taken, for what was live had been replaced or removed before: what others wrote meanwhile stays live.
            Step::Exchange { aside, new, .. } if self.where_is(new, aside)? => Ok(()),
            // The same, or [`Self::missed`].
            Step::Out { aside, .. } if self.is_empty_place(aside)? => Ok(()),
            Step::Out { live, old, .. } | Step::Exchange { live, old, .. } => self.there(old, live, live),
            Step::In { live, aside, .. } => {
                // Nothing was here: whatever is now goes with the new tree, unless that is aside again.
                if self.taken(live)? && !self.taken(aside)? {
                    self.rename(live, aside, RenameFlags::NOREPLACE)
                } else {
                    Ok(())
                }
            }
            Step::Meta { live, old, .. } => self.set(live, old),
        }
    }

    /// True unless what the step needs to be taken back is neither live nor aside.
    pub(super) fn can_take_back(&self, step: &Step) -> io::Result<bool> {
        match step {
            Step::Out { live, aside, old } | Step::Exchange { live, aside, old, .. } => {
                Ok(self.is_at(old, live)? || (self.is_at(old, aside)? && self.dir(live).is_ok()))
            }
            Step::In { aside, .. } => Ok(self.dir(aside).is_ok()),
            Step::Meta { .. } => Ok(true),
        }
    }

    /// Where something lay that went away and is neither there nor aside. Whether it was gone before its step or was taken from what was put away,
    /// nothing tells any more.
    pub(super) fn missed(&self, step: &Step) -> io::Result<Option<PathBuf>> {
        match step {
            Step::Out { live, aside, old } if !self.is_at(old, live)? && !self.is_at(old, aside)? => {
                Ok(Some(self.path(live)))
            }
            _ => Ok(None),
        }
    }

    fn is_at(&self, wanted: &Inode, path: &Below) -> io::Result<bool> {
        Ok(self.inode(path)?.is_some_and(|(inode, _)| inode == *wanted))
    }

    /// True when nothing is at `path`, and the folder that it would be in is there: one that somebody removed tells nothing.
    fn is_empty_place(&self, path: &Below) -> Result<bool, StepError> {
        let (dir, name) = self.dir(path).map_err(|e| self.failed(path, e))?;
        Ok(Inode::at(dir.as_fd(), &name).map_err(|e| self.failed(path, e))?.is_none())
    }

    fn there(&self, wanted: &Inode, path: &Below, told: &Below) -> Result<(), StepError> {
        if self.where_is(wanted, path)? { Ok(()) } else { Err(StepError::Strange { path: self.path(told) }) }
    }
}

/// True when names in `dir` can be exchanged in one step: tried with two empty files, which are gone afterwards.
///
/// # Errors
/// Here nothing can be moved without the danger of replacing something.
pub(super) fn can_exchange(dir: &OwnedFd) -> io::Result<bool> {
    #[cfg(debug_assertions)]
    if let Some(lacking) = std::env::var_os("BACKSTAY_TEST_NO_EXCHANGE") {
        return if lacking == "nor moves" { Err(no_moves()) } else { Ok(false) };
    }
    let names = [&b"exchange-1"[..], b"exchange-2"];
    for name in names {
        at::create_file(dir, name)?;
    }
    let exchanged = at::exchange(dir, names[0], names[1]);
    at::unlink(dir, names[1])?;
    // Where that is not to be had, names go away and in, which must be refused when one is taken.
    let moved = at::rename_new(dir, names[0], names[1]);
    at::unlink(dir, if moved.is_ok() { names[1] } else { names[0] })?;
    match (exchanged, moved) {
        (_, Err(e)) if at::is_unsupported(&e) => Err(no_moves()),
        (_, Err(e)) => Err(e),
        (Ok(()), Ok(())) => Ok(true),
        (Err(e), Ok(())) if at::is_unsupported(&e) => Ok(false),
        (Err(e), Ok(())) => Err(e),
    }
}

fn no_moves() -> io::Error {
    let what = "this file system cannot rename without replacing (RENAME_NOREPLACE), so nothing can be put back here as a transaction; `backstay restore` can";
    io::Error::new(io::ErrorKind::Unsupported, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the journal of another boot says: the file system had another number.
    fn of_another_boot(step: &Step) -> Step {
        let mut value = serde_json::to_value(step).unwrap();
        for side in ["old", "new"] {
            let dev = value[side]["dev"].as_u64().unwrap();
            value[side]["dev"] = (dev + 1).into();
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn steps_are_told_after_a_boot_that_gave_the_file_system_another_number() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        for name in ["live", "aside"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let ground = Ground::open(dir.path()).unwrap();
        let (live, aside) = (Below(b"live".to_vec()), Below(b"aside".to_vec()));
        let inode = |path| ground.inode(path).unwrap().unwrap().0;
        let (old, new) = (inode(&live), inode(&aside));
        let step = of_another_boot(&Step::Exchange { live, aside, old, new });
        // Each twice: what is taken is not taken back by another try.
        for _ in 0..2 {
            ground.take(&step).unwrap();
            assert_eq!(read("live"), "aside");
        }
        for _ in 0..2 {
            ground.take_back(&step).unwrap();
            assert_eq!(read("live"), "live");
        }
        std::fs::remove_file(dir.path().join("live")).unwrap();
        assert!(matches!(ground.take(&step), Err(StepError::Strange { .. })));
    }
}
