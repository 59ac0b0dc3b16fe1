//! What the end of a run means for what is wrong.

use crate::agent::tell::memory::{Memory, Trouble};
use crate::config::{Config, Tell};
use crate::model::Timestamp;
use crate::ops::doctor::span;
use jiff::SignedDuration;
use std::fmt;

/// What is wrong when a snapshot is not in every store.
pub(super) const STORES: &str = "stores";
/// Before the name of a component that shrank.
const SHRUNK: &str = "size of ";
/// Before the names of the components of a backup that is not of all.
const PART: &str = "backup of ";
const KIT: &str = "kit";
const KIT_NEVER: &str = "no recovery kit was ever proved";
const KIT_STALE: &str = "keys or stores changed since a recovery kit was proved: it is stale";
const STALE: &str = "stale";
/// What was noted so far in the future was noted by a clock that was wrong.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);
/// Nobody prints a kit in the minute in which a project is set up.
const KIT_PATIENCE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// `backup`, of these components; of all when there are none.
    Backup(Vec<String>),
    /// `sync`.
    Sync,
    /// `verify`.
    Verify,
    /// `drill`.
    Drill,
    /// `prune`.
    Prune,
    /// `rollback`.
    Rollback,
    /// `guard`.
    Guard,
}

impl Task {
    /// True for a backup.
    pub fn is_backup(&self) -> bool {
        matches!(self, Self::Backup(_))
    }

    /// True for what a person does when it is needed, and no schedule ever.
    pub fn is_by_hand(&self) -> bool {
        matches!(self, Self::Rollback | Self::Guard)
    }
}

/// The same words whoever runs it, so that one run ends what another told of.
impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backup(only) if only.is_empty() => f.write_str("backup"),
            Self::Backup(only) => {
                let mut only = only.clone();
                only.sort();
                write!(f, "{PART}{}", only.join(", "))
            }
            Self::Sync => f.write_str("sync"),
            Self::Verify => f.write_str("verify"),
            Self::Drill => f.write_str("drill"),
            Self::Prune => f.write_str("prune"),
            Self::Rollback => f.write_str("rollback"),
            Self::Guard => f.write_str("guard"),
        }
    }
}

/// True for the name of a backup of some components only.
pub fn is_part(task: &str) -> bool {
    task.starts_with(PART)
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What ran.
    pub task: Task,
    /// Its exit code.
    pub code: u8,
    /// What it said of its trouble.
    pub text: String,
    /// When a kit was last proved, as far as this machine knows.
    pub kit_proved: bool,
    /// Keys or stores changed since; none where nobody looked.
    pub kit_stale: Option<bool>,
    /// Components of which retention lets nothing go because they shrank, and why; none where nobody looked.
    pub shrunk: Option<Vec<(String, String)>>,
    /// A store lacks something of it, whatever worse its code tells of.
    pub behind: bool,
}

/// Ends that say nothing of how things are: usage, another run, a signal; and of what a person began, what they were refused before anything was touched.
pub fn says_nothing(task: &Task, code: u8) -> bool {
    matches!(code, 2 | 11 | 128..) || task.is_by_hand() && matches!(code, 12 | 14 | 16)
}

