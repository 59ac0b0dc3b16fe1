//! What decision 0013 rests on: how much of a changed file is packed, and how fast that is found, beside content-defined cuts.
//!
//! `cargo test --release --lib how_much_of_a_changed_file_is_packed -- --ignored --nocapture`; `BACKSTAY_TEST_BLOCKS=old,new` adds a pair of files.

use super::super::*;
use super::random::Rng;
use crate::archive::Pool;
use crate::model::{Extent, ObjectId};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt::Write as _;

/// Seconds of processor that this process used so far: what else the machine does hardly counts.
fn processor() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

const BLOCK: u32 = 16384;
const SIZE: usize = 256 << 20;

fn line(rng: &mut Rng, into: &mut Vec<u8>) {
    let mut text = String::new();
    let (time, path) = (rng.below(86_400), rng.below(5000));
    let _ = writeln!(
        text,
        "10.0.{}.{} - - [24/Nov/2026:{:02}:{:02}:{:02} +0000] \"GET /items/{path}?page={} HTTP/1.1\" 200 {} \"-\" \"agent/{}\"",
        rng.below(256),
        rng.below(256),
        time / 3600,
        time / 60 % 60,
        time % 60,
        rng.below(40),
        rng.below(90_000),
        rng.below(30)
    );
    into.extend_from_slice(text.as_bytes());
}

fn log(length: usize, salt: u64) -> Vec<u8> {
    let (mut rng, mut bytes) = (Rng(salt), Vec::with_capacity(length + 200));
    while bytes.len() < length {
        line(&mut rng, &mut bytes);
    }
    bytes
}

fn random(length: usize, salt: u64) -> Vec<u8> {
    let mut rng = Rng(salt);
    (0..length / 8).flat_map(|_| rng.next().to_le_bytes()).collect()
}

