//! How people name a snapshot: by id, by its place in time, or by a tag.
//!
//! A selector that chooses by itself must never choose a snapshot that is untrusted, void or partial. Before one is used, the caller must
//! know that the history of the host is whole ([`crate::model::chain::History::breaks_of`]).

use crate::model::chain::{KnownSnapshot, Trust};
use crate::model::id::SnapshotId;
use crate::model::record::SnapshotKind;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, civil};
use std::collections::BTreeSet;
use std::fmt;

/// Fewer characters of an id are too easily somebody else's.
const PREFIX_MIN: usize = 4;
/// How many candidates an error lists.
const LISTED_MAX: usize = 8;

/// What a selector must know of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub id: SnapshotId,
    /// When the run began.
    pub time: Timestamp,
    /// What kind.
    pub kind: SnapshotKind,
    /// Whether it is good.
    pub good: bool,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// Whether everything asked for was captured.
    pub complete: bool,
    /// Whether its host said so.
    pub trusted: bool,
    /// Whether its commit did not hold.
    pub void: bool,
}

impl From<&KnownSnapshot> for Summary {
    fn from(snapshot: &KnownSnapshot) -> Self {
        Self {
            id: snapshot.record.snapshot.clone(),
            time: snapshot.record.started,
            kind: snapshot.record.kind,
            good: snapshot.good,
            tags: snapshot.tags.clone(),
            complete: snapshot.record.complete,
            trusted: snapshot.trusted == Trust::Trusted,
            void: snapshot.void.is_some(),
        }
    }
}

/// A snapshot as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    text: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// An id or its beginning.
    Id,
    /// So many before the newest.
    Latest(usize),
    LatestGood,
    LatestSafety,
    Tag(String),
    /// The newest at or before.
    At(Timestamp),
}

/// Why a selector names no snapshot.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SelectorError {
    /// It is no selector.
    #[error("{text:?} names no snapshot: {why}")]
    Malformed {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is none.
    #[error("no snapshot for {text:?}: {there}")]
    NotFound {
        /// What was given.
        text: String,
        /// What there is instead.
        there: String,
    },
    /// There are several.
    #[error("{text:?} is the beginning of {count} snapshots: {}", list(candidates))]
    Ambiguous {
        /// What was given.
        text: String,
        /// How many.
        count: usize,
        /// The first of them.
        candidates: Vec<SnapshotId>,
    },
}

fn there_are(number: usize) -> String {
    if number == 1 { "there is 1".into() } else { format!("there are {number}") }
}