/// Takes the end of a run into the memory.
pub(super) fn judge(config: &Config, memory: &mut Memory, outcome: &Outcome, now: Timestamp) {
    if says_nothing(&outcome.task, outcome.code) {
        return;
    }
    set_right(memory, now);
    let about = outcome.task.to_string();
    let trouble = |event: Tell, title: String| Trouble {
        since: now,
        event: event.word().to_owned(),
        code: Some(outcome.code),
        title,
        text: outcome.text.clone(),
    };
    let brings = matches!(outcome.task, Task::Backup(_) | Task::Sync);
    match outcome.code {
        0 => {
            memory.over(&about);
            // A backup of everything made what a backup of a part did not; that part may never be asked for again.
            if outcome.task == Task::Backup(Vec::new()) {
                memory.troubles.retain(|known, _| !is_part(known));
            }
            if brings {
                memory.over(STORES);
                memory.over(&Task::Sync.to_string());
            }
        }
        4 => memory.over(&about),
        13 => {
            memory.trouble(&about, trouble(Tell::Damage, format!("{about} found damage or missing history")));
        }
        18 if outcome.task == Task::Prune => {
            memory.trouble(
                &about,
                trouble(Tell::Shrink, "retention lets nothing go: something looks wrong".to_owned()),
            );
        }
        17 => memory.trouble(
            &about,
            trouble(Tell::Failure, format!("{about} did not go well, and was taken back (exit code 17)")),
        ),
        3 => memory.trouble(&about, trouble(Tell::Failure, format!("{about} is incomplete"))),
        code => memory.trouble(&about, trouble(Tell::Failure, format!("{about} failed (exit code {code})"))),
    }
    if outcome.code == 4 || outcome.behind {
        memory.trouble(STORES, trouble(Tell::Failure, "not every store has the newest snapshot".to_owned()));
    }
    if outcome.task.is_backup() {
        if matches!(outcome.code, 0 | 4) {
            memory.last_good = Some(now);
        }
        kit(memory, outcome, now);
    }
    if let Some(shrunk) = &outcome.shrunk {
        shrank(memory, shrunk, now);
    }
    stale(config, memory, now);
}

/// A component by itself, so that a second one is told of, too. It is over when retention is free again.
fn shrank(memory: &mut Memory, shrunk: &[(String, String)], now: Timestamp) {
    let about = |component: &String| format!("{SHRUNK}{component}");
    let now_wrong: Vec<String> = shrunk.iter().map(|(component, _)| about(component)).collect();
    memory.troubles.retain(|known, _| !known.starts_with(SHRUNK) || now_wrong.contains(known));
    for (component, text) in shrunk {
        let event = Tell::Shrink.word().to_owned();
        let title = format!("{component} shrank by more than half: nothing of it is deleted");
        let trouble = Trouble { since: now, event, code: None, title, text: text.clone() };
        memory.trouble(&about(component), trouble);
    }
}

fn kit(memory: &mut Memory, outcome: &Outcome, now: Timestamp) {
    let title = match (outcome.kit_proved, outcome.kit_stale) {
        (false, _) if now.duration_since(memory.first) <= KIT_PATIENCE => return,
        (false, _) => KIT_NEVER,
        (true, Some(true)) => KIT_STALE,
        // What was stale is so until somebody who can tell looks again.
        (true, None) if memory.troubles.get(KIT).is_some_and(|known| known.title == KIT_STALE) => return,
        (true, _) => return memory.over(KIT),
    };
    let text =
        "print it with `backstay kit -o FILE`, keep it off this machine, and run `backstay kit verify FILE`";
    let (event, title) = (Tell::Kit.word().to_owned(), title.to_owned());
    memory.trouble(KIT, Trouble { since: now, event, code: None, title, text: text.to_owned() });
}

/// What a clock that was ahead noted counts as now: an age below nothing would keep every alarm still, for years perhaps.
fn set_right(memory: &mut Memory, now: Timestamp) {
    let right = |noted: &mut Timestamp| {
        if noted.duration_since(now) > AHEAD {
            *noted = now;
        }
    };
    [Some(&mut memory.first), memory.last_good.as_mut()].into_iter().flatten().for_each(right);
}

/// Whether no backup went well for too long.
pub(super) fn stale(config: &Config, memory: &mut Memory, now: Timestamp) {
    set_right(memory, now);
    let Some(limit) = config.notify.stale else { return memory.over(STALE) };
    let limit = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
    let last = memory.last_good.unwrap_or(memory.first);
    let age = now.duration_since(last);
    if age <= limit {
        return memory.over(STALE);
    }
    let title = format!("no backup went well for more than {}", span(limit.as_secs()));
    let text = match memory.last_good {
        Some(_) => format!(
            "the last good one was made {} ago; `backstay status` says how things stand",
            span(age.as_secs())
        ),
        None => "none was made since notifications were set up; `backstay status` says how things stand"
            .to_owned(),
    };
    memory.trouble(
        STALE,
        Trouble { since: now, event: Tell::Stale.word().to_owned(), code: None, title, text },
    );
}
