//! A log of a database goes where its database goes, and never meets another one; what the snapshot could not read stays.

use super::{App, SERVICE};
use crate::common::project::expect_code;
use rusqlite::Connection;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What a writer leaves that is killed: rows that are only in the log, in `to` under the names that it had in `from`.
fn killed_writer(from: &Path, to: &Path, sql: &str) {
    let name = from.file_name().unwrap().to_str().unwrap().to_owned();
    let log = from.with_file_name(format!("{name}-wal"));
    let db = Connection::open(from).unwrap();
    let _: String = db.query_row("PRAGMA journal_mode=WAL", (), |r| r.get(0)).unwrap();
    db.execute_batch(&format!("PRAGMA wal_autocheckpoint=0; {sql}")).unwrap();
    let both = (fs::read(from).unwrap(), fs::read(log).unwrap());
    assert!(!both.1.is_empty());
    drop(db);
    crate::lab::put(&to.join(&name), &both.0);
    crate::lab::put(&to.join(format!("{name}-wal")), &both.1);
}

fn rows(db: &Path) -> i64 {
    Connection::open(db).unwrap().query_row("SELECT count(*) FROM t", (), |r| r.get(0)).unwrap()
}

const LIST: &str = r#"
[[component]]
name = "list"
paths = ["app/data/app.db", "app/.env"]
"#;

/// A database that a list names; its service leaves a log beside it when it is stopped.
fn listed(env: &str) -> (App, String) {
    let service = SERVICE
        .replace("stop = 'kill \"$(cat web.pid)\"'", "stop = 'kill \"$(cat web.pid)\"; cp hot/* app/data/'")
        .replace("grep -q broken app/version", "grep -q broken app/.env");
    let app = App::new("");
    app.project.configure(LIST, &service);
    app.write("app/.env", env);
    let id = app.project.backup();
    app.write("app/.env", "SECRET=2");
    let db = app.path("app/data/app.db");
    killed_writer(&db, &app.path("hot"), "INSERT INTO t VALUES (2); INSERT INTO t VALUES (3);");
    app.start_service();
    (app, id)
}

#[test]
fn a_log_of_a_database_that_a_list_names_goes_with_it() {
    let (app, id) = listed("SECRET=1");
    app.project.ok(["rollback", &id]);
    assert!(!app.path("app/data/app.db-wal").exists());
    assert_eq!((app.rows(), app.read("app/.env")), (1, "SECRET=1".into()));
    app.project.ok(["rollback", "--undo", "--yes"]);
    assert_eq!((app.rows(), app.read("app/.env")), (3, "SECRET=2".into()));
}

#[test]
fn a_log_of_a_database_that_a_list_names_comes_back_with_it() {
    let (app, id) = listed("broken");
    expect_code(app.project.run(["rollback", &id]), 17);
    assert_eq!((app.rows(), app.read("app/.env")), (3, "SECRET=2".into()));
    assert!(app.runs());
}

#[test]
fn a_log_stays_with_a_database_that_the_snapshots_or_todays_rules_leave_out() {
    for (then, now) in [(", \"*.db\"", ""), ("", ", \"*.db\"")] {
        let app = App::new("");
        let text = fs::read_to_string(app.project.config_path()).unwrap();
        let with = |rule: &str| {
            let from = "exclude = [\"node_modules/\"]";
            assert!(text.contains(from), "{text}");
            let to = format!("exclude = [\"node_modules/\"{rule}]");
            fs::write(app.project.config_path(), text.replace(from, &to)).unwrap();
        };
        let (db, log) = (app.path("app/data/queue.db"), app.path("app/data/queue.db-wal"));
        Connection::open(&db).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        killed_writer(&db, &app.path("hot"), "INSERT INTO t VALUES (1)");
        with(then);
        let id = app.project.backup();
        with(now);
        // A connection that stays open keeps its log.
        let writer = Connection::open(&db).unwrap();
        writer.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES (2)").unwrap();
        let inodes = || [&db, &log].map(|path| fs::metadata(path).unwrap().ino());
        let before = inodes();
        app.project.ok(["rollback", &id]);
        assert_eq!(inodes(), before, "then {then:?}, now {now:?}");
        writer.execute_batch("INSERT INTO t VALUES (3)").unwrap();
        drop(writer);
        assert_eq!(rows(&db), 3, "then {then:?}, now {now:?}");
    }
}