fn list(ids: &[SnapshotId]) -> String {
    ids.iter().map(SnapshotId::as_str).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Selector {
    /// Parses `text`. Times without a zone are of `zone`, which is only asked for then: to find this machine's all zones are looked through. `now` is what `@-2h` counts back from.
    pub fn parse(text: &str, now: Timestamp, zone: impl FnOnce() -> TimeZone) -> Result<Self, SelectorError> {
        let what = parse_what(text, now, zone);
        let malformed = |why| SelectorError::Malformed { text: text.chars().take(80).collect(), why };
        Ok(Self { text: text.to_owned(), what: what.map_err(malformed)? })
    }

    /// True when the snapshot is not named but chosen, so that the history must be whole.
    pub fn chooses(&self) -> bool {
        self.what != What::Id
    }

    /// True when it means one snapshot by its tag or its time, and not by how many come after it.
    pub fn is_definite(&self) -> bool {
        matches!(self.what, What::Tag(_) | What::At(_))
    }

    /// The place in `list` of the snapshot that is meant. `list` is of one host: trusted snapshots in the order of its chain, oldest
    /// first; others anywhere.
    pub fn resolve(&self, list: &[Summary]) -> Result<usize, SelectorError> {
        let usable = |s: &Summary| s.trusted && !s.void && s.kind != SnapshotKind::Partial;
        let normal = |s: &Summary| usable(s) && s.kind == SnapshotKind::Normal;
        let newest_first = || list.iter().enumerate().rev();
        let found = match &self.what {
            What::Id => return self.by_id(list),
            What::Latest(back) => newest_first().filter(|(_, s)| normal(s)).nth(*back),
            What::LatestGood => newest_first().find(|(_, s)| normal(s) && s.good),
            What::LatestSafety => newest_first().find(|(_, s)| usable(s) && s.kind == SnapshotKind::Safety),
            What::Tag(tag) => newest_first().find(|(_, s)| usable(s) && s.tags.contains(tag)),
            // Of equal times the later in the chain.
            What::At(time) => list
                .iter()
                .enumerate()
                .filter(|(_, s)| normal(s) && s.time <= *time)
                .max_by_key(|(_, s)| s.time),
        };
        found.map(|(place, _)| place).ok_or_else(|| self.not_found(list))
    }

    /// Trusted ones first: an id that somebody else put into the store must not make ours ambiguous.
    fn by_id(&self, list: &[Summary]) -> Result<usize, SelectorError> {
        let all: Vec<usize> =
            (0..list.len()).filter(|i| list[*i].id.as_str().starts_with(&self.text)).collect();
        let trusted: Vec<usize> = all.iter().copied().filter(|i| list[*i].trusted).collect();
        match (&trusted[..], &all[..]) {
            ([one], _) | ([], [one]) => Ok(*one),
            ([], []) => Err(self.not_found(list)),
            ([], several) | (several, _) => {
                let candidates = several.iter().take(LISTED_MAX).map(|i| list[*i].id.clone()).collect();
                Err(SelectorError::Ambiguous { text: self.text.clone(), count: several.len(), candidates })
            }
        }
    }

    fn not_found(&self, list: &[Summary]) -> SelectorError {
        SelectorError::NotFound { text: self.text.clone(), there: self.what_there_is(list) }
    }

    fn what_there_is(&self, list: &[Summary]) -> String {
        let of_kind = |kind| list.iter().filter(move |s| s.trusted && !s.void && s.kind == kind);
        let normal: Vec<&Summary> = of_kind(SnapshotKind::Normal).collect();
        let usable = || list.iter().filter(|s| s.trusted && !s.void && s.kind != SnapshotKind::Partial);
        let (Some(oldest), Some(newest)) = (normal.iter().min_by_key(|s| s.time), normal.last()) else {
            let other = list.len();
            return match other {
                0 => "there are none yet".into(),
                _ => format!("none of the {other} here is a trusted, finished, normal one"),
            };
        };
        match &self.what {
            What::Latest(_) => there_are(normal.len()),
            What::LatestGood => format!("none of {} is good; the newest is {}", normal.len(), newest.id),
            What::LatestSafety => "there are no safety snapshots".into(),
            What::At(_) => format!("the oldest is {}", oldest.id),
            What::Id => format!("{}, the newest is {}", there_are(normal.len()), newest.id),
            What::Tag(_) => {
                let tags: BTreeSet<&str> = usable().flat_map(|s| s.tags.iter().map(String::as_str)).collect();
                match tags.is_empty() {
                    true => "no snapshot has a tag".into(),
                    false => format!(
                        "there are tags {}",
                        tags.into_iter().take(LISTED_MAX).collect::<Vec<_>>().join(", ")
                    ),
                }
            }
        }
    }
}

fn parse_what(text: &str, now: Timestamp, zone: impl FnOnce() -> TimeZone) -> Result<What, &'static str> {
    if let Some(tag) = text.strip_prefix("tag:") {
        return if tag.is_empty() {
            Err("the tag is missing (tag:NAME)")
        } else {
            Ok(What::Tag(tag.to_owned()))
        };
    }
    if let Some(time) = text.strip_prefix('@') {
        return at(time, now, &zone()).map(What::At).ok_or(TIME_FORMS);
    }
    match text {
        "latest" => return Ok(What::Latest(0)),
        "latest-good" => return Ok(What::LatestGood),
        "latest-safety" => return Ok(What::LatestSafety),
        _ => {}
    }
    if let Some(back) = text.strip_prefix("latest~") {
        let digits = !back.is_empty() && back.bytes().all(|b| b.is_ascii_digit());
        let back = digits.then(|| back.parse().ok()).flatten();
        return back.map(What::Latest).ok_or("latest~ takes a number, as in latest~1");
    }
    if text.is_empty() || !begins_id(text) {
        return Err(
            "give an id or its beginning, latest, latest~N, latest-good, latest-safety, tag:NAME or @TIME",
        );
    }
    if text.len() < PREFIX_MIN {
        return Err("give at least 4 characters of an id");
    }
    Ok(What::Id)
}

/// True when an id could begin with `text`.
fn begins_id(text: &str) -> bool {
    let fits = |(place, b): (usize, u8)| match place {
        8 => b == b'T',
        15 => b == b'Z',
        16 => b == b'-',
        0..16 => b.is_ascii_digit(),
        _ => b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b),
    };
    text.len() <= SnapshotId::LEN && text.bytes().enumerate().all(fits)
}

