//! Archives in memory, and a reader that behaves like files and captures do.

use super::super::table::BlockTable;
use super::super::*;
use super::random::Rng;
use crate::archive::Pool;
use crate::model::{ContentHash, Extent, ObjectId};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

/// A file: stretches of data, and holes between.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) data: Vec<(u64, Vec<u8>)>,
}

impl Content {
    pub(super) fn dense(bytes: Vec<u8>) -> Self {
        let size = bytes.len() as u64;
        Self { size, data: if size == 0 { Vec::new() } else { vec![(0, bytes)] } }
    }

    pub(super) fn ranges(&self) -> Vec<(u64, u64)> {
        self.data.iter().map(|(offset, bytes)| (*offset, bytes.len() as u64)).collect()
    }

    pub(super) fn covered(&self) -> Vec<u8> {
        self.data.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect()
    }

    /// What a `pread` gives.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let Some((from, bytes)) = self.data.iter().rev().find(|(from, _)| *from <= offset) else {
            return 0;
        };
        let bytes = bytes.get((offset - from) as usize..).unwrap_or_default();
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        length
    }
}

/// What is stored, and what was last seen.
pub(super) struct World {
    pub(super) pool: Pool,
    pub(super) block: u32,
    pub(super) kind: super::super::Content,
    pub(super) archives: HashMap<ObjectId, Vec<u8>>,
    pub(super) table: Option<Arc<BlockTable>>,
    pub(super) extents: Vec<Extent>,
    /// Announce this size once, whatever the content's.
    pub(super) announce: Option<u64>,
    pub(super) part: usize,
    pub(super) rng: Rng,
}

pub(super) struct Outcome {
    pub(super) extents: Vec<Extent>,
    pub(super) hash: ContentHash,
    pub(super) table: BlockTable,
    pub(super) size: u64,
    pub(super) packed: u64,
}

impl World {
    pub(super) fn new(block: u32) -> Self {
        Self {
            pool: Pool::new(2),
            block,
            kind: super::super::Content::File,
            archives: HashMap::new(),
            table: None,
            extents: Vec::new(),
            announce: None,
            part: PART_BYTES,
            rng: Rng(7),
        }
    }
}

