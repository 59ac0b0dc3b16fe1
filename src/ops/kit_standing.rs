//! How a project stands with its recovery kit: whether one was ever proved on this machine, and whether it still says what is so.

use crate::catalog::KitMemory;
use crate::model::Timestamp;
use crate::ops::kit_verify::of_session;
use crate::ops::session::Session;
use serde::{Deserialize, Serialize};

/// How the project stands with its kit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KitStanding {
    /// When a kit was last proved on this machine.
    pub proved: Option<Timestamp>,
    /// Keys or stores changed since.
    pub stale: bool,
    /// What somebody should do about it; none when all is well, or when that was said within the last week.
    pub reminder: Option<String>,
}

/// Reminders come at most this often.
const REMIND: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

/// How things stand, with what to do about it. Changes nothing.
pub fn look(session: &Session) -> KitStanding {
    let memory = session.state.as_ref().map(crate::catalog::State::kit_memory).unwrap_or_default();
    let stale = match (memory.essence, of_session(session)) {
        (Some(then), Ok(now)) => then != now,
        _ => false,
    };
    let what = match memory.proved {
        None => Some(
            "no recovery kit of this project was ever proved: print it (`backstay kit -o FILE`), then run `backstay kit verify FILE`",
        ),
        Some(_) if stale => Some(
            "keys or stores changed since a recovery kit was proved: make a new one (`backstay kit -o FILE`), then run `backstay kit verify FILE`",
        ),
        Some(_) => None,
    };
    KitStanding { proved: memory.proved, stale, reminder: what.map(str::to_owned) }
}

/// How things stand, and whether to say something now; that it was said is remembered. Never fails a run.
pub fn standing(session: &Session) -> KitStanding {
    let Some(state) = &session.state else {
        return KitStanding { proved: None, stale: false, reminder: None };
    };
    let (seen, memory) = (look(session), state.kit_memory());
    let now = session.around.clock.now();
    let due = memory.reminded.is_none_or(|then| now.duration_since(then) >= REMIND || then > now);
    if seen.reminder.is_some() && due {
        // If it cannot be remembered it is said once more.
        let _said_again = state.remember_kit(&KitMemory { reminded: Some(now), ..memory });
    }
    KitStanding { reminder: seen.reminder.filter(|_| due), ..seen }
}
