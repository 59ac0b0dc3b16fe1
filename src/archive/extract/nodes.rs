//! Entries that are not files or directories, and further names of inodes. None of them is ever opened.

use super::copy::{At, copy_file, open_source};
use super::error::{ExtractError, MAKE_LINK};
use super::extractor::{Extractor, NOT_A_FILE, cannot_make, exchanged};
use super::made::{Sort, key};
use super::troubles;
use crate::durable::crash;
use crate::model::{Entry, Kind, RelPath};
use crate::platform::apply::Subject;
use crate::platform::at;
use rustix::fs::FileType;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

const NOT_LISTED: &str = "it is another name of something that this restore did not make";

impl Extractor<'_> {
    /// Makes a symbolic link, whatever it leads to: nothing in this module follows it. Where there are none that is a problem, not an error.
    pub fn symlink(&self, entry: &Entry) -> Result<(), ExtractError> {
        let target = entry.target.as_deref().unwrap_or_default();
        let dir = self.parent_of(&entry.path)?;
        let made = crash::refusable("make restored link", || at::symlink(target, &*dir, entry.path.name()));
        self.node_made(made, "make symbolic link", &dir, entry)
    }

    /// Makes a FIFO. Where there are none that is a problem, not an error.
    pub fn fifo(&self, entry: &Entry) -> Result<(), ExtractError> {
        let dir = self.parent_of(&entry.path)?;
        let made = at::make_fifo(&*dir, entry.path.name());
        self.node_made(made, "make FIFO", &dir, entry)
    }

    fn node_made(
        &self,
        made: io::Result<()>,
        verb: &'static str,
        dir: &OwnedFd,
        entry: &Entry,
    ) -> Result<(), ExtractError> {
        match made {
            Ok(()) => self.settle_node(dir, entry),
            Err(e) if cannot_be_here(&e) => {
                self.settler
                    .troubles
                    .add(troubles::Sort::Node, &entry.path, || format!("cannot {verb}: {e}"));
                Ok(())
            }
            Err(e) => Err(cannot_make(verb, entry, e)),
        }
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
            Err(e) if cannot_be_here(&e) => {
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
                Kind::Char | Kind::Block | Kind::Symlink | Kind::Fifo => self.make(new).map(drop),
                Kind::File | Kind::Dir => Err(ExtractError::Damaged { path, why }),
            };
        };
        let (from, to) = (self.parent_of(existing)?, self.parent_of(&new.path)?);
        self.expect_at(&from, existing, made.id)?;
        let link = || at::link(&*from, existing.name(), &*to, new.path.name());
        crash::refusable("link restored file", link).map_err(|e| cannot_make(MAKE_LINK, new, e))?;
        if let Err(e) = self.expect_at(&to, &new.path, made.id) {
            // Somebody put another inode under the first name just then. What we linked must not stay.
            let _ = at::unlink(&*to, new.path.name());
            return Err(e);
        }
        self.made.add(key(new.path.as_bytes()), made.id, made.sort);
        Ok(())
    }

    /// Makes `new`, a further name of `existing`, as a copy: where there can be no hard link ([`ExtractError::is_no_link`]) its content must come back all the
    /// same. That is a problem, because the two go ways of their own from now on. `stop` is asked all the time.
    pub fn copy_instead(
        &self,
        existing: &RelPath,
        new: &Entry,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), ExtractError> {
        if new.kind != Kind::File {
            return self.make(new).map(drop);
        }
        let (from, to) = (self.parent_of(existing)?, self.parent_of(&new.path)?);
        let (from, to) =
            (At { dir: from.as_fd(), name: existing.name() }, At { dir: to.as_fd(), name: new.path.name() });
        // What is copied must be what this extractor made, whoever exchanges names meanwhile.
        let made = self.made_at(existing, |made| made.sort == Sort::File, NOT_A_FILE)?;
        let source = open_source(from).map_err(ExtractError::at("open", existing))?;
        if at::facts(&source).map_err(ExtractError::at("look at", existing))?.id != made.id {
            return Err(exchanged(existing));
        }
        let (file, id) = copy_file(&source, to, stop).map_err(|e| cannot_make("make a copy at", new, e))?;
        self.made.add(key(new.path.as_bytes()), id, Sort::File);
        self.settle(Subject::Open(file.as_fd()), new)?;
        let what = || format!("there can be no hard link to {existing} here: it is a copy of it");
        self.settler.troubles.add(troubles::Sort::Name, &new.path, what);
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

/// True when a file system, or this user, cannot have such a node at all.
pub(super) fn cannot_be_here(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied || at::is_unsupported(error)
}
