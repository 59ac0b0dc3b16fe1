//! What the page shows, as it is known on this machine at one moment: from the configuration and the state folder, without a store.

use crate::agent::page::http::Answer;
use crate::agent::progress::{self, Progress};
use crate::agent::runs::{self, Tasks};
use crate::config::Config;
use crate::durable::FileLock;
use crate::model::Timestamp;
use crate::ops::status::{ComponentStatus, Failed, Found, Seen, SeenSnapshot, State, StatusReport, recall};
use crate::ops::timetable::{Memory, host};
use serde::Serialize;
use std::sync::Arc;

/// All projects at one moment.
pub(super) struct View {
    pub(super) now: Timestamp,
    /// The name of this machine.
    pub(super) host: String,
    pub(super) projects: Vec<Project>,
}

/// A project.
pub(super) struct Project {
    pub(super) name: String,
    pub(super) report: StatusReport,
    /// What the last look found that reached a store; none before the first.
    pub(super) found: Option<Found>,
    /// A later look that reached none.
    pub(super) failed: Option<Failed>,
    /// What is under way.
    pub(super) running: Vec<Running>,
    /// What failed and is tried again: which, and when.
    pub(super) again: Vec<(String, Timestamp)>,
    /// How commands ended last.
    pub(super) tasks: Tasks,
    /// Components whose newest snapshots come by another rhythm are judged by it alone.
    pub(super) verdict: Verdict,
}

/// A run that is under way.
pub(super) struct Running {
    pub(super) what: String,
    pub(super) began: Timestamp,
    pub(super) progress: Option<Progress>,
}

/// The most important thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// Every component has a good snapshot, and nothing is wrong.
    Protected,
    /// Every component has a good snapshot, and somebody should look at something.
    Look,
    /// Somebody must act.
    Danger,
    /// Nothing is known yet.
    Unknown,
}

impl View {
    /// How `configs` stand at `now`.
    pub(super) fn of(configs: &[Arc<Config>], now: Timestamp) -> Self {
        Self { now, host: host(), projects: configs.iter().map(|config| Project::of(config, now)).collect() }
    }

    /// The worst of all.
    pub(super) fn verdict(&self) -> Verdict {
        let rank = |verdict: &Verdict| match verdict {
            Verdict::Protected => 0,
            Verdict::Unknown => 1,
            Verdict::Look => 2,
            Verdict::Danger => 3,
        };
        self.projects.iter().map(|project| project.verdict).max_by_key(rank).unwrap_or(Verdict::Unknown)
    }

    /// The same as data.
    pub(super) fn json(&self) -> Answer {
        let projects: Vec<Json<'_>> = self.projects.iter().map(Json::of).collect();
        let whole = serde_json::json!({ "time": self.now, "host": self.host, "projects": projects });
        let text = serde_json::to_string_pretty(&whole).unwrap_or_default();
        Answer::well("application/json", text + "\n")
    }
}

/// A project as data: what `backstay status --json` says, and what a page shows beside.
#[derive(Serialize)]
struct Json<'a> {
    verdict: Verdict,
    looked_at: Option<Timestamp>,
    look_failed: Option<&'a Failed>,
    status: &'a StatusReport,
    snapshots: &'a [SeenSnapshot],
}

impl<'a> Json<'a> {
    fn of(project: &'a Project) -> Self {
        Self {
            verdict: project.verdict,
            looked_at: project.found.as_ref().map(|found| found.at),
            look_failed: project.failed.as_ref(),
            status: &project.report,
            snapshots: project.snapshots(),
        }
    }
}

impl Project {
    fn of(config: &Config, now: Timestamp) -> Self {
        // What cannot be read is said by the report.
        let memory = Memory::load(&config.state_dir).ok().flatten().unwrap_or_default();
        let running = running(config, &memory);
        let again = memory.jobs.iter().filter_map(|(name, job)| Some((name.clone(), job.retry?.at)));
        let behind = memory
            .behind
            .filter(|behind| !behind.running && !behind.given_up)
            .map(|behind| ("sync".to_owned(), behind.at));
        let again = again.chain(behind).collect();
        let seen = recall(&config.state_dir).unwrap_or_else(Seen::nothing);
        let report = seen.report(config, now, !running.is_empty());
        let verdict = verdict(&report, &seen);
        Self {
            name: config.project.name.clone(),
            report,
            found: seen.found,
            failed: seen.failed,
            running,
            again,
            tasks: runs::load(&config.state_dir),
            verdict,
        }
    }

    /// Its snapshots, oldest first.
    pub(super) fn snapshots(&self) -> &[SeenSnapshot] {
        self.found.as_ref().map_or(&[], |found| &found.snapshots)
    }

    /// The component whose newest good snapshot is the oldest; none when one has none.
    pub(super) fn oldest_good(&self) -> Option<&ComponentStatus> {
        let age = |c: &&ComponentStatus| c.newest_good.as_ref().map(|good| good.age_seconds);
        let all = self.report.components.iter().all(|c| c.newest_good.is_some());
        self.report.components.iter().filter(|_| all).max_by_key(age)
    }
}

fn running(config: &Config, memory: &Memory) -> Vec<Running> {
    let jobs = memory.jobs.iter().filter_map(|(name, job)| {
        let running = job.running?;
        let run = format!("{name} for {} try {}", running.due, running.attempt);
        Some((name.clone(), running.began, run))
    });
    let sync = memory.behind.filter(|behind| behind.running).map(|behind| {
        let run = format!("sync for {} try {}", behind.since, behind.attempt);
        ("sync of what is not in every store".to_owned(), behind.at, run)
    });
    let all = jobs.chain(sync).map(|(what, began, run)| {
        let progress = progress::of(&config.state_dir, &run);
        Running { what, began, progress }
    });
    let mut all: Vec<Running> = all.collect();
    if all.is_empty() {
        all.extend(by_hand(config));
    }
    all
}

/// What a person or cron runs: whoever holds the project's lock and lives. The lock itself is not tried: whoever wants it just then would not get it.
fn by_hand(config: &Config) -> Option<Running> {
    let holder = FileLock::new(config.state_dir.join("lock")).holder()?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(holder.pid).ok()?)?;
    let gone = rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
    (!gone).then(|| Running {
        what: format!("{}, not started by the agent,", holder.what),
        began: holder.since,
        progress: None,
    })
}

fn verdict(report: &StatusReport, seen: &Seen) -> Verdict {
    match (&seen.found, report.state) {
        (None, _) if seen.failed.is_none() => Verdict::Unknown,
        (_, State::Critical) | (None, _) => Verdict::Danger,
        (Some(_), State::Warning) => Verdict::Look,
        (Some(_), State::Ok) => Verdict::Protected,
    }
}
