//! At what time a snapshot counts, and which times cannot be.

use crate::model::chain::Trust;
use crate::model::retention::Held;
use jiff::{SignedDuration, Timestamp};

/// Clocks may differ by this much.
const OFF_MAX: SignedDuration = SignedDuration::from_hours(1);

/// Why the time of a snapshot cannot be right. Such a snapshot is kept and counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Odd {
    /// It says that it was made later than now.
    #[error("it says that it was made in the future")]
    Future,
    /// The store had its record an hour or more before it was made.
    #[error("the store had its record before it says it was made")]
    BeforeStore,
    /// It was made after one that says it was made later.
    #[error("its time runs backwards: one made before it says a later time")]
    Backwards,
    /// It ended before it began.
    #[error("it says that it ended before it began")]
    Reversed,
}

/// The time of each of `held`: the earlier of what its record and its store say.
pub(super) fn of(held: &[Held<'_>], now: Timestamp) -> Vec<Result<Timestamp, Odd>> {
    let mut reached = Timestamp::MIN;
    held.iter()
        .map(|one| {
            // The order of what untrusted keys say is nobody's business.
            if one.known.trusted != Trust::Trusted {
                return alone(one, now);
            }
            let time = alone(one, now)?;
            let started = one.known.record.started;
            if started < reached {
                return Err(Odd::Backwards);
            }
            reached = started;
            Ok(time)
        })
        .collect()
}

fn alone(one: &Held<'_>, now: Timestamp) -> Result<Timestamp, Odd> {
    let (started, finished) = (one.known.record.started, one.known.record.finished);
    let later = |time: Timestamp| time.saturating_add(OFF_MAX).unwrap_or(Timestamp::MAX);
    if finished < started {
        return Err(Odd::Reversed);
    }
    if finished > later(now) {
        return Err(Odd::Future);
    }
    match one.stored {
        Some(stored) if finished > later(stored) => Err(Odd::BeforeStore),
        Some(stored) => Ok(started.min(stored)),
        None => Ok(started),
    }
}
