//! The instants at which a [`Schedule`] is due.
//!
//! Between two changes of a zone's offset, local time runs evenly; so the search goes from one such stretch to the next, and looks at what the
//! change between them left out or brings again.

use crate::model::schedule::Schedule;
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan as _};

/// 29 February on one weekday may be 40 years away.
const FAR: SignedDuration = SignedDuration::from_hours(50 * 366 * 24);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// How far back [`Schedule::last`] looks, in hours, one after the other: it then counts few instants, however long nothing was due.
const BACK: [i64; 5] = [1, 24, 32 * 24, 366 * 24, 50 * 366 * 24];

/// A stretch of even time.
struct Stretch {
    /// Its first instant; before it another offset held.
    start: Option<(Timestamp, Offset)>,
    offset: Offset,
    /// The first instant after it.
    end: Timestamp,
}

impl Schedule {
    /// The first instant after `after` at which it is due, in `zone`; `None` when that is out of the calendar's reach.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let far = after.saturating_add(FAR).unwrap_or(Timestamp::MAX);
        let changed = zone.preceding(after.saturating_add(1.nanosecond()).ok()?).next();
        let mut start = changed.and_then(|change| start_at(zone, change.timestamp()));
        let mut from = after;
        let mut changes = zone.following(after);
        loop {
            let change = changes.next();
            let end = change.as_ref().map_or(far, |change| change.timestamp().min(far));
            let stretch = Stretch { start, offset: zone.to_offset(from), end };
            if let Some(due) = self.first_in(&stretch, after) {
                return Some(due);
            }
            let at = change?.timestamp();
            if at >= far {
                return None;
            }
            start = start_at(zone, at);
            from = at;
        }
    }

    /// The last instant after `after`, at or before `until`, at which it was due.
    pub fn last(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        for hours in BACK {
            let back = until.saturating_sub(SignedDuration::from_hours(hours)).unwrap_or(Timestamp::MIN);
            let from = back.max(after);
            let due = |at: &Timestamp| self.next(*at, zone).filter(|next| *next <= until);
            if let Some(last) = std::iter::successors(due(&from), due).last() {
                return Some(last);
            }
            if from == after {
                break;
            }
        }
        None
    }

    fn first_in(&self, stretch: &Stretch, after: Timestamp) -> Option<Timestamp> {
        let mut from = floor(stretch.offset.to_datetime(after)).checked_add(MINUTE).ok()?;
        if let Some((start, before)) = stretch.start {
            let (old, new) = (before.to_datetime(start), stretch.offset.to_datetime(start));
            // What the change left out is due when it is over.
            if new > old && start > after && self.first_local(ceiling(old)?, new).is_some() {
                return Some(start);
            }
            from = from.max(ceiling(new)?);
            if new < old && !self.interval {
                from = from.max(ceiling(old)?);
            }
        }
        let until = stretch.offset.to_datetime(stretch.end);
        let due = self.first_local(from, until)?;
        stretch.offset.to_timestamp(due).ok()
    }

    /// The first time of the calendar at or after `from`, before `until`, whatever a clock there shows.
    fn first_local(&self, from: DateTime, until: DateTime) -> Option<DateTime> {
        let mut day = from.date();
        let mut earliest = (from.hour(), from.minute());
        while day <= until.date() {
            if !has(self.months, day.month()) {
                day = day.last_of_month().tomorrow().ok()?;
            } else {
                if let Some((hour, minute)) = self.time_on(day, earliest) {
                    let due = day.at(hour, minute, 0, 0);
                    return (due < until).then_some(due);
                }
                day = day.tomorrow().ok()?;
            }
            earliest = (0, 0);
        }
        None
    }

    fn time_on(&self, day: Date, (hour, minute): (i8, i8)) -> Option<(i8, i8)> {
        let in_month = has(self.days, day.day());
        let in_week = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        if if self.both_days { in_month && in_week } else { in_month || in_week } {
            let at_hour = |h: i8| {
                let first = if h == hour { minute } else { 0 };
                (first..60).find(|m| has(self.minutes, *m)).map(|m| (h, m))
            };
            return (hour..24).filter(|h| has(self.hours, *h)).find_map(at_hour);
        }
        None
    }
}

fn has(bits: u64, value: i8) -> bool {
    bits >> value & 1 == 1
}

/// The offset that ended at `change`; none where nothing ends.
fn start_at(zone: &TimeZone, change: Timestamp) -> Option<(Timestamp, Offset)> {
    let before = change.checked_sub(1.nanosecond()).ok()?;
    Some((change, zone.to_offset(before)))
}

fn floor(time: DateTime) -> DateTime {
    time.date().at(time.hour(), time.minute(), 0, 0)
}

/// Offsets of long ago have seconds, and what is due is a whole minute of local time.
fn ceiling(time: DateTime) -> Option<DateTime> {
    let whole = floor(time);
    if whole == time { Some(whole) } else { whole.checked_add(MINUTE).ok() }
}
