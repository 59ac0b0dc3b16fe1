//! Pictures of snapshots over time, drawn here: nothing is fetched and nothing is run to show them. What they show also stands in a table.

use crate::agent::page::html::Html;
use crate::agent::page::words::{Tone, minute, of_snapshot};
use crate::model::Timestamp;
use crate::ops::doctor::bytes;
use crate::ops::status::SeenSnapshot;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan as _};

/// Width of a picture in its own units; it is scaled to the page.
const WIDE: f64 = 960.0;
/// Left of it stand names, right of it nothing.
const LEFT: f64 = 110.0;
const RIGHT: f64 = 18.0;
const LANE: f64 = 34.0;
/// Between two lines of time, at most so many of them.
const TICKS: usize = 8;

/// Where a time lies.
struct Axis {
    from: i64,
    to: i64,
}

impl Axis {
    fn of(snapshots: &[&SeenSnapshot], now: Timestamp) -> Self {
        let first = snapshots.first().map_or(now, |snapshot| snapshot.started).as_second();
        let to = now.as_second().max(first);
        // A single snapshot has a day around it.
        Self { from: first.min(to - 86_400), to }
    }

    fn x(&self, moment: Timestamp) -> f64 {
        let part = (moment.as_second() - self.from) as f64 / (self.to - self.from).max(1) as f64;
        LEFT + part.clamp(0.0, 1.0) * (WIDE - LEFT - RIGHT)
    }

    /// Times to write below, and their words: midnights, or hours where it is short.
    fn ticks(&self) -> Vec<(Timestamp, String)> {
        let days = (self.to - self.from) / 86_400;
        let zone = TimeZone::system();
        let Ok(begin) = Timestamp::from_second(self.from) else { return Vec::new() };
        let begin = begin.to_zoned(zone);
        let (first, step, form) = match days {
            0..3 => (begin.start_of_day(), 6.hours(), "%H:%M"),
            _ => {
                let fits =
                    [1, 2, 7, 14, 30, 60, 120, 365].into_iter().find(|step| days / step < TICKS as i64);
                (begin.start_of_day(), fits.unwrap_or(730).days(), "%b %-d")
            }
        };
        let Ok(first) = first else { return Vec::new() };
        let later = |before: &jiff::Zoned| before.checked_add(step).ok();
        let within = |at: &jiff::Zoned| at.timestamp().as_second() <= self.to;
        let all = std::iter::successors(Some(first), later).take_while(within);
        let shown = all.filter(|at| at.timestamp().as_second() >= self.from).take(2 * TICKS);
        shown.map(|at| (at.timestamp(), at.strftime(form).to_string())).collect()
    }
}

fn number(value: f64) -> String {
    format!("{value:.1}")
}

/// Begins a picture of that height, named by the element `name`.
fn begin(html: &mut Html, height: f64, name: &str) {
    html.raw("<svg role=\"img\"").attribute("aria-labelledby", name);
    html.attribute("viewBox", &format!("0 0 {WIDE} {height}")).raw(">");
}

fn line(html: &mut Html, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    html.raw("<line").attribute("class", class).attribute("x1", &number(x1)).attribute("y1", &number(y1));
    html.attribute("x2", &number(x2)).attribute("y2", &number(y2)).raw("/>");
}

fn label(html: &mut Html, class: &str, (x, y): (f64, f64), text: &str) {
    html.raw("<text").attribute("class", class).attribute("x", &number(x)).attribute("y", &number(y));
    html.raw(">").text(text).raw("</text>");
}

/// Lines of time from `top` to `bottom`, with their words below.
fn grid(html: &mut Html, axis: &Axis, top: f64, bottom: f64) {
    for (at, word) in axis.ticks() {
        let x = axis.x(at);
        line(html, "grid", (x, top), (x, bottom));
        label(html, "tick", (x, bottom + 18.0), &word);
    }
}

/// A mark of a snapshot: its shape says the same as its colour.
fn mark(html: &mut Html, tone: Tone, (x, y): (f64, f64), title: &str) {
    html.raw("<g").attribute("class", &format!("mark {}", tone.class()));
    html.attribute("transform", &format!("translate({} {})", number(x), number(y)))
        .raw("><title>")
        .text(title);
    html.raw("</title>").raw(match tone {
        Tone::Good => "<circle r=\"5\"/>",
        Tone::Unknown => "<circle r=\"4.2\" class=\"hollow\"/>",
        Tone::Look => "<path d=\"M0-6 6 5-6 5z\"/>",
        Tone::Bad => "<path class=\"cross\" d=\"M-5-5 5 5M-5 5 5-5\"/>",
    });
    html.raw("</g>");
}

