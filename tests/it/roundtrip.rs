//! What was backed up comes back as it was: everything is compared with what an independent look saw before.

mod in_place;

use crate::common::everything::{self, MIB, put, put_sparse, raw, set_mode, set_mtime};
use crate::common::project::{Project, cannot_run, exe, expect_code, have, is_root, noise, program};
use crate::common::trees::{Facts, Tree, assert_same, below, look, restorable};
use backstay::model::path::escape;
use rusqlite::Connection;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

const FOLDER: &str = "[[component]]\nname = \"app\"\npath = \"app\"\n";
/// So small that large files come in parts.
const SMALL_ARCHIVES: &str = "[packing]\narchive_size = \"8MiB\"\n";

/// A project with one folder, `app`, made by `make`.
fn with_app(more: &str, make: impl FnOnce(&Path)) -> (Project, PathBuf) {
    let project = Project::new(FOLDER, more);
    let app = project.dir.join("app");
    make(&app);
    (project, app)
}

#[test]
fn everything_comes_back_as_it_was_and_listings_agree() {
    let (project, app) = with_app(SMALL_ARCHIVES, |app| everything::make(app, everything::BEYOND_PATH_MAX));
    let before = look(&app);
    let id = project.backup();
    assert_same(&before, &look(&app)); // a backup changes nothing, not even of a folder's time
    let restored = project.restore(&id, &[]);
    assert_same(&restorable(before.clone()), &look(&restored.join("app")));
    listing_agrees(&project, &before);
    cat_agrees(&project, &app);
    selected_paths_come_back_alone(&project, &before);
}

/// `ls -r` has a line for every entry, and says of it what the tree says.
fn listing_agrees(project: &Project, tree: &Tree) {
    let listing = project.json(["ls", "latest", "app", "-r"]);
    let rows = listing["entries"].as_array().unwrap();
    let rows: BTreeMap<&str, _> = rows.iter().map(|row| (row["path"].as_str().unwrap(), row)).collect();
    assert_eq!(rows.len(), tree.len());
    for (path, facts) in tree {
        let row = rows[format!("app/{}", escape(path)).as_str()];
        let said = Facts {
            kind: facts.kind,
            mode: u32::from_str_radix(row["mode"].as_str().unwrap(), 8).unwrap(),
            mtime: (row["mtime"][0].as_i64().unwrap(), row["mtime"][1].as_i64().unwrap()),
            size: row["size"].as_u64().unwrap(),
            ..Facts::default()
        };
        let known = Facts {
            kind: facts.kind,
            mode: facts.mode,
            mtime: facts.mtime,
            size: facts.size,
            ..Facts::default()
        };
        assert_eq!(row["type"], facts.kind, "{}", path.escape_ascii());
        assert_eq!(said, known, "{}", path.escape_ascii());
        let target = facts.target.as_deref().map(escape);
        assert_eq!(row["target"].as_str(), target.as_deref());
    }
}

fn cat_agrees(project: &Project, app: &Path) {
    for path in [
        "main.py",
        "empty",
        "zz/three",
        "noise/more-than-a-frame",
        "names/new\nline",
        "names/a = b",
        "sparse/between",
        "sparse/only hole",
    ] {
        let output = project.ok(["cat", "latest", &format!("app/{path}")]);
        assert!(output.stdout == fs::read(app.join(path)).unwrap(), "{path:?} differs");
    }
    for no_file in ["app", "app/order", "app/link", "app/special/fifo"] {
        expect_code(project.run(["cat", "latest", no_file]), 2);
    }
    expect_code(project.run(["cat", "latest", "app/nothing"]), 16);
}

