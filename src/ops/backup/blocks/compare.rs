//! One pass over content: windows are read in order, hashed by workers, and told to the sink in order.

use crate::archive::{Pool, PoolGone, Ticket};
use crate::model::{ContentHash, Extent};
use crate::ops::backup::blocks::before::{OldTable, Ranges};
use crate::ops::backup::blocks::hashing::{Hashed, Plan, block_hash, hash};
use crate::ops::backup::blocks::place::stretches;
use crate::ops::backup::blocks::shift::Search;
use crate::ops::backup::blocks::size::Content;
use crate::ops::backup::blocks::table::{Making, Short, short};
use crate::ops::backup::blocks::tree::{GROUP, Tree};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Bytes that a worker hashes at a time, unless a block is longer: enough to make handing over cheap, little enough to stay in its cache.
const WINDOW: usize = 256 << 10;

/// At most so many bytes are read before what they are is told, unless a window alone is longer.
const AHEAD_BYTES: usize = 8 << 20;

/// The content as it was at the last snapshot.
#[derive(Clone, Copy)]
pub(crate) struct Old<'a> {
    /// Its blocks.
    pub(crate) table: &'a OldTable,
    /// Where its bytes lie: in order, not overlapping. What is left out here comes as new.
    pub(crate) extents: &'a [Extent],
}

/// What to compare.
pub(crate) struct Request<'a> {
    /// Does the hashing.
    pub(crate) pool: &'a Pool,
    /// The block size, from [`block_size`](super::block_size).
    pub(crate) block: u32,
    /// Announced length of the file in bytes.
    pub(crate) size: u64,
    /// Which stretches of it hold data: offset and length, in order, not overlapping; the rest is zeros.
    pub(crate) ranges: &'a [(u64, u64)],
    /// What kind of content it is.
    pub(crate) content: Content,
    /// The last snapshot's, if there is one.
    pub(crate) old: Option<Old<'a>>,
}

/// Is told, in file order and each byte of the ranges once, where content lies or is to come.
pub(crate) trait Sink {
    /// Why it cannot go on.
    type Error;
    /// These bytes of the file lie there already.
    fn kept(&mut self, extent: Extent) -> Result<(), Self::Error>;
    /// These bytes are new, or lie nowhere any more.
    fn fresh(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// What the pass learned.
#[derive(Debug)]
pub(crate) struct Compared {
    /// BLAKE3 of the bytes of the ranges, in order.
    pub(crate) hash: ContentHash,
    /// The file's length as read: shorter than announced when it shrank.
    pub(crate) size: u64,
}

/// Why the pass ended early.
#[derive(Debug)]
pub(crate) enum CompareError<E> {
    /// The content could not be read.
    Read(io::Error),
    /// The sink failed.
    Sink(E),
    /// A worker died.
    Worker(PoolGone),
}

/// Reads the ranges of a file once, in order, through `read`, and tells `sink` what is new of them. `read` gives some bytes at an offset; 0 means that
/// the file has become shorter. `keep` gets the new table's ranges, for the catalog, each as soon as it is full. On an error both have been told a beginning.
pub(crate) fn compare<S: Sink>(
    request: &Request<'_>,
    read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<usize>,
    sink: &mut S,
    keep: &mut dyn FnMut(Vec<u8>),
) -> Result<Compared, CompareError<S::Error>> {
    let dense = request.ranges == [(0, request.size)] || request.size == 0;
    let old = request.old.map(|old| old.table).filter(|table| table.size > 0);
    let sums = request.content == Content::File;
    let compared = old.map_or(request.block, |old| old.block) as usize;
    let plan = Arc::new(Plan { block: request.block as usize, dense, sums, compared });
    let whole = old.filter(|old| sums && old.has_sums()).and_then(OldTable::whole).map(Arc::new);
    let mut ranges = Ranges::new(old, whole.as_ref());
    // A window never lies in two ranges: blocks are as long as a power of two, and shorter than one.
    let window = WINDOW.max(plan.block).max(plan.compared);
    let ahead = (request.pool.threads() * 2 + 2).min((AHEAD_BYTES / window).max(2));
    let mut source = Source { windows: Windows::new(request, window), read, ended: None, spare: Vec::new() };
    let table = Making::new(request.block, keep);
    let mut done = Done::new(&plan, request, sink, (table, whole.as_ref().and_then(Search::new)));
    let mut waiting: VecDeque<(Ticket<Hashed>, Vec<Range<u64>>)> = VecDeque::new();
    loop {
        while waiting.len() < ahead {
            let Some((at, data, covered)) = source.next(dense).map_err(CompareError::Read)? else { break };
            let (plan, old) = (plan.clone(), ranges.at(at));
            waiting.push_back((request.pool.submit(move || hash(&plan, old.as_deref(), at, data)), covered));
        }
        let Some((ticket, covered)) = waiting.pop_front() else { break };
        let hashed = ticket.wait().map_err(CompareError::Worker)?;
        done.window(&hashed, &covered).map_err(CompareError::Sink)?;
        source.spare.push(hashed.data);
    }
    done.searched(true).map_err(CompareError::Sink)?;
    Ok(done.finish(source.ended.unwrap_or(request.size)))
}

/// Cuts ranges into windows of the file; windows without data are left out.
struct Windows<'a> {
    ranges: &'a [(u64, u64)],
    /// Nothing before this is left.
    at: u64,
    size: u64,
    window: u64,
}

impl<'a> Windows<'a> {
    fn new(request: &Request<'a>, window: usize) -> Self {
        Self { ranges: request.ranges, at: 0, size: request.size, window: window as u64 }
    }
}

impl Iterator for Windows<'_> {
    type Item = (Range<u64>, Vec<Range<u64>>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut covered: Vec<Range<u64>> = Vec::new();
        let mut window = 0..0;
        while let Some(&(offset, length)) = self.ranges.first() {
            let range = offset.max(self.at)..offset.saturating_add(length).min(self.size);
            if range.is_empty() {
                self.ranges = &self.ranges[1..];
                continue;
            }
            if covered.is_empty() {
                let start = range.start / self.window * self.window;
                window = start..start.saturating_add(self.window).min(self.size);
            }
            if range.start >= window.end {
                break;
            }
            self.at = range.end.min(window.end);
            covered.push(range.start..self.at);
        }
        (!covered.is_empty()).then_some((window, covered))
    }
}

