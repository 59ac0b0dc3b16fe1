//! A live application goes back to a snapshot: all of it or nothing, with its services, and what is left stays.

#[path = "rollback/around.rs"]
mod around;
#[path = "rollback/bars.rs"]
mod bars;
#[path = "rollback/compose.rs"]
mod compose;
#[path = "rollback/crash.rs"]
mod crash;
#[path = "rollback/down.rs"]
mod down;
#[path = "rollback/feeding.rs"]
mod feeding;
#[path = "rollback/full_disk.rs"]
mod full_disk;
#[path = "rollback/fuse.rs"]
mod fuse;
#[path = "rollback/health.rs"]
mod health;
#[path = "rollback/hosts.rs"]
mod hosts;
#[path = "rollback/logs.rs"]
mod logs;
#[path = "rollback/meanwhile.rs"]
mod meanwhile;
#[path = "rollback/numbers.rs"]
mod numbers;
#[path = "rollback/offline.rs"]
mod offline;
#[path = "rollback/plan.rs"]
mod plan;
#[path = "rollback/postgres.rs"]
mod postgres;
#[path = "rollback/power.rs"]
mod power;
#[path = "rollback/probes.rs"]
mod probes;
#[path = "rollback/robust.rs"]
mod robust;
#[path = "rollback/signals.rs"]
mod signals;
#[path = "rollback/told.rs"]
mod told;
#[path = "rollback/twice.rs"]
mod twice;
#[path = "rollback/untold.rs"]
pub(crate) mod untold;
#[path = "rollback/writing.rs"]
mod writing;

pub(crate) use robust::hear;

use crate::common::project::{Project, expect_code};
use crate::lab::{Node, tree};
use rusqlite::Connection;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

/// An application: a folder with a database in it, an `.env` that a rollback leaves, a folder of dependencies that no snapshot takes, and a
/// service that is well as long as `app/version` does not say `broken`.
pub(crate) struct App {
    pub(crate) project: Project,
}

const COMPONENTS: &str = r#"
[[component]]
name = "app"
path = "app"
exclude = ["node_modules/"]
leave = [".env"]
[[component]]
name = "settings"
paths = ["compose.yml", "conf"]
[[component]]
name = "db"
sqlite = "app/data/app.db"
"#;

/// Runs as long as its file says so, and writes its number down.
pub(crate) const SERVICE: &str = r#"
[[service]]
name = "web"
stop_within = "20s"
start_within = "20s"
pid_file = "web.pid"
stop = 'kill "$(cat web.pid)"'
start = 'sleep 1000 & echo $! > web.pid'
[service.health]
command = 'grep -q "(sleep) S" "/proc/$(cat web.pid)/stat" && ! grep -q broken app/version'
within = "3s"
interval = "1s"
passes = 1
"#;

/// An application whose second version runs, and the snapshot of its first.
fn upgraded() -> (App, String) {
    let app = App::new(SERVICE);
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    (app, id)
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

impl App {
    pub(crate) fn new(more: &str) -> Self {
        Self::with("", more)
    }

    /// The same with further components.
    pub(crate) fn with(components: &str, more: &str) -> Self {
        let app = Self { project: Project::new(&format!("{COMPONENTS}{components}"), more) };
        app.write("app/version", "1");
        app.write("app/src/main.py", "one");
        app.write("app/src/old.py", "goes with the next version");
        app.write("app/.env", "SECRET=1");
        app.write("app/node_modules/dep/index.js", "dep 1");
        app.write("app/src/node_modules/inner/x.js", "dep 1");
        app.write("compose.yml", "one");
        app.write("conf/a.conf", "one");
        fs::create_dir_all(app.path("app/data")).unwrap();
        app.sql("CREATE TABLE t (x); INSERT INTO t VALUES (1);");
        app
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.project.dir.join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        crate::lab::put(&self.path(path), text.as_bytes());
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub(crate) fn sql(&self, text: &str) {
        let db = Connection::open(self.path("app/data/app.db")).unwrap();
        let _: String = db.query_row("PRAGMA journal_mode=WAL", (), |r| r.get(0)).unwrap();
        db.execute_batch(text).unwrap();
    }

    pub(crate) fn rows(&self) -> i64 {
        let db = Connection::open(self.path("app/data/app.db")).unwrap();
        db.query_row("SELECT count(*) FROM t", (), |r| r.get(0)).unwrap()
    }

    /// The next version: everything changes, also what no snapshot takes.
    pub(crate) fn upgrade(&self, version: &str) {
        self.write("app/version", version);
        self.write("app/src/main.py", "two");
        fs::remove_file(self.path("app/src/old.py")).unwrap();
        self.write("app/src/new.py", "new");
        self.write("app/added/deep/x", "new");
        self.write("app/.env", "SECRET=2");
        self.write("app/node_modules/dep/index.js", "dep 2");
        self.write("app/src/node_modules/inner/x.js", "dep 2");
        self.write("compose.yml", "two");
        self.write("conf/a.conf", "two");
        self.write("conf/b.conf", "two");
        self.sql("INSERT INTO t VALUES (2); INSERT INTO t VALUES (3);");
    }

    /// What is live, without what backstay keeps beside it, what SQLite makes anew, and what a service writes.
    pub(crate) fn live(&self) -> BTreeMap<PathBuf, Node> {
        let mut nodes = tree(&self.project.dir);
        let own = |path: &Path| {
            let text = path.to_string_lossy().into_owned();
            text.starts_with("backups")
                || text.contains(".backstay-rollback-")
                || text.starts_with("app/data/app.db")
                || ["web.pid", "backstay.toml"].contains(&text.as_str())
        };
        nodes.retain(|path, _| !own(path));
        nodes
    }

    pub(crate) fn start_service(&self) -> u32 {
        let status = std::process::Command::new("sh")
            .args(["-c", "sleep 1000 >/dev/null 2>&1 & echo $! > web.pid"])
            .current_dir(&self.project.dir)
            .status();
        assert!(status.unwrap().success());
        self.service()
    }

    pub(crate) fn service(&self) -> u32 {
        self.read("web.pid").trim().parse().unwrap()
    }

    pub(crate) fn runs(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.service())).unwrap_or_default();
        stat.contains("(sleep)") && !stat.contains(") Z")
    }
}