/// Files of many lengths, each with a block of header and filled up to 512.
fn tar(members: usize, added: bool) -> Vec<u8> {
    let (mut rng, mut bytes) = (Rng(5), Vec::new());
    for member in 0..members {
        if added && member == members / 3 {
            bytes.extend_from_slice(&[b'h'; 512]);
            bytes.extend_from_slice(&random(70_144, 99));
        }
        bytes.extend_from_slice(&log(100, member as u64).repeat(6)[..512]);
        let length = 1 << (9 + rng.below(10));
        bytes.extend(if rng.chance(2) { log(length, rng.next()) } else { random(length, rng.next()) });
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes
}

/// One after the other, so that only one pair is in memory.
fn pairs(mut each: impl FnMut(&str, &[u8], &[u8])) {
    let old = log(SIZE, 1);
    each("log, 10 MB appended", &old, &[&old[..], &log(10_000_000, 2)].concat());
    each(
        "log, 64 MB cut off in front, 10 MB appended",
        &old,
        &[&old[64_000_123..], &log(10_000_000, 2)].concat(),
    );
    let (mut new, mut rng, mut from) = (Vec::with_capacity(old.len() + 20_000), Rng(3), 0);
    for part in 1..=100 {
        let end = part * old.len() / 100;
        let cut = (from + rng.below((end - from) as u64) as usize).max(from);
        let cut = cut + old[cut..].iter().position(|b| *b == b'\n').map_or(0, |p| p + 1);
        new.extend_from_slice(&old[from..cut]);
        line(&mut rng, &mut new);
        new.extend_from_slice(&old[cut..end.max(cut)]);
        from = end.max(cut);
    }
    each("lines, 100 inserted at random places", &old, &new);
    drop(new);
    let (old, mut new) = (tar(2500, false), tar(2500, true));
    each("tar, a member of 70 KB added after a third", &old, &new);
    let old = random(2 * SIZE, 6);
    new.clone_from(&old);
    for _ in 0..2000 {
        let at = rng.below((old.len() / 4096) as u64) as usize * 4096;
        new[at..at + 4096].copy_from_slice(&random(4096, rng.next()));
    }
    each("disk image, 2,000 random blocks of 4 KiB written", &old, &new);
    if let Some((old, new)) =
        std::env::var("BACKSTAY_TEST_BLOCKS").ok().as_deref().and_then(|v| v.split_once(','))
    {
        each(new, &std::fs::read(old).unwrap(), &std::fs::read(new).unwrap());
    }
}

/// Gathers what is new.
struct Fresh(Vec<u8>);

impl Sink for Fresh {
    type Error = Infallible;
    fn kept(&mut self, _: Extent) -> Result<(), Infallible> {
        Ok(())
    }
    fn fresh(&mut self, _: u64, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn pass(
    pool: &Pool,
    bytes: &[u8],
    block: u32,
    content: Content,
    old: Option<Old<'_>>,
) -> (Vec<Vec<u8>>, Fresh, f64) {
    let size = bytes.len() as u64;
    let request = Request { pool, block, size, ranges: &[(0, size)], content, old };
    let mut sink = Fresh(Vec::with_capacity(bytes.len()));
    let mut read = |offset: u64, buffer: &mut [u8]| {
        buffer.copy_from_slice(&bytes[offset as usize..offset as usize + buffer.len()]);
        Ok(buffer.len())
    };
    let begun = processor();
    let mut ranges = Vec::new();
    let mut keep = |range| ranges.push(range);
    let compared = compare(&request, &mut read, &mut sink, &mut keep);
    assert!(compared.is_ok(), "the pass failed");
    (ranges, sink, processor() - begun)
}

fn blocks(pool: &Pool, content: Content, old: &[u8], new: &[u8]) -> (Vec<u8>, f64) {
    let table = OldTable::of(pass(pool, old, BLOCK, content, None).0).unwrap();
    let archive = ObjectId::of(b"old");
    let extents = [Extent { offset: 0, archive, tar_offset: 0, length: old.len() as u64 }];
    let before = Old { table: &table, extents: &extents };
    let mut runs: Vec<_> = (0..3).map(|_| pass(pool, new, BLOCK, content, Some(before))).collect();
    runs.sort_by(|a, b| a.2.total_cmp(&b.2));
    let (_, fresh, seconds) = runs.swap_remove(0);
    (fresh.0, seconds)
}

/// Cuts where a gear hash says so, with normalised lengths (FastCDC): 4 to 64 KiB, 16 KiB on average.
fn cuts(bytes: &[u8], gear: &[u64; 256], mut each: impl FnMut(&[u8])) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (mut hash, mut end) = (0u64, rest.len().min(65536));
        for (at, byte) in rest[..end].iter().enumerate().skip(4096) {
            hash = (hash << 1).wrapping_add(gear[usize::from(*byte)]);
            let mask = if at < 16384 { !0 << 48 } else { !0 << 52 };
            if hash & mask == 0 {
                end = at + 1;
                break;
            }
        }
        let (chunk, after) = rest.split_at(end);
        each(chunk);
        rest = after;
    }
}

fn content_defined(old: &[u8], new: &[u8]) -> (Vec<u8>, f64) {
    let mut rng = Rng(77);
    let gear: [u64; 256] = std::array::from_fn(|_| rng.next());
    let mut known: HashSet<[u8; 32]> = HashSet::new();
    cuts(old, &gear, |chunk| {
        known.insert(*blake3::hash(chunk).as_bytes());
    });
    let mut fresh = Vec::with_capacity(new.len());
    let begun = processor();
    cuts(new, &gear, |chunk| {
        if !known.contains(blake3::hash(chunk).as_bytes()) {
            fresh.extend_from_slice(chunk);
        }
    });
    (fresh, processor() - begun)
}

#[test]
#[ignore = "a measurement of a few minutes; needs 2 GB of memory"]
fn how_much_of_a_changed_file_is_packed() {
    let pool = Pool::for_machine();
    let megabytes = |bytes: usize| bytes as f64 / 1e6;
    pairs(|name, old, new| {
        println!("{name}: {:.1} MB", megabytes(new.len()));
        // As a database, it is not searched.
        let place = blocks(&pool, Content::Database(BLOCK), old, new);
        let shifted = blocks(&pool, Content::File, old, new);
        let cdc = content_defined(old, new);
        for (way, (fresh, seconds)) in [("in place", place), ("shifted", shifted), ("content-defined", cdc)] {
            let small = zstd::bulk::compress(&fresh, 3).unwrap().len();
            let speed = megabytes(new.len()) / seconds;
            println!(
                "  {way:15} packs {:8.2} MB, {:7.2} MB as zstd -3, {speed:5.0} MB a second of one core",
                megabytes(fresh.len()),
                megabytes(small)
            );
        }
    });
}

#[test]
#[ignore = "a measurement of a few minutes; needs 2 GB of memory"]
fn which_block_size_packs_least() {
    let pool = Pool::for_machine();
    pairs(|name, old, new| {
        println!("{name}: {:.1} MB", new.len() as f64 / 1e6);
        for block in [4, 8, 16, 32, 64].map(|kib| kib << 10) {
            let ranges = pass(&pool, old, block, Content::File, None).0;
            let table: usize = ranges.iter().map(Vec::len).sum();
            let old_table = OldTable::of(ranges).unwrap();
            let archive = ObjectId::of(b"old");
            let extents = [Extent { offset: 0, archive, tar_offset: 0, length: old.len() as u64 }];
            let before = Old { table: &old_table, extents: &extents };
            let (_, Fresh(fresh), _) = pass(&pool, new, block, Content::File, Some(before));
            let small = zstd::bulk::compress(&fresh, 3).unwrap().len();
            println!(
                "  {:2} KiB packs {:8.2} MB, {:7.2} MB as zstd -3; table {:5.2} MB",
                block >> 10,
                fresh.len() as f64 / 1e6,
                small as f64 / 1e6,
                table as f64 / 1e6
            );
        }
    });
}

#[test]
#[ignore = "a measurement; needs 3 GB of memory"]
fn how_fast_pages_are_compared() {
    let pool = Pool::for_machine();
    let old = random(4 * SIZE, 1);
    let pages = old.len() / 4096;
    let mut rng = Rng(2);
    let mut spread = old.clone();
    for _ in 0..pages / 16 {
        spread[rng.below(pages as u64) as usize * 4096 + 100] ^= 1;
    }
    let mut hot = old.clone();
    hot[old.len() / 100 * 96..].iter_mut().step_by(4096).for_each(|byte| *byte ^= 1);
    let content = Content::Database(4096);
    let table = OldTable::of(pass(&pool, &old, 4096, content, None).0).unwrap();
    let extents =
        [Extent { offset: 0, archive: ObjectId::of(b"old"), tar_offset: 0, length: old.len() as u64 }];
    let before = Old { table: &table, extents: &extents };
    let rows = [
        ("first", &old, None),
        ("nothing changed", &old, Some(before)),
        ("a sixteenth changed, spread", &spread, Some(before)),
        ("4 % changed, together", &hot, Some(before)),
    ];
    for (name, bytes, old) in rows {
        let seconds = (0..5).map(|_| pass(&pool, bytes, 4096, content, old)).map(|run| run.2);
        let speed = bytes.len() as f64 / seconds.fold(f64::INFINITY, f64::min) / 1e6;
        println!("{name:28} {speed:5.0} MB a second of one core");
    }
}
