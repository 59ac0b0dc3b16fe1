//! Thirty days at one per cent a day: what is stored and what was uploaded in all, beside restic on the same data, and how full archives stay.

use crate::common::long::long;
use crate::common::project::{Project, exe, expect_code, have, noise, program};
use crate::common::trees::{assert_same, look, restorable};
use crate::common::uses::Listed;
use backstay::model::ObjectId;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

const COMPONENTS: &str =
    "[[component]]\nname = \"app\"\npath = \"app\"\n[[component]]\nname = \"db\"\nsqlite = \"data.db\"\n";

/// How much there is: files, rows, days.
struct Size {
    files: u64,
    rows: u64,
    days: u64,
}

fn text(seed: u64, length: usize) -> Vec<u8> {
    // Compresses to about a third, as sources do.
    noise(seed, length / 3)
        .iter()
        .flat_map(|b| [b"etaoinsh"[usize::from(b % 8)], b' ', b'a' + b % 16])
        .collect()
}

fn make(project: &Project, size: &Size) {
    for n in 0..size.files {
        let path = project.dir.join(format!("app/d{}/f{n}", n % 40));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text(n, 2000 + (n * 37 % 9000) as usize)).unwrap();
    }
    let db = rusqlite::Connection::open(project.dir.join("data.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB); BEGIN")
        .unwrap();
    for n in 0..size.rows {
        db.execute("INSERT INTO t (body) VALUES (?1)", [text(n + 1_000_000, 420)]).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

/// One per cent of the files (edited, replaced, added, removed) and of the rows.
fn change(project: &Project, size: &Size, day: u64) {
    for n in 0..size.files / 100 {
        let which = (day * 7919 + n * 101) % size.files;
        let path = project.dir.join(format!("app/d{}/f{which}", which % 40));
        let content = text(day * 1_000_000 + n, 2000 + (which * 37 % 9000) as usize);
        match n % 4 {
            0 if path.exists() => {
                let file = fs::File::options().write(true).open(&path).unwrap();
                file.write_all_at(b"changed", 100).unwrap();
            }
            1 => drop(fs::remove_file(&path)),
            _ => fs::write(&path, content).unwrap(),
        }
    }
    let db = rusqlite::Connection::open(project.dir.join("data.db")).unwrap();
    db.execute_batch("BEGIN").unwrap();
    for n in 0..size.rows / 100 {
        let which = (day * 104_729 + n * 7907) % size.rows + 1;
        let body = text(day * 2_000_000 + n, 420);
        db.execute("UPDATE t SET body = ?2 WHERE id = ?1", rusqlite::params![which as i64, body]).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
}

fn rows(path: &Path) -> Vec<(i64, Vec<u8>)> {
    let db = rusqlite::Connection::open(path).unwrap();
    let mut query = db.prepare("SELECT id, body FROM t ORDER BY id").unwrap();
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

fn bytes_below(dir: &Path) -> u64 {
    let mut sum = 0;
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for item in fs::read_dir(dir).unwrap() {
            let item = item.unwrap();
            let facts = item.metadata().unwrap();
            if facts.is_dir() { open.push(item.path()) } else { sum += facts.len() }
        }
    }
    sum
}

/// A day on which it is so many days after today.
fn backup(project: &Project, day: u64) -> serde_json::Value {
    let time = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * day as i64);
    let mut command = program(exe(), &project.home);
    command.current_dir(&project.dir).args(["backup", "--json"]);
    command.env("BACKSTAY_TEST_SETTLE_MS", "0").env("BACKSTAY_TEST_NOW", time.to_string());
    let output = expect_code(command.output().unwrap(), 0);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn restic(project: &Project, args: &[&str]) -> Vec<u8> {
    let mut command = Command::new("restic");
    command.current_dir(&project.dir).args(args).env("HOME", &project.home);
    command.env("RESTIC_REPOSITORY", project.top.join("restic")).env("RESTIC_PASSWORD", "test");
    expect_code(command.output().unwrap(), 0).stdout
}

/// What `restic backup` says that it added.
fn restic_added(project: &Project) -> u64 {
    let out = restic(project, &["backup", "--json", "app", "data.db"]);
    let text = String::from_utf8(out).unwrap();
    let summary = text.lines().find(|line| line.contains("\"summary\"")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(summary).unwrap();
    summary["data_added"].as_u64().unwrap()
}

/// All the days, at least so much of what a snapshot's archives were made with is in use by it. An archive stays until half of it is out of use, and then goes within
/// days: between the two the rest of a first archive lies there beside what of it was packed again, and both count.
const LIVE_MIN: f64 = 0.5;

/// So many days after less than half of an archive was in use nothing of it is. A run packs at most a quarter of a component again; all that lies in archives so empty is less
/// than what the component uses, so four runs have room for it.
const GONE_WITHIN: u64 = 4;

/// How much of each archive the snapshots use, one day after the other, read from the listings in the store.
#[derive(Default)]
struct Shares {
    /// Bytes in use in each archive at the first snapshot that had it.
    made: BTreeMap<ObjectId, u64>,
    /// Archives of which less than half was in use: on which day first, how many bytes the day before this one, and of which component.
    low: BTreeMap<ObjectId, (u64, u64, String)>,
    /// How many such archives each component had.
    met: BTreeMap<String, usize>,
    /// Of all days the smallest part of its archives that a snapshot uses.
    least: Option<f64>,
}

impl Shares {
    /// An archive of which less than half was in use at the snapshot before is used less now; a few days later it is not referred to; and of all archives together much
    /// is in use.
    fn look(&mut self, project: &Project, day: u64, report: &serde_json::Value) {
        let id = report["snapshot"].as_str().unwrap();
        let listed = Listed::read(&project.store, &project.identity(), id);
        let (used, named) = (listed.used(), listed.archives());
        for (archive, (since, before, component)) in &mut self.low {
            let (made, now) = (self.made[archive], used.get(archive).map_or(0, |(_, bytes)| *bytes));
            let what = format!("day {day}, {component}: of {archive}, made of {made} bytes");
            assert!(now < *before || now == 0, "{what}, {before} were in use, and {now} are now");
            assert!(
                day < *since + GONE_WITHIN || !named.contains(archive),
                "{what}, less than half was on day {since}, and {now} are now"
            );
            *before = now;
        }
        for (archive, (component, bytes)) in &used {
            let made = *self.made.entry(*archive).or_insert(*bytes);
            // Less than half by more than headers, of which only a reckoning counts, can make a difference.
            if bytes * 20 < made * 9 && !self.low.contains_key(archive) {
                self.low.insert(*archive, (day, *bytes, component.clone()));
                *self.met.entry(component.clone()).or_default() += 1;
            }
        }
        let in_use: u64 = used.values().map(|(_, bytes)| bytes).sum();
        let made: u64 = used.keys().map(|archive| self.made[archive]).sum();
        let live = in_use as f64 / made as f64;
        assert!(live >= LIVE_MIN, "day {day}: {live:.3} of what {} archives were made with", used.len());
        self.least = Some(self.least.map_or(live, |least| least.min(live)));
    }

    /// What was met in all.
    fn end(&self) {
        let (least, met) = (self.least.unwrap_or(1.0), &self.met);
        println!("smallest part in use: {least:.3}; archives less than half of which was: {met:?}");
        // Of the database a twelfth of the pages changes a day: its archives are half empty within nine days. Where none was, nothing was seen of what becomes of them.
        assert!(met.get("db").is_some_and(|met| *met > 1), "{met:?}");
    }
}

#[test]
fn thirty_days_at_one_per_cent_store_and_upload_less_than_restic() {
    let size = if long() {
        Size { files: 10_000, rows: 300_000, days: 30 }
    } else {
        Size { files: 600, rows: 12_000, days: 30 }
    };
    let peer = have(&["restic"]);
    let project = Project::new(COMPONENTS, "");
    make(&project, &size);
    let report = backup(&project, 0);
    let mut uploaded = report["stored_bytes"].as_u64().unwrap();
    let first = uploaded;
    let mut shares = Shares::default();
    shares.look(&project, 0, &report);
    let mut added = 0;
    if peer {
        restic(&project, &["init", "-q"]);
        added = restic_added(&project);
    }
    let first_of_restic = added;
    for day in 1..=size.days {
        change(&project, &size, day);
        let report = backup(&project, day);
        uploaded += report["stored_bytes"].as_u64().unwrap();
        shares.look(&project, day, &report);
        if peer {
            // It reads the file; nobody writes meanwhile, and the log was folded in.
            added += restic_added(&project);
        }
    }
    shares.end();
    let stored = bytes_below(&project.store);
    // What it says that it uploaded is what came to lie there.
    assert!(uploaded + (1 << 20) >= stored, "it says {uploaded}, and {stored} lie there");
    println!(
        "backstay: first {first}, uploaded {uploaded}, stored {stored}; restic: first {first_of_restic}, added {added} before compression"
    );
    let restored = project.restore("latest", &[]);
    assert_same(&restorable(look(&project.dir.join("app"))), &look(&restored.join("app")));
    assert!(rows(&restored.join("db/data.db")) == rows(&project.dir.join("data.db")), "the rows differ");
    if peer {
        let theirs = bytes_below(&project.top.join("restic"));
        println!("restic stores {theirs}");
        assert!(stored <= theirs, "backstay stores {stored}, restic {theirs}");
        assert!(uploaded <= theirs, "backstay uploaded {uploaded}, restic {theirs} at least");
    }
}
