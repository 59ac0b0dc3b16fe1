//! Durations and sizes as people write them: `30s`, `10m`, `2h`, `7d`, `2w`; `500MB`, `64MiB`.
//!
//! A number without a unit is refused: what it was meant to be cannot be known.

use std::time::Duration;

/// Why a text is no duration or size, and what was probably meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadUnit {
    pub what: String,
    pub hint: String,
}

const DURATIONS: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];
const DURATION_HINT: &str = "a whole number and a unit: 90s, 10m, 2h, 30d, 4w";
const SIZE_HINT: &str = "a whole number and a unit: 500MB (decimal) or 64MiB, 1GiB (binary)";
/// A hundred years: longer is a slip, and would overflow calendars.
const DURATION_MAX: u64 = 100 * 366 * 86_400;

/// Reads a duration such as `30d`.
pub(super) fn duration(text: &str) -> Result<Duration, BadUnit> {
    let guess = |unit: &str| match unit.to_ascii_lowercase().as_str() {
        "sec" | "secs" | "second" | "seconds" => Some(("s", 1)),
        "min" | "mins" | "minute" | "minutes" => Some(("m", 1)),
        "hour" | "hours" | "hr" => Some(("h", 1)),
        "day" | "days" => Some(("d", 1)),
        "week" | "weeks" => Some(("w", 1)),
        "month" | "months" | "mo" => Some(("d", 30)),
        "y" | "year" | "years" => Some(("d", 365)),
        lower => DURATIONS.iter().find(|(known, _)| *known == lower).map(|(known, _)| (*known, 1)),
    };
    let seconds = read(text, &DURATIONS, "duration", DURATION_HINT, guess)?;
    if seconds > DURATION_MAX {
        return Err(BadUnit {
            what: format!("{text:?} is longer than a hundred years"),
            hint: DURATION_HINT.into(),
        });
    }
    Ok(Duration::from_secs(seconds))
}

/// Reads a size such as `64MiB`, in bytes.
pub(super) fn size(text: &str) -> Result<u64, BadUnit> {
    let guess = |unit: &str| {
        let lower = unit.to_ascii_lowercase();
        let full = match lower.as_str() {
            "k" | "m" | "g" | "t" => format!("{lower}ib"),
            "bytes" | "byte" => "b".to_owned(),
            _ => lower,
        };
        SIZES.iter().find(|(known, _)| known.eq_ignore_ascii_case(&full)).map(|(known, _)| (*known, 1))
    };
    read(text, &SIZES, "size", SIZE_HINT, guess)
}

/// Reads a size a second such as `5MiB/s`, in bytes; `/s` may be left away.
pub(super) fn rate(text: &str) -> Result<u64, BadUnit> {
    let bare = text.strip_suffix("/s").unwrap_or(text);
    size(bare).map_err(|_| BadUnit {
        what: format!("{text:?} is not a size a second"),
        hint: "a whole number, a unit, and a second: 5MiB/s; bits (`Mbit`) are not known".to_owned(),
    })
}

/// Writes `bytes` with the largest unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    let fits = |(_, worth): &&(&str, u64)| bytes >= *worth && bytes.is_multiple_of(*worth);
    let best = SIZES.iter().filter(fits).max_by_key(|(_, worth)| *worth);
    best.map_or_else(|| format!("{bytes}B"), |(unit, worth)| format!("{}{unit}", bytes / worth))
}

/// Writes `time` with the largest unit that divides it.
pub(super) fn show_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let fits = |(_, worth): &&(&str, u64)| seconds >= *worth && seconds.is_multiple_of(*worth);
    let best = DURATIONS.iter().rev().find(fits);
    best.map_or_else(|| format!("{seconds}s"), |(unit, worth)| format!("{}{unit}", seconds / worth))
}

fn read(
    text: &str,
    units: &[(&'static str, u64)],
    noun: &str,
    usual: &str,
    guess: impl Fn(&str) -> Option<(&'static str, u64)>,
) -> Result<u64, BadUnit> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let bad = |hint: String| BadUnit { what: format!("{text:?} is not a {noun}"), hint };
    let Ok(number) = number.parse::<u64>() else {
        return Err(bad(usual.to_owned()));
    };
    if let Some((_, worth)) = units.iter().find(|(known, _)| *known == unit) {
        let whole = number.checked_mul(*worth);
        return whole
            .ok_or_else(|| BadUnit { what: format!("{text:?} is too large"), hint: usual.to_owned() });
    }
    match guess(unit.trim()) {
        Some((meant, times)) => Err(bad(format!("did you mean `{}{meant}`?", number.saturating_mul(times)))),
        None => Err(bad(usual.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_with_their_units_only() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7200), ("30d", 2_592_000), ("1w", 604_800)]
        {
            assert_eq!(duration(text).unwrap().as_secs(), seconds);
        }
        for (text, bytes) in [("64MiB", 64 << 20), ("1GiB", 1 << 30), ("500MB", 500_000_000), ("7B", 7)] {
            assert_eq!(size(text).unwrap(), bytes);
        }
        for wrong in ["", "d", "10", "-1d", "1.5h", "10 ", "1h30m", "99999999999999999999d", "1000000w"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "64", "MiB", "1.5GiB", "-1B", "18446744073709551615KiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_bytes_a_second() {
        for text in ["5MiB/s", "5MiB"] {
            assert_eq!(rate(text), Ok(5 << 20));
        }
        for wrong in ["5", "5M/s", "5Mbit/s", "5MiB/m", "5MiB /s", "/s"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_near_miss_is_told_what_was_meant() {
        assert_eq!(duration("10 min").unwrap_err().hint, "did you mean `10m`?");
        assert_eq!(duration("2 months").unwrap_err().hint, "did you mean `60d`?");
        assert_eq!(size("64M").unwrap_err().hint, "did you mean `64MiB`?");
        assert_eq!(size("64mb").unwrap_err().hint, "did you mean `64MB`?");
    }

    #[test]
    fn shown_values_read_back() {
        for bytes in [1, 1000, 1024, 500_000_000, 64 << 20, 1 << 30, 12_345] {
            assert_eq!(size(&show_size(bytes)).unwrap(), bytes);
        }
        for seconds in [2, 60, 90, 7200, 604_800] {
            let time = Duration::from_secs(seconds);
            assert_eq!(duration(&show_duration(time)).unwrap(), time);
        }
    }
}
