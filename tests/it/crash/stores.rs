//! Backups and syncs of two stores that are killed, or whose system calls fail.

use super::bed::{Bed, Expected, FAIL_AT, KILL_AT, Kills, assert_code, chosen, failures, was_killed};
use crate::common::long::long;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A bed with two stores, of which the second lacks a snapshot.
struct Prepared {
    bed: Bed,
    versions: BTreeMap<String, Expected>,
    now: Expected,
}

fn second(bed: &Bed) -> PathBuf {
    bed.live.join("second")
}

fn prepare() -> Prepared {
    let bed = Bed::new();
    bed.make_app();
    bed.set_up();
    let config = bed.app().join("backstay.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    // Relative, because the bed is copied to and fro.
    let text =
        text.replace("\n[packing]", "\n[[store]]\nname = \"second\"\npath = \"../second\"\n\n[packing]");
    std::fs::write(&config, text).unwrap();
    assert_code(&bed.run(&["init"]), 0);
    let mut versions = BTreeMap::new();
    let one = bed.expected();
    assert_code(&bed.run(&["backup"]), 0);
    versions.extend(bed.list("first").into_keys().map(|id| (id, one.clone())));
    std::fs::rename(second(&bed), bed.live.join("away")).unwrap();
    bed.change();
    let now = bed.expected();
    assert_code(&bed.run(&["backup"]), 4);
    std::fs::rename(bed.live.join("away"), second(&bed)).unwrap();
    for id in bed.list("second").into_keys() {
        versions.entry(id).or_insert_with(|| now.clone());
    }
    bed.save();
    Prepared { bed, versions, now }
}

impl Prepared {
    /// True when the second store has the snapshot that it lacked.
    fn is_caught_up(&self) -> bool {
        let has = |id: &String| second(&self.bed).join(format!("snapshots/{id}.json")).exists();
        self.versions.keys().all(has)
    }

    /// Whatever happened: nothing that was committed is lost, and the next run makes both stores whole. Whether a new snapshot was listed before that.
    fn goes_on(&self, restore: bool, what: &str) -> bool {
        let list = self.bed.list(what);
        assert!(self.versions.keys().all(|id| list.contains_key(id)), "{what}: {list:?}");
        let output = self.bed.run(&["backup", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{what}: next run: {output:?}");
        let both: Vec<_> = ["local", "second"].map(|store| self.list_in(store, what)).into();
        assert_eq!(both[0], both[1], "{what}");
        assert!(
            both[0].len() > self.versions.len() && both[0].values().all(|good| *good),
            "{what}: {both:?}"
        );
        self.bed.assert_no_litter(what);
        let outbox = self.bed.live.join("home/.local/state/backstay/app/outbox");
        assert_eq!(
            std::fs::read_dir(&outbox).unwrap().count(),
            0,
            "{what}: something is still kept for a store"
        );
        if restore {
            std::fs::rename(self.bed.store(), self.bed.live.join("gone")).unwrap();
            for id in both[0].keys() {
                let expected = self.versions.get(id).unwrap_or(&self.now);
                self.bed.assert_restores(id, expected, what);
            }
        }
        list.len() > self.versions.len()
    }

    fn list_in(&self, store: &str, what: &str) -> BTreeMap<String, bool> {
        let output = self.bed.run(&["list", "--json", "--store", store]);
        assert_eq!(output.status.code(), Some(0), "{what}: {store}: {output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["history"], serde_json::json!([]), "{what}: {store}");
        let rows = report["snapshots"].as_array().unwrap().iter();
        let rows = rows.filter(|row| row["void"].is_null());
        rows.map(|row| (row["id"].as_str().unwrap().to_owned(), row["good"].as_bool().unwrap())).collect()
    }
}

fn killed(command: &str, about: usize) {
    let prepared = prepare();
    let points = prepared.bed.points(&[command]);
    for name in ["catch-up: record put", "catch-up: mark put", "commit: entry kept for all stores"] {
        assert!(points.iter().any(|point| point == name), "{command} does not pass {name:?}");
    }
    let (mut caught_up, mut committed) = (Kills::default(), Kills::default());
    for (turn, point) in chosen(&points, about).enumerate() {
        prepared.bed.reset();
        let what = format!("{command} killed at {point} ({})", points[point - 1]);
        let killed = prepared.bed.run_with(&[command], &[(KILL_AT, &*point.to_string())]);
        let killed = was_killed(&killed, point + 40 > points.len(), &what);
        caught_up.count(killed, prepared.is_caught_up());
        committed.count(killed, prepared.goes_on(long() || turn % 24 == 0, &what));
    }
    caught_up.assert_enough();
    // A sync commits nothing.
    if command == "backup" {
        committed.assert_enough();
    }
}

#[test]
fn a_backup_that_is_killed_while_a_store_catches_up_leaves_both_whole_after_the_next_run() {
    killed("backup", 90);
}

#[test]
fn a_sync_that_is_killed_anywhere_leaves_both_stores_whole_after_the_next_run() {
    killed("sync", 70);
}

#[test]
fn a_store_of_which_any_system_call_fails_does_not_keep_the_snapshot_from_the_other() {
    let prepared = prepare();
    let calls = prepared.bed.points(&["backup"]).len() / 2;
    let every = if long() { 1 } else { 31 };
    let mut led: BTreeMap<String, usize> = BTreeMap::new();
    for (call, errno) in failures(&[Errno::NOSPC, Errno::ACCESS], calls, every) {
        prepared.bed.reset();
        let what = format!("{errno} at call {call}");
        let order = format!("{call}:{}", errno.raw_os_error());
        let output = prepared.bed.run_with(&["backup", "--json"], &[(FAIL_AT, &order)]);
        let code = output.status.code().expect("it is not killed");
        assert!([0, 1, 3, 4, 10, 13].contains(&code), "{what}: {code}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        if let Some(store) = report["store"].as_str() {
            *led.entry(store.to_owned()).or_default() += 1;
        }
        prepared.goes_on(false, &what);
    }
    assert!(led.get("second").is_some_and(|n| *n > 2), "the other store never took over: {led:?}");
}
