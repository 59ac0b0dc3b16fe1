//! Writing restored files: bytes as they come, each file proved against its hash before it counts.

use crate::archive::extract::{ExtractError, Extractor};
use crate::model::{Entry, Extent, Kind, Problem, ProblemKind, RelPath};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::restore::listing::Listing;
use crate::ops::restore::read::{Sink, chain_text};
use rustix::io::{pread, pwrite};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::io;

/// What no byte comes for. It is made in its turn, between files that are written: so the system makes folders while the next bytes are unpacked.
pub(super) enum Beside<'e> {
    /// A directory, link or node.
    Bare(&'e Entry),
    /// A file that is empty or one hole, by its number.
    Empty(usize),
}

/// A file on its way back. Of a million files each has one: what is here is kept small.
pub(super) struct Pending {
    /// Its place in the listing: what stands before it there is made before it.
    place: usize,
    /// So many bytes of it have not come yet.
    missing: u64,
    hashing: Hashing,
    lost: bool,
    created: bool,
}

/// Content hashed while it comes in file order.
enum Hashing {
    /// Nothing came yet. A hasher is 2 KiB: a million files must not have one each.
    NotBegun,
    /// The hasher, the range that the next bytes belong to, and how much of that range came.
    Running(Box<(blake3::Hasher, usize, u64)>),
    /// The bytes did not come in order: the file is read again when it is whole.
    GivenUp,
}

impl Pending {
    /// Of the entry at `place`, whose bytes lie in `extents`.
    pub(super) fn new(place: usize, extents: &[Extent]) -> Self {
        let missing = extents.iter().map(|e| e.length).sum();
        Self { place, missing, hashing: Hashing::NotBegun, lost: false, created: false }
    }

    /// Hashes `bytes` when they are the next ones of the file, which `extents` cover.
    fn hash(&mut self, extents: &[Extent], offset: u64, bytes: &[u8]) {
        if matches!(self.hashing, Hashing::NotBegun) {
            self.hashing = Hashing::Running(Box::new((blake3::Hasher::new(), 0, 0)));
        }
        let Hashing::Running(running) = &mut self.hashing else {
            return;
        };
        let (hasher, range, at) = &mut **running;
        let next = extents.get(*range).map(|e| e.offset + *at);
        if next != Some(offset) {
            self.hashing = Hashing::GivenUp;
            return;
        }
        hasher.update(bytes);
        *at += bytes.len() as u64;
        if extents.get(*range).is_some_and(|e| e.length == *at) {
            (*range, *at) = (*range + 1, 0);
        }
    }
}

/// At most this many files are open at once.
const OPEN_MAX: usize = 128;

/// Writes files into an extractor's tree.
pub(super) struct Files<'e, 'x> {
    extractor: &'x Extractor<'x>,
    listing: &'e Listing,
    pub(super) pending: Vec<Pending>,
    /// In the order of the listing, with their places there.
    beside: VecDeque<(usize, Beside<'e>)>,
    open: BTreeMap<usize, File>,
    order: VecDeque<usize>,
    pub(super) damaged: Vec<Problem>,
    pub(super) unnamed: Unnamed,
    advance: &'x dyn Fn(u64),
}

/// What the place of the restore can give no name to.
#[derive(Default)]
pub(super) struct Unnamed {
    pub(super) problems: Vec<Problem>,
    /// So many files are left out.
    pub(super) files: u64,
    /// Folders; nothing that lies in one can be made.
    folders: HashSet<RelPath>,
    /// Files that have further names.
    pub(super) linked: HashSet<RelPath>,
}

impl Unnamed {
    pub(super) fn add(&mut self, component: &str, entry: &Entry, why: &ExtractError) {
        let why = chain_text(why);
        let what = match entry.kind {
            Kind::Dir => {
                self.folders.insert(entry.path.clone());
                format!("neither it nor anything that lies in it can have its name here: {why}")
            }
            _ => format!("it cannot have its name here: {why}"),
        };
        let path = entry.path.as_bytes();
        self.problems.push(Problem::at_path(ProblemKind::NotRestored, component, path, what));
    }

