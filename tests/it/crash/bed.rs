//! A small application in a home of its own, which can be put back to a saved state as often as needed.

use crate::common::long::{in_time, long};
use crate::common::trees::copy;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(super) const KILL_AT: &str = "BACKSTAY_TEST_CRASH";
pub(super) const FAIL_AT: &str = "BACKSTAY_TEST_FAIL";
pub(super) const SIGNAL_AT: &str = "BACKSTAY_TEST_SIGNAL";
pub(super) const COUNT: &str = "BACKSTAY_TEST_CRASH_COUNT_FILE";
pub(super) const SIGKILL: i32 = 9;

/// Everything below one folder: `app` (the application), `home`, and what tests put beside them.
pub(super) struct Bed {
    /// Removed at the end; none when the folder is the caller's.
    _top: Option<tempfile::TempDir>,
    pub(super) live: PathBuf,
    saved: PathBuf,
}

/// A path of what lies below a folder, and what it is: content of files, targets of links.
pub(super) type Tree = BTreeMap<PathBuf, Node>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Dir(u32),
    File(u32, i64, Vec<u8>),
    Link(PathBuf),
}

impl Bed {
    /// An empty bed; in memory where that can be had, because a kill asks nothing of a disk.
    pub(super) fn new() -> Self {
        let top = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let top = top.unwrap();
        let bed = Self::at(top.path());
        Self { _top: Some(top), ..bed }
    }

    /// An empty bed in a folder of the caller's.
    pub(super) fn at(top: &Path) -> Self {
        let bed = Self { _top: None, live: top.join("live"), saved: top.join("saved") };
        std::fs::create_dir_all(bed.live.join("home")).unwrap();
        bed
    }

    /// A bed with the application, set up, and with one snapshot of it.
    pub(super) fn with_snapshot() -> Self {
        let bed = Self::new();
        bed.make_app();
        bed.set_up();
        assert_code(&bed.run(&["backup"]), 0);
        bed
    }

    pub(super) fn app(&self) -> PathBuf {
        self.live.join("app")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.app().join("backups")
    }

    pub(super) fn database(&self) -> PathBuf {
        self.app().join("backend/data/agent.db")
    }

    /// Two folders, one with a file that is laid over several archives, and a database in WAL mode.
    pub(super) fn make_app(&self) {
        let app = self.app();
        std::fs::create_dir_all(app.join("backend/data")).unwrap();
        std::fs::create_dir_all(app.join("backend/steps")).unwrap();
        std::fs::create_dir_all(app.join("frontend/app")).unwrap();
        let write = |path: &str, text: &[u8]| std::fs::write(app.join(path), text).unwrap();
        write("backend/main.py", b"VERSION = 1\n");
        write("backend/requirements.txt", b"fastapi==0.115\n");
        write("backend/model.bin", &noise(2_500_000, 1));
        for n in 0..3 {
            write(&format!("backend/steps/step_{n}.py"), format!("x = {n}\n").as_bytes());
        }
        write("frontend/package.json", b"{\"name\": \"app\"}\n");
        write("frontend/app/page.tsx", b"export default 1\n");
        std::os::unix::fs::symlink("main.py", app.join("backend/current")).unwrap();
        let main = app.join("backend/main.py");
        std::fs::set_permissions(main, std::fs::Permissions::from_mode(0o755)).unwrap();
        self.write_rows(1);
    }

    /// Adds rows of one version to the database.
    pub(super) fn write_rows(&self, version: i64) {
        let db = rusqlite::Connection::open(self.database()).unwrap();
        db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t (v INTEGER);").unwrap();
        for _ in 0..10 {
            db.execute("INSERT INTO t VALUES (?1)", [version]).unwrap();
        }
    }

    /// A new version of the application.
    pub(super) fn change(&self) {
        let app = self.app();
        std::fs::write(app.join("backend/main.py"), b"VERSION = 2\n").unwrap();
        std::fs::write(app.join("backend/model.bin"), noise(2_500_000, 2)).unwrap();
        std::fs::remove_file(app.join("backend/steps/step_1.py")).unwrap();
        self.write_rows(2);
    }

    /// Keys, configuration, store; archives small enough that there are several.
    pub(super) fn set_up(&self) {
        assert_code(&self.run(&["init", "--yes"]), 0);
        let path = self.app().join("backstay.toml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("\n[packing]\narchive_size = \"1MiB\"\n");
        std::fs::write(&path, text).unwrap();
    }

    /// The program in the application's folder, in an environment of its own.
    pub(super) fn command(&self, args: &[&str], orders: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command
            .args(args)
            .current_dir(self.app())
            .env_clear()
            .env("HOME", self.live.join("home"))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TZ", "UTC")
            .envs(orders.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, &[])
    }

    pub(super) fn run_with(&self, args: &[&str], orders: &[(&str, &str)]) -> Output {
        let output = self.command(args, orders).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(!words.contains("panicked"), "{args:?} {orders:?}: {words}");
        output
    }