/// The moment that `text` means, written as after `@`: `2026-11-17` is the end of that day in `zone`, `-2h` counts back from `now`.
pub fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    at(text, now, zone)
}

const TIME_FORMS: &str = "a time is @2026-11-17 (the end of that day), @2026-11-17T10:00, @-2h or @-3d";

fn at(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if let Some(ago) = text.strip_prefix('-') {
        return now.to_zoned(zone.clone()).checked_sub(span(ago)?).ok().map(|time| time.timestamp());
    }
    // Only whole dates: the parsers below would also take short forms that people read in different ways.
    let dated = text.len() >= 10 && text.as_bytes()[..10].iter().all(|b| b.is_ascii_digit() || *b == b'-');
    if !dated {
        return None;
    }
    if text.len() == 10 {
        let next = text.parse::<civil::Date>().ok()?.tomorrow().ok()?;
        // Midnight need not exist on a day when clocks change; the next day's first moment always does.
        let end = next.to_zoned(zone.clone()).ok()?.timestamp();
        return end.checked_sub(Span::new().nanoseconds(1)).ok();
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let civil = text.parse::<civil::DateTime>().ok()?;
    civil.to_zoned(zone.clone()).ok().map(|time| time.timestamp())
}

/// `2h`, `3d`, `1d12h`: days and weeks are those of the calendar.
fn span(text: &str) -> Option<Span> {
    let mut span = Span::new();
    let mut rest = text;
    let mut least = 6;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|n| *n > 0)?;
        let number: i64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        rest = &rest[digits + unit.len_utf8()..];
        // Each unit once, the larger first.
        let rank = ['s', 'm', 'h', 'd', 'w'].iter().position(|u| *u == unit)?;
        if rank >= least {
            return None;
        }
        least = rank;
        span = match unit {
            'w' => span.try_weeks(number),
            'd' => span.try_days(number),
            'h' => span.try_hours(number),
            'm' => span.try_minutes(number),
            _ => span.try_seconds(number),
        }
        .ok()?;
    }
    (least < 6).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> TimeZone {
        TimeZone::fixed(jiff::tz::offset(1))
    }

    fn now() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    fn summary(time: &str, letter: &str, change: impl FnOnce(&mut Summary)) -> Summary {
        let time: Timestamp = time.parse().unwrap();
        let id = format!("{}-{}", time.strftime("%Y%m%dT%H%M%SZ"), letter.repeat(8)).parse().unwrap();
        let mut summary = Summary {
            id,
            time,
            kind: SnapshotKind::Normal,
            good: true,
            tags: BTreeSet::new(),
            complete: true,
            trusted: true,
            void: false,
        };
        change(&mut summary);
        summary
    }

    fn list() -> Vec<Summary> {
        vec![
            summary("2026-11-16T22:30:00Z", "a", |s| {
                s.tags = ["stable".to_owned()].into();
            }),
            summary("2026-11-17T08:00:00Z", "b", |s| {
                s.tags = ["stable".to_owned()].into();
            }),
            summary("2026-11-17T22:59:59Z", "c", |_| {}),
            summary("2026-11-17T23:00:00Z", "d", |s| s.good = false),
            summary("2026-11-18T08:00:00Z", "e", |s| {
                s.kind = SnapshotKind::Safety;
            }),
            summary("2026-11-18T09:00:00Z", "f", |s| {
                s.kind = SnapshotKind::Partial;
            }),
            summary("2026-11-18T10:00:00Z", "g", |s| s.void = true),
            summary("2026-11-19T10:00:00Z", "h", |s| {
                s.trusted = false;
                s.tags = ["stable".to_owned(), "forged".to_owned()].into();
            }),
        ]
    }

    fn found(text: &str) -> Result<char, SelectorError> {
        let list = list();
        let place = Selector::parse(text, now(), zone)?.resolve(&list)?;
        Ok(list[place].id.as_str().chars().last().unwrap())
    }

    #[test]
    fn selectors_mean_what_the_design_says() {
        let table = [
            ("latest", 'd'),
            ("latest~0", 'd'),
            ("latest~1", 'c'),
            ("latest~3", 'a'),
            ("latest-good", 'c'),
            ("latest-safety", 'e'),
            ("tag:stable", 'b'),
            ("20261116", 'a'),
            ("20261117T080000Z-bbbbbbbb", 'b'),
            ("20261118T09", 'f'),
            ("20261118T10", 'g'),
            ("20261119", 'h'),
            ("@2026-11-17", 'c'),
            ("@2026-11-16", 'a'),
            ("@2026-11-18", 'd'),
            ("@2026-11-17T09:00", 'b'),
            ("@2026-11-17T08:59:59", 'a'),
            ("@2026-11-17 09:00", 'b'),
            ("@2026-11-17T08:00:00Z", 'b'),
            ("@2026-11-17T10:00:00+02:00", 'b'),
            ("@-2h", 'd'),
            ("@-3d", 'b'),
            ("@-2d13h1s", 'c'),
            ("@-75h30m", 'b'),
        ];
        for (text, expected) in table {
            assert_eq!(found(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_end_of_a_day_is_that_of_the_zone_also_when_clocks_change() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        // 25 October 2026 has 25 hours there.
        assert_eq!(at("2026-10-25", now(), &berlin), "2026-10-25T22:59:59.999999999Z".parse().ok());
        assert_eq!(at("2026-10-24", now(), &berlin), "2026-10-24T21:59:59.999999999Z".parse().ok());
        assert_eq!(
            at("-1d", "2026-10-25T23:00:00Z".parse().unwrap(), &berlin),
            "2026-10-24T22:00:00Z".parse().ok()
        );
    }

    #[test]
    fn what_is_not_there_is_said_with_what_there_is() {
        let table = [
            ("latest~4", "there are 4"),
            ("tag:nightly", "there are tags stable"),
            ("tag:forged", "there are tags stable"),
            ("@2026-11-01", "the oldest is 20261116T223000Z-aaaaaaaa"),
            ("20250101", "the newest is 20261117T230000Z-dddddddd"),
        ];
        for (text, expected) in table {
            let error = found(text).unwrap_err();
            assert!(matches!(error, SelectorError::NotFound { .. }), "{text}: {error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        let none = Selector::parse("latest", now(), zone).unwrap().resolve(&[]).unwrap_err();
        assert!(none.to_string().ends_with("there are none yet"), "{none}");
        let forged = Selector::parse("latest", now(), zone).unwrap().resolve(&list()[7..]).unwrap_err();
        assert!(forged.to_string().contains("none of the 1 here is a trusted"), "{forged}");
    }

    #[test]
    fn an_ambiguous_beginning_lists_the_candidates() {
        let error = found("20261117").unwrap_err();
        let SelectorError::Ambiguous { count, candidates, .. } = &error else { panic!("{error}") };
        assert_eq!((*count, candidates.len()), (3, 3));
        assert!(error.to_string().contains("20261117T080000Z-bbbbbbbb, 20261117T225959Z-cccccccc"));
    }

    #[test]
    fn forged_ids_do_not_make_ours_ambiguous() {
        let mut list = list();
        list.push(summary("2026-11-16T22:31:00Z", "z", |s| s.trusted = false));
        let same = Summary { trusted: false, ..list[1].clone() };
        list.push(same);
        for (text, expected) in [("20261116", 0), ("20261117T080000Z-bbbbbbbb", 1)] {
            assert_eq!(Selector::parse(text, now(), zone).unwrap().resolve(&list), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_selector_says_what_would_be_one() {
        for text in [
            "",
            "lat",
            "LATEST",
            "latest~",
            "latest~-1",
            "latest~+1",
            "latest~99999999999999999999999",
            "latest-bad",
            "tag:",
            "202",
            "2026/11/17",
            "abcd",
            "20261117t08",
            "20261117T080000Z-bbbbbbbbb",
            "../../x",
            "@",
            "@yesterday",
            "@2026",
            "@2026-11",
            "@2026-13-01",
            "@2026-11-17T25:00",
            "@20261117",
            "@-",
            "@-2",
            "@-h",
            "@-2x",
            "@-2h3d",
            "@-2h2h",
            "@--2h",
            "@2h",
            "@-99999999999999999999d",
            "@-9999999w",
            "ä",
        ] {
            let error = Selector::parse(text, now(), zone).unwrap_err();
            assert!(matches!(error, SelectorError::Malformed { .. }), "{text}");
        }
        assert!(Selector::parse("202", now(), zone).unwrap_err().to_string().contains("at least 4"));
    }

    #[test]
    fn only_an_id_names_without_choosing() {
        let chooses = |text: &str| Selector::parse(text, now(), zone).unwrap().chooses();
        assert!(!chooses("20261117"));
        assert!(["latest", "latest-good", "latest-safety", "tag:x", "@-1h"].into_iter().all(chooses));
    }
}
