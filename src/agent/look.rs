//! Looking at stores for the page: a child now and then, so that neither the page nor the agent ever waits for a store.

use crate::config::Config;
use crate::model::Timestamp;
use crate::ops::status::{recall, stamp};
use crate::platform::child::wait;
use jiff::SignedDuration;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The internal command that looks.
pub const LOOK: &str = "__look";
/// Looked at so often though nothing happened here: other machines prove and prune, too.
const EVERY: SignedDuration = SignedDuration::from_hours(6);
/// After a look that reached no store: one may be here again, which nothing on this machine tells.
const AGAIN: SignedDuration = SignedDuration::from_mins(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(10);
/// Between two questions whether one is due.
const ASK: Duration = Duration::from_secs(1);
/// A look that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Says that the agent is to end.
type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// When it was last asked whether a look is due, and the last look.
#[derive(Default)]
struct Last {
    asked: Option<Instant>,
    begun: Option<Instant>,
    look: Option<JoinHandle<()>>,
}

/// The looks of an agent.
pub struct Looks {
    exe: PathBuf,
    stop: Stop,
    /// Of each project, by its state folder.
    last: BTreeMap<PathBuf, Last>,
}

impl Looks {
    /// None yet; `exe` is this program.
    pub fn new(exe: PathBuf, stop: Stop) -> Self {
        Self { exe, stop, last: BTreeMap::new() }
    }

    /// Looks at the stores of a project if there may be something new to see.
    pub fn look(&mut self, config: &Config, now: Timestamp) {
        let last = self.last.entry(config.state_dir.clone()).or_default();
        let lately = |then: Option<Instant>, pause| then.is_some_and(|then| then.elapsed() < pause);
        let running = last.look.as_ref().is_some_and(|look| !look.is_finished());
        if running || lately(last.asked, ASK) || lately(last.begun, PAUSE) {
            return;
        }
        last.asked = Some(Instant::now());
        if !is_due(config, now) {
            return;
        }
        last.begun = last.asked;
        let mut command = Command::new(&self.exe);
        command.arg(LOOK).arg(&config.path);
        for name in super::child::NOT_FOR_JOBS {
            command.env_remove(name);
        }
        let started = std::os::unix::process::CommandExt::process_group(&mut command, 0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        // The page says how old what it shows is: nobody else need be told.
        last.look = started.ok().map(|mut child| {
            let stop = Arc::clone(&self.stop);
            std::thread::spawn(move || drop(wait(&mut child, LONGEST, &*stop)))
        });
    }

    /// Waits for looks that are under way, which end soon once the agent is to end.
    pub fn end(&mut self) {
        for last in std::mem::take(&mut self.last).into_values() {
            let _ended = last.look.map(JoinHandle::join);
        }
    }
}

fn is_due(config: &Config, now: Timestamp) -> bool {
    let Some(seen) = recall(&config.state_dir) else { return true };
    let found = seen.found.as_ref().map(|found| found.at).into_iter();
    let at = found.chain(seen.failed.as_ref().map(|failed| failed.at)).max();
    let old = at.is_none_or(|at| now.duration_since(at).abs() >= EVERY);
    let again = seen.failed.is_some() && at.is_none_or(|at| now.duration_since(at) >= AGAIN);
    old || again || seen.stamp != stamp(config)
}
