//! Random old and new content: what is kept and what is new must give the new content, byte for byte.

mod measure;
mod random;
mod world;

use super::*;
use crate::archive::Pool;
use proptest::prelude::*;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use world::{Content as Bytes, World, run};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_kept_and_what_is_new_give_the_new_content(seed in any::<u64>()) {
        random::versions(seed)?;
    }
}

fn numbers(length: usize, salt: u64) -> Vec<u8> {
    let mut rng = random::Rng(salt);
    (0..length).map(|_| rng.next() as u8).collect()
}

#[test]
fn unchanged_content_keeps_its_extents_and_packs_nothing() {
    let mut world = World::new(4096);
    let content = Bytes::dense(numbers(1_000_000, 1));
    let first = run(&mut world, &content);
    assert_eq!(first.packed, 1_000_000);
    let second = run(&mut world, &content);
    assert_eq!(second.packed, 0);
    assert_eq!(second.extents, first.extents);
    assert_eq!(second.hash, first.hash);
    assert_eq!(second.table, first.table);
}

#[test]
fn a_changed_byte_costs_one_block() {
    let mut world = World::new(4096);
    let mut bytes = numbers(1_000_000, 2);
    run(&mut world, &Bytes::dense(bytes.clone()));
    bytes[555_555] ^= 1;
    assert_eq!(run(&mut world, &Bytes::dense(bytes)).packed, 4096);
}

#[test]
fn extents_left_out_come_as_new_bytes() {
    let mut world = World::new(4096);
    let content = Bytes::dense(numbers(300_000, 3));
    run(&mut world, &content);
    world.extents.iter_mut().for_each(|e| e.length -= 100);
    let extents = world.extents.len() as u64;
    assert_eq!(run(&mut world, &content).packed, 100 * extents);
    world.extents.clear();
    assert_eq!(run(&mut world, &content).packed, 300_000);
}

#[test]
fn a_larger_block_size_still_keeps_what_is_unchanged() {
    let mut world = World::new(4096);
    let mut bytes = numbers(700_000, 4);
    run(&mut world, &Bytes::dense(bytes.clone()));
    world.block = 65536;
    bytes[300_000] ^= 1;
    let second = run(&mut world, &Bytes::dense(bytes.clone()));
    assert_eq!((second.packed, second.table.block), (4096, 65536));
    assert_eq!(run(&mut world, &Bytes::dense(bytes)).packed, 0);
}

/// A database is compared range by range. What is not there any more of its table, when its turn comes, is as if it had changed.
#[test]
fn ranges_that_cannot_be_read_when_their_turn_comes_are_packed_again() {
    let (mut world, range) = (World::new(1 << 20), 256 << 20);
    world.kind = Content::Database(65536);
    let size = 2 * range + 5_000_000;
    // Zeros with a mark in each block, so that it does not take long.
    let mut bytes = vec![0; size];
    (0..size >> 20).for_each(|n| bytes[n << 20] = n as u8);
    run(&mut world, &Bytes::dense(bytes.clone()));
    let ranges = world.table.as_ref().unwrap().encode();
    assert_eq!(ranges.len(), 3);
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let table = OldTable::new(3, move |number| {
        let first_round = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 3;
        (first_round || number != 1).then(|| ranges[number].clone())
    });
    let table = table.unwrap();
    let old = Some(Old { table: &table, extents: &world.extents });
    let ranges = [(0, size as u64)];
    let request = Request {
        pool: &world.pool,
        block: 1 << 20,
        size: size as u64,
        ranges: &ranges,
        content: world.kind,
        old,
    };
    let mut fresh = Vec::new();
    let mut parts = Parts::new(PART_BYTES, |pairs: &[(u64, u64)], _: &[u8]| {
        fresh.extend_from_slice(pairs);
        Ok::<_, Infallible>((0, 0))
    });
    let mut read = |offset: u64, buffer: &mut [u8]| {
        let from = &bytes[offset as usize..];
        let length = from.len().min(buffer.len());
        buffer[..length].copy_from_slice(&from[..length]);
        Ok(length)
    };
    let mut kept = Vec::new();
    let mut keep = |piece| kept.push(piece);
    assert!(compare(&request, &mut read, &mut parts, &mut keep).is_ok());
    drop(parts.finish().unwrap());
    assert_eq!(
        (fresh.first().unwrap().0, fresh.iter().map(|f| f.1).sum::<u64>()),
        (range as u64, range as u64)
    );
    assert_eq!(kept, world.table.unwrap().encode(), "what is known now is all of it again");
}

