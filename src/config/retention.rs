//! `[retention]`: which snapshots are kept, of the file or of one store.

use crate::config::block::{At, Block};
use crate::config::render::Found;
use crate::config::resolve::Work;
use crate::model::retention::{self, Policy};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use std::time::Duration;

/// Which snapshots are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many.
    pub keep_last: Option<u64>,
    /// Everything not older than this.
    pub keep_within: Option<Duration>,
    /// The first of each hour.
    pub hourly: Rule,
    /// The first of each day.
    pub daily: Rule,
    /// The first of each week.
    pub weekly: Rule,
    /// The first of each month.
    pub monthly: Rule,
    /// The first of each year.
    pub yearly: Rule,
    /// Snapshots with one of these tags.
    pub keep_tags: Vec<String>,
    /// Never fewer good snapshots than this.
    pub min_keep: u64,
    /// The time zone that hours, days, weeks, months and years are of; this machine's if there is none.
    pub zone: Option<String>,
}

/// For how many periods, or how far back, the first snapshot of each period is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rule {
    /// So many periods.
    pub count: Option<u64>,
    /// Periods not older than this.
    pub within: Option<Duration>,
}

const DAY: u64 = 86_400;
/// Fewer good snapshots than this are never kept, unless the configuration says otherwise.
const MIN_KEEP: u64 = 3;

impl Default for Retention {
    /// Everything of 7 days, one a week for 30 days, at least three good ones.
    fn default() -> Self {
        let weekly = Rule { count: None, within: Some(Duration::from_secs(30 * DAY)) };
        Self { keep_within: Some(Duration::from_secs(7 * DAY)), weekly, ..Self::keeping_nothing() }
    }
}

impl Retention {
    fn keeping_nothing() -> Self {
        let none = Rule::default();
        Self {
            keep_last: None,
            keep_within: None,
            hourly: none,
            daily: none,
            weekly: none,
            monthly: none,
            yearly: none,
            keep_tags: Vec::new(),
            min_keep: MIN_KEEP,
            zone: None,
        }
    }
}

impl Retention {
    /// The rules to decide by, with days and weeks of `zone`.
    pub(super) fn policy(&self, zone: TimeZone) -> Policy {
        let rule = |rule: Rule| retention::Rule { count: rule.count, within: rule.within.map(span) };
        Policy {
            keep_last: self.keep_last,
            keep_within: self.keep_within.map(span),
            periods: [self.hourly, self.daily, self.weekly, self.monthly, self.yearly].map(rule),
            keep_tags: self.keep_tags.iter().cloned().collect(),
            min_keep: self.min_keep,
            zone,
        }
    }
}

fn span(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// What a `[retention]` table says.
pub(super) fn retention(work: &mut Work<'_>, mut block: Block) -> Option<Retention> {
    // An empty list of tags keeps nothing: alone it would let everything go that `min_keep` does not hold.
    let tags: Vec<String> = block.texts("keep_tags").into_iter().map(|at| at.value).collect();
    let mut rules = block.named.keys().filter(|name| name.starts_with("keep_") && **name != "keep_tags");
    if rules.next().is_none() && tags.is_empty() {
        let hint = "add at least one rule, such as keep_within = \"7d\"; without [retention] it is 7 days, and one a week for 30 days";
        work.mistake(Found::at(&block.span, "this retention keeps nothing").hint(hint));
        return None;
    }
    let mut rule =
        |count: &str, within: &str| Rule { count: block.number(count), within: block.time(within) };
    let hourly = rule("keep_hourly", "keep_hourly_within");
    let daily = rule("keep_daily", "keep_daily_within");
    let weekly = rule("keep_weekly", "keep_weekly_within");
    let monthly = rule("keep_monthly", "keep_monthly_within");
    let yearly = rule("keep_yearly", "keep_yearly_within");
    let nothing = Retention::keeping_nothing();
    let zone = block.text("timezone").and_then(|at| zone(work, at));
    Some(Retention {
        keep_last: block.number("keep_last"),
        keep_within: block.time("keep_within"),
        hourly,
        daily,
        weekly,
        monthly,
        yearly,
        keep_tags: tags,
        min_keep: block.number("min_keep").unwrap_or(nothing.min_keep),
        zone,
    })
}

/// The name of a time zone that this machine knows.
pub(super) fn zone(work: &mut Work<'_>, at: At<String>) -> Option<String> {
    if TimeZone::get(&at.value).is_ok() {
        return Some(at.value);
    }
    let what = format!("{:?} is no time zone that this machine knows", at.value);
    work.mistake(
        Found::at(&at.span, what).hint("a time zone is named as in timezone = \"Europe/Berlin\" or \"UTC\""),
    );
    None
}
