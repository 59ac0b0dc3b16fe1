//! Histories of sizes: what is added, what goes, what is packed again of it, and whether that ends.

use super::*;
use crate::ops::backup::reuse::drain::share_of;

const MIB: u64 = 1 << 20;
const FULL: u64 = 32 * MIB;

/// A component's archives, and what was packed in all.
struct World {
    shares: Vec<Share>,
    /// Stored bytes of a thousand of content.
    ratio: u64,
    full: u64,
    made: u64,
    /// Of content.
    added: u64,
    packed: u64,
    seed: u64,
}

impl World {
    /// A first snapshot of `base` bytes.
    fn new(base: u64, ratio: u64) -> Self {
        let mut world = Self { shares: Vec::new(), ratio, full: FULL, made: 0, added: 0, packed: 0, seed: 1 };
        world.make(base, false);
        (world.added, world.packed) = (base, base);
        world
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below.max(1)
    }

    /// Archives as a run seals them: each when it is full, the last with what is left.
    fn make(&mut self, mut bytes: u64, delta: bool) {
        let most = (self.full * 1000 / self.ratio).max(1);
        while bytes > 0 {
            let content = bytes.min(most);
            (self.made, bytes) = (self.made + 1, bytes - content);
            let (archive, size) = (ObjectId::of(&self.made.to_le_bytes()), content * self.ratio / 1000 + 700);
            self.shares.push(Share { archive, used: content, of: content, size, age: self.made, delta });
        }
    }

    fn content(&self) -> u64 {
        self.shares.iter().map(|s| s.used).sum()
    }

    fn small(&self) -> usize {
        self.shares.iter().filter(|s| s.delta && s.packed() < self.full / 2).count()
    }

    /// A run that finds `new` bytes more; gives how much it packed.
    fn run(&mut self, new: u64) -> u64 {
        let mut left = share_of(self.content());
        let chosen = choose(&self.shares, self.full, left, SMALL_MAX);
        let mut again = 0;
        // File by file in the order of paths, which is none of archives: where it does not fit, a part of each.
        for turn in 0..8 {
            for share in self.shares.iter_mut().filter(|s| chosen.contains(&s.archive)) {
                let part = if turn == 7 { share.used } else { share.used / 8 };
                let part = part.min(left);
                (share.used, left, again) = (share.used - part, left - part, again + part);
            }
        }
        self.shares.retain(|s| s.used > 0);
        self.make(again + new, true);
        (self.added, self.packed) = (self.added + new, self.packed + again + new);
        again + new
    }

    /// What is left of some archives goes out of use, one part in `of` each.
    fn lose(&mut self, one_in: u64) {
        for at in 0..self.shares.len() {
            if self.random(one_in) == 0 {
                let part = self.random(1000);
                self.shares[at].used -= self.shares[at].used * part / 1000;
            }
        }
        self.shares.retain(|s| s.used > 0);
    }

    /// Nothing changes any more: soon nothing is stored any more, and few small archives are left.
    #[track_caller]
    fn settles(&mut self, within: usize) {
        let busy = (0..within + 50).filter(|_| self.run(0) > 0).count();
        assert!(busy <= within, "{busy} runs in which nothing changed stored something");
        assert_eq!(self.run(0), 0);
        assert!(self.small() <= SMALL_MAX, "{} small archives", self.small());
        let large = self.shares.iter().filter(|s| s.delta).count() - self.small();
        let stored: u64 = self.shares.iter().map(Share::packed).sum();
        assert!(large as u64 <= 1 + stored / (self.full / 2), "{large} others for {stored} bytes");
    }
}

#[test]
fn full_archives_are_never_folded_however_many_there_are() {
    let mut world = World::new(3000 * MIB, 1000);
    world.run(1100 * MIB);
    assert_eq!(world.run(0), 0);
    assert_eq!(world.shares.iter().filter(|s| s.delta).count(), 35);
    for _ in 0..20 {
        world.run(3 * FULL);
        assert_eq!(world.run(0), 0);
    }
}