    /// Runs the command with an order to die at `point`. False when it passed fewer points and ended well.
    pub(super) fn killed_at(&self, args: &[&str], point: usize) -> bool {
        let output = self.run_with(args, &[(KILL_AT, &point.to_string())]);
        if output.status.signal() == Some(SIGKILL) {
            return true;
        }
        assert_code(&output, 0);
        false
    }

    /// The names of the points that a command passes, in order. The bed is back in its saved state afterwards.
    pub(super) fn points(&self, args: &[&str]) -> Vec<String> {
        self.reset();
        let log = self.live.with_file_name("points.log");
        let _ = std::fs::remove_file(&log);
        let output = self.run_with(args, &[(COUNT, log.to_str().unwrap())]);
        assert_code(&output, 0);
        let text = std::fs::read_to_string(&log).unwrap();
        let mut points: Vec<(usize, String)> = text
            .lines()
            .map(|line| {
                let (number, name) = line.split_once(' ').unwrap();
                (number.parse().unwrap(), name.to_owned())
            })
            .collect();
        points.sort();
        self.reset();
        points.into_iter().map(|(_, name)| name).collect()
    }

    /// Keeps the present state for [`Bed::reset`].
    pub(super) fn save(&self) {
        copy(&self.live, &self.saved);
    }

    /// Puts everything back to the saved state.
    pub(super) fn reset(&self) {
        let _ = std::fs::remove_dir_all(&self.live);
        copy(&self.saved, &self.live);
    }

    /// The file `path` of the saved state.
    pub(super) fn saved(&self, path: &Path) -> PathBuf {
        self.saved.join(path.strip_prefix(&self.live).unwrap())
    }

