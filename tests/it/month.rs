//! Thirty days at one per cent a day: what is stored and what was uploaded in all, beside restic on the same data, and how full archives stay.

use crate::common::long::long;
use crate::common::project::{Project, exe, expect_code, have, noise, program};
use crate::common::trees::{assert_same, look, restorable};
use backstay::archive::open_manifest;
use backstay::catalog::known::Usage;
use backstay::keys::Identities;
use backstay::keys::identity::load_identity_file;
use backstay::model::index::Index;
use backstay::model::manifest::{Map, Segment};
use backstay::model::{ObjectId, Record, document};
use backstay::store::Key;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
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

/// How much of each archive the newest snapshot uses, read from the listings in the store.
struct Shares {
    store: PathBuf,
    identities: Identities,
    /// Bytes of content in each archive when it was made.
    made: BTreeMap<ObjectId, u64>,
    /// Bytes in use at the snapshot before, of archives of which less than two fifths were.
    low: BTreeMap<ObjectId, u64>,
}

impl Shares {
    fn new(project: &Project) -> Self {
        let identities = Identities::from_secrets(load_identity_file(&project.identity()).unwrap());
        let store = project.store.clone();
        Self { store, identities, made: BTreeMap::new(), low: BTreeMap::new() }
    }

    fn manifest(&self, id: &ObjectId) -> Vec<u8> {
        let bytes = fs::read(self.store.join(Key::Manifest(*id).to_string())).unwrap();
        open_manifest(&bytes, &self.identities).unwrap()
    }

    /// What is in use: no byte counted twice.
    fn used(&self, record: &Record) -> BTreeMap<ObjectId, u64> {
        let mut usage = Usage::default();
        let index = Index::decode(&self.manifest(&record.index.unwrap())).unwrap();
        for segment in index.components.iter().flat_map(|c| &c.segments) {
            for entry in Segment::decode(&self.manifest(&segment.object)).unwrap().entries {
                let mut extents = entry.extents.clone();
                for map in &entry.maps {
                    extents.extend(
                        Map::decode(&self.manifest(&map.object), map.offset, entry.size).unwrap().extents,
                    );
                }
                usage.add(&extents);
            }
        }
        usage.bytes()
    }

    /// An archive of which less than half was in use at the snapshot before (two fifths, because headers are counted by estimate) is used less now, or not at
    /// all; and there are never many.
    fn look(&mut self, report: &serde_json::Value) {
        let key = Key::Record(report["snapshot"].as_str().unwrap().parse().unwrap());
        let bytes = fs::read(self.store.join(key.to_string())).unwrap();
        let (line, _) = document::split(&bytes).unwrap();
        let record: Record = document::parse(line, "record").unwrap();
        let used = self.used(&record);
        for (archive, before) in &self.low {
            let now = used.get(archive).copied().unwrap_or(0);
            assert!(
                now < *before,
                "{archive}: of {} bytes {before} were in use, and {now} are now",
                self.made[archive]
            );
        }
        assert!(used.len() <= 2 * 35, "{} archives of two components", used.len());
        for (archive, bytes) in &used {
            self.made.entry(*archive).or_insert(*bytes);
        }
        let low = used.into_iter().filter(|(archive, bytes)| bytes * 5 < self.made[archive] * 2);
        self.low = low.collect();
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
    let mut shares = Shares::new(&project);
    shares.look(&report);
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
        shares.look(&report);
        if peer {
            // It reads the file; nobody writes meanwhile, and the log was folded in.
            added += restic_added(&project);
        }
    }
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
