//! Metadata: from an entry to an inode.
//!
//! The order matters. Attributes come first, while the inode is surely ours to change; then the owner, because that takes set-id bits
//! and capabilities away; then capabilities and the mode; the times last, because they tell of every change before.

use super::extractor::Owners;
use super::troubles::{Sort, Troubles};
use crate::model::path::escape;
use crate::model::seldom::Seldom;
use crate::model::{Entry, RelPath};
use crate::platform::apply::{ACL_ACCESS, ACL_DEFAULT, CAPABILITY, Subject};
use crate::platform::at::Facts;
use crate::platform::users::Names;
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
/// Times before 1970 and after 2038 may be more than a file system can hold.
const TIMES_ALL_CAN_HOLD: std::ops::RangeInclusive<i64> = 0..=i32::MAX as i64;

/// The metadata that an entry is to have here, owners being those of this machine.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, u32),
    xattrs: Seldom<BTreeMap<String, Vec<u8>>>,
}

impl Wanted {
    /// Owners by name where this machine knows the name, else by number.
    pub(super) fn of(entry: &Entry, names: &Names, owners: Owners) -> Self {
        let (mut uid, mut gid) = (entry.uid, entry.gid);
        if owners == Owners::Keep {
            uid = entry.user.as_deref().and_then(|name| names.uid(name)).unwrap_or(uid);
            gid = entry.group.as_deref().and_then(|name| names.gid(name)).unwrap_or(gid);
        }
        let xattrs = entry.xattrs.clone();
        Self { mode: entry.mode, uid, gid, mtime: entry.mtime, xattrs }
    }

    fn xattr(&self, name: &str) -> Option<&[u8]> {
        self.xattrs.get(name).map(Vec::as_slice)
    }
}

/// Gives inodes their metadata, and says what could not be given.
#[derive(Debug)]
pub(super) struct Settler {
    pub(super) owners: Owners,
    pub(super) troubles: Troubles,
    /// What is made in the root inherits an ACL that entries do not have.
    pub(super) inherits_acl: bool,
    /// Set when the system refused another user once: it would again, at the price of a call for every file.
    refused: AtomicBool,
}

impl Settler {
    pub(super) fn new(owners: Owners, troubles: Troubles, inherits_acl: bool) -> Self {
        Self { owners, troubles, inherits_acl, refused: AtomicBool::new(false) }
    }

    /// Applies everything; only failing to look at the inode is an error.
    pub(super) fn settle(&self, on: Subject<'_>, wanted: &Wanted, path: &RelPath) -> io::Result<()> {
        let now = on.facts()?;
        self.set_attributes(on, wanted, &now, path);
        let owner = self.set_owner(on, wanted, &now, path);
        if let Some(value) = wanted.xattr(CAPABILITY) {
            self.set_attribute(on, CAPABILITY, value, path);
        }
        self.set_mode(on, wanted, &now, owner, path);
        self.set_mtime(on, wanted, path);
        Ok(())
    }

    fn set_attributes(&self, on: Subject<'_>, wanted: &Wanted, now: &Facts, path: &RelPath) {
        if self.inherits_acl && now.kind != FileType::Symlink {
            let acls: &[&str] = if now.is_dir() { &[ACL_ACCESS, ACL_DEFAULT] } else { &[ACL_ACCESS] };
            for acl in acls.iter().filter(|acl| wanted.xattr(acl).is_none()) {
                if let Err(e) = on.remove_xattr(acl) {
                    self.troubles.add(Sort::Attribute, path, || format!("an inherited ACL stays: {e}"));
                }
            }
        }
        for (name, value) in &wanted.xattrs {
            if name != CAPABILITY {
                self.set_attribute(on, name, value, path);
            }
        }
    }

    fn set_attribute(&self, on: Subject<'_>, name: &str, value: &[u8], path: &RelPath) {
        if let Err(e) = on.set_xattr(name, value) {
            let what = || format!("attribute {} not restored: {e}", escape(name.as_bytes()));
            self.troubles.add(Sort::Attribute, path, what);
        }
    }

    /// Whether user and group are now as wanted.
    fn set_owner(&self, on: Subject<'_>, wanted: &Wanted, now: &Facts, path: &RelPath) -> (bool, bool) {
        let mut right = (now.uid == wanted.uid, now.gid == wanted.gid);
        if self.owners == Owners::Ignore || right == (true, true) {
            return right;
        }
        let (uid, gid) = ((!right.0).then_some(wanted.uid), (!right.1).then_some(wanted.gid));
        let mut error = None;
        if uid.is_none() || !self.refused.load(Ordering::Relaxed) {
            match on.set_owner(uid, gid) {
                Ok(()) => return (true, true),
                Err(e) => error = Some(e),
            }
        }
        // The user was refused; the group may be one of our own.
        if let (Some(_), Some(gid)) = (uid, gid) {
            right.1 = on.set_owner(None, Some(gid)).is_ok();
        }
        if uid.is_some() && error.as_ref().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied) {
            self.refused.store(true, Ordering::Relaxed);
        }
        let why = error.map_or_else(String::new, |e| e.to_string());
        self.troubles.add_owner(path, why);
        right
    }

    /// A program with a set-id bit runs as its owner: with another owner than the one it had, that would be a gift.
    fn set_mode(
        &self,
        on: Subject<'_>,
        wanted: &Wanted,
        now: &Facts,
        owner_is_right: (bool, bool),
        path: &RelPath,
    ) {
        if now.kind == FileType::Symlink {
            return;
        }
        let mut mode = wanted.mode;
        if !now.is_dir() {
            let lost =
                if owner_is_right.0 { 0 } else { SET_UID } | if owner_is_right.1 { 0 } else { SET_GID };
            if mode & lost != 0 {
                let what = || "set-user-id or set-group-id left out: its owner is another now".into();
                self.troubles.add(Sort::SetId, path, what);
            }
            mode &= !lost;
        }
        // An ACL among the attributes changes the group's bits, so only an untouched mode can be skipped.
        if mode == now.mode && wanted.xattrs.is_empty() && !self.inherits_acl {
            return;
        }
        if let Err(e) = on.set_mode(mode) {
            self.troubles.add(Sort::Mode, path, || format!("mode {mode:04o} not restored: {e}"));
        }
    }

    fn set_mtime(&self, on: Subject<'_>, wanted: &Wanted, path: &RelPath) {
        if let Err(e) = on.set_mtime(wanted.mtime) {
            self.troubles.add(Sort::Time, path, || format!("modification time not restored: {e}"));
            return;
        }
        let unusual = !TIMES_ALL_CAN_HOLD.contains(&wanted.mtime.0);
        if unusual && on.facts().is_ok_and(|facts| facts.mtime != wanted.mtime) {
            let what = || "modification time not restored: the file system cannot hold it".into();
            self.troubles.add(Sort::Time, path, what);
        }
    }
}
