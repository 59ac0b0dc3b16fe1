//! How each command ended last, whoever ran it: what metrics are made of, and what the page says of the last trouble.

use crate::agent::tell::{Task as Told, is_part};
use crate::config::Config;
use crate::durable::{self, FileLock};
use crate::model::Timestamp;
use crate::ops::error::{Class, Doing, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const MEMORY: &str = "runs.json";
const LOCK: &str = "runs.lock";
const WAIT: Duration = Duration::from_secs(5);
/// So much of what a run said is kept.
const TEXT_MAX: usize = 4000;

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

/// A run that did not end well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trouble {
    pub(super) run: Run,
    /// What it said.
    pub(super) text: String,
}

/// The last run of a task, the last that went well, and the last that did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) last: Run,
    pub(super) well: Option<Timestamp>,
    #[serde(default)]
    pub(super) trouble: Option<Trouble>,
}

pub(super) type Tasks = BTreeMap<String, Task>;

/// Takes the end of a run of `task` in, with what it said where it did not go well, and does `then` with all that is known, before another can.
pub(super) fn note<T>(
    config: &Config,
    task: &str,
    (run, text): (Run, &str),
    then: impl FnOnce(Tasks) -> Result<T>,
) -> Result<T> {
    let path = config.state_dir.join(MEMORY);
    let cannot = || format!("how this run ended cannot be kept in {}", path.display());
    let lock = FileLock::new(config.state_dir.join(LOCK));
    let held = lock.lock_wait("metrics", &|| run.ended, Some(WAIT), &mut durable::sleep);
    let held = held.doing(Class::Failed, cannot)?;
    let mut tasks = load(&config.state_dir);
    let before = tasks.remove(task);
    let (well, trouble) = before.map(|task| (task.well, task.trouble)).unwrap_or_default();
    // A clock that was ahead noted a time that has not come: whoever counts from it would hear of no failure until then.
    let well = well.map(|well| well.min(run.ended));
    let said: String = text.chars().take(TEXT_MAX).collect();
    let known = match run.code {
        0 => Task { last: run, well: Some(run.ended), trouble },
        _ => Task { last: run, well, trouble: Some(Trouble { run, text: said }) },
    };
    tasks.insert(task.to_owned(), known);
    // A backup of everything made what one of a part did not; that part may never be asked for again.
    if run.code == 0 && task == Told::Backup(Vec::new()).to_string() {
        tasks.retain(|name, task| !is_part(name) || task.last.code == 0);
    }
    let bytes = serde_json::to_vec_pretty(&tasks).doing(Class::Failed, cannot)?;
    durable::replace(&path, &bytes).doing(Class::Failed, cannot)?;
    let done = then(tasks);
    drop(held);
    done
}

/// What is known. What cannot be read is begun anew: nothing but metrics and the page depends on it.
pub(super) fn load(state_dir: &Path) -> Tasks {
    let bytes = std::fs::read(state_dir.join(MEMORY)).ok();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> Config {
        let text = format!(
            "[project]\nname = \"x\"\n[[store]]\nname = \"local\"\npath = \"/srv/store\"\n[signing]\nkey_file = \"/nowhere/key\"\n[state]\ndir = {:?}\n",
            dir.display().to_string()
        );
        Config::parse(&text, &dir.join("backstay.toml")).unwrap_or_else(|e| panic!("{e}"))
    }

    fn run(at: &str, code: u8) -> Run {
        let at: Timestamp = at.parse().unwrap();
        Run { began: at, ended: at, code }
    }

    #[test]
    fn a_backup_of_everything_ends_what_one_of_a_part_that_nobody_runs_again_left() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let end = |task: &str, code| {
            let run = run("2026-11-02T00:00:00Z", code);
            note(&config, task, (run, "said"), |tasks| Ok(tasks.into_keys().collect::<Vec<_>>())).unwrap()
        };
        end("backup of web", 0);
        end("backup of db", 1);
        assert_eq!(end("backup", 4), ["backup", "backup of db", "backup of web"]);
        assert_eq!(end("backup", 0), ["backup", "backup of web"]);
    }

    #[test]
    fn a_success_of_a_time_that_has_not_come_hides_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let end = |run: Run| note(&config, "backup", (run, ""), |tasks| Ok(tasks["backup"].well)).unwrap();
        end(run("2031-01-01T00:00:00Z", 0));
        let failed = run("2026-11-02T00:00:00Z", 1);
        assert_eq!(end(failed), Some(failed.ended));
        assert_eq!(end(run("2026-11-03T00:00:00Z", 1)), Some(failed.ended));
    }
}
