//! The dead-man service: it hears that a backup begins, that it failed, and that everything was done everywhere; when it hears nothing it raises the alarm.

use crate::agent::tell::judge::{Outcome, STORES, Task, says_nothing};
use crate::agent::tell::memory::Memory;
use crate::agent::tell::post::{self, Letter};
use crate::agent::tell::{Teller, secret};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// A success that was so long ago says nothing of now: it would quiet an alarm that has to come.
const FRESH: SignedDuration = SignedDuration::from_hours(1);

/// What it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Beat {
    Start,
    Success,
    Failure,
}

/// What it hears after `outcome`. Success only while nothing of backups is wrong: a small backup that went well says nothing of the large one that did not.
pub(super) fn beat(memory: &Memory, outcome: &Outcome) -> Option<Beat> {
    if says_nothing(&outcome.task, outcome.code) || !matches!(outcome.task, Task::Backup(_) | Task::Sync) {
        return None;
    }
    let wrong = |about: &String| about == STORES || about == "sync" || about.starts_with("backup");
    match outcome.code {
        0 if !memory.troubles.keys().any(wrong) => Some(Beat::Success),
        0 | 4 => None,
        _ if outcome.task.is_backup() => Some(Beat::Failure),
        _ => None,
    }
}

impl Teller<'_> {
    /// What it has to hear after `outcome` waits in `memory` until it is told.
    pub(super) fn keep_beat(&self, memory: &mut Memory, outcome: &Outcome) {
        let Some(ping) = &self.config.notify.ping else { return };
        match beat(memory, outcome) {
            // A failure that it does not want to hear of ends the word of an earlier success all the same.
            Some(Beat::Failure) if !ping.all => memory.beat = None,
            Some(beat) => memory.beat = Some((beat, self.now)),
            None => {}
        }
    }

    /// What waits, unless it is too old.
    pub(super) fn waiting(&self, memory: &mut Memory) -> Option<Beat> {
        let (beat, since) = memory.beat?;
        if self.now.duration_since(since).abs() > FRESH || self.config.notify.ping.is_none() {
            memory.beat = None;
            return None;
        }
        Some(beat)
    }

    /// Lets it hear. Gives why that could not be.
    pub(super) fn ping(&self, beat: Beat) -> Option<String> {
        let ping = self.config.notify.ping.as_ref()?;
        let suffix = match beat {
            Beat::Success => "",
            Beat::Start if ping.all => "/start",
            Beat::Failure if ping.all => "/fail",
            Beat::Start | Beat::Failure => return None,
        };
        let sent = secret::read(&ping.url).and_then(|url| {
            let (path, query) =
                url.split_once('?').map_or((&**url, String::new()), |(p, q)| (p, format!("?{q}")));
            let url = zeroize::Zeroizing::new(format!("{}{suffix}{query}", path.trim_end_matches('/')));
            let letter = Letter { headers: Vec::new(), body: String::new() };
            post::post(&url, &letter, None, ping.within, self.stopped)
        });
        sent.err().map(|why| format!("the dead-man service of `ping` could not be told: {why}"))
    }
}
