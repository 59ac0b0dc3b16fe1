use super::{changes, json};
use crate::lab::{Lab, noise, put, set_mode};
use backstay::model::ObjectKind;
use backstay::store::Key;
use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

const APP: &str = "[[component]]\nname = \"app\"\npath = \"app\"\nexclude = [\"cache/\", \"*.log\"]\n";

fn files(project: &Path) {
    for n in 0..20 {
        put(&project.join(format!("app/d{}/f{n:02}", n % 3)), &noise(n, 2000 + n as usize));
    }
    put(&project.join("app/empty"), b"");
    put(&project.join("app/cache/left-out"), b"x");
    symlink("d1/f01", project.join("app/link")).unwrap();
}

fn lab() -> Lab {
    Lab::new(files, APP)
}

/// One of each kind of difference.
fn change(app: &Path) {
    put(&app.join("d0/added"), b"new");
    fs::remove_file(app.join("d1/f04")).unwrap();
    put(&app.join("d2/f05"), b"changed");
    set_mode(&app.join("d0/f06"), 0o600);
    fs::remove_file(app.join("d1/f07")).unwrap();
    fs::create_dir(app.join("d1/f07")).unwrap();
    fs::rename(app.join("d2/f08"), app.join("d0/f08-moved")).unwrap();
    fs::remove_file(app.join("link")).unwrap();
    symlink("d2", app.join("link")).unwrap();
    put(&app.join("debug.log"), b"left out");
}

const EXPECTED: [&str; 7] = [
    "added app/d0/added",
    "metadata app/d0/f06",
    "renamed app/d2/f08 > app/d0/f08-moved",
    "removed app/d1/f04",
    "type app/d1/f07",
    "changed app/d2/f05",
    "changed app/link",
];

fn one<'r>(report: &'r Value, path: &str) -> &'r Value {
    report["changes"].as_array().unwrap().iter().find(|c| c["path"] == path).unwrap()
}

#[track_caller]
fn check_all(report: &Value) {
    assert_eq!(changes(report), EXPECTED, "{report:#}");
    let changed = one(report, "app/d2/f05");
    assert_eq!((changed["size_before"].as_u64(), changed["size_after"].as_u64()), (Some(2005), Some(7)));
    assert!(changed["what"].as_array().unwrap().contains(&"content".into()), "{changed}");
    assert_eq!(one(report, "app/d0/f06")["what"], serde_json::json!(["mode"]));
    assert_eq!(one(report, "app/link")["what"].as_array().unwrap()[0], "target");
    let retyped = one(report, "app/d1/f07");
    assert_eq!((&retyped["was"], &retyped["type"]), (&"file".into(), &"dir".into()));
    let sums = &report["summary"];
    let sum = |name: &str| sums[name].as_u64().unwrap();
    assert_eq!([sum("added"), sum("removed"), sum("changed"), sum("metadata")], [1, 1, 2, 1]);
    assert_eq!([sum("retyped"), sum("renamed"), sum("bytes_added"), sum("bytes_removed")], [1, 1, 3, 2004]);
}

#[test]
fn two_snapshots_differ_in_what_was_changed_and_nothing_else() {
    let lab = lab();
    let first = lab.backup();
    change(&lab.path("project/app"));
    let second = lab.backup();
    check_all(&json(&lab, &["diff", &first, &second], 0));
    assert!(changes(&json(&lab, &["diff", &second, "latest"], 0)).is_empty());
    let back = json(&lab, &["diff", &second, &first], 0);
    assert!(changes(&back).contains(&"renamed app/d0/f08-moved > app/d2/f08".to_owned()), "{back:#}");
    let text = lab.run(&["diff", &first, &second]);
    text.expect(
        0,
        &["+ app/d0/added  3 B", "R app/d2/f08 -> app/d0/f08-moved", "M app/d2/f05  2.0 kB -> 7 B"],
    );
    text.expect(0, &["T app/d1/f07  file -> folder", "1 added (3 B), 1 removed (2.0 kB), 2 changed"]);
}