/// Compares `content` with what the world holds, checks everything that must hold, and makes the result the world's.
pub(super) fn run(world: &mut World, content: &Content) -> Outcome {
    let mut ranges = content.ranges();
    let mut size = content.size;
    if let Some(announced) = world.announce.take() {
        size = announced;
        ranges = vec![(0, announced)];
    }
    let before = world.table.as_ref().map(|table| OldTable::of(table.encode()).unwrap());
    let old = before.as_ref().map(|table| Old { table, extents: &world.extents });
    let request =
        Request { pool: &world.pool, block: world.block, size, ranges: &ranges, content: world.kind, old };
    let mut at = 0;
    let mut rng = Rng(world.rng.next());
    let mut read = |offset: u64, buffer: &mut [u8]| {
        assert!(offset >= at, "content is read in order");
        if rng.next().is_multiple_of(50) {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let most = if rng.next().is_multiple_of(4) {
            rng.below(buffer.len() as u64) as usize + 1
        } else {
            buffer.len()
        };
        let got = content.read(offset, &mut buffer[..most]);
        at = offset + got as u64;
        Ok(got)
    };
    let mut tar = vec![0xEE; 512];
    let name = ObjectId::of(&world.rng.next().to_le_bytes());
    let mut packed = 0;
    let mut parts = Parts::new(world.part, |pairs: &[(u64, u64)], bytes: &[u8]| {
        assert_eq!(pairs.iter().map(|p| p.1).sum::<u64>(), bytes.len() as u64);
        assert!(pairs.windows(2).all(|w| w[0].0 + w[0].1 < w[1].0), "neighbours are joined");
        packed += bytes.len() as u64;
        tar.extend_from_slice(&[0xDD; 100]);
        let begun = tar.len() as u64;
        tar.extend_from_slice(bytes);
        Ok::<_, Infallible>((0, begun))
    });
    let mut ranges = Vec::new();
    let mut keep = |range| ranges.push(range);
    let compared =
        compare(&request, &mut read, &mut parts, &mut keep).unwrap_or_else(|_| panic!("the pass failed"));
    let table = table_of(ranges, &request);
    let made = parts.finish().unwrap();
    check_kept(&made, &world.extents);
    world.archives.insert(name, tar);
    let extents: Vec<Extent> = made.iter().map(|s| named(s, name)).collect();
    check_content(world, content, &extents, &compared);
    let fresh = Request { old: None, block: request.block, ..request };
    let mut again = |offset: u64, buffer: &mut [u8]| Ok(content.read(offset, buffer));
    let mut alone = Vec::new();
    let mut keep = |range| alone.push(range);
    let done = compare(&fresh, &mut again, &mut Nowhere, &mut keep);
    assert!(done.is_ok(), "the pass failed");
    assert_eq!(table_of(alone, &fresh), table, "a table does not depend on the one before");
    world.table = Some(Arc::new(table.clone()));
    world.extents.clone_from(&extents);
    Outcome { extents, hash: compared.hash, table, size: compared.size, packed }
}

/// The table of ranges that were kept.
fn table_of(ranges: Vec<Vec<u8>>, request: &Request<'_>) -> BlockTable {
    let mut table = BlockTable::decode(&ranges).unwrap();
    assert_eq!(table.encode(), ranges);
    // One of nothing says nothing.
    table.block = request.block;
    table
}

fn named(stretch: &Stretch, name: ObjectId) -> Extent {
    let archive = match stretch.home {
        Home::Stored(id) => id,
        Home::Packed(place) => {
            assert_eq!(place, 0, "every stretch has its place");
            name
        }
    };
    Extent { offset: stretch.offset, archive, tar_offset: stretch.tar_offset, length: stretch.length }
}

/// Every byte that is kept lies where an old extent says that one lies.
fn check_kept(made: &[Stretch], old: &[Extent]) {
    for stretch in made {
        let Home::Stored(archive) = stretch.home else { continue };
        let (mut at, end) = (stretch.tar_offset, stretch.tar_offset + stretch.length);
        while at < end {
            let holds =
                |e: &&Extent| e.archive == archive && e.tar_offset <= at && at < e.tar_offset + e.length;
            let extent = old.iter().filter(holds).max_by_key(|e| e.tar_offset + e.length);
            let extent = extent.expect("what is kept is covered by the old extents");
            at = extent.tar_offset + extent.length;
        }
    }
}

fn check_content(world: &World, content: &Content, extents: &[Extent], compared: &Compared) {
    let mut covered = Vec::new();
    let mut end = 0;
    let ranges = content.ranges();
    for e in extents {
        assert!(e.length > 0 && e.offset >= end && e.offset + e.length <= compared.size, "in order, inside");
        assert_eq!(e.offset >> 28, (e.offset + e.length - 1) >> 28, "cut at multiples of 256 MiB");
        let inside = |r: &(u64, u64)| r.0 <= e.offset && e.offset + e.length <= r.0 + r.1;
        // Neighbouring ranges may share an extent.
        let spans = ranges.iter().any(inside) || ranges.windows(2).any(|w| w[0].0 + w[0].1 == w[1].0);
        assert!(spans, "an extent lies in a range");
        let tar = &world.archives[&e.archive];
        covered.extend_from_slice(&tar[e.tar_offset as usize..(e.tar_offset + e.length) as usize]);
        end = e.offset + e.length;
    }
    let lengths: u64 = extents.iter().map(|e| e.length).sum();
    assert_eq!(lengths, ranges.iter().map(|r| r.1).sum::<u64>(), "every byte of the ranges, once");
    assert!(covered == content.covered(), "the content comes back");
    assert_eq!(compared.size, content.size);
    assert_eq!(compared.hash.0, *blake3::hash(&covered).as_bytes());
}

struct Nowhere;

impl Sink for Nowhere {
    type Error = Infallible;
    fn kept(&mut self, _: Extent) -> Result<(), Infallible> {
        panic!("there is nothing to keep");
    }
    fn fresh(&mut self, _: u64, _: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }
}
