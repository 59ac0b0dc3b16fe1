//! Thirty days at one per cent a day: what is stored and what was uploaded in all, beside restic on the same data, and how full archives stay.

use crate::common::project::{Project, exe, expect_code, have, long, noise, program};
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

#[test]
fn thirty_days_at_one_per_cent_store_and_upload_less_than_restic() {
    let size = if long() {
        Size { files: 10_000, rows: 300_000, days: 30 }
    } else {
        Size { files: 1000, rows: 30_000, days: 30 }
    };
    let peer = have(&["restic"]);
    let project = Project::new(COMPONENTS, "");
    make(&project, &size);
    let mut uploaded = backup(&project, 0)["stored_bytes"].as_u64().unwrap();
    let first = uploaded;
    let mut added = 0;
    if peer {
        restic(&project, &["init", "-q"]);
        added = restic_added(&project);
    }
    let first_of_restic = added;
    for day in 1..=size.days {
        change(&project, &size, day);
        uploaded += backup(&project, day)["stored_bytes"].as_u64().unwrap();
        if peer {
            // It reads the file; nobody writes meanwhile, and the log was folded in.
            added += restic_added(&project);
        }
    }
    let stored = bytes_below(&project.store);
    println!(
        "backstay: first {first}, uploaded {uploaded}, stored {stored}; restic: first {first_of_restic}, added {added} before compression"
    );
    let restored = project.restore("latest", &[]);
    assert_eq!(bytes_below(&restored.join("app")), bytes_below(&project.dir.join("app")));
    if peer {
        let theirs = bytes_below(&project.top.join("restic"));
        println!("restic stores {theirs}");
        assert!(stored <= theirs, "backstay stores {stored}, restic {theirs}");
        assert!(uploaded <= theirs, "backstay uploaded {uploaded}, restic {theirs} at least");
    }
}
