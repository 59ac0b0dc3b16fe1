//! The rules as values.

use crate::model::retention::period::Period;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;

/// For how many periods, or how far back, the first good snapshot of each period is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rule {
    /// So many periods that have a good snapshot.
    pub count: Option<u64>,
    /// Periods whose snapshot is not older than this.
    pub within: Option<SignedDuration>,
}

/// Which snapshots of a host are kept. A snapshot is kept when any rule keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many good ones.
    pub keep_last: Option<u64>,
    /// Everything not older than this.
    pub keep_within: Option<SignedDuration>,
    /// The first good one of each period, by [`Period`] in its order.
    pub periods: [Rule; 5],
    /// Snapshots that ever had one of these tags.
    pub keep_tags: BTreeSet<String>,
    /// Never fewer good ones than this.
    pub min_keep: u64,
    /// Where days, weeks, months and years begin.
    pub zone: TimeZone,
}

impl Policy {
    /// Keeps nothing but what is never removed.
    pub fn bare(zone: TimeZone) -> Self {
        Self {
            keep_last: None,
            keep_within: None,
            periods: [Rule::default(); 5],
            keep_tags: BTreeSet::new(),
            min_keep: 0,
            zone,
        }
    }

    /// The rule of a period.
    pub fn rule(&self, period: Period) -> Rule {
        self.periods[period as usize]
    }
}
