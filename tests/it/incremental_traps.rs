//! What must not pass for unchanged, and what a listing must not say twice: traps in what is known of earlier snapshots.

use crate::common::project::{cannot_run, have};
use crate::lab::{Lab, noise, put};
use backstay::model::{ObjectKind, Record};
use backstay::store::Key;
use rusqlite::Connection;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const APP: &str = "[[component]]\nname = \"app\"\npath = \"app\"\n";
const DB: &str = "[[component]]\nname = \"db\"\nsqlite = \"app.db\"\n";

fn record_of(lab: &Lab, report: &Value) -> Record {
    lab.record(report["snapshot"].as_str().unwrap())
}

fn archives(record: &Record) -> BTreeSet<String> {
    let archives = record.objects.iter().filter(|o| o.kind == ObjectKind::Archive);
    archives.map(|o| o.id.to_string()).collect()
}

/// Restores the newest snapshot and lets `look` see it.
#[track_caller]
fn restored<T>(lab: &Lab, look: impl FnOnce(&Path) -> T) -> T {
    restored_with(lab, 0, look)
}

fn restored_with<T>(lab: &Lab, code: i32, look: impl FnOnce(&Path) -> T) -> T {
    let to = lab.path("restored");
    lab.run(&["restore", "latest", "--to", to.to_str().unwrap()]).expect(code, &[]);
    let seen = look(&to);
    fs::remove_dir_all(&to).unwrap();
    seen
}

fn rows(path: &Path) -> i64 {
    let db = Connection::open(path).unwrap();
    db.query_row("SELECT count(*) FROM t", (), |row| row.get(0)).unwrap()
}

#[test]
fn a_database_behind_a_link_is_captured_again_when_it_changed() {
    for mode in ["WAL", "DELETE"] {
        let lab = Lab::new(
            |project| {
                fs::create_dir(project.join("real")).unwrap();
                let db = Connection::open(project.join("real/data.db")).unwrap();
                let setup =
                    format!("PRAGMA journal_mode={mode}; CREATE TABLE t(x); INSERT INTO t VALUES (1)");
                db.execute_batch(&setup).unwrap();
                std::os::unix::fs::symlink("real/data.db", project.join("app.db")).unwrap();
            },
            DB,
        );
        lab.backup_settled(&[]);
        // In WAL mode the row is only in the log while this is open.
        let open = Connection::open(lab.path("project/real/data.db")).unwrap();
        open.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        lab.backup_settled(&[]);
        assert_eq!(restored(&lab, |dir| rows(&dir.join("db/app.db"))), 2, "{mode}");
        let third = lab.backup_settled(&[]);
        assert_eq!(third["objects"], 1, "and as it is it counts as unchanged: {mode}: {third:#}");
    }
}

/// A name below `z`, after `z/0600`, that ends a segment of the listing with 512 entries or more.
pub(crate) fn name_that_cuts() -> String {
    let ends = |path: &str| {
        let hash = blake3::hash(path.as_bytes());
        u32::from_le_bytes(hash.as_bytes()[..4].try_into().unwrap()).is_multiple_of(2048)
    };
    (0..).map(|n| format!("z/0600-{n}")).find(|path| ends(path)).unwrap()
}

/// Names `z/NNNN` and the one that cuts.
fn small_names() -> Vec<String> {
    let cut = name_that_cuts();
    (0..=600).map(|n| format!("z/{n:04}")).chain([cut]).collect()
}

