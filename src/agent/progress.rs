//! How far a job is, for the page: the job writes it beside its work, now and then, and nothing depends on it.

use crate::agent::child::RUN;
use crate::model::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The variable that tells a job where to write it.
pub(super) const PROGRESS: &str = "BACKSTAY_AGENT_PROGRESS";
/// How it is named in the state folder.
pub(super) const FILE: &str = "agent-progress.json";
/// Written at most so often.
const EVERY: Duration = Duration::from_secs(1);

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Which run it is.
    pub(super) run: String,
    /// What it does.
    pub(super) phase: String,
    /// Bytes done.
    pub(super) done: u64,
    /// Of so many, where that is known.
    pub(super) total: Option<u64>,
    /// When it said so.
    pub(super) at: Timestamp,
}

/// What a job that an agent started writes it with.
pub struct Note {
    path: PathBuf,
    run: String,
    last: Mutex<Option<Instant>>,
}

impl Note {
    /// For the job that this process is; none in a process that no agent started.
    pub fn from_environment() -> Option<Self> {
        let path = std::env::var_os(PROGRESS)?.into();
        Some(Self { path, run: std::env::var(RUN).ok()?, last: Mutex::default() })
    }

    /// Writes how far it is; `soon`: also when that was written just now.
    pub fn tell(&self, phase: &str, done: u64, total: Option<u64>, soon: bool) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !soon && last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        *last = Some(Instant::now());
        let progress =
            Progress { run: self.run.clone(), phase: phase.to_owned(), done, total, at: Timestamp::now() };
        let Ok(bytes) = serde_json::to_vec(&progress) else { return };
        let new = self.path.with_extension("new");
        // A page that does not say how far a job is is no trouble of the job.
        let _unsaid = std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, &self.path));
    }
}

/// How far the run called `run` is, if it said so.
pub(super) fn of(state_dir: &Path, run: &str) -> Option<Progress> {
    let bytes = std::fs::read(state_dir.join(FILE)).ok()?;
    let progress: Progress = serde_json::from_slice(&bytes).ok()?;
    (progress.run == run).then_some(progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_says_how_far_it_is_and_only_its_own_words_count() {
        let dir = tempfile::tempdir().unwrap();
        let note =
            Note { path: dir.path().join(FILE), run: "backup for x try 0".into(), last: Mutex::default() };
        note.tell("packing", 0, Some(10), true);
        note.tell("packing", 5, Some(10), false);
        let found = of(dir.path(), "backup for x try 0").unwrap();
        assert_eq!(
            (found.phase.as_str(), found.done, found.total),
            ("packing", 0, Some(10)),
            "not every byte is written"
        );
        note.tell("packing", 7, Some(10), true);
        assert_eq!(of(dir.path(), "backup for x try 0").unwrap().done, 7);
        assert_eq!(of(dir.path(), "backup for x try 1"), None);
    }
}
