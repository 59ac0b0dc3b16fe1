//! Capturing live databases through the real program: the writers here are in another process than the child, as in life.

use crate::common::mounts::{given_folder, in_own_mounts, mount};
use crate::common::project::{cannot_run, have};
use backstay::model::record::CheckResult;
use backstay::source::sqlite::{CheckPolicy, SqliteError, SqliteSpec, capture};
use rusqlite::Connection;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("spool")).unwrap();
        Self { dir }
    }
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn spec(&self) -> SqliteSpec {
        SqliteSpec {
            component: "db".into(),
            database: self.at("app.db"),
            no_links: false,
            exe: env!("CARGO_BIN_EXE_backstay").into(),
            lock_limit: Duration::from_secs(30),
            check: CheckPolicy::Auto,
            spool: self.at("spool"),
            busy_limit: Duration::from_millis(200),
        }
    }
    fn database(&self, setup: &str) -> Connection {
        let connection = Connection::open(self.at("app.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(30)).unwrap();
        connection.execute_batch(setup).unwrap();
        connection.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)").unwrap();
        connection
    }
    fn spool_is_empty(&self) -> bool {
        std::fs::read_dir(self.at("spool")).unwrap().count() == 0
    }
}

fn add_rows(connection: &Connection, count: u32) {
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
        INSERT INTO t(x) SELECT randomblob(900) FROM n";
    connection.execute(rows, [count]).unwrap();
}

/// The rows of a captured database, which must be sound and without gaps.
fn rows_of(bytes: &[u8]) -> i64 {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("copy.db");
    std::fs::write(&path, bytes).unwrap();
    let connection = Connection::open(&path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(check, "ok");
    let (count, last): (i64, i64) = connection
        .query_row("SELECT count(*), coalesce(max(id), 0) FROM t", [], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap();
    assert_eq!(count, last, "a row is missing in the middle");
    count
}

fn whole(spec: &SqliteSpec) -> Result<(Vec<u8>, CheckResult, Vec<String>), SqliteError> {
    let mut capture = capture(spec)?;
    let mut bytes = Vec::new();
    if let Err(e) = capture.read_to_end(&mut bytes) {
        eprintln!("reading failed: {e}");
    }
    let size = capture.size;
    let outcome = capture.finish()?;
    assert_eq!(bytes.len() as u64, size);
    Ok((bytes, outcome.result, outcome.messages))
}

fn under_load(setup: &str) {
    let place = Place::new();
    let writer = place.database(setup);
    add_rows(&writer, 20_000);
    let (committed, stop) = (AtomicI64::new(20_000), AtomicBool::new(false));
    let (counted, ended) = (&committed, &stop);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                writer.execute("INSERT INTO t(x) VALUES (randomblob(900)), (randomblob(10))", []).unwrap();
                counted.fetch_add(2, Ordering::SeqCst);
            }
        });
        let run = || {
            for _ in 0..4 {
                let before = committed.load(Ordering::SeqCst);
                let (bytes, check, messages) = whole(&place.spec()).unwrap();
                // The writer counts a row after it has committed it.
                let after = committed.load(Ordering::SeqCst) + 2;
                assert_eq!((check, messages), (CheckResult::Passed, vec![]));
                let rows = rows_of(&bytes);
                assert!(before <= rows && rows <= after, "{before} <= {rows} <= {after}");
                assert_eq!(rows % 2, 0, "half a transaction");
            }
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        stop.store(true, Ordering::SeqCst);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(place.spool_is_empty());
}

#[test]
fn a_database_in_wal_mode_under_load_gives_a_prefix_of_what_was_committed() {
    under_load("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=50");
}

#[test]
fn a_database_with_a_rollback_journal_under_load_gives_a_prefix_of_what_was_committed() {
    under_load("PRAGMA journal_mode=DELETE; PRAGMA synchronous=OFF");
}

#[test]
fn what_is_only_in_the_log_is_captured_and_nothing_is_written() {
    let place = Place::new();
    let writer = place.database("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0");
    add_rows(&writer, 500);
    let state = || {
        ["app.db", "app.db-wal"].map(|f| {
            (std::fs::read(place.at(f)).unwrap(), std::fs::metadata(place.at(f)).unwrap().modified().unwrap())
        })
    };
    let before = state();
    let capture_ = capture(&place.spec()).unwrap();
    assert_eq!(capture_.method, "sqlite-pages");
    assert_eq!(capture_.page_size, 4096);
    drop(capture_);
    let (bytes, ..) = whole(&place.spec()).unwrap();
    assert_eq!(rows_of(&bytes), 500);
    assert!(state() == before, "the database or its log was written to");
    assert_eq!(bytes[18], 2, "page 1 is kept as it is");
    drop(writer);
}