fn selected_paths_come_back_alone(project: &Project, before: &Tree) {
    let wanted: [&[u8]; 4] = [b"order/a", b"zz", b"sparse/many", b"link"];
    let is_or_is_below = |path: &[u8], top: &[u8]| {
        path == top || (path.starts_with(top) && path.get(top.len()) == Some(&b'/'))
    };
    let mut expected = before.clone();
    expected.retain(|path, _| {
        path.is_empty() || wanted.iter().any(|w| is_or_is_below(path, w) || is_or_is_below(w, path))
    });
    for facts in expected.values_mut() {
        facts.names.clear(); // the other names of what is linked were not asked for
    }
    let restored = project.restore("latest", &["app/order/a", "app/zz/", "app/sparse/many", "app/link"]);
    assert_same(&expected, &look(&restored.join("app")));
    let to = project.top.join("not made");
    let to = to.to_str().unwrap();
    expect_code(project.run(["restore", "latest", "app/zz/no", "--to", to]), 16);
    assert!(!Path::new(to).exists());
}

#[test]
fn names_that_are_not_text_can_be_chosen_by_the_folder_they_are_in() {
    let (project, _) = with_app("", |app| {
        put(&raw(app, b"folder/\xff/file"), "x");
        put(&app.join("other"), "y");
    });
    let before = look(&project.dir.join("app"));
    project.backup();
    let restored = project.restore("latest", &["app/folder"]);
    let found = look(&restored.join("app"));
    assert_same(&below(&before, b"folder"), &below(&found, b"folder"));
    assert!(!found.contains_key(&b"other"[..]));
}

#[test]
fn a_file_larger_than_an_archive_comes_back_from_its_parts() {
    let (project, app) = with_app("[packing]\narchive_size = \"1MiB\"\n", |app| {
        put(&app.join("large"), noise(4, 70 << 20));
        fs::hard_link(app.join("large"), app.join("zz")).unwrap();
        let holes: Vec<(u64, usize)> = (0..40).map(|n| (n * MIB, 300_000)).collect();
        put_sparse(&app.join("large and sparse"), 300 * MIB + 1, &holes);
    });
    let report = project.json(["backup"]);
    let objects = project.json(["show"]);
    assert!(objects["details"][0]["archives"].as_u64() > Some(70), "{report:#}");
    let restored = project.restore("latest", &[]);
    assert_same(&look(&app), &look(&restored.join("app")));
}

#[test]
fn what_is_excluded_and_the_store_itself_stay_out() {
    let component = r#"
        [[component]]
        name = "all"
        path = "."
        exclude = ["*.tmp", "!keep.tmp", "venv/", "/top-only", "a/**/z"]
        exclude_from = [".leaveout"]
        exclude_caches = true
        exclude_if_present = [".nobackup"]
    "#;
    let project = Project::new(component, "");
    let top = &project.dir;
    let kept = [
        "keep.tmp",
        "sub/top-only",
        "sub/venv",
        "sub/.leaveout",
        "sub/deep/log",
        "a/b/y",
        "secret",
        "backups-not/file",
    ];
    let out = [
        "x.tmp",
        "sub/x.tmp",
        "venv/bin/python",
        "deep/venv/x",
        "top-only",
        "a/b/c/z",
        "sub/secret",
        "sub/deep/secret",
        "cache/thing",
        "no/thing",
    ];
    for path in kept.iter().chain(&out) {
        put(&top.join(path), path);
    }
    put(&top.join("sub/.leaveout"), "secret\n!log\n");
    put(&top.join("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n");
    put(&top.join("no/.nobackup"), "");
    project.backup();
    project.backup(); // now there is something in the store
    let restored = project.restore("latest", &[]);
    let found = look(&restored.join("all"));
    let files: Vec<String> =
        { found.iter() }.filter(|(_, facts)| facts.kind == "file").map(|(path, _)| escape(path)).collect();
    let mut expected: Vec<String> = kept.iter().map(ToString::to_string).collect();
    expected.extend(["backstay.toml".into()]);
    // Of a folder that says that it need not be kept, what says so is kept.
    expected.extend(["cache/CACHEDIR.TAG".into(), "no/.nobackup".into()]);
    expected.sort();
    let mut files = files;
    files.sort();
    assert_eq!(files, expected);
    assert!(!found.contains_key(&b"backups"[..]), "the store came back");
}

/// A database with committed rows in its log and a writer that has not committed, both as they would be found at work.
struct Live {
    connection: Connection,
}

impl Live {
    fn new(path: &Path, rows: usize) -> Self {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let connection = Connection::open(path).unwrap();
        let begin = "PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0;
            CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT);";
        connection.execute_batch(begin).unwrap();
        let live = Self { connection };
        live.add(rows);
        live.connection
            .execute_batch("BEGIN IMMEDIATE; INSERT INTO rows (body) VALUES ('never committed')")
            .unwrap();
        live
    }

    fn add(&self, rows: usize) {
        let insert = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO rows (body) SELECT 'row ' || i || hex(randomblob(100)) FROM n"
        );
        self.connection.execute_batch(&insert).unwrap();
    }
}