#[test]
fn a_snapshot_and_the_live_tree_are_compared_by_the_rules_of_a_backup() {
    let lab = lab();
    lab.backup_settled(&[]);
    assert!(changes(&json(&lab, &["diff", "latest"], 0)).is_empty());
    change(&lab.path("project/app"));
    // With what is remembered of the files, and without.
    check_all(&json(&lab, &["diff", "latest"], 0));
    check_all(&json(&lab, &["diff", "latest", "--read-data"], 0));
    fs::remove_file(lab.state().join("catalog.db")).unwrap();
    check_all(&json(&lab, &["diff", "latest"], 0));
}

#[test]
fn a_change_that_times_hide_is_found_in_the_live_tree() {
    let lab = lab();
    lab.backup();
    let path = lab.path("project/app/d0/f06");
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, noise(999, 2006)).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    assert_eq!(changes(&json(&lab, &["diff", "latest"], 0)), ["changed app/d0/f06"]);
}

#[test]
fn holes_are_no_difference_to_zeros_and_the_same_bytes_elsewhere_are_one() {
    let sparse = |path: &Path, at: u64| {
        let file = fs::File::create(path).unwrap();
        file.set_len(8 << 20).unwrap();
        file.write_all_at(&noise(1, 100_000), at).unwrap();
    };
    let lab = Lab::new(
        |project| {
            put(&project.join("app/x"), b"x");
            sparse(&project.join("app/sparse"), 1 << 20);
            sparse(&project.join("app/moved"), 1 << 20);
        },
        APP,
    );
    let first = lab.backup();
    let app = lab.path("project/app");
    let whole = fs::read(app.join("sparse")).unwrap();
    fs::write(app.join("sparse"), whole).unwrap();
    fs::remove_file(app.join("moved")).unwrap();
    sparse(&app.join("moved"), 4 << 20);
    let live = json(&lab, &["diff", &first], 0);
    assert_eq!(changes(&live), ["changed app/moved", "metadata app/sparse"], "{live:#}");
    lab.backup();
    let stored = json(&lab, &["diff", &first, "latest"], 0);
    assert!(changes(&stored).contains(&"changed app/moved".to_owned()), "{stored:#}");
}

#[test]
fn listings_that_both_snapshots_have_are_not_read() {
    let many = |project: &Path| {
        for n in 0..9000 {
            put(&project.join(format!("app/d{:02}/f{n}", n % 90)), format!("{n}").as_bytes());
        }
    };
    let lab = Lab::new(many, APP);
    let first = lab.backup_settled(&[])["snapshot"].as_str().unwrap().to_owned();
    put(&lab.path("project/app/d00/f0"), b"changed");
    let second = lab.backup_settled(&[])["snapshot"].as_str().unwrap().to_owned();
    let (one, two) = (lab.record(&first), lab.record(&second));
    let shared = one.objects.iter().filter(|o| o.kind == ObjectKind::Manifest && two.object(&o.id).is_some());
    let shared: Vec<_> = shared.map(|o| lab.object(&Key::Manifest(o.id))).collect();
    assert!(shared.len() >= 2, "only {} listings are shared", shared.len());
    shared.iter().for_each(|path| fs::remove_file(path).unwrap());
    assert_eq!(changes(&json(&lab, &["diff", &first, &second], 0)), ["changed app/d00/f0"]);
    json(&lab, &["diff", &first], 13);
}

/// How many of the pages of two database files differ.
fn pages_between(one: &[u8], other: &[u8]) -> usize {
    let (one, other): (Vec<_>, Vec<_>) = (one.chunks(4096).collect(), other.chunks(4096).collect());
    let length = one.len().max(other.len());
    (0..length).filter(|n| one.get(*n) != other.get(*n)).count()
}