/// A window: where it begins, its bytes, and which of them are data.
type Read = (u64, Vec<u8>, Vec<Range<u64>>);

struct Source<'a, 'r> {
    windows: Windows<'a>,
    read: &'r mut dyn FnMut(u64, &mut [u8]) -> io::Result<usize>,
    /// Where the file ended, if before its announced end.
    ended: Option<u64>,
    spare: Vec<Vec<u8>>,
}

impl Source<'_, '_> {
    /// The next window.
    fn next(&mut self, dense: bool) -> io::Result<Option<Read>> {
        if self.ended.is_some() {
            return Ok(None);
        }
        let Some((window, mut covered)) = self.windows.next() else { return Ok(None) };
        let place = |offset: u64| usize::try_from(offset - window.start).unwrap_or(usize::MAX);
        let mut data = self.spare.pop().unwrap_or_default();
        if !dense {
            data.clear();
        }
        data.resize(place(window.end), 0);
        for range in &mut covered {
            let got = self.fill(range.start, &mut data[place(range.start)..place(range.end)])?;
            if self.ended.is_some() {
                range.end = range.start + got;
                data.truncate(place(range.end));
                let end = range.end;
                covered.retain(|r| r.start < end && !r.is_empty());
                break;
            }
        }
        Ok((!data.is_empty()).then_some((window.start, data, covered)))
    }

