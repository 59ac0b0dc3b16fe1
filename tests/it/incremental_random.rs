//! Random histories: a tree and databases change, backups are made between, some of them in full or of some components only, what the program remembers is lost, made
//! stale or damaged, objects are lost, cut or changed, recipients come and go. Every snapshot whose objects were left alone restores exactly, with backstay and with `recover.py`.

mod world;

use crate::common::long::{in_time, long};
use crate::common::project::have;
use world::{Tally, World};

fn history(seed: u64, rounds: usize, script: bool) -> Tally {
    let mut world = World::new(seed);
    for round in 0..rounds {
        world.change();
        world.harm();
        // Once in each history, and early: many snapshots may hang on a later object.
        if round == 1 {
            world.harm_object();
        }
        world.backup();
        world.check_newest();
    }
    world.add_little_by_little();
    world.check_newest();
    world.check_all(script);
    world.tally
}

fn histories(first: u64, small: (u64, usize), large: (u64, usize)) {
    let (count, rounds) = if long() { large } else { small };
    let mut tally = Tally::default();
    let script = have(&["python3", "age", "zstd"]);
    for seed in in_time((first..first + count).collect()) {
        tally += history(seed, rounds, script);
    }
    println!("{tally:#?}");
    let Tally { logs, maps, again, folded, databases, catalogs, recipients, objects, restored } = tally;
    assert!(logs > 0 && catalogs > 0 && recipients > 0 && objects > 0 && restored > 3, "nothing happened");
    assert!(databases > 3, "databases stayed where they were");
    assert!(maps > 0, "no file had maps");
    assert!(again > 0, "nothing was packed again");
    assert!(folded > 0, "nothing was folded");
}

#[test]
fn every_snapshot_of_a_random_history_restores_exactly() {
    histories(1, (2, 6), (10, 12));
}

#[test]
fn every_snapshot_of_another_random_history_restores_exactly() {
    histories(1001, (2, 6), (10, 12));
}
