//! Databases are files, too: what holds of files beside their content holds of them.

use crate::common::project::{Project, cannot_run, exe, expect_code, have, program};
use crate::common::trees::look;
use rusqlite::Connection;
use rustix::fs::XattrFlags;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const COMPONENTS: &str = r#"
    [[component]]
    name = "app"
    path = "app"
    [[component]]
    name = "db"
    sqlite = "own.db"
    [[component]]
    name = "single"
    path = "single.db"
"#;
/// Where the databases lie in the project, and in a restored folder.
const DATABASES: [(&str, &str); 3] =
    [("app/data/agent.db", "app/data/agent.db"), ("own.db", "db/own.db"), ("single.db", "single/single.db")];

fn write_rows(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let db = Connection::open(path).unwrap();
    db.execute_batch("CREATE TABLE IF NOT EXISTS t (x); INSERT INTO t VALUES (1)").unwrap();
}

/// A project with three databases that have a note, and an access control list where that can be had. Nothing when there are no attributes here.
fn noted() -> Option<Project> {
    let project = Project::new(COMPONENTS, "");
    let acl = have(&["setfacl"]);
    for (path, _) in DATABASES {
        let path = project.dir.join(path);
        write_rows(&path);
        if !note(&path, "one") {
            cannot_run("no extended attributes on this file system");
            return None;
        }
        if acl && !Command::new("setfacl").arg("-mu:12345:r").arg(&path).status().unwrap().success() {
            cannot_run("access control lists cannot be set on this file system");
        }
    }
    Some(project)
}

fn note(path: &Path, text: &str) -> bool {
    rustix::fs::lsetxattr(path, "user.note", text.as_bytes(), XattrFlags::empty()).is_ok()
}

type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

fn attributes(path: &Path) -> Attributes {
    look(path.parent().unwrap())[path.file_name().unwrap().as_encoded_bytes()].xattrs.clone()
}

fn all(top: &Path, paths: impl Iterator<Item = &'static str>) -> Vec<Attributes> {
    paths.map(|path| attributes(&top.join(path))).collect()
}

fn live(project: &Project) -> Vec<Attributes> {
    all(&project.dir, DATABASES.iter().map(|(live, _)| *live))
}

fn restored(project: &Project, id: &str) -> Vec<Attributes> {
    all(&project.restore(id, &[]), DATABASES.iter().map(|(_, restored)| *restored))
}

/// Makes a snapshot while files count as settled at once.
fn settled(project: &Project) -> Value {
    let mut command = program(exe(), &project.home);
    command.current_dir(&project.dir).env("BACKSTAY_TEST_SETTLE_MS", "0").args(["backup", "--json"]);
    serde_json::from_slice(&expect_code(command.output().unwrap(), 0).stdout).unwrap()
}

#[test]
fn attributes_of_databases_come_back_as_those_of_other_files() {
    let Some(project) = noted() else { return };
    let before = live(&project);
    assert!(before.iter().all(|found| found[&b"user.note"[..]] == b"one"));
    let id = project.backup();
    assert_eq!(restored(&project, &id), before);
    let report = project.json(["diff", &id]);
    assert_eq!(report["changes"], serde_json::json!([]), "{report:#}");

    for (path, _) in DATABASES {
        assert!(note(&project.dir.join(path), "two"));
        write_rows(&project.dir.join(path));
    }
    project.ok(["restore", &id, "app", "--in-place", "--yes"]);
    assert_eq!(attributes(&project.dir.join("app/data/agent.db")), before[0]);
    project.ok(["rollback", &id]);
    assert_eq!(live(&project), before);
}

#[test]
fn an_attribute_alone_makes_a_database_changed_and_an_unchanged_one_keeps_its_own() {
    let Some(project) = noted() else { return };
    let before = live(&project);
    settled(&project);
    let second = settled(&project);
    assert_eq!(second["objects"], 1, "only an index: {second:#}");
    assert_eq!(restored(&project, "latest"), before);
    for (path, _) in DATABASES {
        assert!(note(&project.dir.join(path), "two"));
    }
    settled(&project);
    let after = restored(&project, "latest");
    assert_eq!(after, live(&project));
    assert!(after.iter().all(|found| found[&b"user.note"[..]] == b"two"));
}