#[test]
fn holes_cost_nothing_and_are_not_read() {
    let mut world = World::new(16384);
    let size = 40 << 30;
    let data = numbers(100_000, 5);
    let content = Bytes { size, data: vec![(1 << 20, data.clone()), (30 << 30, data)] };
    let first = run(&mut world, &content);
    assert_eq!((first.packed, first.size), (200_000, size));
    let second = run(&mut world, &content);
    assert_eq!((second.packed, second.hash), (0, first.hash));
    assert_eq!(second.extents, first.extents);
}

#[test]
fn what_changed_on_both_sides_of_a_hole_stays_on_its_side() {
    let mut world = World::new(16384);
    let text = lines(4000, 12);
    run(&mut world, &Bytes::dense(text.clone()));
    // Without the hole between them these two would be one old block.
    let (left, right) = (text[40_000..50_000].to_vec(), text[50_000..80_000].to_vec());
    let content = Bytes { size: 300_000, data: vec![(100_000, left), (270_000, right)] };
    assert!(run(&mut world, &content).packed <= 40_000);
}

#[test]
fn a_file_that_shrinks_while_it_is_read_ends_early() {
    let mut world = World::new(4096);
    let bytes = numbers(900_000, 6);
    run(&mut world, &Bytes::dense(bytes.clone()));
    world.announce = Some(900_000);
    let outcome = run(&mut world, &Bytes::dense(bytes[..700_001].to_vec()));
    assert_eq!((outcome.size, outcome.table.size), (700_001, 700_001));
    assert_eq!(outcome.packed, 700_001 % 4096);
}

/// A sink that fails after some calls.
struct Failing(usize);

impl Sink for Failing {
    type Error = &'static str;
    fn kept(&mut self, _: crate::model::Extent) -> Result<(), Self::Error> {
        Ok(())
    }
    fn fresh(&mut self, _: u64, _: &[u8]) -> Result<(), Self::Error> {
        self.0 = self.0.checked_sub(1).ok_or("full")?;
        Ok(())
    }
}

#[test]
fn failures_of_reader_and_sink_end_the_pass() {
    let pool = Pool::new(2);
    let ranges = [(0, 3 << 20)];
    let request = Request {
        pool: &pool,
        block: 4096,
        size: 3 << 20,
        ranges: &ranges,
        content: Content::File,
        old: None,
    };
    let mut fine = |_: u64, buffer: &mut [u8]| Ok(buffer.len());
    let sunk = compare(&request, &mut fine, &mut Failing(3), &mut drop);
    assert!(matches!(sunk, Err(CompareError::Sink("full"))));
    let mut broken = |offset: u64, buffer: &mut [u8]| match offset {
        0..1_000_000 => Ok(buffer.len().min(4096)),
        _ => Err(io::Error::other("bad sector")),
    };
    assert!(matches!(
        compare(&request, &mut broken, &mut Failing(100), &mut drop),
        Err(CompareError::Read(_))
    ));
}