#[test]
fn a_missing_database_is_an_error_and_is_not_created() {
    let place = Place::new();
    assert_eq!(whole(&place.spec()).unwrap_err(), SqliteError::Missing(place.at("app.db")));
    assert!(!place.at("app.db").exists());
}

#[test]
fn an_empty_database_is_an_error() {
    let place = Place::new();
    std::fs::write(place.at("app.db"), b"").unwrap();
    assert!(matches!(whole(&place.spec()), Err(SqliteError::Empty(..))));
    let connection = place.database("PRAGMA journal_mode=DELETE");
    connection.execute_batch("DROP TABLE t").unwrap();
    assert!(matches!(whole(&place.spec()), Err(SqliteError::Empty(..))));
}

#[test]
fn what_is_no_database_is_an_error() {
    let place = Place::new();
    for content in [&b"x"[..], &[7; 8192], b"SQLite format 2\0 and more"] {
        std::fs::write(place.at("app.db"), content).unwrap();
        assert!(matches!(whole(&place.spec()), Err(SqliteError::NotADatabase(..))));
    }
    std::fs::remove_file(place.at("app.db")).unwrap();
    std::fs::create_dir(place.at("app.db")).unwrap();
    assert!(matches!(whole(&place.spec()), Err(SqliteError::NotADatabase(..))));
}

#[test]
fn a_link_is_refused_where_links_are_not_allowed() {
    let place = Place::new();
    add_rows(&place.database(""), 1);
    std::os::unix::fs::symlink("app.db", place.at("link.db")).unwrap();
    let mut spec = SqliteSpec { database: place.at("link.db"), ..place.spec() };
    assert_eq!(rows_of(&whole(&spec).unwrap().0), 1);
    spec.no_links = true;
    assert!(matches!(whole(&spec), Err(SqliteError::Unreadable(..))));
    // Nor may a folder on the way be one: somebody may have put it there just now.
    std::os::unix::fs::symlink(".", place.at("here")).unwrap();
    spec.database = place.at("here/app.db");
    assert!(whole(&spec).is_err());
    spec.no_links = false;
    assert_eq!(rows_of(&whole(&spec).unwrap().0), 1);
}

#[test]
fn a_locked_database_is_an_error_after_the_time_for_it() {
    for mode in ["DELETE", "WAL"] {
        let place = Place::new();
        let other = place.database(&format!("PRAGMA journal_mode={mode}; PRAGMA locking_mode=EXCLUSIVE"));
        other.execute_batch("BEGIN EXCLUSIVE; INSERT INTO t(x) VALUES (1)").unwrap();
        let begin = Instant::now();
        let error = whole(&place.spec()).unwrap_err();
        assert!(matches!(error, SqliteError::Locked(..)), "{mode}: {error}");
        assert!(begin.elapsed() >= Duration::from_millis(150) && error.hint().is_some());
    }
}

#[test]
fn a_hot_journal_is_an_error_and_stays_as_it_is() {
    let place = Place::new();
    let other = place.database("PRAGMA cache_size=10; PRAGMA journal_mode=DELETE");
    add_rows(&other, 2000);
    other.execute_batch("BEGIN; UPDATE t SET x = randomblob(901)").unwrap();
    // What a killed writer leaves: pages already in the database, the old ones in the journal.
    std::fs::create_dir(place.at("killed")).unwrap();
    for name in ["app.db", "app.db-journal"] {
        std::fs::copy(place.at(name), place.at("killed").join(name)).unwrap();
    }
    let spec = SqliteSpec { database: place.at("killed/app.db"), ..place.spec() };
    let state = || ["killed/app.db", "killed/app.db-journal"].map(|f| std::fs::read(place.at(f)).unwrap());
    let before = state();
    let error = whole(&spec).unwrap_err();
    assert!(matches!(error, SqliteError::HotJournal(..)), "{error}");
    assert!(state() == before);
    // Its own program rolls it back, and then it can be captured.
    let rows: i64 = Connection::open(&spec.database)
        .unwrap()
        .query_row("SELECT count(*) FROM t", [], |r| r.get(0))
        .unwrap();
    assert_eq!(rows_of(&whole(&spec).unwrap().0), rows);
}

