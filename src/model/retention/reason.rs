//! Why a snapshot stays or goes, in words.

use crate::model::chain::Untrusted;
use crate::model::retention::freeze::FreezeKind;
use crate::model::retention::period::Period;
use crate::model::retention::times::Odd;
use jiff::SignedDuration;
use std::fmt;

/// Why a snapshot stays, or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says in words what it is")]
pub enum Reason {
    // It stays.
    Untrusted(Untrusted),
    Milestone,
    LateVoid(String),
    Odd(Odd),
    RunMayGoOn,
    Safety,
    SafetyNeeded,
    NoComponents,
    Frozen(FreezeKind),
    NothingGood,
    NotProvedYet,
    NewestGood,
    MinKeep(u64),
    TooFewGood(u64),
    Last(u64),
    Within(SignedDuration),
    FirstOf(Period),
    FirstNotGood(Period),
    Tag(String),
    /// The newest good one, or the newest where none is good.
    DeleteRefused {
        good: bool,
    },
    // It goes.
    Void(String),
    RunEnded,
    RunLost,
    SafetyOver,
    DeleteAsked,
    Expired,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untrusted(why) => write!(f, "not trusted ({why}): only what is trusted is ever deleted"),
            Self::Milestone => f.write_str("milestone"),
            Self::LateVoid(why) => {
                write!(f, "said to be void, but only after a later snapshot; `delete` takes it away ({why})")
            }
            Self::Odd(odd) => write!(f, "odd time, so it counts for nothing: {odd}"),
            Self::RunMayGoOn => f.write_str("interim record of a run that may go on"),
            Self::Safety => f.write_str("safety snapshot of the last 7 days"),
            Self::SafetyNeeded => f.write_str("safety snapshot, and no good snapshot was made after it"),
            Self::NoComponents => f.write_str("it names no component"),
            Self::Frozen(kind) => write!(f, "frozen: {kind}"),
            Self::NothingGood => f.write_str(
                "no snapshot is good: incomplete, damaged, or not proved lately (`backstay verify --read-data` proves them)",
            ),
            Self::NotProvedYet => f.write_str("newer than the newest good one, and not proved yet"),
            Self::NewestGood => f.write_str("newest good one"),
            Self::MinKeep(number) => write!(f, "one of the {number} good ones that always stay (min_keep)"),
            Self::TooFewGood(number) => write!(
                f,
                "not good, and fewer than {number} newer ones are (min_keep); `backstay verify --read-data` proves what was not proved lately"
            ),
            Self::Last(number) => write!(f, "keep_last = {number}"),
            Self::Within(span) => write!(f, "not older than {} (keep_within)", span_words(*span)),
            Self::FirstOf(period) => write!(f, "first good one of its {}", period.word()),
            Self::FirstNotGood(period) => {
                write!(f, "first of its {}, none of which is good; it takes no other's place", period.word())
            }
            Self::Tag(tag) => write!(f, "tag {tag} (keep_tags)"),
            Self::DeleteRefused { good: true } => {
                f.write_str("deletion was asked for, but it is the newest good one, which always stays")
            }
            Self::DeleteRefused { good: false } => f.write_str(
                "deletion was asked for, but none is good, and it is the newest, which always stays",
            ),
            Self::Void(why) => write!(f, "void: {why}"),
            Self::RunEnded => f.write_str("interim record of a run that is committed"),
            Self::RunLost => f.write_str("interim record of a run that never ended"),
            Self::SafetyOver => {
                f.write_str("safety snapshot older than 7 days, and a good one was made since")
            }
            Self::DeleteAsked => f.write_str("deletion was asked for"),
            Self::Expired => f.write_str("no rule keeps it"),
        }
    }
}

/// A duration as the configuration writes it.
fn span_words(span: SignedDuration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    match units.iter().find(|(unit, _)| seconds != 0 && seconds % unit == 0) {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

/// A reason, and the components that it holds for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Because {
    /// Why.
    pub reason: Reason,
    /// For these components only; for the whole snapshot when empty.
    pub components: Vec<u64>,
}

impl Because {
    pub(super) fn whole(reason: Reason) -> Self {
        Self { reason, components: Vec::new() }
    }

    /// In words; `name` says what a component is called.
    pub fn words(&self, name: &dyn Fn(u64) -> String) -> String {
        if self.components.is_empty() {
            return self.reason.to_string();
        }
        let names: Vec<String> = self.components.iter().map(|number| name(*number)).collect();
        format!("{}: {}", names.join(", "), self.reason)
    }
}