    /// Snapshots that `list` shows: id and whether it is good. It must succeed and find nothing wrong.
    pub(super) fn list(&self, what: &str) -> BTreeMap<String, bool> {
        let output = self.run(&["list", "--json"]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{what}: list: {words}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        for empty in ["history", "damaged"] {
            assert_eq!(report[empty], serde_json::json!([]), "{what}: {empty}");
        }
        let rows = report["snapshots"].as_array().unwrap();
        rows.iter()
            .filter(|row| row["void"].is_null())
            .map(|row| {
                let id = row["id"].as_str().unwrap().to_owned();
                (id, row["good"].as_bool().unwrap())
            })
            .collect()
    }

    /// How many records lie in the store. Nothing is run to find out, so that nothing is mended.
    pub(super) fn records(&self) -> usize {
        std::fs::read_dir(self.store().join("snapshots")).unwrap().count()
    }

    /// Restores snapshot `id` and compares it with `expected`, as [`Bed::expected`] gave it.
    pub(super) fn assert_restores(&self, id: &str, expected: &Expected, what: &str) {
        let to = self.live.join(format!("restored-{id}"));
        let _ = std::fs::remove_dir_all(&to);
        let output = self.run(&["restore", id, "--to", to.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{what}: {output:?}");
        expected.assert_is_at(&to, what);
        std::fs::remove_dir_all(&to).unwrap();
    }

    /// What a restore of the present application must give.
    pub(super) fn expected(&self) -> Expected {
        let mut files = Tree::new();
        for part in ["backend", "frontend"] {
            for (path, node) in tree(&self.app().join(part)) {
                files.insert(Path::new(part).join(path), node);
            }
        }
        files.retain(|path, _| !is_database(path));
        let rows = rows(&self.database());
        Expected { files, rows }
    }

    /// Every object of the saved store is there, unchanged: so what was committed restores as before.
    pub(super) fn assert_store_grew_only(&self, what: &str) {
        for part in ["archives", "manifests", "snapshots", "marks"] {
            let now = tree(&self.store().join(part));
            for (path, node) in tree(&self.saved(&self.store()).join(part)) {
                if let Node::File(_, _, bytes) = node {
                    let there = now.get(&path);
                    let same = matches!(there, Some(Node::File(_, _, now)) if *now == bytes);
                    assert!(same, "{what}: {part}/{} changed", path.display());
                }
            }
        }
    }

    /// No unfinished file lies in the store, the state, the keys or the application.
    pub(super) fn assert_no_litter(&self, what: &str) {
        let left: BTreeSet<PathBuf> = tree(&self.live)
            .into_iter()
            .filter(|(path, node)| !matches!(node, Node::Dir(_)) && is_litter(path))
            .map(|(path, _)| path)
            .collect();
        assert!(left.is_empty(), "{what}: left behind: {left:?}");
    }
}

fn is_litter(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let name = path.file_name().unwrap().to_string_lossy();
    text.contains("/.incoming/")
        || text.contains("/spool/")
        || text.contains(".backstay-restore-")
        || text.contains(".backstay-partial-")
        || (name.starts_with(".backstay-") && name.ends_with(".tmp"))
        || name.ends_with(".partial")
}

fn is_database(path: &Path) -> bool {
    path.to_string_lossy().contains("agent.db")
}

/// Files of the folders, and the rows of the database.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) files: Tree,
    pub(super) rows: Vec<i64>,
}

impl Expected {
    pub(super) fn assert_is_at(&self, to: &Path, what: &str) {
        let mut found = Tree::new();
        for part in ["backend", "frontend"] {
            for (path, node) in tree(&to.join(part)) {
                found.insert(Path::new(part).join(path), node);
            }
        }
        found.retain(|path, _| !is_database(path));
        for path in self.files.keys().chain(found.keys()) {
            // Not the nodes themselves: megabytes of numbers help nobody.
            let same = self.files.get(path) == found.get(path);
            assert!(same, "{what}: {} differs", path.display());
        }
        let database = tree(to).into_keys().find(|path| path.file_name().is_some_and(|n| n == "agent.db"));
        let database = database.expect("the database came back");
        assert_eq!(rows(&to.join(database)), self.rows, "{what}");
    }
}

/// All rows of the database, after its check.
pub(super) fn rows(database: &Path) -> Vec<i64> {
    let db = rusqlite::Connection::open(database).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let mut query = db.prepare("SELECT v FROM t ORDER BY rowid").unwrap();
    let rows = query.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Everything below `top`.
pub(super) fn tree(top: &Path) -> Tree {
    let mut found = Tree::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let whole = top.join(&path);
        let Ok(facts) = std::fs::symlink_metadata(&whole) else {
            continue;
        };
        let node = if facts.is_dir() {
            for entry in std::fs::read_dir(&whole).unwrap() {
                waiting.push(path.join(entry.unwrap().file_name()));
            }
            Node::Dir(facts.mode())
        } else if facts.is_symlink() {
            Node::Link(std::fs::read_link(&whole).unwrap())
        } else {
            let bytes = std::fs::read(&whole).unwrap();
            Node::File(facts.mode(), facts.mtime(), bytes)
        };
        found.insert(path, node);
    }
    found
}

/// Bytes that do not compress.
pub(super) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(super) fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whether it was killed; if not, it came to a good end and `may` have: a test in which nothing dies proves nothing.
pub(super) fn was_killed(output: &Output, may: bool, what: &str) -> bool {
    let killed = output.status.signal() == Some(SIGKILL);
    if !killed {
        assert!(may, "{what}: it was not killed: {output:?}");
        assert_code(output, 0);
    }
    killed
}

/// Counts runs that were to be killed. At the end of a run a few points may be missing, and whoever let all of these pass would never be killed around a commit.
#[derive(Debug, Default)]
pub(super) struct Kills {
    tried: usize,
    killed: usize,
    /// Of those that were killed: how many left nothing of what they were to do where others see it, and how many all.
    seen: [usize; 2],
}

impl Kills {
    /// One more, after which what it was to do is to be seen or not.
    pub(super) fn count(&mut self, killed: bool, seen: bool) {
        self.tried += 1;
        self.killed += usize::from(killed);
        self.seen[usize::from(seen)] += usize::from(killed);
    }

    /// Nearly all were killed, some before the commit and some after.
    #[track_caller]
    pub(super) fn assert_enough(&self) {
        println!("{self:?}");
        assert!(self.killed * 10 >= self.tried * 9, "too few were killed: {self:?}");
        self.assert_before_and_after();
    }

    /// Some were killed before the commit and some after.
    #[track_caller]
    pub(super) fn assert_before_and_after(&self) {
        assert!(self.seen.iter().all(|count| *count > 0), "kills before and after the commit: {self:?}");
    }
}

/// Numbers of points at which to act: all in the long form; else the first of every name, and others spread evenly, `about` in all.
pub(super) fn chosen(points: &[String], about: usize) -> impl Iterator<Item = usize> {
    let all = 1..=points.len();
    if long() || points.len() <= about {
        return in_time(all.collect());
    }
    let mut seen = BTreeSet::new();
    let first = all.clone().filter(|n| seen.insert(points[n - 1].clone()));
    let mut chosen: BTreeSet<usize> = first.collect();
    let step = points.len().div_ceil(about.saturating_sub(chosen.len()).max(1));
    chosen.extend(all.step_by(step.max(1)));
    chosen.insert(points.len());
    in_time(chosen.into_iter().collect())
}

/// Calls that fail, and how: of `calls` every so many with each error, and with each of them others.
pub(super) fn failures(errors: &[Errno], calls: usize, every: usize) -> impl Iterator<Item = (usize, Errno)> {
    let with = |(turn, errno): (usize, &Errno)| {
        let errno = *errno;
        (1 + scatter(turn, every)..=calls).step_by(every).map(move |call| (call, errno))
    };
    in_time(errors.iter().enumerate().flat_map(with).collect())
}

/// A number that looks random and is the same in every run.
pub(super) fn scatter(seed: usize, below: usize) -> usize {
    let bytes = noise(8, seed as u64 + 77);
    (u64::from_le_bytes(bytes.try_into().unwrap()) % below.max(1) as u64) as usize
}
