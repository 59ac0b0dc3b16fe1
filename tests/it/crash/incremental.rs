//! Kill −9 and failing calls in backups that refer to older ones: changed blocks, a catalog that is written or made again, archives that are packed again.

use super::bed::{Bed, Expected, FAIL_AT, KILL_AT, Kills, assert_code, chosen, failures, noise, was_killed};
use crate::common::long::long;
use backstay::model::{ObjectId, ObjectKind, Record, document};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Files count as settled at once, so that what did not change is not read.
const SETTLED: (&str, &str) = ("BACKSTAY_TEST_SETTLE_MS", "0");

/// A bed with three snapshots, the last of which leaves an archive of which less than half is in use, and the application changed since: the next one packs the rest of it again.
struct Prepared {
    bed: Bed,
    snapshots: BTreeMap<String, Expected>,
    next: Expected,
    points: Vec<String>,
}

fn backup(bed: &Bed, snapshots: &mut BTreeMap<String, Expected>) -> String {
    let expected = bed.expected();
    let output = bed.run_with(&["backup", "--json"], &[SETTLED]);
    assert_code(&output, 0);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let id = report["snapshot"].as_str().unwrap().to_owned();
    snapshots.insert(id.clone(), expected);
    id
}

fn change(bed: &Bed, round: u64) {
    let backend = bed.app().join("backend");
    let model = std::fs::File::options().write(true).open(backend.join("model.bin")).unwrap();
    model.write_all_at(&noise(5000, round), 1_000_000 + round * 200_000).unwrap();
    for n in 0..16 {
        std::fs::write(backend.join(format!("steps/data_{n}.bin")), noise(70_000, round * 100 + n)).unwrap();
    }
    std::fs::write(backend.join("main.py"), format!("VERSION = {round}\n")).unwrap();
    bed.write_rows(round as i64);
}

fn prepare(catalog: bool) -> Prepared {
    let bed = Bed::new();
    bed.make_app();
    bed.set_up();
    let (mut snapshots, mut last) = (BTreeMap::new(), BTreeSet::new());
    for round in 1..4 {
        change(&bed, round);
        last = archives(&bed, &backup(&bed, &mut snapshots));
    }
    change(&bed, 4);
    // And most of it goes again.
    for n in 0..10 {
        std::fs::remove_file(bed.app().join(format!("backend/steps/data_{n}.bin"))).unwrap();
    }
    if !catalog {
        std::fs::remove_file(state(&bed).join("catalog.db")).unwrap();
    }
    let next = bed.expected();
    bed.save();
    let (points, made) = points(&bed);
    // Each archive holds a stretch of the model that nothing overwrote since: one that is not referred to any more was packed again.
    assert!(!last.is_subset(&made), "nothing is packed again: {last:?}, {made:?}");
    Prepared { bed, snapshots, next, points }
}

/// The archives that a snapshot refers to.
fn archives(bed: &Bed, id: &str) -> BTreeSet<ObjectId> {
    let bytes = std::fs::read(bed.store().join(format!("snapshots/{id}.json"))).unwrap();
    let (line, _) = document::split(&bytes).unwrap();
    let record: Record = document::parse(line, "record").unwrap();
    record.objects.iter().filter(|o| o.kind == ObjectKind::Archive).map(|o| o.id).collect()
}

fn state(bed: &Bed) -> PathBuf {
    let text = std::fs::read_to_string(bed.app().join("backstay.toml")).unwrap();
    let config: toml::Table = text.parse().unwrap();
    config["state"]["dir"].as_str().unwrap().into()
}

/// As [`Bed::points`], with files that count as settled, and what the snapshot refers to.
fn points(bed: &Bed) -> (Vec<String>, BTreeSet<ObjectId>) {
    let log = bed.live.with_file_name("points.log");
    let _ = std::fs::remove_file(&log);
    let orders = [SETTLED, (super::bed::COUNT, log.to_str().unwrap())];
    let output = bed.run_with(&["backup", "--json"], &orders);
    assert_code(&output, 0);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let made = archives(bed, report["snapshot"].as_str().unwrap());
    let text = std::fs::read_to_string(&log).unwrap();
    let mut points: Vec<(usize, String)> = Vec::new();
    for line in text.lines() {
        let (number, name) = line.split_once(' ').unwrap();
        points.push((number.parse().unwrap(), name.to_owned()));
    }
    points.sort();
    bed.reset();
    (points.into_iter().map(|(_, name)| name).collect(), made)
}