#[test]
fn a_database_that_sqlite_does_not_give_may_be_allowed_like_other_unreadable_files() {
    let folder = "[[component]]\nname = \"app\"\npath = \"app\"\n";
    let project = Project::new(folder, "");
    fs::create_dir_all(project.dir.join("app/data")).unwrap();
    fs::write(project.dir.join("app/main.py"), "x").unwrap();
    // Without tables.
    Connection::open(project.dir.join("app/data/empty.db"))
        .unwrap()
        .execute_batch("PRAGMA user_version = 1")
        .unwrap();
    // Pages that are none.
    write_rows(&project.dir.join("app/data/torn.db"));
    let mut bytes = fs::read(project.dir.join("app/data/torn.db")).unwrap();
    bytes[100..].fill(0xff);
    fs::write(project.dir.join("app/data/torn.db"), &bytes).unwrap();
    let backup = |code: i32| -> Value {
        serde_json::from_slice(&expect_code(project.run(["backup", "--json"]), code).stdout).unwrap()
    };
    let kinds = |report: &Value| -> Vec<String> {
        let problems = report["problems"].as_array().unwrap();
        problems.iter().map(|problem| problem["kind"].as_str().unwrap().to_owned()).collect()
    };
    let report = backup(3);
    assert_eq!(kinds(&report), ["unreadable", "unreadable"], "{report:#}");
    assert_eq!(report["complete"], false);

    project.configure(&format!("{folder}allow_unreadable = [\"empty.db\", \"data/torn.db\"]\n"), "");
    let report = backup(0);
    assert_eq!(kinds(&report), ["warning", "warning"], "{report:#}");
    assert_eq!((&report["complete"], &report["good"]), (&true.into(), &true.into()), "{report:#}");
    let listing = project.json(["ls", "latest", "app", "-r"]);
    let entries = listing["entries"].as_array().unwrap();
    for name in ["app/data/empty.db", "app/data/torn.db"] {
        let entry = entries.iter().find(|entry| entry["path"] == name).unwrap();
        assert_eq!(entry["flags"], serde_json::json!(["crash_consistent"]), "{entry:#}");
    }
    let back = project.restore("latest", &[]);
    assert!(fs::read(back.join("app/data/torn.db")).unwrap() == bytes);
    project.ok(["guard", "--", "true"]);
}

/// The log of the live one would be replayed over it, whatever the snapshot calls it.
#[test]
fn a_restore_in_place_leaves_no_log_beside_a_database_that_was_kept_as_bytes() {
    let folder = "[[component]]\nname = \"app\"\npath = \"app\"\nallow_unreadable = [\"*.db\"]\n";
    let project = Project::new(folder, "");
    fs::create_dir_all(project.dir.join("app")).unwrap();
    let path = project.dir.join("app/small.db");
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 1").unwrap();
    let then = fs::read(&path).unwrap();
    project.ok(["backup"]);

    // Another in its place, whose rows are all in its log: as it is while a service has it open.
    let open = Connection::open(project.dir.join("other.db")).unwrap();
    open.execute_batch(
        "PRAGMA user_version = 2; PRAGMA journal_mode = WAL; CREATE TABLE t (n); INSERT INTO t VALUES (7)",
    )
    .unwrap();
    for suffix in ["", "-wal"] {
        fs::copy(
            project.dir.join(format!("other.db{suffix}")),
            project.dir.join(format!("app/small.db{suffix}")),
        )
        .unwrap();
    }
    drop(open);
    project.ok(["restore", "latest", "app/small.db", "--in-place", "--yes"]);
    assert!(fs::read(&path).unwrap() == then);
    assert!(!project.dir.join("app/small.db-wal").exists(), "the log of the other one");
    let version: i64 =
        Connection::open(&path).unwrap().query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap();
    assert_eq!(version, 1);
    for kept in ["small.db.before-restore-", "small.db-wal.before-restore-"] {
        let names = fs::read_dir(project.dir.join("app")).unwrap().map(|e| e.unwrap().file_name());
        assert_eq!(
            names.filter(|name| name.to_string_lossy().starts_with(kept)).count(),
            1,
            "{kept} is kept"
        );
    }
}