    /// True when `path` lies in a folder that could not be made.
    pub(super) fn holds(&self, path: &RelPath) -> bool {
        // Asked of every file, and there is hardly ever one.
        !self.folders.is_empty()
            && std::iter::successors(path.parent(), RelPath::parent).any(|dir| self.folders.contains(&dir))
    }
}

impl<'e, 'x> Files<'e, 'x> {
    pub(super) fn new(
        extractor: &'x Extractor<'x>,
        listing: &'e Listing,
        pending: Vec<Pending>,
        beside: VecDeque<(usize, Beside<'e>)>,
        advance: &'x dyn Fn(u64),
    ) -> Self {
        Self {
            extractor,
            listing,
            pending,
            beside,
            open: BTreeMap::new(),
            order: VecDeque::new(),
            damaged: Vec::new(),
            unnamed: Unnamed::default(),
            advance,
        }
    }

    fn component(&self) -> &'e str {
        self.listing.component.name.as_str()
    }

    fn entry(&self, file: usize) -> &'e Entry {
        &self.listing.entries[self.pending[file].place]
    }

    fn extents(&self, file: usize) -> &'e [Extent] {
        self.listing.extents(self.pending[file].place)
    }

    /// Makes what no byte comes for and that stands before `place` in the listing; `usize::MAX` makes all.
    pub(super) fn make_before(&mut self, place: usize) -> Result<()> {
        while let Some((_, beside)) = self.beside.pop_front_if(|(at, _)| *at < place) {
            match beside {
                Beside::Empty(file) => self.complete(file)?,
                Beside::Bare(entry) if self.unnamed.holds(&entry.path) => {}
                Beside::Bare(entry) => match self.extractor.make(entry) {
                    Err(e) if e.is_of_name() => self.unnamed.add(self.component(), entry, &e),
                    made => drop(made.doing(Class::Failed, || {
                        format!("cannot make {}/{}", self.component(), entry.path)
                    })?),
                },
            }
        }
        Ok(())
    }

    /// Leaves out what not every byte came for. Listings that were checked leave nothing so: this is the last line.
    pub(super) fn leave_unfinished_out(&mut self) -> Result<()> {
        for file in 0..self.pending.len() {
            if self.pending[file].missing > 0 && !self.is_lost(file) {
                self.lost(file, "not all of its bytes came")?;
            }
        }
        Ok(())
    }

    fn failed(&self, file: usize, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> OpError {
        let what = format!("cannot write {}/{}", self.component(), self.entry(file).path);
        OpError::new(Class::Failed, what).because(error)
    }

    /// The file, open; none when it cannot have its name.
    fn file(&mut self, file: usize) -> Result<Option<&File>> {
        if !self.open.contains_key(&file) {
            if let Some(oldest) = self.order.pop_front_if(|_| self.open.len() >= OPEN_MAX) {
                self.open.remove(&oldest);
            }
            let (entry, pending) = (self.entry(file), &self.pending[file]);
            let (place, created) = (pending.place, pending.created);
            self.make_before(place)?;
            if self.unnamed.holds(&entry.path) {
                self.leave_out(file);
                return Ok(None);
            }
            let made = if created {
                self.extractor.reopen_file(&entry.path)
            } else {
                self.extractor.create_file(entry)
            };
            let made = match made {
                Err(e) if !created && e.is_of_name() => {
                    self.unnamed.add(self.component(), entry, &e);
                    self.leave_out(file);
                    return Ok(None);
                }
                made => made.map_err(|e| self.failed(file, e))?,
            };
            self.pending[file].created = true;
            self.open.insert(file, made);
            self.order.push_back(file);
        }
        Ok(self.open.get(&file))
    }

    fn leave_out(&mut self, file: usize) {
        self.pending[file].lost = true;
        self.unnamed.files += 1;
        let entry = self.entry(file);
        if entry.link.is_some() {
            self.unnamed.linked.insert(entry.path.clone());
        }
    }

    fn close(&mut self, file: usize) {
        self.open.remove(&file);
        self.order.retain(|f| *f != file);
    }

    fn complete(&mut self, file: usize) -> Result<()> {
        if self.is_lost(file) {
            return Ok(()); // said, and taken away
        }
        if self.file(file)?.is_none() {
            return Ok(());
        }
        let proved = self.proved(file).map_err(|e| self.failed(file, e))?;
        if !proved {
            return self.give_up(file, "its content is not what its listing says");
        }
        let entry = self.entry(file);
        let extractor = self.extractor;
        let Some(handle) = self.file(file)? else { return Ok(()) };
        let finished = extractor.finish_file(handle, entry);
        self.close(file);
        finished.map_err(|e| self.failed(file, e))?;
        if entry.link.is_none() {
            self.extractor.forget(&entry.path);
        }
        Ok(())
    }

    /// Compares the content with the entry's hash: from what was hashed on the way, or by reading the file again.
    fn proved(&mut self, file: usize) -> io::Result<bool> {
        let extents = self.extents(file);
        let found = match std::mem::replace(&mut self.pending[file].hashing, Hashing::GivenUp) {
            Hashing::Running(running) if running.1 == extents.len() => running.0.finalize(),
            _ => {
                let handle = self.open.get(&file).ok_or_else(|| io::Error::other("not open"))?;
                hash_extents(handle, extents)?
            }
        };
        Ok(self.entry(file).hash.is_some_and(|h| h.as_bytes() == found.as_bytes()))
    }

    /// Leaves the file out: wrong bytes must not stand under its name.
    fn give_up(&mut self, file: usize, why: &str) -> Result<()> {
        let path = &self.entry(file).path;
        let problem = Problem::at_path(ProblemKind::Damaged, self.component(), path.as_bytes(), why);
        self.damaged.push(problem);
        self.close(file);
        if std::mem::take(&mut self.pending[file].created) {
            self.extractor.discard(path).map_err(|e| self.failed(file, e))?;
        }
        Ok(())
    }

    /// Paths of the files that were written whole.
    pub(super) fn whole(&self) -> HashSet<RelPath> {
        self.pending
            .iter()
            .filter(|p| p.created)
            .map(|p| self.listing.entries[p.place].path.clone())
            .collect()
    }

    /// True when the file could not be had.
    pub(super) fn is_lost(&self, file: usize) -> bool {
        self.pending[file].lost
    }
}

