//! What can still be brought of a component of which a part of the listing, or the map of a file, is lost in every store.
//!
//! Nothing is guessed but folders on the way: an entry is brought as its listing says, or not at all, and whatever is left out is named. A listing that is there and
//! contradicts itself is refused whole, as ever: nothing that it says is to be believed.

use super::{Listing, touched};
use crate::model::index::SegmentRef;
use crate::model::{Entry, Extent, Kind, Problem, ProblemKind, RelPath};
use crate::ops::error::{OpError, Result};
use crate::ops::restore::Opened;
use crate::ops::restore::incomplete::few;
use crate::ops::restore::read::Archives;
use crate::ops::select::{self, Selection};
use crate::ops::shape;
use crate::ops::stores::Away;
use std::collections::{HashMap, HashSet};

/// The mode of a folder whose own entry could not be read: nobody but its owner looks in, as long as it is not known who may.
const MODE: u32 = 0o700;

impl Listing {
    /// Reads what `selection` asks for as far as it can be read, and says what is left out. Fails when nothing of it can be.
    pub(in crate::ops::restore) fn salvage(
        opened: &Opened,
        selection: &Selection,
    ) -> Result<(Self, Vec<Problem>)> {
        let whole = Self::read(&opened.reader(), &opened.index, selection);
        match whole.map_err(|e| opened.sources.judged(e)) {
            Ok(listing) => Ok((listing, Vec::new())),
            Err(error) if error.is_lost_listing() => Salvage::of(opened, selection)?.listing(error),
            Err(error) => Err(error),
        }
    }
}

struct Salvage<'a> {
    opened: &'a Opened,
    selection: &'a Selection,
    listing: Listing,
    problems: Vec<Problem>,
    /// Segments that were read, and that were not.
    read: usize,
    lost: usize,
}

impl<'a> Salvage<'a> {
    fn of(opened: &'a Opened, selection: &'a Selection) -> Result<Self> {
        let component = select::component(&opened.index, &selection.component)?.clone();
        let (entries, archives, mapped) = (Vec::new(), Archives::default(), HashMap::new());
        let listing = Listing { component, entries, archives, mapped };
        Ok(Self { opened, selection, listing, problems: Vec::new(), read: 0, lost: 0 })
    }

    /// Fails with `error`, by which it began, when no segment can be read.
    fn listing(mut self, error: OpError) -> Result<(Listing, Vec<Problem>)> {
        let touched: Vec<SegmentRef> = touched(&self.listing.component, self.selection).cloned().collect();
        for reference in &touched {
            self.segment(reference)?;
        }
        if self.read == 0 {
            return Err(error);
        }
        if self.lost > 0 {
            self.fill_in_folders();
        }
        shape::check(&self.listing.component, &self.listing.entries)?;
        self.maps()?;
        self.listing.settle()?;
        self.check_found()?;
        Ok((self.listing, self.problems))
    }

    fn segment(&mut self, reference: &SegmentRef) -> Result<()> {
        let (reader, component) = (self.opened.reader(), &self.listing.component);
        match self.selection.read(&reader, component, reference) {
            Ok(segment) => {
                self.read += 1;
                self.listing.archives.add(segment.archives);
                self.listing.entries.extend(segment.entries);
            }
            Err(error) => {
                let why = self.damage(error)?;
                self.lost += 1;
                let what = format!(
                    "nothing can be brought of the {} entries from this one to {}: {why}",
                    reference.entries, reference.last
                );
                self.damaged(&reference.first, what);
            }
        }
        Ok(())
    }

    /// What is said of damage; an error that is none, or of which it is not known whether a store that is away has it whole, is one here, too.
    fn damage(&self, error: OpError) -> Result<String> {
        let error = self.opened.sources.judged(error);
        if error.is_lost_listing() { Ok(Away::from(&error).line()) } else { Err(error) }
    }

    fn damaged(&mut self, path: &RelPath, what: String) {
        let component = self.listing.component.name.as_str();
        let problem = Problem::at_path(ProblemKind::Damaged, component, path.as_bytes(), what);
        let hint = "an older snapshot, or a store that is not here, may have it whole (`backstay list`)";
        self.problems.push(problem.hint(hint));
    }

    /// Makes entries for folders that something lies in and whose own entries are lost.
    fn fill_in_folders(&mut self) {
        let entries = &mut self.listing.entries;
        let mut known: HashSet<RelPath> =
            { entries.iter() }.filter(|e| e.kind == Kind::Dir).map(|e| e.path.clone()).collect();
        let mut made = Vec::new();
        for entry in entries.iter() {
            let mut above = entry.path.parent();
            while let Some(dir) = above.take_if(|dir| known.insert(dir.clone())) {
                above = dir.parent();
                made.push(dir);
            }
        }
        made.sort();
        entries.extend(made.iter().map(|path| folder(path.clone())));
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let name = self.listing.component.name.as_str();
        let what = format!("what is known of this folder itself is lost: made with mode {MODE:04o}");
        let paths: Vec<&RelPath> = made.iter().collect();
        self.problems.extend(few(name, &paths, (ProblemKind::NotRestored, &what)));
    }

    /// Reads the maps of files; of which one is damaged is left out.
    fn maps(&mut self) -> Result<()> {
        let mut kept = Vec::with_capacity(self.listing.entries.len());
        for entry in std::mem::take(&mut self.listing.entries) {
            if !entry.maps.is_empty() {
                let Some(extents) = self.map_of(&entry)? else { continue };
                self.listing.mapped.insert(kept.len(), extents);
            }
            kept.push(entry);
        }
        self.listing.entries = kept;
        Ok(())
    }

    fn map_of(&mut self, entry: &Entry) -> Result<Option<Vec<Extent>>> {
        match self.opened.reader().extents(&self.listing.component, entry) {
            Ok((extents, archives)) => {
                self.listing.archives.add(archives);
                Ok(Some(extents))
            }
            Err(error) => {
                let why = self.damage(error)?;
                self.damaged(&entry.path, format!("where its bytes lie is not known: {why}"));
                Ok(None)
            }
        }
    }

    /// A path that was named and is not in what could be read may be in what could not.
    fn check_found(&mut self) -> Result<()> {
        if self.lost == 0 && self.problems.is_empty() {
            return self.selection.check_found(&self.listing.entries);
        }
        let entries = &self.listing.entries;
        let lacks = |path: &&RelPath| !entries.iter().any(|e| e.path.is_within(path));
        let lacking: Vec<RelPath> = self.selection.paths.iter().filter(lacks).cloned().collect();
        for path in lacking {
            self.damaged(&path, "it is not in what could be read of the listing".to_owned());
        }
        Ok(())
    }
}

fn folder(path: RelPath) -> Entry {
    let mut entry = Entry::new(path, Kind::Dir);
    entry.mode = MODE;
    (entry.uid, entry.gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    entry
}