impl Prepared {
    /// What is listed restores exactly, nothing that was there changed, and the next run needs no help. Whether a new snapshot was listed.
    fn look_and_go_on(&self, restore: bool, what: &str) -> bool {
        let list = self.bed.list(what);
        self.bed.assert_store_grew_only(what);
        for id in self.snapshots.keys() {
            assert!(list.contains_key(id), "{what}: {list:?}");
        }
        let new: Vec<&String> = list.keys().filter(|id| !self.snapshots.contains_key(*id)).collect();
        new.iter().for_each(|id| self.bed.assert_restores(id, &self.next, what));
        let output = self.bed.run_with(&["backup", "--json"], &[SETTLED]);
        assert_eq!(output.status.code(), Some(0), "{what}: next run: {output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let id = report["snapshot"].as_str().unwrap();
        assert!(self.bed.list(what)[id], "{what}: the next snapshot is not good");
        self.bed.assert_restores(id, &self.next, what);
        self.bed.assert_no_litter(what);
        for (id, expected) in self.snapshots.iter().filter(|_| restore) {
            self.bed.assert_restores(id, expected, what);
        }
        // What is remembered now is true: another change, another snapshot.
        if restore {
            change(&self.bed, 9);
            let expected = self.bed.expected();
            let output = self.bed.run_with(&["backup", "--json"], &[SETTLED]);
            assert_code(&output, 0);
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            self.bed.assert_restores(report["snapshot"].as_str().unwrap(), &expected, what);
        }
        !new.is_empty()
    }
}

fn killed_anywhere(catalog: bool, about: usize) {
    let prepared = prepare(catalog);
    for name in
        ["catalog: to be committed", "backup: catalog written", "pack: archive put", "backup: committed"]
    {
        assert!(prepared.points.iter().any(|p| p == name), "{name} is not passed");
    }
    let mut kills = Kills::default();
    for (turn, point) in chosen(&prepared.points, about).enumerate() {
        prepared.bed.reset();
        let what = format!("killed at {point} ({})", prepared.points[point - 1]);
        let killed = prepared.bed.run_with(&["backup"], &[SETTLED, (KILL_AT, &point.to_string())]);
        // Names of objects differ from run to run, and with them the folders that are made: at the end a few points may be missing.
        let killed = was_killed(&killed, point + 40 > prepared.points.len(), &what);
        kills.count(killed, prepared.look_and_go_on(long() || turn % 12 == 0, &what));
    }
    kills.assert_enough();
}

#[test]
fn a_backup_of_changes_killed_anywhere_leaves_whole_snapshots_only() {
    killed_anywhere(true, 60);
}

#[test]
fn a_backup_that_makes_the_catalog_again_killed_anywhere_leaves_whole_snapshots_only() {
    killed_anywhere(false, 40);
}

#[test]
fn a_backup_of_changes_of_which_any_system_call_fails_says_so_and_breaks_nothing() {
    let prepared = prepare(true);
    let calls = prepared.points.len() / 2;
    let every = if long() { 1 } else { 41 };
    let mut failed = 0;
    for (call, errno) in failures(&[Errno::IO, Errno::NOSPC, Errno::ACCESS], calls, every) {
        prepared.bed.reset();
        let what = format!("{errno} at call {call}");
        let order = format!("{call}:{}", errno.raw_os_error());
        let output = prepared.bed.run_with(&["backup"], &[SETTLED, (FAIL_AT, &order)]);
        let code = output.status.code().expect("it is not killed");
        assert!([0, 1, 3, 10, 13].contains(&code), "{what}: {code}");
        failed += usize::from(code != 0);
        prepared.look_and_go_on(false, &what);
    }
    assert!(failed > 8, "only {failed} runs failed");
}
