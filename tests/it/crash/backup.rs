//! Backups that are killed, or whose system calls fail.

use super::bed::{
    Bed, Expected, FAIL_AT, KILL_AT, Kills, assert_code, chosen, failures, scatter, was_killed,
};
use crate::common::long::{in_time, long};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::process::Output;

/// A bed with a snapshot of a first version and the application changed since; and what each version is.
struct Prepared {
    bed: Bed,
    first: String,
    second: Expected,
    points: Vec<String>,
}

fn prepare() -> Prepared {
    let bed = Bed::new();
    bed.make_app();
    bed.set_up();
    let one = bed.expected();
    assert_code(&bed.run(&["backup"]), 0);
    let list = bed.list("before");
    let first = list.into_keys().next().unwrap();
    bed.assert_restores(&first, &one, "before");
    bed.change();
    let second = bed.expected();
    bed.save();
    let points = bed.points(&["backup"]);
    Prepared { bed, first, second, points }
}

impl Prepared {
    /// What a run that did not end well left: the first snapshot as it was, and whatever else is listed is the second version.
    fn look(&self, what: &str) -> BTreeMap<String, bool> {
        let list = self.bed.list(what);
        assert!(list.get(&self.first) == Some(&true), "{what}: {list:?}");
        self.bed.assert_store_grew_only(what);
        for id in list.keys().filter(|id| **id != self.first) {
            self.bed.assert_restores(id, &self.second, what);
        }
        list
    }

    /// The next run, which nobody helps.
    fn next_run(&self, before: &BTreeMap<String, bool>, restore: bool, what: &str) {
        let output = self.bed.run(&["backup", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{what}: next run: {output:?}");
        let id = reported(&output).expect("a report");
        let list = self.bed.list(what);
        assert!(list[&id], "{what}: the next snapshot is not good");
        assert!(!before.contains_key(&id), "{what}");
        let kept = before.keys().all(|id| list.contains_key(id));
        assert!(kept, "{what}: {before:?}, then {list:?}");
        // Its own, and at most one that an interrupted run had signed.
        assert!(list.len() <= before.len() + 2, "{what}: {list:?}");
        self.bed.assert_no_litter(what);
        if restore {
            for id in list.keys().filter(|id| **id != self.first) {
                self.bed.assert_restores(id, &self.second, what);
            }
        }
    }
}

/// The snapshot of a `--json` report, if one was printed.
fn reported(output: &Output) -> Option<String> {
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    report["snapshot"].as_str().map(str::to_owned)
}

#[test]
fn a_backup_killed_anywhere_leaves_whole_snapshots_only_and_the_next_run_needs_no_help() {
    let prepared = prepare();
    let points = &prepared.points;
    assert!(points.len() > 300, "only {} points", points.len());
    let mut kills = Kills::default();
    for (turn, point) in chosen(points, 110).enumerate() {
        prepared.bed.reset();
        let what = format!("killed at {point} ({})", points[point - 1]);
        let orders = [(KILL_AT, &*point.to_string())];
        let output = prepared.bed.run_with(&["backup", "--json"], &orders);
        // How many folders are made depends on the names of objects, which differ from run to run.
        let killed = was_killed(&output, point + 40 > points.len(), &what);
        let list = prepared.look(&what);
        if let Some(id) = reported(&output) {
            assert_eq!(list.get(&id), Some(&true), "{what}: it had been reported");
        }
        kills.count(killed, list.len() > 1);
        prepared.next_run(&list, long() || turn % 16 == 0, &what);
    }
    kills.assert_enough();
}

#[test]
fn a_run_that_ends_what_a_killed_one_began_may_be_killed_itself() {
    let prepared = prepare();
    let points = &prepared.points;
    // Around the commit two kills meet the same signed entry.
    let commit = points.iter().position(|p| p == "commit: begun").unwrap();
    let late = (commit..points.len()).step_by(if long() { 1 } else { 11 });
    let early = (0..commit).step_by(if long() { 3 } else { 97 });
    let (mut first_kills, mut again, mut tried_again) = (Kills::default(), 0, 0);
    for first in in_time(early.chain(late).map(|n| n + 1).collect()) {
        prepared.bed.reset();
        let killed = prepared.bed.killed_at(&["backup"], first);
        first_kills.count(killed, prepared.bed.records() > 1);
        let rounds = if long() { 3 } else { 2 };
        for round in 1..rounds {
            let second = 1 + scatter(first * 10 + round, points.len() + 40);
            let what = format!("killed at {first}, then at {second}");
            again += usize::from(prepared.bed.killed_at(&["backup"], second));
            tried_again += 1;
            prepared.look(&what);
        }
        let what = format!("killed at {first}, and again");
        let list = prepared.bed.list(&what);
        let output = prepared.bed.run(&["backup"]);
        assert_eq!(output.status.code(), Some(0), "{what}: {output:?}");
        let after = prepared.look(&what);
        assert!(after.len() > list.len(), "{what}: {list:?}, then {after:?}");
        prepared.bed.assert_no_litter(&what);
    }
    first_kills.assert_before_and_after();
    assert!(again * 3 >= tried_again, "only {again} of {tried_again} were killed again");
}

#[test]
fn a_backup_of_which_any_system_call_fails_says_so_and_breaks_nothing() {
    let prepared = prepare();
    let calls = prepared.points.len() / 2;
    let errors = [Errno::IO, Errno::NOSPC, Errno::ACCESS, Errno::MFILE];
    let every = if long() { 1 } else { 47 };
    let mut failed = 0;
    for (call, errno) in failures(&errors, calls, every) {
        prepared.bed.reset();
        let what = format!("{errno} at call {call}");
        let order = format!("{call}:{}", errno.raw_os_error());
        let output = prepared.bed.run_with(&["backup", "--json"], &[(FAIL_AT, &order)]);
        let code = output.status.code().expect("it is not killed");
        assert!([0, 1, 3, 10, 13].contains(&code), "{what}: {code}");
        let list = prepared.look(&what);
        match reported(&output).filter(|_| code == 0) {
            Some(id) => assert!(list[&id], "{what}: it said that all is well"),
            None => {
                failed += 1;
                let words = String::from_utf8_lossy(&output.stderr);
                assert!(words.contains("error: "), "{what}: {words}");
            }
        }
        prepared.next_run(&list, false, &what);
    }
    assert!(failed > 12, "only {failed} runs failed");
}
