//! What later snapshots store of content that is known: of renamed, copied, appended, edited and rotated files, of databases, of files with very many extents.

use crate::common::everything::put_sparse;
use crate::lab::{Lab, noise, put, tree};
use backstay::model::{ObjectKind, Record};
use backstay::store::Key;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

const APP: &str = "[[component]]\nname = \"app\"\npath = \"app\"\n";
const LARGE: usize = 5 << 20;

fn files(project: &Path) {
    for n in 0..40 {
        put(&project.join(format!("app/d{}/f{n}", n % 5)), &noise(n, 3000 + n as usize));
    }
    put(&project.join("app/log"), &noise(77, LARGE));
}

fn lab() -> Lab {
    let lab = Lab::new(files, APP);
    lab.backup_settled(&[]);
    lab
}

fn archives(record: &Record) -> BTreeSet<String> {
    let archives = record.objects.iter().filter(|o| o.kind == ObjectKind::Archive);
    archives.map(|o| o.id.to_string()).collect()
}

fn record_of(lab: &Lab, report: &serde_json::Value) -> Record {
    lab.record(report["snapshot"].as_str().unwrap())
}

/// Restores the newest snapshot and compares component `app` with what is live.
#[track_caller]
fn newest_is_live(lab: &Lab) {
    let (ran, found) = lab.restore(&["latest"]);
    ran.expect(0, &[]);
    let found: Vec<_> = found.unwrap().into_iter().filter(|(path, _)| path != Path::new("app")).collect();
    let live: Vec<_> = tree(&lab.path("project/app")).into_iter().collect();
    let live: Vec<_> = live.into_iter().map(|(path, node)| (Path::new("app").join(path), node)).collect();
    assert!(found == live, "the restored tree differs");
}

/// The next snapshot must store at most this many bytes, and restore exactly.
#[track_caller]
fn stores_at_most(lab: &Lab, bytes: u64) -> serde_json::Value {
    let report = lab.backup_settled(&[]);
    let stored = report["stored_bytes"].as_u64().unwrap();
    assert!(stored <= bytes, "{stored} bytes were stored: {report:#}");
    newest_is_live(lab);
    report
}

/// Listings of so few files, and the index.
const LISTINGS: u64 = 12_000;

#[test]
fn renamed_and_duplicate_files_cost_nothing() {
    let lab = lab();
    let app = lab.path("project/app");
    fs::rename(app.join("d1"), app.join("moved")).unwrap();
    fs::copy(app.join("d2/f7"), app.join("copy")).unwrap();
    fs::rename(app.join("log"), app.join("log.old")).unwrap();
    fs::copy(app.join("log.old"), app.join("log.copy")).unwrap();
    let before = archives(&lab.record(&lab_latest(&lab)));
    let report = stores_at_most(&lab, LISTINGS);
    assert_eq!(archives(&record_of(&lab, &report)), before);
    // New content that comes twice is stored once.
    put(&app.join("twice/a"), &noise(901, 400_000));
    put(&app.join("twice/b"), &noise(901, 400_000));
    put(&app.join("twice/c"), &noise(902, 2 << 20));
    put(&app.join("twice/d"), &noise(902, 2 << 20));
    stores_at_most(&lab, 400_000 + (2 << 20) + LISTINGS + 10_000);
    // The first of two equal files goes: what the other one needs stays.
    fs::remove_dir_all(app.join("moved")).unwrap();
    fs::remove_file(app.join("log.old")).unwrap();
    stores_at_most(&lab, LISTINGS);
}

fn lab_latest(lab: &Lab) -> String {
    let ids: BTreeSet<String> = lab
        .keys()
        .iter()
        .filter_map(|k| if let Key::Record(id) = k { Some(id.to_string()) } else { None })
        .collect();
    ids.into_iter().next_back().unwrap()
}

