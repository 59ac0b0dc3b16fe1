//! From text to a [`Schedule`]: every mistake names the field, and what could stand there.

use crate::model::schedule::Schedule;

/// Why a text is no schedule, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ScheduleError {
    /// What is wrong, and in which field.
    pub what: String,
    /// What to write.
    pub hint: String,
}

fn wrong(what: impl Into<String>, hint: impl Into<String>) -> ScheduleError {
    ScheduleError { what: what.into(), hint: hint.into() }
}

const SHAPE: &str =
    "five fields: minute hour day-of-month month day-of-week, as in \"0 3 * * *\" (every day at 3:00)";
const WORDS: [(&str, &str); 4] =
    [("@hourly", "0 * * * *"), ("@daily", "0 0 * * *"), ("@weekly", "0 0 * * 0"), ("@monthly", "0 0 1 * *")];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// The most days that each month has.
const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// One of the five.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// Names of values, the first for `min`.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, names: &[] },
    Field { name: "hour", min: 0, max: 23, names: &[] },
    Field { name: "day of the month", min: 1, max: 31, names: &[] },
    Field { name: "month", min: 1, max: 12, names: &MONTHS },
    Field { name: "day of the week", min: 0, max: 7, names: &WEEKDAYS },
];

pub(super) fn parse(text: &str) -> Result<Schedule, ScheduleError> {
    let text = text.trim();
    let fields = match text.strip_prefix('@') {
        Some(_) => word(text)?,
        None => text,
    };
    let parts: Vec<&str> = fields.split_whitespace().collect();
    let &[minute, hour, day, month, weekday] = &parts[..] else {
        let what = match parts.len() {
            6 => format!("{text:?} has six fields; there is none for seconds here"),
            n => format!("{text:?} has {n} field{}, not five", if n == 1 { "" } else { "s" }),
        };
        return Err(wrong(what, SHAPE));
    };
    let [of_minute, of_hour, of_day, of_month, of_weekday] = &FIELDS;
    let weekdays = of_weekday.bits(weekday)?;
    let schedule = Schedule {
        text: text.to_owned(),
        minutes: of_minute.bits(minute)?,
        hours: of_hour.bits(hour)?,
        days: of_day.bits(day)?,
        months: of_month.bits(month)?,
        // 7 is Sunday, too.
        weekdays: (weekdays | weekdays >> 7) & 0x7f,
        both_days: day.starts_with('*') || weekday.starts_with('*'),
        interval: hour.starts_with('*') && !hour.contains(','),
    };
    if schedule.is_never() {
        let what = format!("{text:?} is never due: none of its months has such a day of the month");
        return Err(wrong(what, "the last days of a month are 28 to 31; take 28 or less, or another month"));
    }
    Ok(schedule)
}

fn word(text: &str) -> Result<&'static str, ScheduleError> {
    let found = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|(_, fields)| *fields).ok_or_else(|| {
        wrong(
            format!("{text:?} is no word for a schedule"),
            "@hourly, @daily, @weekly, @monthly; or five fields",
        )
    })
}

impl Field {
    fn bits(&self, text: &str) -> Result<u64, ScheduleError> {
        text.split(',').try_fold(0, |bits, item| Ok(bits | self.item(item)?))
    }

    fn item(&self, text: &str) -> Result<u64, ScheduleError> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(self.step(text, step)?)),
            None => (text, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.min, self.last()),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None if step.is_some() => {
                let hint = format!("write {range}-{}/…, or */… for the whole field", self.last());
                return Err(wrong(format!("{}: {text:?} has a step but no range", self.name), hint));
            }
            None => {
                let value = self.value(range)?;
                (value, value)
            }
        };
        if first > last {
            let hint = format!("name both stretches: {range:?} as {}-{} and {}-…", self.min, last, first);
            return Err(wrong(format!("{}: {range:?} begins after it ends", self.name), hint));
        }
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(1);
        Ok((first..=last).step_by(step).fold(0, |bits, value| bits | 1 << value))
    }

    /// The highest value of `*`: Sunday is counted once.
    fn last(&self) -> u32 {
        if self.names.len() == 7 { 6 } else { self.max }
    }

    fn step(&self, item: &str, step: &str) -> Result<u32, ScheduleError> {
        let most = self.last() - self.min;
        match number(step) {
            Some(step) if (1..=most).contains(&step) => Ok(step),
            _ => {
                let what = format!("{}: the step of {item:?} must be from 1 to {most}", self.name);
                Err(wrong(
                    what,
                    "a step counts within its field and begins anew in the next hour, day or month",
                ))
            }
        }
    }

    fn value(&self, text: &str) -> Result<u32, ScheduleError> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + self.min);
        let value = named.or_else(|| number(text)).filter(|value| (self.min..=self.max).contains(value));
        value.ok_or_else(|| {
            let mut hint = format!("a number from {} to {}", self.min, self.max);
            if let (Some(first), Some(last)) = (self.names.first(), self.names.last()) {
                hint.push_str(&format!(", or a name from {first} to {last}"));
            }
            if text == "?" {
                "* means any".clone_into(&mut hint);
            }
            wrong(format!("{}: {text:?} is not possible", self.name), hint)
        })
    }
}

/// Digits alone: `+3` and `٣` are no numbers here.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Schedule {
    /// True when no calendar has such a day.
    fn is_never(&self) -> bool {
        let earliest = self.days.trailing_zeros();
        let fits = |month: usize, days: &u32| self.months >> (month + 1) & 1 == 1 && earliest <= *days;
        self.both_days && !LONGEST.iter().enumerate().any(|(month, days)| fits(month, days))
    }
}
