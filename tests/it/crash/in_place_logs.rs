//! Databases restored in place while a log or a hot journal lies beside the live one: killed or failing anywhere.

use super::bed::{Bed, COUNT, FAIL_AT, assert_code, chosen, rows, tree};
use crate::common::trees::copy;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const RESTORE: [&str; 5] = ["restore", "latest", "db", "--in-place", "--yes"];
const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Rows that were committed and lie in the log alone.
const LOG: &str = "PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES (2); INSERT INTO t VALUES (3);";
/// A committed row, and a large transaction that was cut off half-way: what was there before lies in the journal.
const JOURNAL: &str = "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; INSERT INTO t VALUES (2); BEGIN; UPDATE t SET v = 9;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO t SELECT i FROM n;";

fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Leaves the database as a program leaves it that is killed after `sql`.
fn killed_after(database: &Path, sql: &str) {
    let db = Connection::open(database).unwrap();
    db.execute_batch(sql).unwrap();
    let parts = ["", "-wal", "-shm", "-journal"].map(|ending| beside(database, ending));
    let left: Vec<Option<Vec<u8>>> = parts.iter().map(|path| fs::read(path).ok()).collect();
    drop(db);
    for (path, bytes) in parts.iter().zip(left) {
        let _ = fs::remove_file(path);
        if let Some(bytes) = bytes {
            fs::write(path, bytes).unwrap();
        }
    }
}

/// The rows that a program finds that opens the database now, of which nothing is changed by that.
fn found(bed: &Bed) -> Vec<i64> {
    let look = bed.live.with_file_name("look");
    copy(bed.database().parent().unwrap(), &look);
    rows(&look.join("agent.db"))
}

struct Beside {
    bed: Bed,
    /// Rows of the live database, its log being taken for it.
    old: Vec<i64>,
    /// Rows of the snapshot.
    new: Vec<i64>,
}

fn prepare(sql: &str) -> Beside {
    let bed = Bed::with_snapshot();
    let new = rows(&bed.database());
    killed_after(&bed.database(), sql);
    let held = |ending: &&&str| fs::metadata(beside(&bed.database(), ending)).is_ok_and(|m| m.len() > 0);
    assert!(SIDECARS.iter().any(|ending| held(&ending)), "something lies beside it");
    bed.save();
    let old = found(&bed);
    assert_ne!(old, new);
    Beside { bed, old, new }
}

/// The rows of what was kept of the old database, its parts under their own names again.
fn kept(bed: &Bed) -> Vec<i64> {
    let look = bed.live.with_file_name("kept");
    let _ = fs::remove_dir_all(&look);
    fs::create_dir(&look).unwrap();
    for item in fs::read_dir(bed.database().parent().unwrap()).unwrap() {
        let path = item.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if let Some((name, _)) = name.split_once(".before-restore-") {
            assert!(!look.join(name).exists(), "{name} is kept twice");
            fs::copy(&path, look.join(name)).unwrap();
        }
    }
    rows(&look.join("agent.db"))
}

#[test]
fn a_database_whose_restore_in_place_is_killed_anywhere_has_all_its_committed_rows_or_those_of_the_snapshot()
{
    for sql in [LOG, JOURNAL] {
        let Beside { bed, old, new } = prepare(sql);
        let points = bed.points(&RESTORE);
        assert!(points.iter().any(|point| point == "in place: old database copied"), "{points:?}");
        let mut seen = BTreeSet::new();
        for point in chosen(&points, 70) {
            bed.reset();
            let what = format!("killed at {point} ({})", points[point - 1]);
            assert!(bed.killed_at(&RESTORE, point), "{what}: it was not killed");
            let now = found(&bed);
            assert!(now == old || now == new, "{what}: {} rows: neither", now.len());
            seen.insert(now == new);
            assert_code(&bed.run(&RESTORE), 0);
            assert_eq!(found(&bed), new, "{what}");
            assert!(SIDECARS.iter().all(|ending| !beside(&bed.database(), ending).exists()), "{what}");
            bed.assert_no_litter(&what);
        }
        assert_eq!(seen, [false, true].into());
        bed.reset();
        assert_code(&bed.run(&RESTORE), 0);
        assert_eq!(found(&bed), new);
        assert_eq!(kept(&bed), old, "all that was there is kept");
    }
}

/// Runs the restore with one call failing; gives what it said.
fn failing(bed: &Bed, order: &str) -> String {
    bed.reset();
    let log = bed.live.with_file_name("passed.log");
    let _ = fs::remove_file(&log);
    let output = bed.run_with(&RESTORE, &[(FAIL_AT, order), (COUNT, log.to_str().unwrap())]);
    assert_code(&output, 1);
    let passed = fs::read_to_string(&log).unwrap();
    assert!(passed.contains("sidecar aside"), "{order}: {passed}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_was_moved_aside_has_its_name_again_when_a_database_cannot_be_exchanged() {
    for sql in [LOG, JOURNAL] {
        let Beside { bed, .. } = prepare(sql);
        let before = tree(&bed.app());
        for order in ["sidecar aside#1:5", "exchange over#1:5"] {
            let said = failing(&bed, order);
            assert!(said.contains("agent.db in place"), "{said}");
            assert!(!said.contains("already in place"), "nothing is: {said}");
            let now = tree(&bed.app());
            let other: Vec<_> = before.iter().filter(|(path, node)| now.get(*path) != Some(*node)).collect();
            assert!(other.is_empty() && now.len() == before.len(), "{order}: {:?}", now.keys());
        }
        // The call that exchanges it for a whole copy of itself: the restore needs no such copy.
        bed.reset();
        assert_code(&bed.run_with(&RESTORE, &[(FAIL_AT, "exchange#1:5")]), 0);
    }
    // One that SQLite does not read has no such copy.
    let bed = Bed::with_snapshot();
    fs::write(bed.database(), b"this is no database any more").unwrap();
    fs::write(beside(&bed.database(), "-wal"), b"and this is its log").unwrap();
    fs::write(beside(&bed.database(), "-shm"), b"and the index of that").unwrap();
    bed.save();
    let before = tree(&bed.app());
    for order in ["sidecar aside#1:5", "sidecar aside#2:5", "exchange#1:5"] {
        failing(&bed, order);
        assert!(tree(&bed.app()) == before, "{order}: {:?}", tree(&bed.app()).keys());
    }
}