#[test]
fn changed_metadata_and_empty_files_need_no_archive() {
    let lab = lab();
    let app = lab.path("project/app");
    for path in ["d1/f1", "d2/f7", "log"] {
        fs::set_permissions(app.join(path), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::create_dir(app.join("new folder")).unwrap();
    fs::write(app.join("empty"), b"").unwrap();
    std::os::unix::fs::symlink("log", app.join("link")).unwrap();
    let before = archives(&lab.record(&lab_latest(&lab)));
    let report = stores_at_most(&lab, LISTINGS);
    assert_eq!(archives(&record_of(&lab, &report)), before);
}

#[test]
fn of_a_large_file_only_what_changed_is_stored() {
    let lab = lab();
    let log = lab.path("project/app/log");
    let mut content = fs::read(&log).unwrap();
    content.extend(noise(5, 50_000));
    fs::write(&log, &content).unwrap();
    stores_at_most(&lab, 50_000 + (17 << 10) + LISTINGS); // appended
    let file = fs::File::options().write(true).open(&log).unwrap();
    file.write_all_at(b"in place", 3_000_000).unwrap();
    content = fs::read(&log).unwrap();
    stores_at_most(&lab, (17 << 10) + LISTINGS); // in place
    drop(content.splice(1_234_567..1_234_567, noise(6, 333)));
    fs::write(&log, &content).unwrap();
    stores_at_most(&lab, (33 << 10) + LISTINGS); // inserted
    content.truncate(2_000_000);
    fs::write(&log, &content).unwrap();
    stores_at_most(&lab, (17 << 10) + LISTINGS); // cut
}

#[test]
fn a_rotated_log_is_known_under_its_new_name() {
    let lab = lab();
    let app = lab.path("project/app");
    let mut content = fs::read(app.join("log")).unwrap();
    content.extend(noise(8, 10_000));
    // The last lines are written after the snapshot and before it is renamed.
    let file = fs::File::options().append(true).open(app.join("log")).unwrap();
    std::io::Write::write_all(&mut &file, &noise(8, 10_000)).unwrap();
    fs::rename(app.join("log"), app.join("log.1")).unwrap();
    put(&app.join("log"), b"a new one");
    stores_at_most(&lab, 10_000 + (17 << 10) + LISTINGS);
    assert!(fs::read(app.join("log.1")).unwrap() == content);
}

#[test]
fn equal_data_with_other_holes_is_another_content() {
    let lab = Lab::new(
        |project| {
            fs::create_dir(project.join("app")).unwrap();
            put_sparse(&project.join("app/one"), 3 << 20, &[(0, 70_000)]);
            put_sparse(&project.join("app/small"), 900_000, &[(0, 8192)]);
        },
        APP,
    );
    lab.backup_settled(&[]);
    let app = lab.path("project/app");
    let (one, small) = (fs::read(app.join("one")).unwrap(), fs::read(app.join("small")).unwrap());
    // The same bytes and the same sizes, elsewhere in the file.
    let shifted = |name: &str, size: u64, at: u64, bytes: &[u8]| {
        let file = fs::File::create(app.join(name)).unwrap();
        file.set_len(size).unwrap();
        file.write_all_at(bytes, at).unwrap();
    };
    shifted("other", 3 << 20, 1 << 20, &one[..70_000]);
    shifted("other small", 900_000, 400 << 10, &small[..8192]);
    lab.backup_settled(&[]);
    newest_is_live(&lab);
}

#[test]
fn of_a_database_only_changed_pages_are_stored() {
    let component = "[[component]]\nname = \"db\"\nsqlite = \"app.db\"\n";
    let lab = Lab::new(
        |project| {
            let db = rusqlite::Connection::open(project.join("app.db")).unwrap();
            db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
            for n in 0..1500 {
                db.execute("INSERT INTO t (body) VALUES (?1)", [noise(n, 2000)]).unwrap();
            }
        },
        component,
    );
    let first = lab.backup_settled(&[]);
    assert!(first["stored_bytes"].as_u64().unwrap() > 3_000_000);
    let db = lab.path("project/app.db");
    let change = |sql: &str| rusqlite::Connection::open(&db).unwrap().execute_batch(sql).unwrap();
    change("UPDATE t SET body = zeroblob(2000) WHERE id IN (7, 700, 1400)");
    let second = lab.backup_settled(&[]);
    assert!(second["stored_bytes"].as_u64().unwrap() < 10 * 4096 + LISTINGS, "{second:#}");
    let third = lab.backup_settled(&[]);
    assert_eq!(third["objects"], 1, "{third:#}");
    // Its time changes, its content does not.
    change("UPDATE t SET body = body WHERE id = 5; PRAGMA user_version = 0");
    let fourth = lab.backup_settled(&[]);
    assert!(fourth["stored_bytes"].as_u64().unwrap() < 4 * 4096 + LISTINGS, "{fourth:#}");
    let to = lab.path("restored");
    lab.run(&["restore", "latest", "--to", to.to_str().unwrap()]).expect(0, &[]);
    let rows = |path: &Path| -> Vec<(i64, Vec<u8>)> {
        let db = rusqlite::Connection::open(path).unwrap();
        let mut query = db.prepare("SELECT id, body FROM t ORDER BY id").unwrap();
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    assert!(rows(&to.join("db/app.db")) == rows(&db));
}

#[test]
fn a_renamed_database_costs_nothing_and_a_copy_of_one_its_whole_size() {
    let lab = Lab::new(
        |project| {
            fs::create_dir(project.join("app")).unwrap();
            let db = rusqlite::Connection::open(project.join("app/a.db")).unwrap();
            db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
            for n in 0..1500 {
                db.execute("INSERT INTO t (body) VALUES (?1)", [noise(n, 2000)]).unwrap();
            }
        },
        APP,
    );
    lab.backup_settled(&[]);
    let app = lab.path("project/app");
    fs::rename(app.join("a.db"), app.join("b.db")).unwrap();
    stores_at_most(&lab, LISTINGS);
    fs::rename(app.join("b.db"), app.join("c.db")).unwrap();
    let db = rusqlite::Connection::open(app.join("c.db")).unwrap();
    db.execute_batch("UPDATE t SET body = zeroblob(2000) WHERE id IN (7, 700, 1400)").unwrap();
    drop(db);
    stores_at_most(&lab, 10 * 4096 + LISTINGS);
    // It is read through SQLite, once: nobody knows before that it is a copy.
    fs::copy(app.join("c.db"), app.join("d.db")).unwrap();
    let copied = lab.backup_settled(&[]);
    assert!(copied["stored_bytes"].as_u64().unwrap() > 2_500_000, "{copied:#}");
    newest_is_live(&lab);
}

#[test]
fn archives_of_databases_and_of_outputs_are_a_256th_of_them_too() {
    let components = "[[component]]\nname = \"db\"\nsqlite = \"app.db\"\n
        [[component]]\nname = \"dump\"\ncommand = [\"cat\", \"dump.sql\"]\n";
    let lab = Lab::new(
        |project| {
            let db = rusqlite::Connection::open(project.join("app.db")).unwrap();
            db.execute_batch("CREATE TABLE t (body BLOB)").unwrap();
            db.execute("INSERT INTO t (body) VALUES (?1)", [noise(1, 2 << 20)]).unwrap();
            put(&project.join("dump.sql"), &noise(2, 2 << 20));
        },
        components,
    );
    // 8 KiB, then, where one may be so small.
    let ran = lab.run_with(&["--json", "backup"], &[("BACKSTAY_TEST_ARCHIVE_MIN", "1024")]);
    let report: serde_json::Value = serde_json::from_slice(&ran.expect(0, &[]).out).unwrap();
    let count = archives(&record_of(&lab, &report)).len();
    assert!((2 * 200..2 * 300).contains(&count), "{count} archives of two components");
    lab.run(&["verify", "--decrypt"]).expect(0, &[]);
}

#[test]
fn the_output_of_a_command_is_compared_with_the_last_one() {
    let component = "[[component]]\nname = \"dump\"\ncommand = [\"cat\", \"dump.sql\"]\n";
    let lab = Lab::new(|project| put(&project.join("dump.sql"), &noise(3, LARGE)), component);
    lab.backup_settled(&[]);
    let same = lab.backup_settled(&[]);
    assert!(same["stored_bytes"].as_u64().unwrap() < LISTINGS, "{same:#}");
    let dump = lab.path("project/dump.sql");
    let mut content = fs::read(&dump).unwrap();
    drop(content.splice(70_000..70_000, *b"INSERT INTO t VALUES (1);\n"));
    fs::write(&dump, &content).unwrap();
    let changed = lab.backup_settled(&[]);
    assert!(changed["stored_bytes"].as_u64().unwrap() < (33 << 10) + LISTINGS, "{changed:#}");
    let output = lab.run(&["cat", "latest", "dump/output"]);
    assert!(output.code == 0 && output.out == content);
}

#[test]
fn maps_of_ranges_without_a_change_stay() {
    const RANGE: u64 = 256 << 20;
    // Stretches with holes between them: each is an extent.
    let stretches: Vec<(u64, usize)> = (0..600)
        .map(|n| (n % 2 * RANGE + n / 2 * (64 << 10), 4096))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let lab = Lab::new(
        |project| {
            fs::create_dir(project.join("app")).unwrap();
            put_sparse(&project.join("app/image"), 2 * RANGE, &stretches);
        },
        APP,
    );
    let first = record_of(&lab, &lab.backup_settled(&[]));
    let manifests = |record: &Record| -> BTreeSet<String> {
        let of =
            |o: &&backstay::model::ObjectRef| o.kind == ObjectKind::Manifest && Some(o.id) != record.index;
        record.objects.iter().filter(of).map(|o| o.id.to_string()).collect()
    };
    assert_eq!(manifests(&first).len(), 3, "a segment and two maps");
    let file = fs::File::options().write(true).open(lab.path("project/app/image")).unwrap();
    file.write_all_at(b"changed", RANGE + (64 << 10)).unwrap();
    let second = record_of(&lab, &lab.backup_settled(&[]));
    let stayed = manifests(&first).intersection(&manifests(&second)).count();
    assert_eq!((manifests(&second).len(), stayed), (3, 1), "the map of the first range stays");
    lab.run(&["restore", "latest", "--to", lab.path("out").to_str().unwrap()]).expect(0, &[]);
    let live = fs::File::open(lab.path("project/app/image")).unwrap();
    let back = fs::File::open(lab.path("out/app/image")).unwrap();
    for (at, length) in stretches {
        let (mut one, mut two) = (vec![0; length], vec![0; length]);
        live.read_exact_at(&mut one, at).unwrap();
        back.read_exact_at(&mut two, at).unwrap();
        assert!(one == two, "at {at}");
    }
}