#[test]
fn all_names_of_a_file_say_the_same_while_its_archive_drains() {
    let lab = Lab::new(
        |project| {
            let app = project.join("app");
            put(&app.join("a/h"), &noise(1, 500 << 10));
            put(&app.join("d/junk"), &noise(2, 17 << 20));
            put(&app.join("m/big"), &noise(3, 8 << 20));
            small_names().iter().for_each(|name| put(&app.join(name), b""));
            fs::hard_link(app.join("a/h"), app.join("z/h")).unwrap();
        },
        &format!("packing = {{ archive_size = \"64MiB\" }}\n{APP}"),
    );
    let first = record_of(&lab, &lab.backup_settled(&[]));
    assert_eq!(archives(&first).len(), 1);
    let segments = first.objects.iter().filter(|o| o.kind == ObjectKind::Manifest).count();
    assert_eq!(segments, 3, "the two names are in two segments: {:?}", first.objects);
    fs::remove_file(lab.path("project/app/d/junk")).unwrap();
    for turn in 0..4 {
        lab.backup_settled(&[]);
        // A listing whose names differ is refused whole.
        restored(&lab, |dir| {
            for name in ["a/h", "z/h"] {
                assert_eq!(fs::read(dir.join("app").join(name)).unwrap(), noise(1, 500 << 10), "{turn}");
            }
        });
    }
    assert!(archives(&record_of(&lab, &lab.backup_settled(&[]))).is_disjoint(&archives(&first)));
}

#[test]
fn an_archive_of_large_files_of_one_size_comes_free() {
    let lab = Lab::new(
        |project| {
            put(&project.join("app/one"), &noise(1, 8 << 20));
            put(&project.join("app/other"), &noise(2, 8 << 20));
            put(&project.join("app/junk"), &noise(3, 24 << 20));
        },
        &format!("packing = {{ archive_size = \"64MiB\" }}\n{APP}"),
    );
    let first = archives(&record_of(&lab, &lab.backup_settled(&[])));
    assert_eq!(first.len(), 1);
    fs::remove_file(lab.path("project/app/junk")).unwrap();
    let free = (0..8).any(|_| archives(&record_of(&lab, &lab.backup_settled(&[]))).is_disjoint(&first));
    assert!(free, "a quarter of the component in a run would do it in six");
    restored(&lab, |dir| {
        assert_eq!(fs::read(dir.join("app/one")).unwrap(), noise(1, 8 << 20));
        assert_eq!(fs::read(dir.join("app/other")).unwrap(), noise(2, 8 << 20));
    });
}

/// Waits for `found` to give something.
fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let mut got = None;
    crate::common::project::until(what, || {
        got = found();
        got.is_some()
    });
    got.unwrap()
}

/// How a process is, from the state on.
fn state_of(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned())
}

fn until_stopped(backup: &Child) {
    let me = backup.id().to_string();
    crate::common::project::until("it stopped", || state_of(&me).is_some_and(|s| s.starts_with('T')));
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
}

