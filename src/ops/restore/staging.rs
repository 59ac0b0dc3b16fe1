//! The hidden folders in which files wait to be exchanged.

use crate::durable::own_names;
use crate::model::path::escape;
use crate::model::{Entry, Kind};
use crate::ops::error::{Class, Doing, Result};
use crate::ops::restore::Listing;
use crate::ops::restore::litter::clear_staging;
use crate::platform::{at, remove::remove_tree};
use data_encoding::HEXLOWER;
use rustix::fs::FlockOperation;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A component's files, proved and ready to be exchanged.
pub(super) struct Staged<'a> {
    pub(super) base: &'a Path,
    pub(super) listing: &'a Listing,
    pub(super) staging: Staging,
    /// Paths that are left out.
    pub(super) damaged: HashSet<String>,
}

impl Staged<'_> {
    pub(super) fn brings(&self, entry: &Entry) -> bool {
        comes_back(entry) && !self.damaged.contains(&escape(entry.path.as_bytes()))
    }
}

/// What is exchanged (directories are made when missing, and else left as they are): everything but what is never restored, and what has no
/// place of its own.
pub(super) fn comes_back(entry: &Entry) -> bool {
    !matches!(entry.kind, Kind::Socket | Kind::Left) && !entry.path.is_root()
}

/// A hidden folder of a restore in place. It goes with its value.
pub(super) struct Staging {
    base: OwnedFd,
    pub(super) name: Vec<u8>,
    pub(super) path: PathBuf,
    pub(super) root: OwnedFd,
    /// No other restore is at work in the folder that it lies in.
    pub(super) alone: bool,
}

impl Staging {
    /// Makes one in `base`, where those called as `ours` says may lie already.
    pub(super) fn make(base: &Path, ours: &[&[u8]]) -> Result<Self> {
        let what = || format!("cannot prepare a restore in {}", base.display());
        let dir = at::open_place(base).doing(Class::Failed, what).map_err(|e| {
            e.hint("if the whole folder is gone, restore it with --to and move it into place")
        })?;
        let random: [u8; 6] = crate::durable::random_bytes().doing(Class::Failed, what)?;
        let alone = clear_staging(dir.as_fd(), ours).doing(Class::Failed, what)?;
        let name = [own_names::STAGING, HEXLOWER.encode(&random).as_bytes()].concat();
        let (root, _) = at::create_dir(&dir, &name).doing(Class::Failed, what)?;
        // As long as this is open, nobody takes the folder for a killed restore's. Without locks nobody removes any.
        let _ = rustix::fs::flock(&root, FlockOperation::NonBlockingLockExclusive);
        let path = base.join(OsStr::from_bytes(&name));
        Ok(Self { base: dir, name, path, root, alone })
    }

    pub(super) fn root(&self) -> Result<OwnedFd> {
        self.root.try_clone().doing(Class::Failed, || "cannot open the staging folder".into())
    }

    pub(super) fn remove(&self) -> Result<()> {
        remove_tree(self.base.as_fd(), &self.name)
            .doing(Class::Failed, || format!("cannot remove the staging folder {}", self.path.display()))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What is live was not touched by this folder, and its name says what it is.
        let _gone = remove_tree(self.base.as_fd(), &self.name);
    }
}