impl Sink for Files<'_, '_> {
    fn bytes(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        (self.advance)(bytes.len() as u64);
        if self.is_lost(file) {
            return Ok(());
        }
        let Some(missing) = self.pending[file].missing.checked_sub(bytes.len() as u64) else {
            return self.lost(file, "more bytes came than its listing says");
        };
        let extents = self.extents(file);
        self.pending[file].hash(extents, offset, bytes);
        let Some(handle) = self.file(file)? else { return Ok(()) };
        let mut done = 0;
        while done < bytes.len() {
            let wrote = pwrite(handle, &bytes[done..], offset + done as u64);
            match wrote {
                Ok(n) => done += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(self.failed(file, io::Error::from(e))),
            }
        }
        self.pending[file].missing = missing;
        if self.pending[file].missing == 0 {
            self.complete(file)?;
        }
        Ok(())
    }

    fn lost(&mut self, file: usize, why: &str) -> Result<()> {
        if self.is_lost(file) {
            return Ok(());
        }
        self.pending[file].lost = true;
        self.give_up(file, why)
    }
}

/// Files are read again in steps of at most this many bytes.
const BUFFER: usize = 1 << 20;

fn hash_extents(file: &File, extents: &[Extent]) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    // None for an empty file: clearing it would be most of the work.
    let longest = extents.iter().map(|extent| extent.length).max().unwrap_or(0);
    let mut buffer = vec![0; usize::try_from(longest).unwrap_or(BUFFER).min(BUFFER)];
    for &Extent { offset, length, .. } in extents {
        let mut done = 0;
        while done < length {
            let want = usize::try_from(length - done).unwrap_or(buffer.len()).min(buffer.len());
            match pread(file, &mut buffer[..want], offset + done) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(got) => {
                    hasher.update(&buffer[..got]);
                    done += got as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(hasher.finalize())
}