#[test]
fn new_bytes_come_in_bounded_parts_and_neighbours_are_joined() {
    let mut seen: Vec<Vec<(u64, u64)>> = Vec::new();
    let mut parts = Parts::new(10, |pairs: &[(u64, u64)], bytes: &[u8]| {
        assert!(bytes.len() <= 10);
        seen.push(pairs.to_vec());
        Ok::<_, Infallible>((seen.len() - 1, 1000))
    });
    let archive = crate::model::ObjectId::of(b"a");
    parts.fresh(0, &[1; 4]).unwrap();
    parts.fresh(4, &[1; 4]).unwrap();
    parts.kept(crate::model::Extent { offset: 8, archive, tar_offset: 50, length: 2 }).unwrap();
    parts.kept(crate::model::Extent { offset: 10, archive, tar_offset: 52, length: 2 }).unwrap();
    parts.fresh(12, &[1; 5]).unwrap();
    let made = parts.finish().unwrap();
    assert_eq!(seen, [vec![(0, 8), (12, 2)], vec![(14, 3)]]);
    let rows: Vec<_> = made.iter().map(|s| (s.offset, s.home, s.tar_offset, s.length)).collect();
    let expected = [
        (0, Home::Packed(0), 1000, 8),
        (8, Home::Stored(archive), 50, 4),
        (12, Home::Packed(0), 1008, 2),
        (14, Home::Packed(1), 1000, 3),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn ranges_whose_extents_are_equal_keep_their_maps() {
    let range = crate::model::entry::MAP_RANGE;
    let archive = crate::model::ObjectId::of(b"a");
    let extent = |offset, tar_offset| crate::model::Extent { offset, archive, tar_offset, length: 10 };
    let old = [extent(0, 0), extent(range, 10), extent(3 * range, 20)];
    let mut new = old;
    new[1].tar_offset = 11;
    assert_eq!(unchanged_ranges(&old, &new, 3 * range + 10), [true, false, true, true]);
    assert_eq!(unchanged_ranges(&old, &new[..2], 3 * range + 10), [true, false, true, false]);
}

fn lines(count: usize, salt: u64) -> Vec<u8> {
    let mut rng = random::Rng(salt);
    let line =
        |i| format!("{i} GET /items/{}?page={} {}\n", rng.below(1 << 40), rng.below(100), rng.below(5000));
    (0..count).map(line).collect::<String>().into_bytes()
}

#[test]
fn content_that_moved_is_found_where_it_lay() {
    let mut world = World::new(16384);
    let bytes = lines(40_000, 8);
    run(&mut world, &Bytes::dense(bytes.clone()));
    let mut inserted = bytes.clone();
    drop(inserted.splice(1_000_000..1_000_000, *b"a line more\n"));
    drop(inserted.splice(200_000..200_000, *b"and another\n"));
    let packed = run(&mut world, &Bytes::dense(inserted)).packed;
    assert!(packed <= 2 * 16384 + 24, "{packed} bytes for two lines");
    let mut rotated = bytes[700_000..].to_vec();
    rotated.extend_from_slice(b"a new end\n");
    let packed = run(&mut world, &Bytes::dense(rotated)).packed;
    assert!(packed <= 2 * 16384, "{packed} bytes for a beginning that was cut off");
}

#[test]
fn the_search_holds_less_than_two_windows() {
    let mut world = World::new(4096);
    run(&mut world, &Bytes::dense(numbers(100_000, 9)));
    let mut search = shift::Search::new(&world.table.unwrap()).unwrap();
    let new = numbers(400_000, 10);
    for (i, bytes) in new.chunks(50_000).enumerate() {
        search.feed(i as u64 * 50_000, bytes);
        let cuts = search.cuts(false);
        search.forget(&cuts, false);
        assert!(search.bytes.len() <= 4096);
    }
}

#[test]
fn content_made_to_deceive_the_sums_costs_bounded_time() {
    let mut world = World::new(16384);
    let bytes = numbers(20 * 16384, 11);
    run(&mut world, &Bytes::dense(bytes));
    let table = Arc::make_mut(world.table.as_mut().unwrap());
    table.hashes.iter_mut().for_each(|hash| hash[0] ^= 1);
    // Every position of content that repeats itself has the sum of the old block that does.
    let period = [1, 2, 3, 4];
    let repeated: Vec<u8> = period.iter().copied().cycle().take(16384).collect();
    table.sums.fill(sums::Sums::of(&repeated).key());
    let mut search = shift::Search::new(&world.table.unwrap()).unwrap();
    search.feed(0, &period.repeat(100_000));
    let cuts = search.cuts(true);
    assert_eq!(cuts, [shift::Cut { range: 0..400_000, old: None }]);
    let most = 64 + 400_000 * 8 / 16384;
    assert!(search.in_vain > 10 && search.in_vain <= most, "{} blocks were hashed in vain", search.in_vain);
}
