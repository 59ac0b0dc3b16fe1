//! How the schedule stands, for `status` and `doctor`: with an agent and without.

use crate::config::Config;
use crate::model::Timestamp;
use crate::ops::timetable::memory::{Last, Memory, agent_lock};
use crate::ops::timetable::page_note::PageNote;
use crate::ops::timetable::plan::lines;
use jiff::SignedDuration;
use serde::Serialize;
use std::path::Path;

/// What to do about a status page that cannot be shown.
pub const PAGE_WAY_OUT: &str =
    "backups go on; correct `page` or `token_file` in [agent], or end what is in its way";

/// What is due for longer than this and was not begun is overdue.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// How the schedule stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Since when an agent, or `agent --once`, runs.
    pub agent_since: Option<Timestamp>,
    /// An agent ran once, or runs.
    pub ever: bool,
    /// Since when the newest snapshot is not in every store.
    pub behind_since: Option<Timestamp>,
    /// Each line.
    pub jobs: Vec<JobStanding>,
    /// Why what the agent remembers cannot be told.
    pub unreadable: Option<String>,
    /// Where the status page of the agent that runs is.
    pub page: Option<String>,
    /// Why it is not where it should be.
    pub page_problem: Option<String>,
}

/// How a line stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobStanding {
    /// The line.
    pub job: String,
    /// When it begins next; in the past when it is due.
    pub next: Option<Timestamp>,
    /// For so long it is due, in seconds.
    pub overdue_seconds: Option<i64>,
    /// When the last run for it began.
    pub last_began: Option<Timestamp>,
    /// How it ended.
    pub last_code: Option<u8>,
}

/// How the schedule of `config` stands; `None` where it has none.
pub fn standing(config: &Config, now: Timestamp) -> Option<Standing> {
    config.schedule.as_ref()?;
    let (memory, unreadable) = match Memory::load(&config.state_dir) {
        Ok(memory) => (memory, None),
        Err(e) => (None, Some(crate::ops::restore::read::chain_text(&e))),
    };
    let job = |line: &crate::ops::timetable::plan::Line| {
        let known = memory.as_ref().and_then(|memory| memory.jobs.get(&line.name));
        let handled = known.map_or(now, |job| job.handled);
        let begins = line.begins(handled);
        let late = begins.map(|begins| now.duration_since(begins)).filter(|late| *late > PATIENCE);
        let last: Option<Last> = known.and_then(|job| job.last);
        JobStanding {
            job: line.name.clone(),
            next: begins,
            overdue_seconds: late.map(|late| late.as_secs()),
            last_began: last.map(|last| last.began),
            last_code: last.map(|last| last.code),
        }
    };
    let agent_since = running_since(&config.state_dir, now);
    let page = agent_since.map(|_| PageNote::load(&config.state_dir)).unwrap_or_default();
    Some(Standing {
        agent_since,
        ever: memory.is_some(),
        behind_since: memory.as_ref().and_then(|m| m.behind).map(|b| b.since),
        jobs: lines(config).iter().map(job).collect(),
        unreadable,
        page: page.url,
        page_problem: page.problem,
    })
}

/// Since when somebody holds the agent's lock. Nothing is made where there is none.
fn running_since(state_dir: &Path, now: Timestamp) -> Option<Timestamp> {
    let lock = agent_lock(state_dir);
    if !lock.path().exists() {
        return None;
    }
    match lock.try_lock("status", now) {
        Ok(None) => Some(lock.holder().map_or(now, |holder| holder.since)),
        _ => None,
    }
}
