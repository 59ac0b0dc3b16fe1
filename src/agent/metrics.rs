//! Metrics for Prometheus, as a file that its node exporter reads: how each command ended last, and how the schedule stands.
//!
//! Nothing is asked of stores: what is in the file is what this machine did. The file is replaced whole, so that nobody reads half of it.

use crate::config::Config;
use crate::durable::{self, FileLock, NewFile};
use crate::model::Timestamp;
use crate::ops::error::{Class, Doing, Result};
use crate::ops::timetable::{JobStanding, standing};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

const MEMORY: &str = "runs.json";
const LOCK: &str = "runs.lock";
const WAIT: Duration = Duration::from_secs(5);

/// A run that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Its exit code.
    pub code: u8,
}

/// The last run of a task, and the last that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Task {
    last: Run,
    well: Option<Timestamp>,
}

type Tasks = BTreeMap<String, Task>;

/// Takes the end of a run of `task` in, and writes the file. Does nothing where the configuration names none.
pub fn after(config: &Config, task: &str, run: Run) -> Result<()> {
    let Some(file) = &config.agent.textfile else { return Ok(()) };
    let path = config.state_dir.join(MEMORY);
    let cannot = || format!("what metrics are made of cannot be kept in {}", path.display());
    let lock = FileLock::new(config.state_dir.join(LOCK));
    let held = lock.lock_wait("metrics", &|| run.ended, Some(WAIT), &mut durable::sleep);
    let held = held.doing(Class::Failed, cannot)?;
    let mut tasks = load(&path);
    let well = tasks.get(task).and_then(|task| task.well);
    let well = if run.code == 0 { Some(run.ended) } else { well };
    tasks.insert(task.to_owned(), Task { last: run, well });
    let bytes = serde_json::to_vec_pretty(&tasks).doing(Class::Failed, cannot)?;
    durable::replace(&path, &bytes).doing(Class::Failed, cannot)?;
    let written = write(file, &text(config, &tasks, run.ended));
    drop(held);
    written
}

/// Writes the file anew: time goes on also when nothing runs.
pub fn refresh(config: &Config, now: Timestamp) -> Result<()> {
    let Some(file) = &config.agent.textfile else { return Ok(()) };
    write(file, &text(config, &load(&config.state_dir.join(MEMORY)), now))
}

/// What cannot be read is begun anew: nothing but metrics depends on it.
fn load(path: &Path) -> Tasks {
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Replaces `file`; everybody may read it, as the exporter must.
fn write(file: &Path, text: &str) -> Result<()> {
    let cannot = || format!("metrics cannot be written to {}", file.display());
    let dir = file.parent().unwrap_or(Path::new("/"));
    let mut new = NewFile::create_in(dir).doing(Class::Failed, cannot)?;
    new.write_all(text.as_bytes()).doing(Class::Failed, cannot)?;
    new.finish_over(file, 0o644).doing(Class::Failed, cannot)
}

/// The file's text.
fn text(config: &Config, tasks: &Tasks, now: Timestamp) -> String {
    let mut page = Page { out: String::new(), project: escaped(&config.project.name) };
    let seconds = |at: Timestamp| at.as_second();
    let of = |value: &dyn Fn(&Task) -> Option<i64>| -> Vec<(String, i64)> {
        tasks.iter().filter_map(|(name, task)| Some((label("task", name), value(task)?))).collect()
    };
    page.family(
        "last_run_timestamp_seconds",
        "When the last run of a task ended.",
        of(&|t| Some(seconds(t.last.ended))),
    );
    page.family("last_run_exit_code", "How it ended: 0 is well.", of(&|t| Some(i64::from(t.last.code))));
    let took = |t: &Task| Some(seconds(t.last.ended) - seconds(t.last.began));
    page.family("last_run_duration_seconds", "How long it took.", of(&took));
    page.family(
        "last_success_timestamp_seconds",
        "When a run last ended with 0.",
        of(&|t| t.well.map(seconds)),
    );
    if let Some(standing) = standing(config, now) {
        let jobs = |value: &dyn Fn(&JobStanding) -> Option<i64>| {
            let one = |job: &JobStanding| Some((label("job", &job.job), value(job)?));
            standing.jobs.iter().filter_map(one).collect::<Vec<_>>()
        };
        page.family(
            "schedule_next_timestamp_seconds",
            "When a job begins next.",
            jobs(&|job| job.next.map(seconds)),
        );
        let late = |job: &JobStanding| Some(job.overdue_seconds.unwrap_or(0));
        page.family("schedule_overdue_seconds", "For so long a job is due and was not begun.", jobs(&late));
        let behind = standing.behind_since.map_or(0, |since| now.duration_since(since).as_secs());
        page.family(
            "behind_seconds",
            "For so long a store lacks the newest snapshot.",
            vec![(String::new(), behind)],
        );
    }
    page.family(
        "written_timestamp_seconds",
        "When this file was written.",
        vec![(String::new(), seconds(now))],
    );
    page.out
}

/// The text as it grows.
struct Page {
    out: String,
    project: String,
}

impl Page {
    fn family(&mut self, name: &str, help: &str, values: Vec<(String, i64)>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "# HELP backstay_{name} {help}\n# TYPE backstay_{name} gauge");
        for (label, value) in values {
            let _ = writeln!(self.out, "backstay_{name}{{project=\"{}\"{label}}} {value}", self.project);
        }
    }
}

fn label(name: &str, value: &str) -> String {
    format!(",{name}=\"{}\"", escaped(value))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
