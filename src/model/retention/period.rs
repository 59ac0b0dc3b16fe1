//! Hours, days, weeks, months and years of a time zone.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A length of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// An hour of the clock; the hour that comes twice when clocks are put back is two.
    Hour = 0,
    /// A day.
    Day = 1,
    /// A week of ISO 8601, from Monday.
    Week = 2,
    /// A month.
    Month = 3,
    /// A year.
    Year = 4,
}

/// Tells one period from another of the same length.
pub(super) type PeriodKey = (i16, i16, i8, i32);

impl Period {
    /// All of them, shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// The period of `zone` that `time` lies in.
    pub(super) fn key(self, time: Timestamp, zone: &TimeZone) -> PeriodKey {
        let there = time.to_zoned(zone.clone());
        let date = there.date();
        match self {
            Self::Hour => (there.year(), date.day_of_year(), there.hour(), there.offset().seconds()),
            Self::Day => (there.year(), date.day_of_year(), 0, 0),
            Self::Week => {
                let week = date.iso_week_date();
                (week.year(), 0, week.week(), 0)
            }
            Self::Month => (there.year(), 0, there.month(), 0),
            Self::Year => (there.year(), 0, 0, 0),
        }
    }
}
