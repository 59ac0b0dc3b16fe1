//! Random versions of a file, and what is kept of each.

use super::super::Content as Kind;
use super::world::{Content, World, run};
use proptest::test_runner::TestCaseError;

/// SplitMix64: the same numbers everywhere.
#[derive(Debug, Clone)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(super) fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    /// A number that is often small, sometimes near a multiple of a block.
    fn length(&mut self, most: u64) -> u64 {
        match self.below(3) {
            0 => self.below(64),
            1 => self.below(most),
            _ => (self.below(most / 512 + 1) * 512 + self.below(3)).saturating_sub(1),
        }
    }
}

/// A few versions of one file, each compared with the one before; [`run`] checks what must hold.
pub(super) fn versions(seed: u64) -> Result<(), TestCaseError> {
    let mut rng = Rng(seed);
    let mut world = World::new(512 << rng.below(8));
    world.rng = Rng(rng.next());
    world.part = 1 << (8 + rng.below(14));
    if rng.chance(3) {
        world.kind = Kind::Database(world.block);
    }
    let mut bytes = fresh_bytes(&mut rng, 900_000);
    for _ in 0..rng.below(4) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        let length = (rng.length(100_000) as usize).min(bytes.len() - at);
        bytes[at..at + length].fill(0);
    }
    for _ in 0..4 {
        let content = with_holes(&mut rng, &bytes);
        run(&mut world, &content);
        if rng.chance(6) {
            world.block = 512 << rng.below(8);
        }
        forget(&mut rng, &mut world);
        change(&mut rng, &mut bytes);
    }
    Ok(())
}

fn fresh_bytes(rng: &mut Rng, most: u64) -> Vec<u8> {
    let length = rng.length(most) as usize;
    let period = if rng.chance(3) { rng.below(2000) + 1 } else { u64::MAX };
    let salt = rng.next();
    let kind = rng.below(4);
    (0..length as u64)
        .map(|i| match kind {
            0 => 0,
            1 => (Rng(salt ^ (i % period)).next() % 3) as u8,
            _ => Rng(salt ^ (i % period)).next() as u8,
        })
        .collect()
}

/// Some stretches of zeros, or parts of them, become holes that no range covers; some ranges are cut in two.
fn with_holes(rng: &mut Rng, bytes: &[u8]) -> Content {
    if rng.chance(2) {
        return Content::dense(bytes.to_vec());
    }
    let (mut at, mut data) = (0, Vec::new());
    let mut range = |from: usize, to: usize| {
        if from < to {
            data.push((from as u64, bytes[from..to].to_vec()));
        }
    };
    for run in bytes.chunk_by(|a, b| (*a == 0) == (*b == 0)).scan(0, |end, run| {
        *end += run.len();
        Some((*end - run.len(), *end, run[0] == 0))
    }) {
        let (from, to, zeros) = run;
        if zeros && to - from > 20 && !rng.chance(4) {
            let margin = if rng.chance(2) { rng.below((to - from) as u64 / 2) as usize } else { 0 };
            range(at, from + margin);
            at = to;
        } else if rng.chance(4000) {
            range(at, to);
            at = to;
        }
    }
    range(at, bytes.len());
    Content { size: bytes.len() as u64, data }
}

/// Archives get lost, or are to be packed again: some extents are gone, wholly or in part.
fn forget(rng: &mut Rng, world: &mut World) {
    if rng.chance(3) {
        world.extents.retain(|_| !rng.chance(4));
    }
    if rng.chance(3) {
        for extent in &mut world.extents {
            if rng.chance(3) && extent.length > 10 {
                let cut = rng.below(extent.length - 1);
                extent.length -= cut;
                if rng.chance(2) {
                    extent.offset += cut;
                    extent.tar_offset += cut;
                }
            }
        }
    }
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.below(5) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        let length = (rng.length(100_000) as usize).min(bytes.len() - at);
        match rng.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.extend(fresh_bytes(rng, 100_000)),
            2 => drop(bytes.splice(at..at, fresh_bytes(rng, 50_000))),
            3 => drop(bytes.drain(at..at + length)),
            4 => bytes[at..at + length].fill(0),
            5 => {
                let moved: Vec<u8> = bytes.drain(at..at + length).collect();
                let to = rng.below(bytes.len() as u64 + 1) as usize;
                drop(bytes.splice(to..to, moved));
            }
            6 => {
                let copy = bytes[at..at + length].to_vec();
                bytes.extend(copy);
            }
            _ => {
                for _ in 0..=rng.below(20) {
                    if !bytes.is_empty() {
                        let place = rng.below(bytes.len() as u64) as usize;
                        bytes[place] ^= 1 << rng.below(8);
                    }
                }
            }
        }
    }
}