#[test]
fn what_is_only_ever_added_to_is_packed_a_few_times_and_no_more() {
    // So much at first, so much each time, so often.
    let histories = [
        (10_000 * MIB, 100 * MIB, 365),
        (10_000 * MIB, MIB, 2000),
        (100 * MIB, 10_000, 6_000),
        (0, 20_000, 6_000),
        (2000 * MIB, 15 * MIB, 400),
        (2000 * MIB, 17 * MIB, 400),
        (MIB, 3 * MIB, 400),
    ];
    for (base, daily, days) in histories {
        for ratio in [1000, 300, 20] {
            let mut world = World::new(base, ratio);
            for day in 0..days {
                world.run(daily);
                assert!(world.small() <= SMALL_MAX + 1, "day {day}: {} small archives", world.small());
            }
            let added = world.added - base;
            let again = world.packed - world.added;
            assert!(again <= 3 * added, "{base} + {days} × {daily}: {again} packed again of {added}");
            world.settles(2);
        }
    }
}

#[test]
fn additions_of_very_different_sizes_are_packed_a_few_times_and_no_more() {
    for ratio in [1000, 50] {
        let mut world = World::new(500 * MIB, ratio);
        for _ in 0..6_000 {
            let most = 1 << (10 + world.random(16));
            let new = 1600 + world.random(most);
            world.run(new);
            assert!(world.small() <= SMALL_MAX + 1, "{} small archives", world.small());
        }
        let (added, again) = (world.added - 500 * MIB, world.packed - world.added);
        assert!(again <= 3 * added, "{again} packed again of {added}");
        world.settles(2);
    }
}

#[test]
fn whatever_happened_when_nothing_changes_any_more_soon_nothing_is_stored() {
    for seed in 0..200 {
        let mut world = World::new(seed * 3 * MIB, [1000, 300, 20][seed as usize % 3]);
        world.seed = seed;
        for _ in 0..120 {
            if world.random(3) == 0 {
                let one_in = 1 + world.random(8);
                world.lose(one_in);
            }
            let most = 1 << (8 + world.random(20));
            let new = world.random(most);
            world.run(new);
        }
        // What did not fit into a run's share goes on; a share is a quarter.
        world.settles(12);
    }
}

#[test]
fn very_many_small_ones_are_folded_a_share_a_run() {
    let mut world = World::new(100 * MIB, 1000);
    world.run(200 * FULL);
    // What was full counts as small from now on.
    world.full = 4 * FULL;
    let before = world.small();
    assert!(before > 100);
    let packed = world.run(0);
    assert!(packed > 0 && packed <= world.content() / 4);
    world.settles(12);
}

#[test]
fn what_is_folded_comes_to_lie_in_an_archive_of_twice_the_size_at_least() {
    let share = |n: u64, used: u64| Share {
        archive: ObjectId::of(&n.to_le_bytes()),
        used,
        of: used,
        size: used,
        age: n,
        delta: true,
    };
    let mut shares: Vec<Share> = (0..32).map(|n| share(n, 10 * MIB)).collect();
    shares.push(share(32, 10_000));
    // The little one and one of the others would be enough; but then that one was packed again for the sake of 10,000 bytes.
    let chosen = choose(&shares, FULL, 1 << 40, SMALL_MAX);
    assert_eq!(chosen.len(), 5, "the little one, and as many as fill an archive");
    shares.extend((33..40).map(|n| share(n, 10_000)));
    let chosen = choose(&shares, FULL, 1 << 40, SMALL_MAX);
    assert!(shares.iter().filter(|s| s.used == 10_000).all(|s| chosen.contains(&s.archive)));
    assert!(choose(&shares, FULL, 19_999, SMALL_MAX).is_empty(), "what does not fit is not begun");
    assert!(choose(&shares[..32], FULL, 1 << 40, SMALL_MAX).is_empty());
}

#[test]
fn another_bound_folds_as_many_more() {
    let share = |n: u64| Share {
        archive: ObjectId::of(&n.to_le_bytes()),
        used: 10_000,
        of: 10_000,
        size: 10_000,
        age: n,
        delta: true,
    };
    let shares: Vec<Share> = (0..5).map(share).collect();
    let folded = |most: usize| choose(&shares, 32_000, 1 << 40, most).len();
    assert_eq!((folded(5), folded(4), folded(2), folded(1)), (0, 4, 4, 5));
}
