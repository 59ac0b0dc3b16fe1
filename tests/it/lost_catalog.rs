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