/// Number of rows of a sound database; what is not committed does not count.
fn rows(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    connection.query_row("SELECT count(*) FROM rows", [], |row| row.get(0)).unwrap()
}

const MIXED: &str = r#"
    [[component]]
    name = "app"
    path = "app"
    [[component]]
    name = "db"
    sqlite = "app/data/agent.db"
    [[component]]
    name = "dump"
    command = ["printf", "a dump\\n%s", "of two lines"]
    [[component]]
    name = "one"
    path = "single file"
"#;

#[test]
fn live_databases_dumps_and_single_files_come_back() {
    let project = Project::new(MIXED, "");
    let app = project.dir.join("app");
    let _db = Live::new(&app.join("data/agent.db"), 3000);
    let _other = Live::new(&app.join("deep/in the folder.sqlite"), 500);
    put(&app.join("data/file"), "beside the database");
    put(&project.dir.join("single file"), "alone");
    set_mode(&app.join("data/agent.db"), 0o640);
    set_mode(&project.dir.join("single file"), 0o604);
    set_mtime(&project.dir.join("single file"), 1_234_567_890, 1);
    project.backup();
    let restored = project.restore("latest", &[]);
    assert_eq!(rows(&restored.join("db/agent.db")), 3000);
    assert_eq!(rows(&restored.join("app/deep/in the folder.sqlite")), 500);
    assert_eq!(restored.join("db/agent.db").metadata().unwrap().mode() & 0o7777, 0o640);
    let dump = fs::read_to_string(restored.join("dump/output")).unwrap();
    assert_eq!(dump, "a dump\nof two lines");
    let paths: Vec<String> = { look(&restored).into_keys() }
        .filter(|p| p.starts_with(b"app/") || p.starts_with(b"one/"))
        .map(|p| escape(&p))
        .collect();
    let expected =
        ["app/data", "app/data/file", "app/deep", "app/deep/in the folder.sqlite", "one/single file"];
    assert_eq!(paths, expected);
    let single = look(&restored)[&b"one/single file"[..]].clone();
    assert_eq!((single.mode, single.mtime), (0o604, (1_234_567_890, 1)));
}

#[test]
fn what_a_dump_names_is_captured_after_it_wherever_it_stands_in_the_configuration() {
    // As an application does it that writes a file and then a row that names it, just when it is dumped.
    let component = |name: &str| {
        let script = format!("mkdir -p app/{name} && echo whole > app/{name}/file && echo {name}/file");
        format!("[[component]]\nname = {name:?}\ncommand = [\"sh\", \"-c\", {script:?}]\n")
    };
    let folder = "[[component]]\nname = \"app\"\npath = \"app\"\n";
    let project = Project::new(&format!("{}{folder}{}", component("first"), component("last")), "");
    put(&project.dir.join("app/old"), "old");
    project.backup();
    let restored = project.restore("latest", &[]);
    for dump in ["first", "last"] {
        let named = fs::read_to_string(restored.join(dump).join("output")).unwrap();
        assert_eq!(fs::read_to_string(restored.join("app").join(named.trim())).unwrap(), "whole\n");
    }
}

