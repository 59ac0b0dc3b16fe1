//! What the agent remembers of a project: durable, and written before and after each job.

use crate::durable::{self, FileLock};
use crate::model::Timestamp;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::timetable::{LOCK, MEMORY};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// A later program's memory is not guessed at.
const FORMAT: u32 = 1;
/// What was handled so far in the future was handled by a clock that was wrong.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    format: u32,
    /// By the job's line.
    #[serde(default)]
    pub jobs: BTreeMap<String, JobMemory>,
    /// The newest snapshot is not in every store yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<Behind>,
}

/// Of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMemory {
    /// The last time that was due and is dealt with, or when the job was first seen.
    pub handled: Timestamp,
    /// What was begun and is not known to have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// The last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
    /// It failed, and is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// A run that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The time it is for.
    pub due: Timestamp,
    /// When it was begun.
    pub began: Timestamp,
    /// How often it was tried before.
    #[serde(default)]
    pub attempt: u32,
    /// How often it failed; the other tries met another run.
    #[serde(default)]
    pub failed: u32,
}

/// A run that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// The time it was for.
    pub due: Timestamp,
    /// When it was begun.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Its exit code.
    pub code: u8,
}

/// A run that will be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// The time it is for.
    pub due: Timestamp,
    /// How often it was tried.
    pub attempt: u32,
    /// How often it failed; the other tries met another run.
    #[serde(default)]
    pub failed: u32,
    /// When.
    pub at: Timestamp,
}

/// A snapshot that is not in every store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// Since when.
    pub since: Timestamp,
    /// How often `sync` was tried.
    pub attempt: u32,
    /// How often it failed; the other tries met another run.
    #[serde(default)]
    pub failed: u32,
    /// When it is tried again.
    pub at: Timestamp,
    /// It is not tried again: a person has to look, or the next backup begins anew with it.
    #[serde(default)]
    pub given_up: bool,
    /// `sync` was begun and is not known to have ended.
    #[serde(default)]
    pub running: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self { format: FORMAT, jobs: BTreeMap::new(), behind: None }
    }
}

impl Memory {
    /// What is remembered in `state_dir`; `None` where no agent ever ran.
    pub fn load(state_dir: &Path) -> Result<Option<Self>> {
        let path = state_dir.join(MEMORY);
        let cannot = || format!("what the agent remembers in {} cannot be used", path.display());
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).doing(Class::Failed, cannot),
        };
        let hint = "remove it: then the agent begins anew, and what it missed is not made up for";
        let memory: Self = serde_json::from_slice(&bytes)
            .map_err(|e| OpError::new(Class::Failed, cannot()).because(e).hint(hint))?;
        if memory.format > FORMAT {
            return Err(OpError::new(Class::Failed, cannot())
                .because("a later backstay wrote it".to_owned())
                .hint("use that version, or remove the file; then the agent begins anew"));
        }
        Ok(Some(memory))
    }

    /// Writes it, durably.
    pub fn save(&self, state_dir: &Path) -> Result<()> {
        let path = state_dir.join(MEMORY);
        let cannot = || format!("what the agent did cannot be written to {}", path.display());
        let bytes = serde_json::to_vec_pretty(self).doing(Class::Failed, cannot)?;
        durable::replace(&path, &bytes).doing(Class::Failed, cannot)
    }

    /// Makes it fit to `lines`: new ones count from `now` on, and ones that are gone are forgotten unless they run. True when something changed.
    pub fn fit<'a>(&mut self, lines: impl Iterator<Item = &'a str> + Clone, now: Timestamp) -> bool {
        let before = self.clone();
        self.jobs.retain(|line, job| job.running.is_some() || lines.clone().any(|known| known == line));
        for line in lines {
            let fresh = JobMemory { handled: now, running: None, last: None, retry: None };
            let job = self.jobs.entry(line.to_owned()).or_insert(fresh);
            // A clock that was set forward by mistake, and back again, must not stop a job for years.
            if job.handled.duration_since(now) > AHEAD {
                job.handled = now;
            }
            job.retry = job.retry.map(|retry| Retry { at: retry.at.min(after(now, AHEAD * 2)), ..retry });
        }
        self.behind = self.behind.map(|b| Behind { at: b.at.min(after(now, AHEAD * 2)), ..b });
        *self != before
    }
}

fn after(now: Timestamp, span: SignedDuration) -> Timestamp {
    now.saturating_add(span).unwrap_or(Timestamp::MAX)
}

/// The lock that whatever runs a schedule holds.
pub fn agent_lock(state_dir: &Path) -> FileLock {
    FileLock::new(state_dir.join(LOCK))
}
