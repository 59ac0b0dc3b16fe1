//! When something is due: five fields as cron has them, in a time zone.
//!
//! Two things differ from a clock that only counts: a time of day that a change of the clock leaves out is due at the first instant after it, once;
//! a time of day that comes twice is due the first time only, unless the hour is `*` or `*/n`, which means an interval and goes on.
//!
//! This module must never look at the machine's clock or zone: both are given to it.

mod next;
mod parse;
mod spread;

pub use parse::ScheduleError;
pub use spread::spread;

use std::fmt;
use std::str::FromStr;

/// Times that come again: `0 3 * * *`, `*/15 8-18 * * MON-FRI`, `@daily`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    /// A bit each for 0 to 59.
    minutes: u64,
    /// 0 to 23.
    hours: u64,
    /// 1 to 31.
    days: u64,
    /// 1 to 12.
    months: u64,
    /// 0 (Sunday) to 6.
    weekdays: u64,
    /// A day must match both of day of the month and day of the week, because one of them begins with `*`; else either will do.
    both_days: bool,
    /// The hour is `*` or `*/n`.
    interval: bool,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        parse::parse(text)
    }
}

#[cfg(test)]
mod tests;