#[test]
fn listed_paths_come_back_those_from_outside_of_the_project_too() {
    let project = Project::new("", "");
    let outside = project.top.join("outside");
    put(&outside.join("etc/site"), "server {}");
    put(&outside.join("etc/other"), "not listed");
    put(&outside.join("folder/a/b"), "b");
    put(&project.dir.join(".env"), "KEY=value\n");
    put(&project.dir.join("conf/deep/file"), "1");
    put(&project.dir.join("conf/other"), "not listed");
    set_mode(&project.dir.join(".env"), 0o600);
    set_mode(&outside.join("folder"), 0o750);
    set_mtime(&outside.join("folder"), 1_000_000_000, 5);
    set_mtime(&project.dir.join("conf/deep"), 1_000_000_000, 6);
    let (site, folder) = (outside.join("etc/site"), outside.join("folder"));
    let paths = format!(
        "[[component]]\nname = \"settings\"\npaths = [\".env\", \"conf/deep\", {site:?}, {folder:?}]\n"
    );
    project.configure(&paths, "");
    project.backup();
    let restored = project.restore("latest", &[]).join("settings");
    let found = look(&restored);
    let files: Vec<String> =
        { found.iter() }.filter(|(_, f)| f.kind == "file").map(|(p, _)| escape(p)).collect();
    let below_root = |path: &Path| format!("_root{}", path.display());
    let mut expected = vec![
        ".env".to_owned(),
        below_root(&site),
        below_root(&folder.join("a/b")),
        "conf/deep/file".to_owned(),
    ];
    expected.sort();
    assert_eq!(files, expected);
    let whole = look(&project.dir);
    for part in [&b".env"[..], b"conf/deep"] {
        assert_same(&below(&whole, part), &below(&found, part));
    }
    let came = restored.join(below_root(&folder));
    assert_same(&look(&folder), &look(&came));
    assert_same(&look(&site), &look(&restored.join(below_root(&site))));
}

#[test]
fn a_restore_never_goes_over_something() {
    let (project, _) = with_app("", |app| put(&app.join("file"), "1"));
    project.backup();
    let full = project.top.join("full");
    put(&full.join("mine"), "stays");
    let before = look(&full);
    let to = full.to_str().unwrap();
    expect_code(project.run(["restore", "latest", "--to", to]), 2);
    assert_same(&before, &look(&full));
    fs::create_dir(project.top.join("empty")).unwrap();
    let to = project.top.join("empty");
    project.ok(["restore", "latest", "--to", to.to_str().unwrap()]);
    assert_same(&look(&project.dir.join("app")), &look(&to.join("app")));
}

#[test]
fn an_ordinary_users_restore_says_what_owners_it_could_not_give() {
    if !is_root() {
        cannot_run("needs root to make files of other users");
        return;
    }
    let (project, _) = with_app("", |app| {
        put(&app.join("file"), "1");
        std::os::unix::fs::chown(app.join("file"), Some(12345), Some(54321)).unwrap();
    });
    project.backup();
    let to = project.top.join("without");
    project.ok(["restore", "latest", "--no-owners", "--to", to.to_str().unwrap()]);
    let meta = to.join("app/file").metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid()), (0, 0));
}

#[test]
fn a_file_with_several_names_needs_its_room_once() {
    let person = crate::common::person::Person::set_up();
    let dir = person.app.join("backend/app");
    fs::write(dir.join("large-1"), noise(1, 1 << 20)).unwrap();
    for name in ["large-2", "large-3", "large-4"] {
        fs::hard_link(dir.join("large-1"), dir.join(name)).unwrap();
    }
    let id = person.backup();
    let report = person.json(0, ["restore", &id, "backend", "--to", "../back"]);
    let bytes = report["bytes"].as_u64().unwrap();
    assert!((1 << 20..2 << 20).contains(&bytes), "{report:#}");
    let again = person.json(0, ["drill", &id]);
    let backend = again["components"].as_array().unwrap().iter().find(|c| c["name"] == "backend").unwrap();
    assert_eq!(backend["bytes"], bytes, "{again:#}");
}
