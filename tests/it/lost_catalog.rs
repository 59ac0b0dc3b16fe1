//! What a lost catalog may cost; what is remembered, and for how long.

use crate::common::project::cannot_run;
use crate::common::watched;
use crate::lab::{Lab, Node, noise, put, tree};
use backstay::catalog::known::{
    ComponentUpdate, Expected, Known, KnownArchive, Loaded, Update, load, remove, save,
};
use backstay::model::{ObjectId, document};
use backstay::ops::backup::{BackupOptions, run as backup};
use backstay::ops::error::Class;
use backstay::store::testing::Verb;
use backstay::store::{Key, Prefix, Store};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

const APP: &str = "[[component]]\nname = \"app\"\npath = \"app\"\n";

/// A large file in blocks of which each day changes one in fifty, spread over all of it, none twice.
const BLOCK: usize = 16 << 10;
const BLOCKS: usize = 512;
const STRIDE: usize = 50;
/// More archives than frames are kept unpacked.
const DAYS: usize = 20;

fn large(path: &Path) {
    put(path, &noise(1, BLOCK * BLOCKS));
}

fn change(path: &Path, day: usize) {
    let file = fs::File::options().write(true).open(path).unwrap();
    for block in (day..BLOCKS).step_by(STRIDE) {
        let bytes = noise((1000 * day + block) as u64, BLOCK);
        file.write_all_at(&bytes, (block * BLOCK) as u64).unwrap();
    }
}

/// A backup with these variables set.
fn run(lab: &Lab, env: &[(&str, &str)], code: i32, words: &[&str]) -> Value {
    let ran = lab.run_with(&["--json", "backup"], &[&[("BACKSTAY_TEST_SETTLE_MS", "0")], env].concat());
    ran.expect(code, words);
    serde_json::from_slice(&ran.out).unwrap()
}

fn stored(report: &Value) -> u64 {
    report["stored_bytes"].as_u64().unwrap()
}

fn lose_catalog(lab: &Lab) {
    fs::remove_file(lab.state().join("catalog.db")).unwrap();
}

#[test]
fn a_kill_beside_the_commit_leaves_a_catalog_for_the_run_after() {
    // Which of its two generations is true only the store says then.
    let points = [
        "backup: catalog to be written#1",
        "catalog: to be committed#1",
        "backup: catalog written#1",
        "backup: committed#1",
    ];
    for point in points {
        let lab = Lab::new(|dir| large(&dir.join("app/large.bin")), APP);
        // Without an identity nothing makes it again: all would be stored anew.
        let mut config = lab.config();
        config["encryption"].as_table_mut().unwrap().remove("identity_file");
        lab.set_config(&config);
        run(&lab, &[], 0, &[]);
        put(&lab.path("project/app/new"), &noise(7, 300_000));
        let settled = ("BACKSTAY_TEST_SETTLE_MS", "0");
        let killed = lab.run_with(&["backup"], &[settled, ("BACKSTAY_TEST_CRASH", point)]);
        assert_eq!(killed.code, -1, "{point}: {}", killed.text());
        let report = run(&lab, &[], 0, &[]);
        assert!(stored(&report) < 1_000_000, "{point}: {report:#}");
    }
}

#[test]
fn content_in_many_archives_is_brought_archive_by_archive_where_the_catalog_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app/large.bin");
    let (session, memory, store) = watched::project(dir.path(), |app| large(&app.join("large.bin")));
    let run = || backup(&session, &BackupOptions::default());
    run().unwrap();
    for day in 0..DAYS {
        change(&file, day);
        run().unwrap();
    }
    let archives = memory.list(Prefix::Archives).unwrap();
    let all: u64 = archives.iter().map(|archive| archive.size).sum();
    assert!(archives.len() > DAYS, "{} archives", archives.len());
    change(&file, DAYS);
    let state = session.state.as_ref().unwrap();
    fs::remove_file(state.dir().join("catalog.db")).unwrap();
    // Whoever asks for the end while earlier content is read gets it.
    store.reset();
    let flag = session.around.interrupt.flag();
    store.on_call(Arc::new(move |verb: Verb, _: &str| {
        if verb == Verb::GetRange {
            flag.store(15, Ordering::SeqCst);
        }
    }));
    let error = run().unwrap_err();
    assert_eq!(error.class, Class::Interrupted, "{error}");
    assert!((1..10).contains(&store.count(Verb::GetRange)), "{:?}", store.calls());
    session.around.interrupt.forget();
    // The next run has what that one made again of the catalog, and still knows no block hashes.
    store.reset();
    let report = run().unwrap();
    let fetched = store.ranged();
    assert!(fetched > 0 && fetched < 2 * all, "{fetched} bytes were fetched of {all} stored ones");
    assert!(report.stored_bytes < 1 << 20, "only what changed is stored: {report:?}");
    let left: Vec<_> = fs::read_dir(state.spool_dir()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_transaction_of_a_database_does_not_wait_for_what_a_lost_catalog_costs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app/data.db");
    let (session, _memory, store) = watched::project(dir.path(), |app| {
        let db = rusqlite::Connection::open(app.join("data.db")).unwrap();
        db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)")
            .unwrap();
        // More than what is stored anew without a look.
        for n in 0..1000 {
            db.execute("INSERT INTO t (body) VALUES (?1)", [noise(n, 2000)]).unwrap();
        }
    });
    // Whoever has it open keeps its log.
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    let run = || backup(&session, &BackupOptions::default()).unwrap();
    run();
    db.execute_batch("UPDATE t SET body = zeroblob(2000) WHERE id = 77").unwrap();
    fs::remove_file(session.state.as_ref().unwrap().dir().join("catalog.db")).unwrap();
    let busy: Arc<Mutex<Vec<i64>>> = Arc::default();
    let seen = Arc::clone(&busy);
    store.reset();
    store.on_call(Arc::new(move |verb: Verb, _: &str| {
        if verb == Verb::GetRange {
            let mut seen = seen.lock().unwrap();
            let db = rusqlite::Connection::open(&path).unwrap();
            // The log cannot be emptied while a transaction reads it.
            seen.push(db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap());
        }
    }));
    let report = run();
    let busy = busy.lock().unwrap();
    assert!(!busy.is_empty() && busy.iter().all(|busy| *busy == 0), "{busy:?}");
    assert!(report.stored_bytes < 100_000, "{report:?}");
}