/// How a snapshot stands in one store; nothing where it is not there.
fn in_store(snapshot: &SeenSnapshot, store: &str) -> Option<Tone> {
    let proof = snapshot.proofs.iter().find(|proof| proof.store == store)?;
    let (tone, _) = of_snapshot(snapshot);
    Some(match (tone, proof.good) {
        _ if !proof.bad.is_empty() => Tone::Bad,
        (Tone::Bad, _) if snapshot.proofs.iter().any(|other| !other.bad.is_empty()) => Tone::Unknown,
        (Tone::Bad, _) => Tone::Bad,
        (Tone::Look, _) => Tone::Look,
        (_, true) => Tone::Good,
        (_, false) => Tone::Unknown,
    })
}

/// When each store got which snapshot, and how that stands there.
pub(super) fn timeline(
    html: &mut Html,
    snapshots: &[SeenSnapshot],
    stores: &[&str],
    now: Timestamp,
    name: &str,
) {
    let all: Vec<&SeenSnapshot> = snapshots.iter().collect();
    let axis = Axis::of(&all, now);
    let bottom = 8.0 + LANE * stores.len() as f64;
    begin(html, bottom + 26.0, name);
    grid(html, &axis, 4.0, bottom);
    for (place, store) in stores.iter().enumerate() {
        let y = 8.0 + LANE * (place as f64 + 0.5);
        line(html, "lane", (LEFT, y), (WIDE - RIGHT, y));
        let short: String = store.chars().take(15).collect();
        label(html, "name", (LEFT - 12.0, y + 4.5), &short);
        for snapshot in &all {
            if let Some(tone) = in_store(snapshot, store) {
                let title = format!("{}: {}", minute(snapshot.started), of_snapshot(snapshot).1);
                mark(html, tone, (axis.x(snapshot.started), y), &title);
            }
        }
    }
    html.raw("</svg>");
}

/// What is drawn of each snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure {
    /// How much is protected: a line.
    Size,
    /// How much it added to what is stored: a bar.
    Added,
}

/// A figure of each snapshot that holds, over time.
pub(super) fn sizes(html: &mut Html, snapshots: &[SeenSnapshot], now: Timestamp, figure: Figure, name: &str) {
    const TOP: f64 = 14.0;
    const BOTTOM: f64 = 210.0;
    let holds: Vec<&SeenSnapshot> = snapshots.iter().filter(|snapshot| snapshot.void.is_none()).collect();
    let axis = Axis::of(&holds, now);
    let of = |snapshot: &SeenSnapshot| if figure == Figure::Size { snapshot.size } else { snapshot.added };
    let most = holds.iter().map(|snapshot| of(snapshot)).max().unwrap_or(0).max(1);
    let y = |value: u64| BOTTOM - (value as f64 / most as f64) * (BOTTOM - TOP);
    begin(html, BOTTOM + 28.0, name);
    grid(html, &axis, TOP, BOTTOM);
    for (value, place) in [(most, TOP), (most / 2, (TOP + BOTTOM) / 2.0), (0, BOTTOM)] {
        line(html, "grid", (LEFT, place), (WIDE - RIGHT, place));
        label(html, "name", (LEFT - 12.0, place + 4.5), &bytes(value));
    }
    let points: Vec<(f64, f64)> = holds.iter().map(|s| (axis.x(s.started), y(of(s)))).collect();
    match figure {
        Figure::Size => area(html, &points, BOTTOM),
        Figure::Added => {
            let width = (600.0 / points.len().max(1) as f64).clamp(2.0, 10.0);
            for (x, top) in points {
                html.raw("<rect class=\"bar\"").attribute("x", &number(x - width / 2.0));
                html.attribute("y", &number(top.min(BOTTOM - 1.0))).attribute("width", &number(width));
                html.attribute("height", &number((BOTTOM - top).max(1.0))).raw("/>");
            }
        }
    }
    html.raw("</svg>");
}

fn area(html: &mut Html, points: &[(f64, f64)], bottom: f64) {
    let ([first, ..], [.., last]) = (points, points) else { return };
    let mut path = String::new();
    for (place, (x, y)) in points.iter().enumerate() {
        path.push_str(&format!("{}{} {}", if place == 0 { "M" } else { "L" }, number(*x), number(*y)));
    }
    let below = format!("{path}L{} {bottom}L{} {bottom}z", number(last.0), number(first.0));
    html.raw("<path class=\"area\"").attribute("d", &below).raw("/>");
    html.raw("<path class=\"curve\"").attribute("d", &path).raw("/>");
    html.raw("<circle class=\"last\" r=\"5\"")
        .attribute("cx", &number(last.0))
        .attribute("cy", &number(last.1))
        .raw("/>");
}

/// The size now and about a month before, in words.
pub(super) fn growth(snapshots: &[SeenSnapshot]) -> Option<String> {
    let holds = || snapshots.iter().filter(|snapshot| snapshot.void.is_none());
    let last = holds().next_back()?;
    let month = SignedDuration::from_hours(30 * 24);
    let before = holds().find(|s| last.started.duration_since(s.started) <= month)?;
    if before.id == last.id {
        return Some(format!("{} now", bytes(last.size)));
    }
    Some(format!("{} now, {} at {}", bytes(last.size), bytes(before.size), minute(before.started)))
}
