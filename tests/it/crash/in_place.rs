//! Restores into the live tree, killed anywhere.

use super::bed::{Bed, COUNT, Expected, FAIL_AT, SIGNAL_AT, assert_code, chosen, tree};
use std::path::Path;

const RESTORE: [&str; 6] = ["restore", "latest", "backend", "db", "--in-place", "--yes"];
const OLD_WAL: &[u8] = b"a log that belongs to the damaged database";

/// The application ruined after its snapshot: a file overwritten, one gone, one linked elsewhere, the database another with a log beside.
struct Ruined {
    bed: Bed,
    expected: Expected,
    /// The restored database, byte for byte.
    database: Vec<u8>,
    points: Vec<String>,
}

fn prepare() -> Ruined {
    let bed = Bed::with_snapshot();
    let expected = bed.expected();
    let to = bed.live.join("once");
    assert_code(&bed.run(&["restore", "latest", "--to", "../once"]), 0);
    let database = std::fs::read(to.join("db/agent.db")).unwrap();
    std::fs::remove_dir_all(&to).unwrap();
    let app = bed.app();
    std::fs::write(app.join("backend/main.py"), b"oops").unwrap();
    std::fs::write(app.join("backend/model.bin"), b"oops too").unwrap();
    std::fs::remove_dir_all(app.join("backend/steps")).unwrap();
    std::fs::remove_file(app.join("backend/current")).unwrap();
    std::os::unix::fs::symlink("/nowhere", app.join("backend/current")).unwrap();
    std::fs::write(bed.database(), b"this is no database any more").unwrap();
    std::fs::write(app.join("backend/data/agent.db-wal"), OLD_WAL).unwrap();
    std::fs::write(app.join("backend/data/agent.db-shm"), b"index of the log").unwrap();
    bed.save();
    let points = bed.points(&RESTORE);
    Ruined { bed, expected, database, points }
}

impl Ruined {
    /// Each live file is the old or the new one; what is new has its old one beside it.
    fn assert_old_or_new(&self, what: &str) {
        let (app, saved) = (self.bed.app(), self.bed.saved(&self.bed.app()));
        let (now, old) = (tree(&app), tree(&saved));
        for (path, node) in old.iter().filter(|(p, _)| p.starts_with("backend")) {
            if path.to_string_lossy().contains("agent.db") {
                continue;
            }
            let live = now.get(path);
            if live != Some(node) && !path.ends_with("backend") && !path.ends_with("data") {
                assert_eq!(live, self.expected.files.get(path), "{what}: {path:?}");
                self.assert_kept(path, &now, node, what);
            }
        }
        for (path, node) in &self.expected.files {
            let live = now.get(path);
            let dir = app.join(path).is_dir();
            let fine = live.is_none() || live == Some(node) || live == old.get(path) || dir;
            assert!(fine, "{what}: {} is neither", path.display());
        }
        let database = std::fs::read(self.bed.database()).unwrap();
        let wal = app.join("backend/data/agent.db-wal");
        if database == self.database {
            assert!(!wal.exists(), "{what}: the restored database has a foreign log");
            let path = Path::new("backend/data/agent.db");
            self.assert_kept(path, &now, &old[path], what);
            let path = Path::new("backend/data/agent.db-wal");
            self.assert_kept(path, &now, &old[path], what);
        } else {
            let old = std::fs::read(self.bed.saved(&self.bed.database())).unwrap();
            assert!(database == old, "{what}: the database is neither");
        }
    }

    fn assert_kept(&self, path: &Path, now: &super::bed::Tree, node: &super::bed::Node, what: &str) {
        let start = format!("{}.before-restore-", path.display());
        let mut kept = now.iter().filter(|(p, _)| p.to_string_lossy().starts_with(&start));
        assert!(kept.any(|(_, n)| n == node), "{what}: {path:?} is not kept");
    }

    fn assert_all_new(&self, what: &str) {
        let now = tree(&self.bed.app());
        for (path, node) in &self.expected.files {
            assert!(now.get(path) == Some(node), "{what}: {} is not new", path.display());
        }
        let database = std::fs::read(self.bed.database()).unwrap();
        assert!(database == self.database, "{what}: the database is not new");
        self.assert_old_or_new(what);
    }
}

#[test]
fn a_restore_in_place_killed_anywhere_leaves_each_file_old_or_new_and_the_next_ends_it() {
    let ruined = prepare();
    let bed = &ruined.bed;
    for point in chosen(&ruined.points, 80) {
        bed.reset();
        let what = format!("killed at {point} ({})", ruined.points[point - 1]);
        assert!(bed.killed_at(&RESTORE, point), "{what}: it was not killed");
        ruined.assert_old_or_new(&what);
        let again = bed.run(&RESTORE);
        assert_eq!(again.status.code(), Some(0), "{what}: {again:?}");
        ruined.assert_all_new(&what);
        bed.assert_no_litter(&what);
    }
}

#[test]
fn a_restore_in_place_that_is_interrupted_changed_nothing_or_ended() {
    let ruined = prepare();
    let bed = &ruined.bed;
    let mut codes = std::collections::BTreeSet::new();
    for point in chosen(&ruined.points, 30) {
        bed.reset();
        let what = format!("SIGINT at {point} ({})", ruined.points[point - 1]);
        let output = bed.run_with(&RESTORE, &[(SIGNAL_AT, &format!("{point}:2"))]);
        let code = output.status.code();
        codes.insert(code);
        if code == Some(0) {
            ruined.assert_all_new(&what);
        } else {
            assert_eq!(code, Some(130), "{what}: {output:?}");
            let (now, old) = (tree(&bed.app()), tree(&bed.saved(&bed.app())));
            let changed: Vec<_> = old.iter().filter(|(p, n)| now.get(*p) != Some(*n)).collect();
            assert!(changed.is_empty(), "{what}: it says that nothing was changed");
            assert_eq!(now.len(), old.len(), "{what}: it left something");
        }
    }
    assert_eq!(codes, [Some(0), Some(130)].into());
}

#[test]
fn a_restore_in_place_that_fails_for_one_component_has_not_touched_another() {
    let ruined = prepare();
    let bed = &ruined.bed;
    // The database is the second component: what fails while it is staged, or while any file is brought beside its live one, must find all files untouched.
    let log = bed.live.with_file_name("passed.log");
    let mut failed_there = 0;
    for call in 1..ruined.points.len() / 2 {
        bed.reset();
        let _ = std::fs::remove_file(&log);
        let order = format!("{call}:5");
        let orders = [(FAIL_AT, &*order), (COUNT, log.to_str().unwrap())];
        let output = bed.run_with(&RESTORE, &orders);
        let passed = std::fs::read_to_string(&log).unwrap();
        if !passed.contains("in place: component staged") || passed.contains("in place: all brought") {
            continue;
        }
        assert_ne!(output.status.code(), Some(0), "call {call}");
        let (now, old) = (tree(&bed.app()), tree(&bed.saved(&bed.app())));
        assert!(now == old, "call {call}: something was changed, or left");
        failed_there += 1;
    }
    assert!(failed_there > 0);
}