#[test]
fn writers_are_not_made_to_wait_longer_than_allowed() {
    let place = Place::new();
    add_rows(&place.database("PRAGMA journal_mode=DELETE"), 3000);
    let spec = SqliteSpec { lock_limit: Duration::ZERO, ..place.spec() };
    match whole(&spec) {
        Err(error @ SqliteError::WriterWouldWait(..)) => {
            assert!(error.hint().unwrap().contains("WAL"));
        }
        // Where the file system can clone, no time is needed.
        Ok(_) => cannot_run("a copy where files cannot be cloned (this file system clones)"),
        Err(other) => panic!("{other}"),
    }
    assert!(place.spool_is_empty());
}

#[test]
fn a_large_database_with_a_rollback_journal_is_copied_in_turns_while_nobody_writes() {
    let place = Place::new();
    let connection = place.database("PRAGMA journal_mode=DELETE");
    add_rows(&connection, 20_000);
    let before = std::fs::read(place.at("app.db")).unwrap();
    assert!(before.len() > 16 << 20, "it takes many turns of a millisecond");
    let spec = SqliteSpec { lock_limit: Duration::from_millis(1), ..place.spec() };
    let (bytes, check, messages) = whole(&spec).unwrap();
    assert_eq!((check, messages), (CheckResult::Passed, vec![]));
    assert!(bytes == before);
    assert!(place.spool_is_empty());
}

#[test]
fn turns_between_which_somebody_wrote_never_make_a_copy_and_writers_get_theirs() {
    let place = Place::new();
    let writer = place.database("PRAGMA journal_mode=DELETE; PRAGMA synchronous=OFF");
    add_rows(&writer, 40_000);
    let spec = SqliteSpec { lock_limit: Duration::from_millis(1), ..place.spec() };
    let (written, stop) = (AtomicI64::new(0), AtomicBool::new(false));
    let (counted, ended) = (&written, &stop);
    std::thread::scope(|scope| {
        // Rows change in place, at both ends: a copy of two states would hold one half of a transaction.
        scope.spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
                let both = "UPDATE t SET x = zeroblob(800) || ?1 WHERE id IN (1, 40000)";
                writer.execute(both, [number]).unwrap();
            }
        });
        let before = written.load(Ordering::SeqCst);
        let all_the_time = whole(&spec);
        let during = written.load(Ordering::SeqCst) - before;
        stop.store(true, Ordering::SeqCst);
        match all_the_time {
            Err(error @ SqliteError::WriterWouldWait(..)) => {
                assert!(error.to_string().contains("somebody wrote to it"), "{error}");
                assert!(error.hint().unwrap().contains("WAL"));
                assert!(during > 3, "writers had {during} turns");
            }
            // Where the file system can clone, no time is needed.
            Ok(_) => cannot_run("a copy where files cannot be cloned (this file system clones)"),
            Err(other) => panic!("{other}"),
        }
    });
    let (bytes, ..) = whole(&spec).unwrap();
    let path = place.at("copy.db");
    std::fs::write(&path, bytes).unwrap();
    let values = "SELECT count(DISTINCT x) FROM t WHERE id IN (1, 40000)";
    let distinct: i64 = Connection::open(&path).unwrap().query_row(values, [], |r| r.get(0)).unwrap();
    assert_eq!(distinct, 1, "half a transaction");
    assert!(place.spool_is_empty());
}

#[test]
fn where_the_file_system_shares_blocks_a_database_is_cloned_and_nobody_waits() {
    if have(&["mkfs.btrfs", "unshare"]) {
        in_own_mounts("sqlite_child::cloned");
    }
}

#[test]
#[ignore = "runs only as a child of the test above"]
fn cloned() {
    let Some(top) = given_folder() else { return };
    let (image, disk) = (top.join("image"), top.join("disk"));
    std::fs::File::create(&image).unwrap().set_len(200 << 20).unwrap();
    let made = Command::new("mkfs.btrfs").arg("-q").arg(&image).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    mount(&["-o", "loop", image.to_str().unwrap()], &disk);
    let place = Place { dir: tempfile::tempdir_in(&disk).unwrap() };
    std::fs::create_dir(place.at("spool")).unwrap();
    let writer = place.database("PRAGMA journal_mode=DELETE");
    add_rows(&writer, 20_000);
    let before = std::fs::read(place.at("app.db")).unwrap();
    // No time at all is allowed: only a clone can be made.
    let spec = SqliteSpec { lock_limit: Duration::ZERO, ..place.spec() };
    let mut captured = capture(&spec).unwrap();
    add_rows(&writer, 1);
    assert_eq!(captured.method, "sqlite-copy");
    let mut bytes = Vec::new();
    captured.read_to_end(&mut bytes).unwrap();
    assert_eq!(captured.finish().unwrap().result, CheckResult::Passed);
    assert!(bytes == before, "it is of the moment before the writer went on");
    assert!(place.spool_is_empty());
}

