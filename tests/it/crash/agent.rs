//! An agent killed at every step of its own, while the jobs it started go on; and one whose jobs are killed.

use super::bed::{Bed, KILL_AT, SIGKILL, assert_code, chosen};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Output;

const SEEN: &str = "2026-11-01T12:00:00Z";
const DUE: [&str; 2] = ["2026-11-02T03:00:00Z", "2026-11-02T04:00:00Z"];
const LATE: &str = "2026-11-02T12:00:00Z";
/// Two lines of the schedule, each with a snapshot of its own that shows how often it was run.
const SCHEDULE: &str = "\n[schedule]\ntimezone = \"UTC\"\nbackup = [{ at = \"0 3 * * *\", only = [\"backend\"] }, { at = \"0 4 * * *\", only = [\"frontend\"] }]\n";

/// An application that an agent saw yesterday, and whose two backups are due.
struct Scene {
    bed: Bed,
}

impl Scene {
    fn new() -> Self {
        let bed = Bed::with_snapshot();
        let path = bed.app().join("backstay.toml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str(SCHEDULE);
        std::fs::write(&path, text).unwrap();
        let scene = Self { bed };
        scene.turn(SEEN);
        assert_code(&scene.once(&[]), 0);
        scene.turn(LATE);
        scene.bed.save();
        scene
    }

    /// Turns the clock.
    fn turn(&self, to: &str) {
        std::fs::write(self.clock(), to).unwrap();
    }

    fn clock(&self) -> PathBuf {
        self.bed.live.join("clock")
    }

    fn once(&self, orders: &[(&str, &str)]) -> Output {
        let clock = format!("@{}", self.clock().display());
        self.bed.run_with(&["agent", "--once"], &[&[("BACKSTAY_TEST_NOW", clock.as_str())], orders].concat())
    }

    fn state(&self) -> PathBuf {
        self.bed.live.join("home/.local/state/backstay/app")
    }

    /// The memory is one that the agent wrote, whole.
    fn memory(&self, what: &str) -> Value {
        let bytes = std::fs::read(self.state().join("agent.json")).unwrap();
        let memory: Value = serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
        for (job, due) in memory["jobs"].as_object().unwrap().values().zip(DUE) {
            let old = job["handled"] == SEEN && job["last"].is_null();
            let new = job["handled"] == due
                && (job["running"]["due"] == due || job["last"]["due"] == due || !job["retry"].is_null());
            let begun = job["handled"] == SEEN && job["running"]["due"] == due;
            assert!(old || new || begun, "{what}: {memory:#}");
        }
        memory
    }

    /// How many snapshots hold each component, and how many of them are good.
    fn counts(&self, what: &str) -> BTreeMap<String, (usize, usize)> {
        self.bed.list(what);
        let output = self.bed.run(&["list", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut counts = BTreeMap::new();
        for row in report["snapshots"].as_array().unwrap().iter().filter(|row| row["void"].is_null()) {
            let parts = row["components"].as_array().unwrap();
            let names: Vec<&str> = parts.iter().map(|part| part.as_str().unwrap()).collect();
            let count = counts.entry(names.join("+")).or_insert((0, 0));
            *count = (count.0 + 1, count.1 + usize::from(row["good"] == true));
        }
        counts
    }

    /// Everything that was due is done, and nothing is left to do.
    fn assert_done(&self, what: &str) {
        let memory = self.memory(what);
        for (job, due) in memory["jobs"].as_object().unwrap().values().zip(DUE) {
            let state = (&job["handled"], &job["last"]["code"], &job["running"], &job["retry"]);
            assert_eq!(state, (&due.into(), &0.into(), &Value::Null, &Value::Null), "{what}: {memory:#}");
        }
        // What a killed agent was writing is tidied up by the next backup, as is everything else in the state folder.
        assert_code(&self.bed.run(&["backup"]), 0);
        self.bed.assert_no_litter(what);
    }
}

#[test]
fn an_agent_killed_anywhere_does_nothing_twice_and_loses_nothing() {
    let scene = Scene::new();
    let log = scene.bed.live.with_file_name("points.log");
    assert_code(&scene.once(&[("BACKSTAY_TEST_CRASH_COUNT_FILE", log.to_str().unwrap())]), 0);
    let text = std::fs::read_to_string(&log).unwrap();
    let points: Vec<String> = text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
    assert!(points.len() > 20, "only {points:?}");
    let expected = scene.counts("never killed");
    assert_eq!(
        expected.iter().filter(|(names, n)| !names.contains('+') && **n == (1, 1)).count(),
        2,
        "{expected:?}"
    );
    scene.assert_done("never killed");
    for point in chosen(&points, 14) {
        scene.bed.reset();
        let what = format!("killed at {point} ({})", points[point - 1]);
        let killed = scene.once(&[(KILL_AT, &point.to_string())]);
        assert_eq!(killed.status.signal(), Some(SIGKILL), "{what}: {killed:?}");
        scene.memory(&what);
        // Time goes on; what the killed one began may run still, and is waited for.
        scene.turn("2026-11-02T12:01:00Z");
        let next = scene.once(&[]);
        assert_eq!(next.status.code(), Some(0), "{what}: {}", String::from_utf8_lossy(&next.stderr));
        assert_code(&scene.once(&[]), 0);
        assert_eq!(scene.counts(&what), expected, "{what}: then nothing was due");
        scene.assert_done(&what);
    }
}

#[test]
fn a_job_killed_anywhere_is_tried_again_and_an_agent_killed_with_it_loses_nothing() {
    let scene = Scene::new();
    let all = scene.bed.points(&["backup", "--only", "backend"]);
    for (turn, point) in chosen(&all, 8).enumerate() {
        scene.bed.reset();
        let what = format!("job killed at {point} ({})", all[point - 1]);
        let point = point.to_string();
        // Every other time the agent is killed, too, when it notes the end of the job that it saw die: as when a machine loses its power.
        let mut orders = vec![("BACKSTAY_TEST_JOB_CRASH", &*point)];
        if turn % 2 == 1 {
            orders.push((KILL_AT, "agent: end noted#1"));
        }
        let killed = scene.once(&orders);
        assert_ne!(killed.status.code(), Some(0), "{what}: {killed:?}");
        let memory = scene.memory(&what);
        // After the pauses of a failure, not before.
        scene.turn("2026-11-02T12:10:00Z");
        let next = scene.once(&[]);
        assert_eq!(
            next.status.code(),
            Some(0),
            "{what}: {} {memory:#}",
            String::from_utf8_lossy(&next.stderr)
        );
        let counts = scene.counts(&what);
        for component in ["backend", "frontend"] {
            // One whose job was killed between the commit and the last word of it is made once more, and no more often.
            let of = |(names, n): (&String, &(usize, usize))| (names == component).then_some(*n);
            let (made, good) = counts.iter().find_map(of).unwrap_or_default();
            assert!((1..=2).contains(&made) && good >= 1, "{what}: {counts:?}");
        }
        scene.assert_done(&what);
    }
}