#[test]
fn without_room_for_a_copy_only_what_would_be_fetched_again_and_again_is_stored_anew() {
    let lab = Lab::new(|project| large(&project.join("app/large")), APP);
    let file = lab.path("project/app/large");
    lab.backup_settled(&[]);
    let days = |range: std::ops::Range<usize>| {
        for day in range {
            change(&file, day);
            lab.backup_settled(&[]);
        }
    };
    let no_room = [("BACKSTAY_TEST_ROOM", "0")];
    days(0..3);
    change(&file, 3);
    lose_catalog(&lab);
    let few = run(&lab, &no_room, 0, &[]);
    assert!(stored(&few) < 1 << 20, "{few:#}");
    days(4..DAYS);
    change(&file, DAYS);
    lose_catalog(&lab);
    let many = run(&lab, &no_room, 0, &["large: all of it is stored again, because there is no room"]);
    assert!(stored(&many) > 8 << 20, "{many:#}");
}

#[test]
fn a_catalog_that_was_made_again_helps_the_run_after_one_that_was_killed_too() {
    let components = format!("{APP}[[component]]\nname = \"db\"\nsqlite = \"app.db\"\n");
    let lab = Lab::new(
        |project| {
            put(&project.join("app/large"), &noise(99, 3 << 20));
            let db = rusqlite::Connection::open(project.join("app.db")).unwrap();
            db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
            for n in 0..1000 {
                db.execute("INSERT INTO t (body) VALUES (?1)", [noise(n, 2000)]).unwrap();
            }
        },
        &components,
    );
    assert!(stored(&lab.backup_settled(&[])) > 5_000_000);
    lose_catalog(&lab);
    let killed = lab.run_with(&["backup"], &[("BACKSTAY_TEST_CRASH", "backup: catalog read#1")]);
    killed.expect(-1, &["it is made again"]);
    fs::File::options()
        .write(true)
        .open(lab.path("project/app/large"))
        .unwrap()
        .write_all_at(b"changed", 1_000_000)
        .unwrap();
    let db = rusqlite::Connection::open(lab.path("project/app.db")).unwrap();
    db.execute_batch("UPDATE t SET body = zeroblob(2000) WHERE id = 500").unwrap();
    drop(db);
    let next = run(&lab, &[], 0, &[]);
    assert!(stored(&next) < 100_000, "{next:#}");
    let (ran, found) = lab.restore(&["latest"]);
    ran.expect(0, &[]);
    let live = fs::read(lab.path("project/app/large")).unwrap();
    let found = found.unwrap();
    assert!(matches!(&found[Path::new("app/large")], Node::File(_, bytes) if *bytes == live));
}

