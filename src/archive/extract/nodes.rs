//! Entries that are not files or directories, and further names of inodes. None of them is ever opened.

use super::error::ExtractError;
use super::extractor::{Extractor, cannot_make};
use super::made::{Sort, key};
use super::troubles;
use crate::model::{Entry, Kind, RelPath};
use crate::platform::apply::Subject;
use crate::platform::at;
use rustix::fs::FileType;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

const NOT_LISTED: &str = "it is another name of something that this restore did not make";

impl Extractor<'_> {
    /// Makes a symbolic link, whatever it leads to: nothing in this module follows it.
    pub fn symlink(&self, entry: &Entry) -> Result<(), ExtractError> {
        let target = entry.target.as_deref().unwrap_or_default();
        let dir = self.parent_of(&entry.path)?;
        let made = at::symlink(target, &*dir, entry.path.name());
        made.map_err(|e| cannot_make("make symbolic link", entry, e))?;
        self.settle_node(&dir, entry)
    }

    /// Makes a FIFO.
    pub fn fifo(&self, entry: &Entry) -> Result<(), ExtractError> {
        let dir = self.parent_of(&entry.path)?;
        let made = at::make_fifo(&*dir, entry.path.name());
        made.map_err(|e| cannot_make("make FIFO", entry, e))?;
        self.settle_node(&dir, entry)
    }

    /// Makes a device; without the right to (or where there can be no such device) that is a problem, not an error.
    pub fn device(&self, entry: &Entry) -> Result<(), ExtractError> {
        let kind = match entry.kind {
            Kind::Char => FileType::CharacterDevice,
            _ => FileType::BlockDevice,
        };
        let numbers = entry.dev.unwrap_or_default();
        let dir = self.parent_of(&entry.path)?;
        match at::make_device(&*dir, entry.path.name(), kind, numbers) {
            Ok(()) => self.settle_node(&dir, entry),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied || at::is_unsupported(&e) => {
                let (major, minor) = numbers;
                let what = || format!("device {major}:{minor} not made: {e}");
                self.settler.troubles.add(troubles::Sort::Device, &entry.path, what);
                Ok(())
            }
            Err(e) => Err(cannot_make("make device", entry, e)),
        }
    }

    /// Makes `new` another name of `existing`, which this extractor must have made.
    pub fn hard_link(&self, existing: &RelPath, new: &Entry) -> Result<(), ExtractError> {
        let made = self.made.get(&key(existing.as_bytes())).filter(|made| made.sort != Sort::Dir);
        let Some(made) = made else {
            let (path, why) = (new.path.clone(), NOT_LISTED);
            return match new.kind {
                // The first name may have been passed over, too.
                Kind::Socket | Kind::Left => Ok(()),
                Kind::Char | Kind::Block => self.device(new),
                _ => Err(ExtractError::Damaged { path, why }),
            };
        };
        let (from, to) = (self.parent_of(existing)?, self.parent_of(&new.path)?);
        self.expect_at(&from, existing, made.id)?;
        let linked = at::link(&*from, existing.name(), &*to, new.path.name());
        linked.map_err(|e| cannot_make("make hard link", new, e))?;
        if let Err(e) = self.expect_at(&to, &new.path, made.id) {
            // Somebody put another inode under the first name just then. What we linked must not stay.
            let _ = at::unlink(&*to, new.path.name());
            return Err(e);
        }
        self.made.add(key(new.path.as_bytes()), made.id, made.sort);
        Ok(())
    }

    /// Metadata of what must not be opened, and a place in the register for later names of it.
    fn settle_node(&self, dir: &OwnedFd, entry: &Entry) -> Result<(), ExtractError> {
        let name = entry.path.name();
        if entry.link.is_some() {
            let facts = at::facts_at(dir, name).map_err(ExtractError::at("look at", &entry.path))?;
            self.made.add(key(entry.path.as_bytes()), facts.id, Sort::Node);
        }
        self.settle(Subject::Named { dir: dir.as_fd(), name }, entry)
    }
}
