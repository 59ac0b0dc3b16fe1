//! Directories that a restore in place makes in the live tree.

use crate::archive::extract::Extractor;
use crate::model::{Entry, RelPath};
use crate::ops::error::{Class, Doing, Result};
use crate::ops::restore::Listing;
use crate::ops::restore::ways::Place;
use crate::platform::at;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// A directory that was not there.
struct Made<'a> {
    /// The directory that the path is opened below.
    top: PathBuf,
    path: RelPath,
    /// What it is to be; nothing when only something in it was asked for.
    entry: Option<&'a Entry>,
}

/// The directories that were made, the topmost first, private to their owner until everything is in them.
#[derive(Default)]
pub(super) struct MadeDirs<'a>(Vec<Made<'a>>);

impl<'a> MadeDirs<'a> {
    /// Adds the directories `created` (from the top of `place`), which were made on the way to it.
    pub(super) fn add(
        &mut self,
        place: &Place,
        created: Vec<RelPath>,
        listing: &'a Listing,
        finisher: &Extractor<'_>,
    ) -> Result<()> {
        // All of them first: what fails from here on takes them away again.
        let before = self.0.len();
        self.0.extend(created.into_iter().map(|path| {
            let entry = listing.entries.iter().find(|e| place.is_beside(&listing.component, e, &path));
            Made { top: place.top.clone(), path, entry }
        }));
        for made in &self.0[before..] {
            if let Some(entry) = made.entry {
                // Owner and mode at once, open for its owner: a run that is killed here is not followed by one that makes this directory.
                made.finish(finisher, &Entry { mode: entry.mode | 0o700, ..entry.clone() })?;
            }
        }
        Ok(())
    }

    /// Gives them their metadata, the deepest first: now nothing more comes into them, which would change their time, and which a closed one would refuse.
    pub(super) fn finish(&mut self, finisher: &Extractor<'_>) -> Result<()> {
        while let Some(made) = self.0.pop() {
            if let Some(entry) = made.entry {
                made.finish(finisher, entry)?;
            }
        }
        Ok(())
    }

    /// Removes those that are not finished, as far as nothing is in them.
    pub(super) fn take_back(&mut self) {
        while let Some(made) = self.0.pop() {
            let parent = made.path.parent().unwrap_or_else(RelPath::root);
            if let Ok(top) = at::open_place(&made.top)
                && let Ok(dir) = at::open_dir_beneath(top.as_fd(), parent.as_bytes())
            {
                let _gone = at::remove_dir(dir, made.path.name());
            }
        }
    }
}

impl Made<'_> {
    fn finish(&self, finisher: &Extractor<'_>, entry: &Entry) -> Result<()> {
        let what = || format!("cannot finish directory {}", self.live().display());
        let top = at::open_place(&self.top).doing(Class::Failed, what)?;
        let dir = at::open_dir_beneath(top.as_fd(), self.path.as_bytes()).doing(Class::Failed, what)?;
        finisher.finish_dir(&dir, entry).doing(Class::Failed, what)
    }

    fn live(&self) -> PathBuf {
        self.top.join(self.path.to_string())
    }
}