impl Drop for App {
    fn drop(&mut self) {
        crate::common::project::end_service(&self.path("web.pid"), &self.project.dir);
    }
}

/// What was live when the snapshot was made, with what a rollback leaves as it is now.
fn expected(app: &App, then: &BTreeMap<PathBuf, Node>) -> BTreeMap<PathBuf, Node> {
    let left = |path: &Path| {
        let text = path.to_string_lossy().into_owned();
        text == "app/.env" || text.contains("node_modules")
    };
    let mut expected = then.clone();
    expected.retain(|path, _| !left(path));
    expected.extend(app.live().into_iter().filter(|(path, _)| left(path)));
    expected
}

/// Which files and folders those are that a rollback leaves, by their inodes.
fn left(app: &App) -> Vec<(&'static str, u64)> {
    let inner = ["app/node_modules/dep/index.js", "app/src/node_modules", "app/src/node_modules/inner/x.js"];
    let all = ["app/.env", "app/node_modules", "app/node_modules/dep"].into_iter().chain(inner);
    all.map(|path| (path, fs::symlink_metadata(app.path(path)).unwrap().ino())).collect()
}

/// The two states of which one must be live, whatever happened to a rollback, and what neither it nor its way back may touch.
struct Sides {
    then: BTreeMap<PathBuf, Node>,
    before: BTreeMap<PathBuf, Node>,
    left: Vec<(&'static str, u64)>,
}

impl Sides {
    /// `then` was live when the snapshot was made; what is live now was before the rollback.
    fn of(app: &App, then: BTreeMap<PathBuf, Node>) -> Self {
        Self { then, before: app.live(), left: left(app) }
    }
}

#[test]
fn everything_goes_back_but_what_is_left() {
    let app = App::new(SERVICE);
    let (then, id) = (app.live(), app.project.backup());
    app.upgrade("2");
    let first = app.start_service();
    let report = app.project.json(["rollback", &id]);
    assert_eq!(app.live(), expected(&app, &then));
    assert_eq!(app.rows(), 1);
    assert_eq!(app.read("app/.env"), "SECRET=2");
    assert_eq!(app.read("app/node_modules/dep/index.js"), "dep 2");
    assert!(app.runs() && app.service() != first);
    assert_eq!(report["services"], serde_json::json!(["web"]));
    let safety = report["safety"].as_str().unwrap().to_owned();
    let list = app.project.json(["list"]);
    let kinds: Vec<&Value> = list["snapshots"].as_array().unwrap().iter().map(|s| &s["kind"]).collect();
    assert_eq!(kinds, ["normal", "safety"]);
    let restored = app.project.restore(&safety, &[]);
    assert_eq!(fs::read_to_string(restored.join("app/src/main.py")).unwrap(), "two");
    app.project.ok(["ready"]);
}

#[test]
fn taking_it_back_brings_everything_that_was_live_before() {
    let app = App::new(SERVICE);
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    let before = app.live();
    app.project.ok(["rollback", &id]);
    app.sql("INSERT INTO t VALUES (7)");
    app.project.ok(["rollback", "--undo", "--yes"]);
    assert_eq!(app.live(), before);
    assert_eq!(app.rows(), 3);
    assert!(app.runs());
    let output = expect_code(app.project.run(["rollback", "--undo", "--yes"]), 16);
    assert!(String::from_utf8_lossy(&output.stderr).contains("latest-safety"));
}

#[test]
fn a_state_on_which_the_service_is_not_well_is_undone_by_itself() {
    let app = App::new(SERVICE);
    app.write("app/version", "broken");
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    let before = app.live();
    let output = expect_code(app.project.run(["rollback", &id]), 17);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for words in ["everything is as it was before", "service \"web\" is not healthy", "hint:"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(app.live(), before);
    assert_eq!(app.rows(), 3);
    assert!(app.runs());
    app.project.ok(["ready"]);
    app.project.backup();
}

#[test]
fn only_the_components_that_are_named_go_back() {
    let app = App::new(SERVICE);
    let id = app.project.backup();
    app.upgrade("2");
    app.project.ok(["rollback", &id, "--only", "db"]);
    assert_eq!((app.rows(), app.read("app/src/main.py")), (1, "two".into()));
    app.project.ok(["rollback", &id, "--only", "settings"]);
    assert_eq!((app.read("compose.yml"), app.read("app/src/main.py")), ("one".into(), "two".into()));
    assert!(!app.path("conf/b.conf").exists());
}

#[test]
fn a_log_of_the_database_is_never_left_beside_another_database() {
    let app = App::new("");
    let id = app.project.backup();
    // A writer that was killed leaves its log.
    app.sql("INSERT INTO t VALUES (2)");
    let db = Connection::open(app.path("app/data/app.db")).unwrap();
    db.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES (3);").unwrap();
    let wal = fs::read(app.path("app/data/app.db-wal")).unwrap();
    assert!(!wal.is_empty());
    app.project.ok(["rollback", &id, "--only", "db"]);
    assert!(!app.path("app/data/app.db-wal").exists());
    drop(db);
    assert_eq!(app.rows(), 1);
    app.project.ok(["rollback", "--undo", "--yes"]);
    assert_eq!(app.rows(), 3);
}

#[test]
fn a_plan_says_what_is_stopped_exchanged_and_left_and_touches_nothing() {
    let app = App::new(SERVICE);
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    let before = app.live();
    let output = app.project.ok(["rollback", &id, "--dry-run"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for words in ["stop and start web", "stays as it is: .env", "node_modules", "app.db", "safety snapshot"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let plan = app.project.json(["rollback", &id, "--dry-run"]);
    assert_eq!(plan["services"], serde_json::json!(["web"]));
    assert_eq!(app.live(), before);
    let unnamed = expect_code(app.project.run(["rollback"]), 2);
    assert!(String::from_utf8_lossy(&unnamed.stderr).contains("nobody is here to ask"));
}

#[test]
fn a_named_snapshot_is_gone_back_to_at_once_where_there_is_no_terminal() {
    let app = App::new(SERVICE);
    let id = app.project.backup();
    app.upgrade("2");
    expect_code(app.project.run(["rollback"]), 2);
    assert_eq!(app.read("app/version"), "2");
    app.project.ok(["rollback", &id]);
    assert_eq!(app.read("app/version"), "1");
    for page in ["docs/rollback.md", "docs/exit-codes.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let text = fs::read_to_string(path).unwrap();
        assert!(
            text.contains("`a_named_snapshot_is_gone_back_to_at_once_where_there_is_no_terminal`"),
            "{page}"
        );
    }
}

#[test]
fn what_stays_and_is_in_the_way_is_said_before_anything_is_stopped() {
    let app = App::new(SERVICE);
    app.write("app/tool", "a file then");
    let id = app.project.backup();
    fs::remove_file(app.path("app/tool")).unwrap();
    app.write("app/tool/node_modules/x.js", "a folder now");
    let pid = app.start_service();
    let before = app.live();
    let output = expect_code(app.project.run(["rollback", &id]), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is in the way"));
    assert_eq!((app.live(), app.service()), (before, pid));
    assert!(app.runs());
    app.project.ok(["rollback", "--resume"]);
}

#[test]
fn a_service_that_does_not_stop_keeps_everything_as_it_is() {
    let service = SERVICE
        .replace("kill \"$(cat web.pid)\"'\nstart", "true'\nstart")
        .replace("stop_within = \"20s\"", "stop_within = \"1s\"");
    let app = App::new(&service);
    let id = app.project.backup();
    app.upgrade("2");
    let pid = app.start_service();
    let before = app.live();
    let output = expect_code(app.project.run(["rollback", &id]), 17);
    assert!(String::from_utf8_lossy(&output.stderr).contains("still runs"));
    assert_eq!((app.live(), app.service()), (before, pid));
    assert!(app.runs());
}

#[test]
fn what_was_put_away_is_kept_a_week_and_until_a_good_snapshot_came_after() {
    let app = App::new("");
    let id = app.project.backup();
    app.upgrade("2");
    let report = app.project.json(["rollback", &id]);
    let kept: Vec<PathBuf> =
        report["kept"].as_array().unwrap().iter().map(|k| k.as_str().unwrap().into()).collect();
    assert!(!kept.is_empty() && kept.iter().all(|k| k.is_dir()), "{kept:?}");
    let later = |days: i64, args: &[&str]| {
        let mut command = crate::common::project::program(crate::common::project::exe(), &app.project.home);
        let now = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        command.env("BACKSTAY_TEST_NOW", now.to_string());
        expect_code(command.current_dir(&app.project.dir).args(args).output().unwrap(), 0)
    };
    later(6, &["backup"]);
    assert!(kept.iter().all(|k| k.is_dir()));
    later(8, &["list"]);
    assert!(kept.iter().all(|k| k.is_dir()));
    later(9, &["backup"]);
    assert!(kept.iter().all(|k| !k.exists()));
}
