//! Kills at every named step and at random moments, and kills of what mends them, with a service that writes to its database all the time: exactly the old
//! or exactly the new state over all components, nothing lost that the live state's service was told is kept, the service up, nothing left open.
//!
//! The small form does a few; `BACKSTAY_LONG=1` 2,000 and 500.

use super::{App, expected, left};
use crate::common::long::{Share, left_out, long};
use crate::common::project::{exe, have, program};
use crate::lab::Node;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Adds a row every few milliseconds, and says so when it is kept. It writes with the version that it was started on.
const WRITER: &str = r#"
import os, sqlite3, sys, time
version = open('app/version').read()
db = sqlite3.connect('app/data/app.db', timeout=20)
db.execute('PRAGMA journal_mode=WAL')
log = open('acked', 'a')
open('web.new', 'w').write(str(os.getpid()))
os.rename('web.new', 'web.pid')
n = db.execute('SELECT coalesce(max(n), 0) FROM w').fetchone()[0]
while True:
    n += 1
    db.execute('INSERT INTO w VALUES (?, ?)', (n, version))
    db.commit()
    log.write(f'{version} {n}\n')
    log.flush()
    time.sleep(0.003)
"#;

const SERVICE: &str = r#"
[[service]]
name = "web"
stop_within = "20s"
start_within = "20s"
pid_file = "web.pid"
stop = 'kill "$(cat web.pid)"'
start = 'rm -f web.pid; python3 writer.py </dev/null >writer.log 2>&1 & while [ ! -e web.pid ]; do kill -0 $! || exit 1; done'
[service.health]
command = 'grep -q "(python3) [SRD]" "/proc/$(cat web.pid)/stat" && tail -n 1 acked | grep -q "^$(cat app/version) "'
within = "20s"
interval = "1s"
passes = 1
"#;

/// An application in a new version, saved so that it can be laid anew for each round.
struct Bed {
    app: App,
    master: PathBuf,
    then: BTreeMap<PathBuf, Node>,
    before: BTreeMap<PathBuf, Node>,
    /// Of what was laid last.
    left: RefCell<Vec<(&'static str, u64)>>,
    id: String,
}

impl Bed {
    fn new() -> Self {
        let app = App::new(SERVICE);
        app.write("writer.py", WRITER);
        app.sql("CREATE TABLE w (n INTEGER PRIMARY KEY, version TEXT)");
        let (then, id) = (app.live(), app.project.backup());
        app.upgrade("2");
        let master = app.project.top.with_extension("master");
        let (before, left) = (live(&app), RefCell::default());
        let bed = Self { app, master, then, before, left, id };
        copy(&bed.app.project.top, &bed.master);
        bed
    }

    /// As it was saved, with the service running.
    fn lay(&self) {
        self.end_service();
        let top = &self.app.project.top;
        for entry in fs::read_dir(top).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        copy(&self.master, top);
        self.left.replace(left(&self.app));
        let line =
            SERVICE.lines().find_map(|line| line.strip_prefix("start = '")).unwrap().trim_end_matches('\'');
        let mut start = Command::new("sh");
        start.args(["-c", line]).current_dir(&self.app.project.dir).stdin(Stdio::null());
        let started = start.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        let log = || fs::read_to_string(self.app.path("writer.log")).unwrap_or_default();
        assert!(started.success(), "the service does not start: {}", log());
    }

    fn end_service(&self) {
        crate::common::project::end_service(&self.app.path("web.pid"), &self.app.project.dir);
    }

