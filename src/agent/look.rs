//! Looking at stores for the page: a child now and then, so that neither the page nor the agent ever waits for a store.

use crate::config::Config;
use crate::model::Timestamp;
use crate::ops::status::{recall, stamp};
use crate::platform::child::{Ended, wait};
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
/// After a look that did not come to its end, and twice as long after each further one: what it read of a store is read again.
const FAILED: Duration = Duration::from_secs(5 * 60);
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
    /// True once the child came to its end.
    look: Option<JoinHandle<bool>>,
    /// So many in a row did not, and when that was seen last.
    failed: u32,
    failed_at: Option<Instant>,
    /// Of these looks.
    config: Option<Arc<Config>>,
}

impl Last {
    /// Takes a look that has ended in. True while one runs.
    fn is_looking(&mut self) -> bool {
        if self.look.as_ref().is_some_and(|look| !look.is_finished()) {
            return true;
        }
        match self.look.take().map(|look| look.join().unwrap_or(false)) {
            None => {}
            Some(true) => (self.failed, self.failed_at) = (0, None),
            Some(false) => self.fails(),
        }
        false
    }

    fn fails(&mut self) {
        (self.failed, self.failed_at) = (self.failed.saturating_add(1), Some(Instant::now()));
    }

    /// What failed with another configuration says nothing of this one.
    fn go_on_with(&mut self, config: &Arc<Config>) {
        if !self.config.as_ref().is_some_and(|last| Arc::ptr_eq(last, config)) {
            (self.failed, self.failed_at) = (0, None);
            self.config = Some(Arc::clone(config));
        }
    }

    /// True while nothing is tried again: `at` is now.
    fn rests(&self, at: Instant) -> bool {
        self.failed_at.is_some_and(|failed| at.saturating_duration_since(failed) < rest(self.failed))
    }
}

/// How long nothing is tried after `failed` looks that did not come to their end.
fn rest(failed: u32) -> Duration {
    let longest = EVERY.unsigned_abs();
    1_u32
        .checked_shl(failed.saturating_sub(1))
        .and_then(|times| FAILED.checked_mul(times))
        .map_or(longest, |rest| rest.min(longest))
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
    pub fn look(&mut self, config: &Arc<Config>, now: Timestamp) {
        let last = self.last.entry(config.state_dir.clone()).or_default();
        let lately = |then: Option<Instant>, pause| then.is_some_and(|then| then.elapsed() < pause);
        // One that began before the configuration was changed is of the one before.
        if last.is_looking() {
            return;
        }
        last.go_on_with(config);
        if last.rests(Instant::now()) || lately(last.asked, ASK) || lately(last.begun, PAUSE) {
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
        match started {
            Err(_) => last.fails(),
            Ok(mut child) => {
                let stop = Arc::clone(&self.stop);
                let ended_well = move || matches!(wait(&mut child, LONGEST, &*stop), Ok(Ended::Itself(status)) if status.success());
                last.look = Some(std::thread::spawn(ended_well));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_does_not_come_to_its_end_is_tried_again_later_and_later() {
        let mut last = Last { look: Some(std::thread::spawn(|| false)), ..Last::default() };
        let minutes: Vec<u64> = (0..9)
            .map(|_| {
                while last.is_looking() {
                    std::thread::yield_now();
                }
                let failed = last.failed_at.unwrap();
                let rests = (1..).find(|minutes| !last.rests(failed + Duration::from_secs(60 * minutes)));
                last.look = Some(std::thread::spawn(|| false));
                rests.unwrap()
            })
            .collect();
        assert_eq!(minutes, [5, 10, 20, 40, 80, 160, 320, 360, 360]);
        last.look = Some(std::thread::spawn(|| true));
        while last.is_looking() {
            std::thread::yield_now();
        }
        assert!(!last.rests(Instant::now()) && rest(u32::MAX) == EVERY.unsigned_abs());
    }

    #[test]
    fn what_failed_with_one_configuration_keeps_another_from_no_look() {
        let config = || {
            let text = "[project]\nname = \"x\"\n[[component]]\nname = \"db\"\nsqlite = \"x.db\"\n[[store]]\nname = \"local\"\npath = \"store\"\n\
                [encryption]\nrecipients = [\"age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq\"]\n[signing]\nkey_file = \"/nowhere/key\"\n[state]\ndir = \"/nowhere/state\"\n";
            Arc::new(Config::parse(text, std::path::Path::new("/srv/x/backstay.toml")).unwrap())
        };
        let (before, mended) = (config(), config());
        let mut last = Last::default();
        last.go_on_with(&before);
        (0..3).for_each(|_| last.fails());
        last.go_on_with(&before);
        assert!(last.rests(Instant::now()), "the same one changes nothing");
        last.go_on_with(&mended);
        assert!(!last.rests(Instant::now()));
    }
}