#[test]
fn a_damaged_page_is_captured_and_fails_the_check() {
    for mode in ["DELETE", "WAL"] {
        let place = Place::new();
        let connection = place.database(&format!("PRAGMA journal_mode={mode}"));
        add_rows(&connection, 3000);
        drop(connection);
        let mut bytes = std::fs::read(place.at("app.db")).unwrap();
        let middle = bytes.len() / 2 / 4096 * 4096;
        bytes[middle..middle + 4096].fill(0xa5);
        std::fs::write(place.at("app.db"), &bytes).unwrap();
        let (captured, check, messages) = whole(&place.spec()).unwrap();
        assert!(captured == bytes, "{mode}");
        assert_eq!(check, CheckResult::Failed);
        assert!(!messages.is_empty());
    }
}

#[test]
fn a_database_shorter_than_it_says_is_damaged() {
    let place = Place::new();
    add_rows(&place.database("PRAGMA journal_mode=DELETE"), 3000);
    let file = std::fs::OpenOptions::new().write(true).open(place.at("app.db")).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2 / 4096 * 4096).unwrap();
    let error = whole(&place.spec()).unwrap_err();
    assert!(matches!(error, SqliteError::Damaged(..)), "{error}");
}

fn script(place: &Place, text: &str) -> PathBuf {
    let path = place.at("child.sh");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_child_that_dies_is_never_a_capture() {
    let place = Place::new();
    add_rows(&place.database("PRAGMA journal_mode=WAL"), 2000);
    let program = env!("CARGO_BIN_EXE_backstay");
    let deaths = [
        "kill -9 $$".to_owned(),
        "echo nonsense".to_owned(),
        "exit 0".to_owned(),
        format!("'{program}' \"$@\" | head -c 300000"),
        format!("'{program}' \"$@\"; exit 3"),
    ];
    for death in deaths {
        let spec = SqliteSpec { exe: script(&place, &death), ..place.spec() };
        let error = whole(&spec).unwrap_err();
        assert!(matches!(error, SqliteError::ChildDied(..)), "{death}: {error}");
    }
    let spec = SqliteSpec { exe: place.at("no-program"), ..place.spec() };
    assert!(matches!(whole(&spec), Err(SqliteError::ChildDied(..))));
}

#[test]
fn a_capture_that_is_dropped_leaves_no_child_and_no_copy() {
    let place = Place::new();
    let connection = place.database("PRAGMA journal_mode=DELETE");
    add_rows(&connection, 20_000);
    let mut capture = capture(&place.spec()).unwrap();
    capture.read_exact(&mut [0; 1000]).unwrap();
    drop(capture);
    assert!(place.spool_is_empty());
    connection.busy_timeout(Duration::ZERO).unwrap();
    add_rows(&connection, 1);
}

#[test]
fn a_log_that_cannot_be_made_is_said_plainly() {
    let place = Place::new();
    add_rows(&place.database("PRAGMA journal_mode=WAL"), 10);
    let mount = |args: &[&str]| {
        let path = place.dir.path().to_str().unwrap();
        let run = Command::new("mount").args(args).arg(path).stderr(std::process::Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    let unmount = |path: &Path| Command::new("umount").arg(path).status().unwrap();
    let spool = tempfile::tempdir().unwrap();
    let spec = SqliteSpec { spool: spool.path().to_owned(), ..place.spec() };
    if !mount(&["--bind", place.dir.path().to_str().unwrap()]) {
        cannot_run("a database below a bind mount (not allowed here)");
        return;
    }
    let result = mount(&["-o", "remount,ro,bind"]).then(|| whole(&spec));
    assert!(unmount(place.dir.path()).success());
    let error = result.expect("a read-only bind mount").unwrap_err();
    assert!(matches!(error, SqliteError::ReadOnlyWal(..)), "{error}");
    assert!(error.hint().is_some());
}
