//! `[schedule]`: what is run by itself, and when.

use crate::config::block::{At, Block};
use crate::config::render::Found;
use crate::config::resolve::Work;
use crate::config::retention::zone;
use crate::config::settings::Component;
use crate::model::schedule::Schedule;
use std::fmt;
use std::time::Duration;

/// So much of all bytes a scheduled `verify` reads: with one a day, everything comes round in 20 days, before its proof is too old.
const VERIFY_PERCENT: u64 = 5;

/// When what is run by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    /// The jobs, in the order of the file, backups first.
    pub jobs: Vec<Job>,
    /// The time zone of their times; this machine's if there is none.
    pub zone: Option<String>,
    /// Each job begins up to so much after its time.
    pub jitter: Duration,
    /// So many percent of all bytes a `verify` reads.
    pub verify_percent: u64,
}

/// One line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What is run.
    pub task: Task,
    /// When.
    pub at: Schedule,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// `backup`, of these components; of all when there are none.
    Backup {
        /// Names of components.
        only: Vec<String>,
    },
    /// `verify`.
    Verify,
    /// `drill`.
    Drill,
    /// `prune`.
    Prune,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backup { only } if only.is_empty() => f.write_str("backup"),
            Self::Backup { only } => write!(f, "backup of {}", only.join(", ")),
            Self::Verify => f.write_str("verify"),
            Self::Drill => f.write_str("drill"),
            Self::Prune => f.write_str("prune"),
        }
    }
}

/// The line, as messages and the agent's memory name it.
impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.task, self.at)
    }
}

/// What `[schedule]` says.
pub(super) fn timetable(work: &mut Work<'_>, mut block: Block, components: &[Component]) -> Timetable {
    let mut jobs: Vec<(Job, std::ops::Range<usize>)> = Vec::new();
    // `backup = []` names it and runs nothing; a value that was wrong has been complained of.
    let wrong = block.has("backup") && !block.fields.contains_key("backup");
    let entries = block.blocks("backup");
    let others = ["verify", "drill", "prune"].iter().any(|key| block.has(key));
    let nothing = entries.is_empty() && !wrong && !others;
    for mut entry in entries {
        let at = entry.text("at");
        let only = known(work, entry.texts("only"), components);
        add(work, &mut jobs, Task::Backup { only }, at);
    }
    if let (Some((_, span)), true) = (jobs.first(), components.is_empty()) {
        let what = "a backup is scheduled, and there is no [[component]] to back up";
        work.mistake(Found::at(span, what).hint("remove `backup`; a host that only verifies needs none"));
    }
    for (key, task) in [("verify", Task::Verify), ("drill", Task::Drill), ("prune", Task::Prune)] {
        let at = block.text(key);
        add(work, &mut jobs, task, at);
    }
    if nothing {
        let found = Found::at(&block.span, "this schedule runs nothing");
        work.mistake(found.hint("add backup = [\"0 3 * * *\"], or remove [schedule]"));
    }
    Timetable {
        jobs: jobs.into_iter().map(|(job, _)| job).collect(),
        zone: block.text("timezone").and_then(|at| zone(work, at)),
        jitter: block.time("jitter").unwrap_or_default(),
        verify_percent: block.number("verify_percent").unwrap_or(VERIFY_PERCENT),
    }
}

fn add(
    work: &mut Work<'_>,
    jobs: &mut Vec<(Job, std::ops::Range<usize>)>,
    task: Task,
    at: Option<At<String>>,
) {
    let Some(At { value, span }) = at else { return };
    match value.parse::<Schedule>() {
        Ok(at) => {
            let job = Job { task, at };
            if jobs.iter().any(|(other, _)| *other == job) {
                let found = Found::at(&span, format!("{job} stands here twice"));
                work.mistake(found.hint("remove one"));
            }
            jobs.push((job, span));
        }
        Err(error) => work.mistake(Found::at(&span, error.what).hint(error.hint)),
    }
}

fn known(work: &mut Work<'_>, named: Vec<At<String>>, components: &[Component]) -> Vec<String> {
    let mut only = Vec::new();
    for At { value, span } in named {
        if components.iter().any(|c| c.name.as_str() == value) {
            only.push(value);
        } else {
            let names: Vec<&str> = components.iter().map(|c| c.name.as_str()).collect();
            let found = Found::at(&span, format!("there is no component {value:?}"));
            work.mistake(found.hint(format!("there are: {}", names.join(", "))));
        }
    }
    only
}