    fn rollback(&self, args: &[&str]) -> Command {
        let mut command = program(exe(), &self.app.project.home);
        command.current_dir(&self.app.project.dir).arg("rollback").args(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Brings it to its end and looks at everything.
    fn whole_again(&self, point: &str) {
        let begun = Instant::now();
        let resumed = self.rollback(&["--resume"]).output().unwrap();
        assert!(matches!(resumed.status.code(), Some(0 | 17)), "{point}: {}", told(&resumed));
        assert!(begun.elapsed() < Duration::from_secs(30), "{point}: it took {:?}", begun.elapsed());
        let app = &self.app;
        let stat = fs::read_to_string(format!("/proc/{}/stat", app.service())).unwrap_or_default();
        assert!(
            stat.contains("(python3)") && !stat.contains(") Z"),
            "{point}: the service is down: {}",
            app.read("writer.log")
        );
        let version = app.read("app/version");
        let whole = if version == "1" { expected(app, &self.then) } else { self.before.clone() };
        let whole = without_what_the_service_writes(whole);
        assert_eq!(live(app), whole, "{point}: a mixture");
        assert_eq!(left(app), *self.left.borrow(), "{point}: what is left was moved");
        for (path, text) in [("app/.env", "SECRET=2"), ("app/node_modules/dep/index.js", "dep 2")] {
            assert_eq!(app.read(path), text, "{point}: what is left was touched");
        }
        self.rows(&version, point);
        let journal =
            self.app.project.config()["state"]["dir"].as_str().unwrap().to_owned() + "/rollback.json";
        assert!(!fs::exists(journal).unwrap(), "{point}: the journal is open");
    }

    /// The database is of that version, and has all that its service was told is kept.
    fn rows(&self, version: &str, point: &str) {
        let acked = self.app.read("acked");
        let db = rusqlite::Connection::open(self.app.path("app/data/app.db")).unwrap();
        db.busy_timeout(Duration::from_secs(20)).unwrap();
        let t: i64 = db.query_row("SELECT count(*) FROM t", (), |r| r.get(0)).unwrap();
        assert_eq!(t, if version == "1" { 1 } else { 3 }, "{point}: the database is of the other state");
        let mut rows = db.prepare("SELECT n FROM w WHERE version = ?1").unwrap();
        let rows: std::collections::HashSet<i64> =
            rows.query_map([version], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
        let mine = acked.lines().filter_map(|line| line.strip_prefix(version)?.trim().parse::<i64>().ok());
        let lost: Vec<i64> = mine.filter(|n| !rows.contains(n)).collect();
        assert!(
            lost.is_empty(),
            "{point}: {} rows of the live state are lost: {:?}",
            lost.len(),
            &lost[..lost.len().min(5)]
        );
    }

    fn points(&self) -> Vec<String> {
        self.lay();
        let log = self.master.with_extension("points");
        let _absent = fs::remove_file(&log);
        let output = self.rollback(&[&self.id]).env("BACKSTAY_TEST_CRASH_COUNT_FILE", &log).output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
        self.rows("1", "not killed");
        let points = fs::read_to_string(&log).unwrap();
        fs::remove_file(log).unwrap();
        points.lines().map(str::to_owned).collect()
    }
}

fn live(app: &App) -> BTreeMap<PathBuf, Node> {
    without_what_the_service_writes(app.live())
}

fn without_what_the_service_writes(mut nodes: BTreeMap<PathBuf, Node>) -> BTreeMap<PathBuf, Node> {
    nodes.retain(|path, _| !["acked", "writer.log", "web.new"].contains(&&*path.to_string_lossy()));
    nodes
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.end_service();
        let _gone = fs::remove_dir_all(&self.master);
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(status.success());
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Some number below `below`, always the same for one `seed`.
fn scatter(seed: usize, below: usize) -> usize {
    let bytes = crate::common::project::noise(seed as u64 + 4242, 8);
    usize::try_from(u64::from_le_bytes(bytes.try_into().unwrap()) % below.max(1) as u64).unwrap()
}

/// Where a run is killed.
#[derive(Debug, Clone, Copy)]
enum When {
    Point(usize),
    After(Duration),
}

/// Runs it and kills it there; true when it came to its end before.
fn killed(mut command: Command, when: When) -> bool {
    match when {
        When::Point(number) => {
            command.env("BACKSTAY_TEST_CRASH", number.to_string()).output().unwrap().status.success()
        }
        When::After(time) => {
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::park_timeout(time);
            let _gone = child.kill();
            child.wait().unwrap().success()
        }
    }
}

/// Does `rounds`, as far as its time allows, on each core, each on a bed of its own.
fn on_all_cores(rounds: usize, round: impl Fn(&Bed, &[String], Duration, usize) + Sync) {
    let (next, share) = (AtomicUsize::new(0), Share::begin());
    std::thread::scope(|scope| {
        for _ in 0..if long() { 2 } else { 1 } {
            scope.spawn(|| {
                let bed = Bed::new();
                let begun = Instant::now();
                let points = bed.points();
                let takes = begun.elapsed();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= rounds || share.is_over() {
                        next.fetch_sub(1, Ordering::Relaxed);
                        return;
                    }
                    if number % 100 == 99 {
                        println!("{} of {rounds} rounds", number + 1);
                    }
                    bed.lay();
                    round(&bed, &points, takes, number);
                }
            });
        }
    });
    let done = next.into_inner();
    if done < rounds {
        left_out(done, rounds);
    }
}

#[test]
fn killed_at_every_step_and_at_random_with_a_service_that_writes_all_is_old_or_new() {
    if !have(&["python3"]) {
        return;
    }
    on_all_cores(if long() { 2000 } else { 8 }, |bed, points, takes, number| {
        // First every named step, then any moment.
        let when = match (long(), number) {
            (true, n) if n < points.len() => When::Point(n + 1),
            (false, n) if n % 2 == 0 => When::Point(1 + scatter(n, points.len())),
            (_, n) => When::After(takes * u32::try_from(scatter(n, 1000)).unwrap() / 1000),
        };
        let point = format!("round {number}, {when:?}");
        killed(bed.rollback(&[&bed.id]), when);
        bed.whole_again(&point);
    });
}

#[test]
fn killed_and_killed_again_with_a_service_that_writes_all_is_old_or_new() {
    if !have(&["python3"]) {
        return;
    }
    on_all_cores(if long() { 500 } else { 3 }, |bed, points, _, number| {
        // Where something live is being touched, there is something to mend.
        let torn: Vec<usize> = { points.iter().enumerate() }
            .filter(|(_, name)| {
                ["a step", "a service", "rollback: journal"].iter().any(|kind| name.contains(kind))
            })
            .map(|(n, _)| n + 1)
            .collect();
        let first = When::Point(torn[scatter(number, torn.len())]);
        let second = match number % 2 {
            0 => When::Point(1 + scatter(number + 1, 60)),
            _ => When::After(Duration::from_millis(scatter(number + 2, 700) as u64)),
        };
        let point = format!("round {number}, {first:?} and {second:?}");
        killed(bed.rollback(&[&bed.id]), first);
        killed(bed.rollback(&["--resume"]), second);
        bed.whole_again(&point);
    });
}