/// A backup that stops itself at a point.
fn stopping(lab: &Lab, point: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    command.args(["backup", "--json"]).current_dir(lab.path("project")).env_clear();
    command.env("HOME", lab.path("home")).env("PATH", "/usr/bin:/bin").env("BACKSTAY_TEST_SETTLE_MS", "0");
    command.env("BACKSTAY_TEST_SIGNAL", format!("{point}:19"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Kills the child that captures for `backup`, which stopped itself when the transaction had begun, and lets it go on.
fn kill_capture(backup: &Child) {
    until_stopped(backup);
    let me = backup.id().to_string();
    let child = wait_for("the child", || {
        fs::read_dir("/proc").unwrap().find_map(|entry| {
            let pid = entry.unwrap().file_name().into_string().unwrap();
            let parent = state_of(&pid)?.split(' ').nth(1)?.to_owned();
            (parent == me).then_some(pid)
        })
    });
    signal("-KILL", &child);
    signal("-CONT", &me);
}

#[test]
fn a_database_whose_capture_broke_off_is_kept_with_its_log_and_marked() {
    let lab = Lab::new(
        |project| {
            fs::create_dir(project.join("app")).unwrap();
            let db = Connection::open(project.join("app/data.db")).unwrap();
            db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
            for n in 0..3000 {
                db.execute("INSERT INTO t VALUES (?1)", [noise(n, 3000)]).unwrap();
            }
        },
        APP,
    );
    let open = Connection::open(lab.path("project/app/data.db")).unwrap();
    open.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES (1)").unwrap();
    let backup = stopping(&lab, "sqlite: transaction begun#1");
    kill_capture(&backup);
    let output = backup.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("its bytes were packed as they lie there"), "{said}");
    let listed = lab.run(&["ls", "-r", "latest", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.expect(0, &[]).out).unwrap();
    for name in ["data.db", "data.db-wal"] {
        let mut entries = listed["entries"].as_array().unwrap().iter();
        let entry = entries.find(|e| e["path"].as_str().unwrap().ends_with(name)).unwrap();
        let flags = entry["flags"].as_array().unwrap();
        assert!(flags.contains(&"crash_consistent".into()), "{name}: {entry}");
    }
    let second = lab.backup_settled(&[]);
    assert!(second["objects"].as_u64().unwrap() > 1, "it was not taken for captured: {second:#}");
    assert_eq!(restored(&lab, |dir| rows(&dir.join("app/data.db"))), 3001);
}

/// Files that a walk found are opened later. One that took a name meanwhile is not what the other names of the old one are.
#[test]
fn a_first_name_that_is_replaced_after_the_scan_does_not_give_its_content_to_the_others() {
    let lab = Lab::new(
        |project| {
            fs::create_dir(project.join("app")).unwrap();
            for (name, content) in [("a", "old"), ("b.db", "")] {
                fs::write(project.join("app").join(name), content).unwrap();
            }
            let db = Connection::open(project.join("app/b.db")).unwrap();
            db.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (1)").unwrap();
            for (name, other) in [("a", "a2"), ("b.db", "b2.db")] {
                fs::hard_link(project.join("app").join(name), project.join("app").join(other)).unwrap();
            }
        },
        APP,
    );
    let app = lab.path("project/app");
    let backup = stopping(&lab, "backup: scanned#1");
    until_stopped(&backup);
    fs::write(app.join("new"), "new").unwrap();
    fs::rename(app.join("new"), app.join("a")).unwrap();
    let db = Connection::open(app.join("new.db")).unwrap();
    db.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (1), (2)").unwrap();
    drop(db);
    fs::rename(app.join("new.db"), app.join("b.db")).unwrap();
    signal("-CONT", &backup.id().to_string());
    let output = backup.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    restored(&lab, |dir| {
        let read = |name: &str| fs::read_to_string(dir.join("app").join(name)).unwrap();
        assert_eq!((read("a").as_str(), read("a2").as_str()), ("new", "old"));
        assert_eq!((rows(&dir.join("app/b.db")), rows(&dir.join("app/b2.db"))), (2, 1));
    });
}

/// SQLite finds a log by the name of the database that it opens.
#[test]
fn a_database_with_several_names_is_captured_with_the_log_of_the_one_in_use() {
    let lab = Lab::new(
        |project| {
            for folder in ["app", "aside"] {
                fs::create_dir(project.join(folder)).unwrap();
            }
            let db = Connection::open(project.join("app/live.db")).unwrap();
            db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES (1)").unwrap();
            drop(db);
            // Made before an upgrade, as people do; it comes first.
            fs::hard_link(project.join("app/live.db"), project.join("app/before.db")).unwrap();
        },
        APP,
    );
    let all_with = |code| {
        restored_with(&lab, code, |dir| [rows(&dir.join("app/live.db")), rows(&dir.join("app/before.db"))])
    };
    let all = || all_with(0);
    lab.backup_settled(&[]);
    let live = Connection::open(lab.path("project/app/live.db")).unwrap();
    live.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES (2)").unwrap();
    // The change is in the log of the other name only, and the file is as it was.
    let second = lab.backup_settled(&[]);
    assert_eq!(all(), [2, 2], "{second:#}");
    live.execute_batch("INSERT INTO t VALUES (3)").unwrap();
    lab.backup_settled(&[]);
    assert_eq!(all(), [3, 3]);
    assert_eq!(lab.backup_settled(&[])["objects"], 1, "nothing changed");
    // What a log beside the other name is worth nobody can tell: the newer one counts, and the snapshot is not called complete.
    let stale = lab.path("project/app/before.db-wal");
    fs::copy(lab.path("project/app/live.db-wal"), &stale).unwrap();
    fs::File::options().write(true).open(&stale).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    live.execute_batch("INSERT INTO t VALUES (4)").unwrap();
    let ran = lab.run_with(&["backup"], &[("BACKSTAY_TEST_SETTLE_MS", "0")]);
    ran.expect(
        3,
        &["app/before.db-wal".trim_end_matches("-wal"), "log beside more than one", "remove the names"],
    );
    assert_eq!(all_with(3), [4, 4], "it says again that it is not complete");
    fs::remove_file(&stale).unwrap();
    // Where no log holds anything, it is the one that somebody has open.
    live.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    fs::write(&stale, b"").unwrap();
    let index = lab.path("project/app/before.db-shm");
    let _left_by_the_first = fs::remove_file(&index);
    assert_eq!(lab.backup_settled(&[])["problems"], serde_json::json!([]));
    assert!(!index.exists(), "it was opened by the other name");
    fs::remove_file(&stale).unwrap();
    assert_eq!(all(), [4, 4]);
    // A name that is not in the component may be the one in use, which is said; whoever has a log here is.
    let said = |ran: &Value| ran["problems"].to_string().contains("another name outside");
    fs::remove_file(lab.path("project/app/before.db")).unwrap();
    fs::hard_link(lab.path("project/app/live.db"), lab.path("project/aside/live.db")).unwrap();
    assert!(!said(&lab.backup_settled(&[])));
    drop(live);
    assert!(said(&lab.backup_settled(&[])));
}

/// Writes to a page through a mapping, tells it, and again when it is told to.
const MAPPED: &str = "import mmap, sys
file = open(sys.argv[1], 'r+b')
page = mmap.mmap(file.fileno(), 0)
for byte in b'12':
    page[0] = byte
    print(flush=True)
    sys.stdin.readline()
";

/// The name in use is looked for, and then SQLite opens it.
#[test]
fn a_name_in_use_that_another_database_takes_before_it_is_opened_is_not_taken_for_the_old_one() {
    let lab = Lab::new(
        |project| {
            fs::create_dir(project.join("app")).unwrap();
            let db = Connection::open(project.join("app/live.db")).unwrap();
            db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES (1)").unwrap();
            drop(db);
            fs::hard_link(project.join("app/live.db"), project.join("app/before.db")).unwrap();
            let new = Connection::open(project.join("new.db")).unwrap();
            new.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (1), (2), (3)").unwrap();
        },
        APP,
    );
    let live = Connection::open(lab.path("project/app/live.db")).unwrap();
    live.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES (2)").unwrap();
    let backup = stopping(&lab, "backup: database chosen#1");
    until_stopped(&backup);
    live.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(live);
    fs::rename(lab.path("project/new.db"), lab.path("project/app/live.db")).unwrap();
    signal("-CONT", &backup.id().to_string());
    let output = backup.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    restored(&lab, |dir| {
        assert_eq!(rows(&dir.join("app/before.db")), 2);
        // As the walk found it, or as it was when it was opened.
        assert!([2, 3].contains(&rows(&dir.join("app/live.db"))));
    });
}

/// A page that is written through a mapping moves the file's times once. What is written to it before it is on the disk, half a minute later, moves them no more.
#[test]
fn what_is_written_through_a_mapping_without_its_times_telling_is_in_the_next_snapshot() {
    if !have(&["python3"]) {
        return;
    }
    let lab = Lab::new(
        |project| {
            fs::create_dir(project.join("app")).unwrap();
            fs::write(project.join("app/mapped"), noise(1, 5000)).unwrap();
        },
        APP,
    );
    let path = lab.path("project/app/mapped");
    let backup = |seconds: i64| {
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        lab.run_with(&["backup"], &[("BACKSTAY_TEST_NOW", &*time.to_string())]).expect(0, &[]);
        restored(&lab, |dir| fs::read(dir.join("app/mapped")).unwrap()[0])
    };
    let mut writer = Command::new("python3");
    let mut writer =
        writer.args(["-c", MAPPED]).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(writer.stdout.take().unwrap()).lines();
    told.next().unwrap().unwrap();
    let written = fs::metadata(&path).unwrap();
    assert_eq!(backup(50), b'1');
    writer.stdin.as_ref().unwrap().write_all(b"\n").unwrap();
    told.next().unwrap().unwrap();
    let again = fs::metadata(&path).unwrap();
    let times = |of: &fs::Metadata| (of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec());
    if times(&written) == times(&again) {
        assert_eq!(
            backup(100),
            b'2',
            "it was read when it had just been written: its times were not to be believed"
        );
    } else {
        cannot_run("stores to a mapped page move the times of a file here each time");
    }
    drop(writer.stdin.take());
    writer.wait().unwrap();
}

/// A database with a collation that only its own program has.
fn foreign_database(path: &Path) {
    let setup = "CREATE TABLE t(a TEXT); CREATE INDEX i ON t(a); INSERT INTO t VALUES ('x');
        PRAGMA writable_schema=ON;
        UPDATE sqlite_schema SET sql = 'CREATE TABLE t(a TEXT COLLATE OURS)' WHERE name = 't'";
    Connection::open(path).unwrap().execute_batch(setup).unwrap();
}

#[test]
fn a_check_that_could_not_be_run_is_told_and_is_not_hidden_by_another() {
    let lab = Lab::new(
        |project| {
            fs::create_dir(project.join("app")).unwrap();
            foreign_database(&project.join("app/foreign.db"));
            let other = Connection::open(project.join("app/own.db")).unwrap();
            other.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (1)").unwrap();
        },
        APP,
    );
    let first = lab.backup_settled(&[]);
    let told = |p: &&Value| p["what"].as_str().unwrap().contains("OURS") && p["kind"] == "warning";
    assert_eq!(first["problems"].as_array().unwrap().iter().filter(told).count(), 1, "{first:#}");
    assert_eq!(first["components"][0]["check"], "deferred", "{first:#}");
    // As long as it is as it was, nobody says that it passed.
    let second = lab.backup_settled(&[]);
    assert_eq!(second["components"][0]["check"], "deferred", "{second:#}");
    // Nor that it failed: it comes back, is no damage, and a drill says that nobody checked it.
    let restore = lab.run(&["restore", "latest", "--to", "../back"]);
    restore.expect(0, &["only its own program can check it"]);
    let verified = lab.run(&["verify", "--decrypt"]);
    verified.expect(0, &["only its own program can check it"]);
    let marks = lab.keys().into_iter().filter(|key| matches!(key, Key::Mark(..)));
    let last = fs::read_to_string(marks.map(|key| lab.object(&key)).max().unwrap()).unwrap();
    assert!(last.contains("decrypt") && !last.contains("passed"), "nobody says that it passed: {last}");
    lab.run(&["drill"]).expect(1, &["inconclusive", "could not be checked"]);
    lab.run(&["rollback", "latest", "--yes"]).expect(0, &[]);
}

#[test]
fn a_file_that_is_written_anew_and_longer_while_it_is_read_is_kept_as_one_of_both() {
    let (before, after) = (noise(1, 24 << 20), noise(2, 25 << 20));
    let lab = Lab::new(
        |project| put(&project.join("app/file"), &before),
        &format!("packing = {{ archive_size = \"1MiB\" }}\n{APP}"),
    );
    let backup = stopping(&lab, "pack: archive to be sealed#1");
    until_stopped(&backup);
    // The same file, not another one in its place.
    fs::write(lab.path("project/app/file"), &after).unwrap();
    signal("-CONT", &backup.id().to_string());
    let output = backup.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(restored(&lab, |dir| fs::read(dir.join("app/file")).unwrap() == after), "it is a mixture");
}

#[test]
fn a_file_that_only_grows_while_it_is_read_is_kept_at_the_length_that_it_had() {
    let before = noise(1, 24 << 20);
    let lab = Lab::new(
        |project| put(&project.join("app/file"), &before),
        &format!("packing = {{ archive_size = \"1MiB\" }}\n{APP}"),
    );
    let backup = stopping(&lab, "pack: archive to be sealed#1");
    until_stopped(&backup);
    let mut file = fs::File::options().append(true).open(lab.path("project/app/file")).unwrap();
    std::io::Write::write_all(&mut file, b"more").unwrap();
    signal("-CONT", &backup.id().to_string());
    let output = backup.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        restored(&lab, |dir| fs::read(dir.join("app/file")).unwrap() == before),
        "read once, and no more"
    );
}