#[test]
fn of_databases_the_changed_pages_are_counted() {
    let make = |project: &Path| {
        fs::create_dir(project.join("data")).unwrap();
        let db = Connection::open(project.join("data/app.db")).unwrap();
        db.execute_batch(
            "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; CREATE TABLE t(n INTEGER PRIMARY KEY, x TEXT);",
        )
        .unwrap();
        for n in 0..4000 {
            db.execute("INSERT INTO t VALUES (?1, ?2)", (n, format!("row {n} {}", "x".repeat(200)))).unwrap();
        }
    };
    let lab = Lab::new(make, "[[component]]\nname = \"db\"\nsqlite = \"data/app.db\"\n");
    let first = lab.backup();
    let db = Connection::open(lab.path("project/data/app.db")).unwrap();
    db.execute_batch("UPDATE t SET x = 'other' WHERE n IN (10, 2000, 3900)").unwrap();
    let second = lab.backup();
    let bytes = |id: &str| {
        let ran = lab.run(&["cat", id, "db"]);
        ran.expect(0, &[]);
        ran.out
    };
    let expected = pages_between(&bytes(&first), &bytes(&second));
    assert!((3..10).contains(&expected), "{expected} pages differ");
    for args in [&["diff", &first, &second][..], &["diff", &first]] {
        let report = json(&lab, args, 0);
        let pages = &report["changes"][0]["pages"];
        assert_eq!(changes(&report), ["changed db/app.db"]);
        assert_eq!(pages["changed"].as_u64(), Some(expected as u64), "{report:#}");
        assert_eq!((pages["size"].as_u64(), &pages["exact"]), (Some(4096), &true.into()));
    }
    lab.run(&["diff", &first]).expect(0, &[&format!("{expected} of ")]);
    // What is only in the log of the live database counts like the rest of it.
    db.execute_batch("UPDATE t SET x = 'again' WHERE n = 77").unwrap();
    assert_eq!(changes(&json(&lab, &["diff", "latest"], 0)), ["changed db/app.db"]);
}

#[test]
fn a_path_narrows_both_sides() {
    let lab = lab();
    let first = lab.backup();
    change(&lab.path("project/app"));
    let second = lab.backup();
    let found = |args: &[&str]| changes(&json(&lab, args, 0));
    assert_eq!(
        found(&["diff", &first, &second, "app/d2"]),
        ["removed app/d2/f08", "changed app/d2/f05"].map(String::from).into_iter().rev().collect::<Vec<_>>()
    );
    assert_eq!(found(&["diff", &first, "app/d2/f05"]), ["changed app/d2/f05"]);
    assert_eq!(found(&["diff", &first, "./app/d2/f05"]), ["changed app/d2/f05"]);
    assert_eq!(found(&["diff", &first, "app"]).len(), EXPECTED.len());
    lab.run(&["diff", &first, "app/nothing"]).expect(16, &["there is no app/nothing on either side"]);
    lab.run(&["diff", &first, "nothing/x"]).expect(2, &[]);
    // What both share and nothing changed in is there, all the same.
    let third = lab.backup();
    for path in ["app", "app/d2", "app/d2/f05"] {
        lab.run(&["diff", &second, &third, path]).expect(0, &["no difference"]);
    }
    lab.run(&["diff", &second, &third, "app/nothing"])
        .expect(16, &["there is no app/nothing on either side"]);
}

#[test]
fn a_component_of_one_side_only_is_named_and_not_listed_as_gone() {
    let two = format!("{APP}[[component]]\nname = \"other\"\npath = \"other\"\n");
    let files = |project: &Path| {
        files(project);
        put(&project.join("other/x"), b"x");
    };
    let lab = Lab::new(files, &two);
    let first = lab.backup();
    lab.run(&["backup", "--only", "app"]).expect(0, &[]);
    let report = json(&lab, &["diff", &first, "latest"], 0);
    assert_eq!((&report["only_in_from"], changes(&report).len()), (&serde_json::json!(["other"]), 0));
    let report = json(&lab, &["diff", &first, "latest", "other"], 0);
    assert_eq!(report["only_in_from"], serde_json::json!(["other"]));
    lab.run(&["diff", "latest"]).expect(0, &["component other is on the newer side only", "no difference"]);
}

#[test]
fn what_cannot_be_compared_is_said() {
    let command = "[[component]]\nname = \"dump\"\ncommand = [\"echo\", \"a\"]\n";
    let lab = Lab::new(files, &format!("{APP}{command}"));
    lab.backup();
    lab.run(&["diff", "latest"]).expect(0, &["component dump was not compared", "a comparison runs none"]);
    fs::rename(lab.path("project/app"), lab.path("project/elsewhere")).unwrap();
    lab.run(&["diff", "latest"]).expect(3, &["component app was not compared", "does not exist"]);
    lab.run(&["diff", "latest", "app"]).expect(3, &["component app was not compared", "does not exist"]);
    lab.run(&["diff", "latest", "dump"]).expect(0, &["component dump was not compared"]);
    lab.run_kit(&["diff", "latest"]).expect(2, &["a kit names no live tree"]);
    lab.run_kit(&["diff", "latest", "latest"]).expect(0, &["no difference"]);
}