    fn fill(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<u64> {
        let mut got = 0;
        while got < buffer.len() {
            match (self.read)(offset + got as u64, &mut buffer[got..]) {
                Ok(0) => {
                    self.ended = Some(offset + got as u64);
                    break;
                }
                Ok(more) => got += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(got as u64)
    }
}

/// What was done with the windows so far.
struct Done<'a, S> {
    plan: &'a Plan,
    extents: &'a [Extent],
    sink: &'a mut S,
    table: Making<'a>,
    zeros: Short,
    whole: Whole,
    /// Looks for content that is not what it was at its place.
    search: Option<Search>,
}

enum Whole {
    Groups(Tree),
    Stream(Box<blake3::Hasher>),
}

impl<'a, S: Sink> Done<'a, S> {
    fn new(
        plan: &'a Plan,
        request: &Request<'a>,
        sink: &'a mut S,
        (table, search): (Making<'a>, Option<Search>),
    ) -> Self {
        let whole = match plan.dense {
            true => Whole::Groups(Tree::new()),
            false => Whole::Stream(Box::default()),
        };
        let zeros = if plan.dense { [0; 16] } else { block_hash(&vec![0; plan.block]) };
        Self { plan, extents: request.old.map_or(&[], |old| old.extents), sink, table, zeros, whole, search }
    }

    fn window(&mut self, hashed: &Hashed, covered: &[Range<u64>]) -> Result<(), S::Error> {
        match &mut self.whole {
            Whole::Groups(tree) => {
                for (group, bytes) in hashed.groups.iter().zip(hashed.data.chunks(GROUP)) {
                    tree.push(*group, bytes);
                }
                if self.plan.block < GROUP {
                    self.table.add_groups(hashed.groups.iter().map(short));
                }
            }
            Whole::Stream(hasher) => {
                for range in covered {
                    hasher.update(bytes_of(hashed, range));
                }
            }
        }
        self.holes_until(hashed.at);
        self.table.add(&hashed.hashes, &hashed.sums);
        for range in covered {
            self.range(hashed, range.clone())?;
        }
        Ok(())
    }

    /// Adds the blocks of a hole that no window showed.
    fn holes_until(&mut self, offset: u64) {
        let blocks = (offset / self.plan.block as u64).saturating_sub(self.table.blocks());
        self.table.add_same(blocks, self.zeros, self.plan.sums.then_some(0));
    }

    /// Tells the sink about a covered range of a window, by runs of blocks that are as they were, or are not.
    fn range(&mut self, hashed: &Hashed, mut range: Range<u64>) -> Result<(), S::Error> {
        let block = self.plan.compared as u64;
        let index = |offset: u64| usize::try_from((offset - hashed.at) / block).unwrap_or(usize::MAX);
        while !range.is_empty() {
            let first = index(range.start);
            let kept = hashed.kept.get(first).copied().unwrap_or(false);
            let run = hashed.kept.iter().skip(first).take_while(|k| **k == kept).count().max(1);
            let end = (hashed.at + (first + run) as u64 * block).min(range.end);
            let bytes = bytes_of(hashed, &(range.start..end));
            match kept {
                true => {
                    self.searched(true)?;
                    self.kept(range.start, range.start, bytes)?;
                }
                false => self.changed(range.start, bytes)?,
            }
            range.start = end;
        }
        Ok(())
    }

    /// Bytes that are not what they were at their place.
    fn changed(&mut self, offset: u64, bytes: &[u8]) -> Result<(), S::Error> {
        let gap = |search: &Search| search.at + search.bytes.len() as u64 != offset;
        if self.search.as_ref().is_some_and(gap) {
            self.searched(true)?;
        }
        let Some(search) = &mut self.search else { return self.sink.fresh(offset, bytes) };
        search.feed(offset, bytes);
        self.searched(false)
    }

    /// Tells the sink what the search decided; all of it where the stretch ends that it is fed with.
    fn searched(&mut self, last: bool) -> Result<(), S::Error> {
        let Some(mut search) = self.search.take() else { return Ok(()) };
        let cuts = search.cuts(last);
        for cut in &cuts {
            let (offset, bytes) = (search.at + cut.range.start as u64, &search.bytes[cut.range.clone()]);
            match cut.old {
                Some(old) => self.kept(offset, old, bytes)?,
                None => self.sink.fresh(offset, bytes)?,
            }
        }
        search.forget(&cuts, last);
        self.search = Some(search);
        Ok(())
    }

    /// Bytes that were at `old` before: kept where extents cover them.
    fn kept(&mut self, mut offset: u64, old: u64, mut bytes: &[u8]) -> Result<(), S::Error> {
        for stretch in stretches(self.extents, old, bytes.len() as u64) {
            let length = stretch.length;
            let (these, rest) =
                bytes.split_at(usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len()));
            match stretch.place {
                Some((archive, tar_offset)) => {
                    self.sink.kept(Extent { offset, archive, tar_offset, length })?;
                }
                None => self.sink.fresh(offset, these)?,
            }
            (offset, bytes) = (offset + length, rest);
        }
        Ok(())
    }

    fn finish(mut self, size: u64) -> Compared {
        self.holes_until(size);
        let tail = usize::try_from(size % self.plan.block as u64).unwrap_or(0);
        if self.table.blocks() < size.div_ceil(self.plan.block as u64) {
            self.table.add_same(1, block_hash(&vec![0; tail]), self.plan.sums.then_some(0));
        }
        self.table.finish(size);
        let hash = match self.whole {
            Whole::Groups(tree) => tree.finish(),
            Whole::Stream(hasher) => ContentHash(*hasher.finalize().as_bytes()),
        };
        Compared { hash, size }
    }
}

fn bytes_of<'h>(hashed: &'h Hashed, range: &Range<u64>) -> &'h [u8] {
    let place = |offset: u64| usize::try_from(offset - hashed.at).unwrap_or(usize::MAX);
    hashed.data.get(place(range.start)..place(range.end)).unwrap_or_default()
}