#[test]
fn a_log_that_the_snapshot_has_does_not_come_in_beside_a_database_that_stays() {
    let app = App::new("");
    let text = fs::read_to_string(app.project.config_path()).unwrap();
    let from = "exclude = [\"node_modules/\"]";
    fs::write(app.project.config_path(), text.replace(from, "exclude = [\"node_modules/\", \"*.db\"]"))
        .unwrap();
    let db = app.path("app/data/queue.db");
    Connection::open(&db).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    killed_writer(&db, &app.path("hot"), "INSERT INTO t VALUES (1)");
    for name in ["queue.db", "queue.db-wal"] {
        fs::copy(app.path("hot").join(name), app.path("app/data").join(name)).unwrap();
    }
    let id = app.project.backup();
    let writer = Connection::open(&db).unwrap();
    writer.execute_batch("DELETE FROM t; INSERT INTO t VALUES (2), (3)").unwrap();
    writer.close().unwrap();
    let log = app.path("app/data/queue.db-wal");
    assert!(!log.exists());
    app.upgrade("2");
    app.project.ok(["rollback", &id]);
    assert!(!log.exists());
    assert_eq!((rows(&db), app.read("app/version")), (2, "1".into()));
}

#[test]
fn a_database_that_went_away_comes_back_without_the_log_of_the_failed_state() {
    let start = "start = 'if grep -q broken app/version; then cp foreign/* app/data/; fi; sleep 1000 & echo $! > web.pid'";
    let app = App::new(&SERVICE.replace("start = 'sleep 1000 & echo $! > web.pid'", start));
    app.write("app/version", "broken");
    let id = app.project.backup();
    app.upgrade("2");
    let jobs = app.path("app/data/jobs.db");
    Connection::open(&jobs).unwrap().execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    let other = app.path("other/jobs.db");
    crate::lab::put(&other, b"");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let many = "INSERT INTO t VALUES (1); ".repeat(5);
    killed_writer(&other, &app.path("foreign"), &many);
    app.start_service();
    expect_code(app.project.run(["rollback", &id]), 17);
    assert_eq!(rows(&jobs), 1);
    let kept = fs::read_dir(app.path("app")).unwrap().map(|e| e.unwrap().path());
    let kept = kept.filter(|path| path.to_string_lossy().contains(".backstay-rollback-"));
    let log = fs::read(app.path("foreign/jobs.db-wal")).unwrap();
    let is_log = |e: fs::DirEntry| fs::read(e.path()).is_ok_and(|bytes| bytes == log);
    let has_log = |dir: &Path| fs::read_dir(dir).unwrap().any(|e| is_log(e.unwrap()));
    assert!(kept.map(|dir| dir.join("old")).any(|dir| has_log(&dir)), "the failed state's log is gone");
}

#[test]
fn what_is_left_and_is_only_called_like_a_log_stays_on_the_way_back() {
    let app = App::new(SERVICE);
    let text = fs::read_to_string(app.project.config_path()).unwrap();
    let from = "leave = [\".env\"]";
    assert!(text.contains(from), "{text}");
    let to = "leave = [\".env\", \"notes-journal/\", \"list-wal\", \"list-journal\"]";
    fs::write(app.project.config_path(), text.replace(from, to)).unwrap();
    for (path, text) in [("app/version", "broken"), ("app/notes/one", "then"), ("app/list", "then")] {
        app.write(path, text);
    }
    let id = app.project.backup();
    app.upgrade("2");
    for path in ["app/notes/one", "app/list", "app/notes-journal/day", "app/list-wal", "app/list-journal"] {
        app.write(path, "now");
    }
    app.start_service();
    let before = app.live();
    let inode = |path: &str| fs::metadata(app.path(path)).unwrap().ino();
    let inodes =
        || ["app/notes-journal", "app/notes-journal/day", "app/list-wal", "app/list-journal"].map(inode);
    let left = inodes();
    expect_code(app.project.run(["rollback", &id]), 17);
    assert_eq!(app.live(), before);
    assert_eq!(inodes(), left);
}

#[test]
fn what_the_snapshot_could_not_read_stays() {
    let app = App::new("");
    let text = fs::read_to_string(app.project.config_path()).unwrap();
    let from = "exclude = [\"node_modules/\"]";
    fs::write(
        app.project.config_path(),
        text.replace(from, &format!("{from}\nallow_unreadable = [\"keys/\"]")),
    )
    .unwrap();
    // It looks like what no snapshot takes.
    app.write("app/keys/PG_VERSION", "15");
    app.write("app/keys/deep/secret", "then");
    let id = app.project.backup();
    fs::remove_file(app.path("app/keys/PG_VERSION")).unwrap();
    app.write("app/keys/deep/secret", "now");
    app.upgrade("2");
    let inode = || fs::metadata(app.path("app/keys/deep/secret")).unwrap().ino();
    let before = inode();
    app.project.ok(["rollback", &id]);
    assert_eq!((inode(), app.read("app/keys/deep/secret")), (before, "now".into()));
    assert_eq!(app.read("app/src/main.py"), "one");
}
