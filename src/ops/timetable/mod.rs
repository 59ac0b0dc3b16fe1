//! What is to run by itself: what is due now, what comes next, and what came of it, as the agent remembers it in the state folder.
//!
//! It decides from the configuration, the memory and the time it is given, and runs nothing. This module must never forget a time that was due
//! and not handled, and never call one handled before what ran for it has ended.

mod memory;
mod page_note;
mod plan;
mod standing;
mod turn;

pub use memory::{Behind, JobMemory, Last, Memory, Retry, Running, agent_lock};
pub use page_note::PageNote;
pub use plan::{Line, Next, Start, Verdict, What, lines, next, pause, verdict};
pub use standing::{JobStanding, PAGE_WAY_OUT, Standing, standing};
pub use turn::{End, Turn};

use crate::config::Config;
use jiff::tz::TimeZone;

/// What whoever runs a schedule says of itself in its lock.
pub const AGENT: &str = "agent";

/// How the agent's memory, and the lock of whatever runs it, is named in the state folder.
const MEMORY: &str = "agent.json";
const LOCK: &str = "agent.lock";

/// The zone of the schedule's times.
fn zone_of(config: &Config) -> TimeZone {
    let named = config.schedule.as_ref().and_then(|schedule| schedule.zone.as_ref());
    // The name was tried when the file was read; should its rules be gone since, days are still days.
    named.map_or_else(TimeZone::system, |name| TimeZone::get(name).unwrap_or(TimeZone::UTC))
}

/// The name of this machine, which the spread of times follows.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
