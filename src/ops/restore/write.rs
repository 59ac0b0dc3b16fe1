//! Writing restored files: bytes as they come, each file proved against its hash before it counts.

use crate::archive::extract::Extractor;
use crate::model::{Entry, Problem, ProblemKind, RelPath};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::restore::read::Sink;
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

/// A file on its way back.
pub(super) struct Pending<'e> {
    pub(super) entry: &'e Entry,
    /// Its place in the listing: what stands before it there is made before it.
    place: usize,
    /// Stretches that bytes cover, by offset.
    pub(super) ranges: Vec<(u64, u64)>,
    missing: u64,
    hashing: Hashing,
    lost: Option<String>,
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

impl<'e> Pending<'e> {
    pub(super) fn new(entry: &'e Entry, place: usize, ranges: Vec<(u64, u64)>) -> Self {
        let missing = ranges.iter().map(|r| r.1).sum();
        Self { entry, place, ranges, missing, hashing: Hashing::NotBegun, lost: None, created: false }
    }

    /// Hashes `bytes` when they are the next ones of the file.
    fn hash(&mut self, offset: u64, bytes: &[u8]) {
        if matches!(self.hashing, Hashing::NotBegun) {
            self.hashing = Hashing::Running(Box::new((blake3::Hasher::new(), 0, 0)));
        }
        let Hashing::Running(running) = &mut self.hashing else {
            return;
        };
        let (hasher, range, at) = &mut **running;
        let next = self.ranges.get(*range).map(|r| r.0 + *at);
        if next != Some(offset) {
            self.hashing = Hashing::GivenUp;
            return;
        }
        hasher.update(bytes);
        *at += bytes.len() as u64;
        if self.ranges.get(*range).is_some_and(|r| r.1 == *at) {
            (*range, *at) = (*range + 1, 0);
        }
    }
}

/// At most this many files are open at once.
const OPEN_MAX: usize = 128;

/// Writes files into an extractor's tree.
pub(super) struct Files<'e, 'x> {
    extractor: &'x Extractor<'x>,
    pub(super) pending: Vec<Pending<'e>>,
    /// In the order of the listing, with their places there.
    beside: VecDeque<(usize, Beside<'e>)>,
    component: &'e str,
    open: BTreeMap<usize, File>,
    order: VecDeque<usize>,
    pub(super) damaged: Vec<Problem>,
    advance: &'x dyn Fn(u64),
}

impl<'e, 'x> Files<'e, 'x> {
    pub(super) fn new(
        extractor: &'x Extractor<'x>,
        component: &'e str,
        pending: Vec<Pending<'e>>,
        beside: VecDeque<(usize, Beside<'e>)>,
        advance: &'x dyn Fn(u64),
    ) -> Self {
        Self {
            extractor,
            pending,
            beside,
            component,
            open: BTreeMap::new(),
            order: VecDeque::new(),
            damaged: Vec::new(),
            advance,
        }
    }

    /// Makes what no byte comes for and that stands before `place` in the listing; `usize::MAX` makes all.
    pub(super) fn make_before(&mut self, place: usize) -> Result<()> {
        while let Some((_, beside)) = self.beside.pop_front_if(|(at, _)| *at < place) {
            match beside {
                Beside::Empty(file) => self.complete(file)?,
                Beside::Bare(entry) => {
                    let made = self.extractor.make(entry);
                    made.doing(Class::Failed, || format!("cannot make {}/{}", self.component, entry.path))?;
                }
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
        let what = format!("cannot write {}/{}", self.component, self.pending[file].entry.path);
        OpError::new(Class::Failed, what).because(error)
    }

    fn file(&mut self, file: usize) -> Result<&File> {
        if !self.open.contains_key(&file) {
            if let Some(oldest) = self.order.pop_front_if(|_| self.open.len() >= OPEN_MAX) {
                self.open.remove(&oldest);
            }
            let Pending { entry, place, created, .. } = self.pending[file];
            self.make_before(place)?;
            let made = if created {
                self.extractor.reopen_file(&entry.path)
            } else {
                self.extractor.create_file(entry)
            };
            let made = made.map_err(|e| self.failed(file, e))?;
            self.pending[file].created = true;
            self.open.insert(file, made);
            self.order.push_back(file);
        }
        self.open.get(&file).ok_or_else(|| OpError::new(Class::Failed, "internal: a file is not open"))
    }

    fn close(&mut self, file: usize) {
        self.open.remove(&file);
        self.order.retain(|f| *f != file);
    }

    fn complete(&mut self, file: usize) -> Result<()> {
        if let Some(why) = self.pending[file].lost.clone() {
            return self.give_up(file, &why);
        }
        self.file(file)?;
        let proved = self.proved(file).map_err(|e| self.failed(file, e))?;
        if !proved {
            return self.give_up(file, "its content is not what its listing says");
        }
        let entry = self.pending[file].entry;
        let finished = self.extractor.finish_file(self.file(file)?, entry);
        self.close(file);
        finished.map_err(|e| self.failed(file, e))
    }

    /// Compares the content with the entry's hash: from what was hashed on the way, or by reading the file again.
    fn proved(&mut self, file: usize) -> io::Result<bool> {
        let pending = &mut self.pending[file];
        let found = match std::mem::replace(&mut pending.hashing, Hashing::GivenUp) {
            Hashing::Running(running) if running.1 == pending.ranges.len() => running.0.finalize(),
            _ => {
                let ranges = pending.ranges.clone();
                let handle = self.open.get(&file).ok_or_else(|| io::Error::other("not open"))?;
                hash_ranges(handle, &ranges)?
            }
        };
        Ok(self.pending[file].entry.hash.is_some_and(|h| h.as_bytes() == found.as_bytes()))
    }

    /// Leaves the file out: wrong bytes must not stand under its name.
    fn give_up(&mut self, file: usize, why: &str) -> Result<()> {
        let path = &self.pending[file].entry.path;
        let problem = Problem::at_path(ProblemKind::Damaged, self.component, path.as_bytes(), why);
        self.damaged.push(problem);
        self.close(file);
        if std::mem::take(&mut self.pending[file].created) {
            let path = self.pending[file].entry.path.clone();
            self.extractor.discard(&path).map_err(|e| self.failed(file, e))?;
        }
        Ok(())
    }

    /// Paths of the files that were written whole.
    pub(super) fn whole(&self) -> HashSet<RelPath> {
        self.pending.iter().filter(|p| p.created).map(|p| p.entry.path.clone()).collect()
    }

    /// True when the file could not be had.
    pub(super) fn is_lost(&self, file: usize) -> bool {
        self.pending[file].lost.is_some()
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
        self.pending[file].hash(offset, bytes);
        let handle = self.file(file)?;
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
        self.pending[file].lost = Some(why.to_owned());
        self.give_up(file, why)
    }
}

/// Files are read again in steps of at most this many bytes.
const BUFFER: usize = 1 << 20;

fn hash_ranges(file: &File, ranges: &[(u64, u64)]) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    // None for an empty file: clearing it would be most of the work.
    let longest = ranges.iter().map(|range| range.1).max().unwrap_or(0);
    let mut buffer = vec![0; usize::try_from(longest).unwrap_or(BUFFER).min(BUFFER)];
    for &(offset, length) in ranges {
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
