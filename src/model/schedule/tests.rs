use super::*;
use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

fn schedule(text: &str) -> Schedule {
    text.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What is due after `from`, as local times with offset.
fn due(text: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let zone = TimeZone::get(zone).unwrap();
    let schedule = schedule(text);
    let mut now = at(from);
    let next = || {
        now = schedule.next(now, &zone)?;
        Some(now.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %:z").to_string())
    };
    std::iter::from_fn(next).take(count).collect()
}

#[test]
fn a_time_that_the_clock_leaves_out_is_due_once_when_it_goes_on() {
    let spring = "2026-03-28T12:00:00Z";
    let night = due("30 2 * * *", "Europe/Berlin", spring, 2);
    assert_eq!(night, ["2026-03-29 03:00 +02:00", "2026-03-30 02:30 +02:00"]);
    let many = due("*/10 2 * * *", "Europe/Berlin", spring, 2);
    assert_eq!(many, ["2026-03-29 03:00 +02:00", "2026-03-30 02:00 +02:00"]);
    let both = due("0 2,3 * * *", "Europe/Berlin", spring, 2);
    assert_eq!(both, ["2026-03-29 03:00 +02:00", "2026-03-30 02:00 +02:00"]);
    let howe = due("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 2);
    assert_eq!(howe, ["2026-10-04 02:30 +11:00", "2026-10-05 02:15 +11:00"]);
}

#[test]
fn a_time_that_comes_twice_is_due_once_and_an_interval_goes_on() {
    let autumn = "2026-10-24T23:00:00Z";
    let night = due("30 2 * * *", "Europe/Berlin", autumn, 2);
    assert_eq!(night, ["2026-10-25 02:30 +02:00", "2026-10-26 02:30 +01:00"]);
    let hourly = due("0 * * * *", "Europe/Berlin", autumn, 4);
    let expected = ["2026-10-25 02:00 +02:00", "2026-10-25 02:00 +01:00"];
    assert_eq!(hourly[0..2], expected);
    assert_eq!(hourly[2], "2026-10-25 03:00 +01:00");
    let howe = due("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", 2);
    assert_eq!(howe, ["2026-04-05 01:45 +11:00", "2026-04-06 01:45 +10:30"]);
}

#[test]
fn a_day_that_a_country_left_out_is_made_up_for_at_once() {
    let apia = due("0 3 * * *", "Pacific/Apia", "2011-12-29T14:00:00Z", 3);
    assert_eq!(apia, ["2011-12-31 00:00 +14:00", "2011-12-31 03:00 +14:00", "2012-01-01 03:00 +14:00"]);
    let friday = due("0 3 30 12 *", "Pacific/Apia", "2011-12-20T00:00:00Z", 2);
    assert_eq!(friday, ["2011-12-31 00:00 +14:00", "2012-12-30 03:00 +14:00"]);
}

#[test]
fn leap_days_come_when_they_come() {
    let four = due("0 12 29 2 *", "UTC", "2027-01-01T00:00:00Z", 2);
    assert_eq!(four, ["2028-02-29 12:00 +00:00", "2032-02-29 12:00 +00:00"]);
    // No leap year in 2100.
    let eight = due("0 12 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1);
    assert_eq!(eight, ["2104-02-29 12:00 +00:00"]);
}

#[test]
fn day_of_month_and_day_of_week_are_either_when_both_are_named_and_both_when_one_is_a_star() {
    let either = due("0 0 13 * FRI", "UTC", "2026-02-01T00:00:00Z", 4);
    let days: Vec<_> = either.iter().map(|t| &t[5..10]).collect();
    assert_eq!(days, ["02-06", "02-13", "02-20", "02-27"]);
    let odd_fridays = due("0 0 */2 * FRI", "UTC", "2026-02-01T00:00:00Z", 2);
    let days: Vec<_> = odd_fridays.iter().map(|t| &t[5..10]).collect();
    assert_eq!(days, ["02-13", "02-27"]);
}

#[test]
fn words_and_names_mean_what_cron_means() {
    for (word, fields) in [
        ("@daily", "0 0 * * *"),
        ("@Weekly", "0 0 * * 7"),
        ("@hourly", "0 * * * *"),
        ("@monthly", "0 0 1 * *"),
    ] {
        let from = "2026-05-14T10:20:30Z";
        assert_eq!(due(word, "Asia/Kolkata", from, 5), due(fields, "Asia/Kolkata", from, 5));
    }
    let named = schedule("0 6 * jan-MAR,Dec sun,fri-7");
    let numbered = schedule("0 6 * 1-3,12 0,5,6");
    assert_eq!((named.months, named.weekdays), (numbered.months, numbered.weekdays));
    assert_eq!(schedule(" 0  3 * *\t* ").to_string(), "0  3 * *\t*");
}

#[test]
fn mistakes_name_the_field_and_the_way_out() {
    for (text, what, hint) in [
        ("60 * * * *", "minute: \"60\" is not possible", "a number from 0 to 59"),
        ("0 24 * * *", "hour: \"24\" is not possible", "a number from 0 to 23"),
        ("0 0 0 * *", "day of the month: \"0\" is not possible", "a number from 1 to 31"),
        (
            "0 0 * Janu *",
            "month: \"Janu\" is not possible",
            "a number from 1 to 12, or a name from jan to dec",
        ),
        (
            "0 0 * * 8",
            "day of the week: \"8\" is not possible",
            "a number from 0 to 7, or a name from sun to sat",
        ),
        ("0 0 ? * *", "day of the month: \"?\" is not possible", "* means any"),
        ("0 0 * * FRI-MON", "day of the week: \"FRI-MON\" begins after it ends", "name both stretches"),
        (
            "*/90 * * * *",
            "minute: the step of \"*/90\" must be from 1 to 59",
            "a step counts within its field",
        ),
        ("*/0 * * * *", "minute: the step of \"*/0\" must be from 1 to 59", ""),
        ("5/10 * * * *", "minute: \"5/10\" has a step but no range", "write 5-59/…"),
        ("+5 * * * *", "minute: \"+5\" is not possible", ""),
        ("1,,2 * * * *", "minute: \"\" is not possible", ""),
        ("0 3 * *", "\"0 3 * *\" has 4 fields, not five", "five fields"),
        ("0 0 3 * * *", "\"0 0 3 * * *\" has six fields; there is none for seconds here", ""),
        ("@reboot", "\"@reboot\" is no word for a schedule", "@hourly, @daily"),
        ("0 0 30 2 *", "\"0 0 30 2 *\" is never due", "28 or less"),
        ("0 0 31 4,6,9,11 *", "is never due", ""),
    ] {
        let error = text.parse::<Schedule>().unwrap_err();
        assert!(error.what.contains(what), "{text}: {error}");
        assert!(error.hint.contains(hint), "{text}: {}", error.hint);
    }
    // Either will do, and there are Mondays in February.
    assert!("0 0 30 2 MON".parse::<Schedule>().is_ok());
}

#[test]
fn the_last_time_is_found_however_long_ago_it_was() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let daily = schedule("0 3 * * *");
    let until = at("2026-11-29T13:00:00Z");
    let last = daily.last(at("2020-01-01T00:00:00Z"), until, &zone);
    assert_eq!(last, Some(at("2026-11-29T02:00:00Z")));
    assert_eq!(daily.last(at("2026-11-29T02:00:00Z"), until, &zone), None);
    let leap = schedule("0 3 29 2 *");
    assert_eq!(leap.last(Timestamp::UNIX_EPOCH, until, &zone), Some(at("2024-02-29T02:00:00Z")));
}

#[test]
fn the_spread_is_the_same_every_day_and_another_for_another_job() {
    let hour = Duration::from_secs(3600);
    let one = spread(&["host", "tsushin", "backup 0 3 * * *"], hour);
    assert_eq!(one, spread(&["host", "tsushin", "backup 0 3 * * *"], hour));
    assert_eq!(spread(&["a"], Duration::ZERO), SignedDuration::ZERO);
    let all: BTreeSet<_> = (0..1000).map(|n| spread(&["h", &n.to_string()], hour).as_secs()).collect();
    assert!(all.iter().all(|s| (0..3600).contains(s)) && all.len() > 800, "{}", all.len());
    assert_ne!(spread(&["ab", "c"], hour), spread(&["a", "bc"], hour));
}

/// A field as it is written, and the values it means.
#[derive(Debug, Clone)]
struct Written {
    text: String,
    values: BTreeSet<i8>,
}

fn field(min: i8, max: i8) -> impl Strategy<Value = Written> {
    let item = (min..=max, min..=max, 1..=(max - min)).prop_flat_map(move |(a, b, step)| {
        let (a, b) = (a.min(b), a.max(b));
        let by =
            |a: i8, b: i8, step: i8| (a..=b).step_by(usize::try_from(step).unwrap()).collect::<BTreeSet<_>>();
        prop_oneof![
            4 => Just((a.to_string(), by(a, a, 1))),
            2 => Just((format!("{a}-{b}"), by(a, b, 1))),
            1 => Just((format!("{a}-{b}/{step}"), by(a, b, step))),
        ]
    });
    let list = proptest::collection::vec(item, 1..3).prop_map(|items| Written {
        text: items.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(","),
        values: items.into_iter().flat_map(|(_, values)| values).collect(),
    });
    let star = (1..=(max - min)).prop_map(move |step| Written {
        text: if step == 1 { "*".to_owned() } else { format!("*/{step}") },
        values: (min..=max).step_by(usize::try_from(step).unwrap()).collect(),
    });
    let any = Just(Written { text: "*".to_owned(), values: (min..=max).collect() });
    prop_oneof![2 => list, 2 => any, 1 => star]
}

fn matches(fields: &[Written; 5], time: DateTime) -> bool {
    let [minute, hour, day, month, weekday] = fields;
    let in_month = day.values.contains(&time.day());
    let in_week = weekday.values.contains(&time.weekday().to_sunday_zero_offset());
    let starred = day.text.starts_with('*') || weekday.text.starts_with('*');
    minute.values.contains(&time.minute())
        && hour.values.contains(&time.hour())
        && month.values.contains(&time.month())
        && if starred { in_month && in_week } else { in_month || in_week }
}

/// Every minute that a clock on the wall shows, one after the other.
fn oracle(fields: &[Written; 5], zone: &TimeZone, from: Timestamp, minutes: i64) -> Vec<Timestamp> {
    let one = SignedDuration::from_mins(1);
    let interval = fields[1].text.starts_with('*') && !fields[1].text.contains(',');
    let mut before = zone.to_datetime(from);
    let mut highest = before;
    let mut due = Vec::new();
    for n in 1..=minutes {
        let now = from + SignedDuration::from_mins(n);
        let shown = zone.to_datetime(now);
        let mut left_out = before + one;
        let mut any = false;
        while left_out < shown {
            any |= matches(fields, left_out);
            left_out += one;
        }
        let again = shown <= highest;
        if any || (matches(fields, shown) && (interval || !again)) {
            due.push(now);
        }
        highest = highest.max(shown);
        before = shown;
    }
    due
}

/// Days around which something happens, and where.
const TURNS: [(&str, i16, i8, i8); 9] = [
    ("Europe/Berlin", 2026, 3, 28),
    ("Europe/Berlin", 2026, 10, 24),
    ("Australia/Lord_Howe", 2026, 4, 4),
    ("Australia/Lord_Howe", 2026, 10, 3),
    ("Pacific/Apia", 2011, 12, 29),
    ("America/Santiago", 2026, 9, 5),
    ("Africa/Casablanca", 2026, 2, 14),
    ("America/St_Johns", 2028, 2, 28),
    ("UTC", 2026, 12, 31),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn what_is_due_is_what_a_walk_through_every_minute_finds(
        minute in field(0, 59), hour in field(0, 23), day in field(1, 31), month in field(1, 12), weekday in field(0, 6),
        turn in 0..TURNS.len(), before in 0_i64..2880,
    ) {
        let fields = [minute, hour, day, month, weekday];
        let text = fields.each_ref().map(|f| f.text.clone()).join(" ");
        let Ok(schedule) = text.parse::<Schedule>() else { return Ok(()) };
        let (name, year, month, day) = TURNS[turn];
        let zone = TimeZone::get(name).unwrap();
        let noon = date(year, month, day).at(12, 0, 0, 0);
        let start = zone.to_timestamp(noon).unwrap() - SignedDuration::from_mins(before);
        let minutes = before + 4 * 1440;
        let end = start + SignedDuration::from_mins(minutes);
        let found: Vec<_> =
            std::iter::successors(schedule.next(start, &zone), |at| schedule.next(*at, &zone))
                .take_while(|at| *at <= end)
                .collect();
        let expected = oracle(&fields, &zone, start, minutes);
        prop_assert_eq!(&found, &expected, "{} in {} from {}", text, name, start);
        prop_assert_eq!(schedule.last(start, end, &zone), expected.last().copied());
        // Whatever is asked from, and between two minutes, the answer is the same.
        let middle = start + SignedDuration::from_mins(minutes / 2) + SignedDuration::from_millis(1);
        let after = expected.iter().find(|at| **at > middle);
        prop_assert_eq!(schedule.next(middle, &zone).filter(|at| *at <= end), after.copied());
    }
}