#[test]
fn a_catalog_that_lacks_frames_ends_one_run_and_no_snapshot_leads_nowhere() {
    let lab = Lab::new(
        |project| {
            for n in 0..20 {
                put(&project.join(format!("app/f{n}")), &noise(n, 30_000));
            }
        },
        APP,
    );
    let first = lab.backup_settled(&[]);
    let id = first["snapshot"].as_str().unwrap();
    let document = fs::read(lab.object(&Key::Record(id.parse().unwrap()))).unwrap();
    let (record, hash) = (lab.record(id), ObjectId::of(document::split(&document).unwrap().0));
    let path = lab.state().join("catalog.db");
    let now = Expected { vault: &record.vault, host: &record.host, record: &hash };
    let Loaded::Usable(Known { archives, components, full, .. }) = load(&path, &now, |_| true) else {
        panic!("it is not usable");
    };
    let without = |mut archive: KnownArchive| {
        archive.info.frames.clear();
        archive
    };
    let components = components.into_iter().map(|(number, put)| ComponentUpdate {
        number,
        keep: Vec::new(),
        put,
        archives: archives.values().cloned().map(without).collect(),
        full: full[&number],
    });
    let components = components.collect();
    remove(&path).unwrap();
    save(&path, &Update { now, before: None, components, alive: None }).unwrap();
    put(&lab.path("project/app/new"), b"new");
    let ran = lab.run_with(&["backup"], &[("BACKSTAY_TEST_SETTLE_MS", "0")]);
    ran.expect(1, &["where some frames of archive", "run it again"]);
    let next = run(&lab, &[], 0, &[]);
    assert!(stored(&next) < 20_000, "{next:#}");
    let (ran, found) = lab.restore(&["latest"]);
    ran.expect(0, &[]);
    assert_eq!(found.unwrap()[Path::new("app/new")], tree(&lab.path("project/app"))[Path::new("new")]);
}

#[test]
fn what_is_known_outlasts_three_runs_without_a_disk_and_no_more() {
    let lab = Lab::new(
        |project| {
            for n in 0..20 {
                put(&project.join(format!("app/d/f{n}")), &noise(n, 30_000));
            }
            put(&project.join("app/large"), &noise(99, 3 << 20));
        },
        APP,
    );
    lab.backup_settled(&[]);
    // A server's data, which is never captured: each run is incomplete.
    put(&lab.path("project/app/pg/PG_VERSION"), b"16");
    let start = jiff::Timestamp::now();
    let incomplete = |day: i64| {
        let time = start + jiff::SignedDuration::from_hours(24 * day);
        run(&lab, &[("BACKSTAY_TEST_NOW", &*time.to_string())], 3, &["PostgreSQL"])
    };
    let (there, away) = (lab.path("project/app/large"), lab.path("project/away"));
    fs::rename(&there, &away).unwrap();
    incomplete(1);
    incomplete(2);
    fs::rename(&away, &there).unwrap();
    let back = incomplete(3);
    assert!(stored(&back) < 100_000, "what was there before is known: {back:#}");
    // Now it goes for good.
    fs::remove_file(&there).unwrap();
    put(&lab.path("project/app/new"), &noise(7, 200_000));
    for day in 4..8 {
        let report = incomplete(day);
        assert!(stored(&report) > 200_000, "day {day}: what was known before is kept: {report:#}");
    }
    // What is left in a half-empty archive is packed again, and then there is nothing more to do.
    let later: Vec<Value> = (8..12).map(incomplete).collect();
    assert_eq!(later[3]["objects"], 1, "{later:#?}");
}

#[test]
fn a_component_that_was_removed_is_remembered_for_a_month() {
    let lab = Lab::new(
        |project| {
            put(&project.join("app/f"), &noise(1, 50_000));
            put(&project.join("etc/conf"), &noise(5, 50_000));
        },
        &format!("{APP}[[component]]\nname = \"etc\"\npath = \"etc\"\n"),
    );
    let start = jiff::Timestamp::now();
    let known_on = |day: i64| -> i64 {
        let time = start + jiff::SignedDuration::from_hours(24 * day);
        run(&lab, &[("BACKSTAY_TEST_NOW", &*time.to_string())], 0, &[]);
        let db = rusqlite::Connection::open(lab.state().join("catalog.db")).unwrap();
        let select = "SELECT count(*) FROM generations WHERE turn = (SELECT max(turn) FROM generations)";
        db.query_row(select, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(known_on(0), 2);
    let both = lab.config();
    let mut one = both.clone();
    one["component"].as_array_mut().unwrap().pop();
    lab.set_config(&one);
    assert_eq!((known_on(1), known_on(29)), (2, 2), "it may come back");
    assert_eq!(known_on(31), 1);
    lab.set_config(&both);
    assert_eq!(known_on(32), 2, "and when it does, it is made again");
}

#[test]
fn a_file_beyond_all_bounds_is_said_and_everybody_reads_the_snapshot() {
    let lab = Lab::new(|project| put(&project.join("app/f"), b"content"), APP);
    let thin = fs::File::create(lab.path("project/app/thin")).unwrap();
    if thin.set_len(1 << 50).is_err() {
        return cannot_run("a sparse file of a petabyte: no file system here takes one");
    }
    let report = run(&lab, &[], 3, &["thin", "no file of more than 128 TiB is captured"]);
    lab.run(&["list"]).expect(0, &[]);
    let (_, found) = lab.restore(&[report["snapshot"].as_str().unwrap()]);
    let found = found.unwrap();
    assert!(found.contains_key(Path::new("app/f")) && !found.contains_key(Path::new("app/thin")));
    let mut config = lab.config();
    config["component"][0].as_table_mut().unwrap().insert("exclude".into(), vec!["/thin"].into());
    lab.set_config(&config);
    run(&lab, &[], 0, &[]);
}
