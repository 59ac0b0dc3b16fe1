//! Reports as text and as JSON, from the same report.

mod compare;
mod drill;
mod git;
mod health;
mod keep;
mod rollback;
mod verify;

pub use compare::{diff, find};
use git::{kept_tree, working_tree};
pub use health::{doctor, status};
pub use keep::{deletions, marked, prune, settled, settlement};
pub use rollback::{guard_plan, rollback, rollback_plan, undo_plan, whose};

pub use drill::drill;
pub use verify::verify;

use crate::model::entry::Why;
use crate::model::record::{CheckResult, SnapshotKind};
use crate::model::{Kind, Problem, ProblemKind, Timestamp};
use crate::ops::backup::{BackupPlan, BackupReport, StoreReport};
use crate::ops::error::Result;
use crate::ops::look::{ListReport, LsReport, LsRow, ShowReport, SnapshotRow};
use crate::ops::restore::RestoreReport;
use crate::ops::sync::SyncReport;
use serde::Serialize;
use std::io::Write;

/// Writes one JSON document to standard output, as it is made: a comparison of a million files is long.
pub fn json<T: Serialize>(document: &T) -> Result<()> {
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let written = serde_json::to_writer_pretty(&mut out, document).map_err(std::io::Error::from);
    super::written(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

/// `1 file`, `2 files`, `3 entries`.
pub fn count(number: u64, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

/// Bytes for people: three digits and a unit.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if value < 9.995 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A moment in local time.
pub fn time(moment: Timestamp) -> String {
    moment.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// One problem: what kind, where, what, and a hint.
pub fn problem(problem: &Problem) -> String {
    let word = match problem.kind {
        ProblemKind::Warning => "warning",
        _ => "problem",
    };
    let mut text = format!("{word}: {}: {}", problem.place(), problem.what);
    if let Some(hint) = &problem.hint {
        text.push_str(&format!("\n  hint: {hint}"));
    }
    text
}

/// What went wrong, once more at the end, where it is read; empty when nothing did.
pub fn problems_again(problems: &[Problem]) -> String {
    let failures: Vec<&Problem> = problems.iter().filter(|p| p.is_failure()).collect();
    if failures.is_empty() {
        return String::new();
    }
    let mut out = format!("\n{} in all:", count(failures.len() as u64, "problem"));
    for failure in failures {
        let text = problem(failure);
        let text = text.strip_prefix("problem: ").unwrap_or(&text);
        out.push_str(&format!("\n  {}", text.replace('\n', "\n  ")));
    }
    out
}

/// What `backup` says.
pub fn backup(report: &BackupReport) -> String {
    let mut out = String::new();
    let state = if report.complete { "" } else { ", INCOMPLETE" };
    out.push_str(&format!("snapshot {}{state}\n", report.snapshot));
    for c in &report.components {
        let note = match (c.complete, c.check) {
            (_, CheckResult::Failed) => "  CHECK FAILED",
            (false, _) => "  incomplete",
            (true, CheckResult::Passed) => "  checked",
            (true, CheckResult::Deferred) => "  not checked now",
            (true, CheckResult::None) => "",
        };
        let entries = count(c.entries, "entry");
        out.push_str(&format!("  {:<16} {:>9}  {entries}{note}\n", c.name, size(c.size)));
    }
    let proof = if report.good { "read back and proved" } else { "read back" };
    out.push_str(&format!(
        "stored {} in {} in {} ({}), {proof}, in {:.1} s\n",
        size(report.stored_bytes),
        count(report.objects, "object"),
        report.store,
        report.location,
        report.seconds
    ));
    for store in report.stores.iter().filter(|s| s.name != report.store) {
        out.push_str(&store_line(store));
    }
    for tree in &report.git {
        out.push_str(&(kept_tree(tree) + "\n"));
    }
    out
}

/// What came of a snapshot in a store that did not lead.
fn store_line(store: &StoreReport) -> String {
    let at = format!("{} ({})", store.name, store.location);
    let copied = format!("{} in {} copied", size(store.copied_bytes), count(store.copied_objects, "object"));
    match (store.has_snapshot, store.entries_behind) {
        (true, 0) => format!("also in {at}: {copied}\n"),
        (true, behind) => format!("also in {at}: {copied}; it lacks {}\n", count(behind, "older entry")),
        (false, behind) => format!("NOT in {at}, which is {} behind\n", count(behind, "entry")),
    }
}

/// What `sync` says.
pub fn sync(report: &SyncReport) -> String {
    let mut out = String::new();
    for store in &report.stores {
        let at = format!("{} ({})", store.name, store.location);
        if !store.here {
            out.push_str(&format!("{at}: away, nothing was brought\n"));
            continue;
        }
        let entries = count(store.entries, "entry");
        let objects = format!("{} in {}", size(store.bytes), count(store.objects, "object"));
        match (store.entries, store.objects) {
            (0, 0) if store.mended.is_empty() => out.push_str(&format!("{at}: nothing was missing\n")),
            _ => out.push_str(&format!("{at}: {entries} and {objects} brought\n")),
        }
        for mended in &store.mended {
            out.push_str(&format!("  mended {mended}\n"));
        }
        for lost in &store.lost {
            out.push_str(&format!("  LOST {lost}\n"));
        }
    }
    out
}

/// What is missing in the history; empty when nothing is.
pub fn history(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut out = String::from(
        "\nTHE HISTORY IN THIS STORE IS NOT WHOLE. Somebody or something removed, hid or changed entries:",
    );
    for line in lines {
        out.push_str(&format!("\n  {line}"));
    }
    out
}

fn state_of(row: &SnapshotRow) -> String {
    if row.void.is_some() {
        return "void".into();
    }
    if !row.trusted {
        return "UNTRUSTED".into();
    }
    let mut words = Vec::new();
    match row.kind {
        SnapshotKind::Normal => {}
        SnapshotKind::Safety => words.push("safety"),
        SnapshotKind::Partial => words.push("interim"),
    }
    let damaged = row.proofs.iter().any(|proof| !proof.bad.is_empty());
    words.push(match (row.good, row.complete) {
        _ if damaged && !row.good => "DAMAGED",
        (true, _) if damaged => "good, but DAMAGED in a store",
        (true, _) => "good",
        (false, false) => "incomplete",
        (false, true) => "not proved",
    });
    if row.milestone {
        words.push("milestone");
    }
    words.join(", ")
}

/// A snapshot in one line, for choosing one.
pub fn one_line(row: &SnapshotRow) -> String {
    let note = row.note.as_deref().map(plain).unwrap_or_default();
    format!("{}  {:<10}  {note}", row.id, state_of(row)).trim_end().to_owned()
}

/// What `list` says.
pub fn list(report: &ListReport) -> String {
    let mut out = String::new();
    if report.snapshots.is_empty() {
        out.push_str(&format!("no snapshot yet in {} ({})\n", report.store, report.location));
    } else {
        out.push_str(&format!("{:<25}  {:<19}  {:>8}  {:<10}  {}\n", "ID", "TIME", "SIZE", "STATE", "WHAT"));
    }
    for row in &report.snapshots {
        let mut what = row.components.as_ref().map(|c| c.join(" ")).unwrap_or_default();
        if !row.tags.is_empty() {
            what.push_str(&format!(" [{}]", row.tags.iter().map(|t| plain(t)).collect::<Vec<_>>().join(" ")));
        }
        if let Some(note) = &row.note {
            what.push_str(&format!("  {}", plain(note)));
        }
        let (time, size, state) = (time(row.started), size(row.size), state_of(row));
        let line = format!("{:<25}  {time:<19}  {size:>8}  {state:<10}  {}", row.id.as_str(), what.trim());
        out.push_str(line.trim_end());
        out.push('\n');
    }
    for bad in &report.damaged {
        let word = if bad.too_new { "TOO NEW" } else { "DAMAGED" };
        out.push_str(&format!("{word}: {}: {}\n", bad.key, bad.why));
    }
    out
}

/// What a list could not tell, and how it could; empty when it told all.
pub fn unopened(report: &ListReport) -> String {
    let readable = |r: &&SnapshotRow| r.trusted && r.void.is_none() && r.kind != SnapshotKind::Partial;
    let closed = report.snapshots.iter().filter(readable).filter(|r| r.components.is_none()).count();
    match (closed, report.opened) {
        (0, _) => String::new(),
        (_, false) => "no identity is here, so names and notes are not shown; \
             give one with -i FILE, or the recovery kit with --kit FILE"
            .to_owned(),
        (closed, true) => format!(
            "names and notes of {} could not be read; `backstay show ID` says why",
            count(closed as u64, "snapshot")
        ),
    }
}

fn plain(text: &str) -> String {
    crate::model::path::escape(text.as_bytes())
}

/// What `show` says.
pub fn show(report: &ShowReport) -> String {
    let row = &report.row;
    let mut out = String::new();
    let mut line = |name: &str, value: &str| out.push_str(&format!("{name:<12} {value}\n"));
    line("snapshot", row.id.as_str());
    line("state", &state_of(row));
    if let Some(why) = row.void.as_ref().or(row.untrusted_because.as_ref()) {
        line("", why);
    }
    let host = row.hostname.as_deref().map(plain).unwrap_or_default();
    line("host", &format!("{host} ({})", row.host));
    line("time", &format!("{} to {}", time(row.started), time(row.finished)));
    line("chain", &format!("entry {} signed by {}", row.number, report.signer));
    if !row.tags.is_empty() {
        line("tags", &row.tags.iter().map(|t| plain(t)).collect::<Vec<_>>().join(" "));
    }
    if let Some(note) = &row.note {
        line("note", &plain(note));
    }
    for (number, tree) in report.git.iter().enumerate() {
        line("git", &working_tree(tree, number, &row.id));
    }
    line("stored", &format!("{} in {}", size(row.stored_bytes), count(report.objects, "object")));
    for older in &report.depends_on {
        let needs = format!("{} in {}", size(older.bytes), count(older.archives, "archive"));
        line("depends on", &format!("{} ({}): {needs}", older.snapshot, time(older.started)));
    }
    line("made by", &report.agent);
    for proof in &row.proofs {
        line("proof", &verify::proof(proof));
    }
    for verdict in &report.verdicts {
        line("verdict", verdict);
    }
    for c in &report.details {
        out.push_str(&format!("\ncomponent {}\n", c.name));
        let stands = if c.alone { "stands alone" } else { "depends on older archives" };
        out.push_str(&format!("  from       {} ({})\n", plain(&c.base), c.method));
        out.push_str(&format!("  state of   {}\n", time(c.instant)));
        let (files, entries) = (count(c.files, "file"), count(c.entries, "entry"));
        out.push_str(&format!("  holds      {files}, {entries}, {}\n", size(c.size)));
        out.push_str(&format!("  archives   {}, {stands}\n", c.archives));
        let complete = if c.complete { "yes".to_owned() } else { format!("NO, {} not read", c.unreadable) };
        out.push_str(&format!("  complete   {complete}\n"));
        if c.check != CheckResult::None {
            let word = match c.check {
                CheckResult::Passed => "passed",
                CheckResult::Deferred => "left to a drill",
                _ => "FAILED",
            };
            out.push_str(&format!("  check      {word}\n"));
        }
    }
    out
}

fn type_letter(row: &LsRow) -> char {
    match row.kind {
        Kind::File => '-',
        Kind::Dir => 'd',
        Kind::Symlink => 'l',
        Kind::Fifo => 'p',
        Kind::Char => 'c',
        Kind::Block => 'b',
        Kind::Socket => 's',
        Kind::Left => '!',
    }
}

/// Why something that was there is not in the snapshot.
fn left_because(why: Option<Why>) -> &'static str {
    match why {
        Some(Why::Component) => "belongs to another component",
        Some(Why::Store) => "a store",
        Some(Why::State) => "backstay's own state",
        Some(Why::Sidecar) => "part of the database beside it, captured with that",
        Some(Why::Unreadable) => "could not be read",
        Some(Why::Vanished) => "vanished before it was read",
        Some(Why::Mount) => "on another file system",
        None => "not captured",
    }
}

/// What `ls` says.
pub fn ls(report: &LsReport) -> String {
    let mut out = String::new();
    for row in &report.entries {
        let moment = Timestamp::new(row.mtime.0, i32::try_from(row.mtime.1).unwrap_or(0))
            .map(time)
            .unwrap_or_default();
        let mut name = row.path.clone();
        if let Some(target) = &row.target {
            name.push_str(&format!(" -> {target}"));
        }
        let flags = if row.flags.is_empty() { String::new() } else { format!("  [{}]", row.flags.join(" ")) };
        let letter = type_letter(row);
        if row.kind == Kind::Left {
            let why = left_because(row.why);
            out.push_str(&format!("{letter}{:>52} {name}  (not in the snapshot: {why})\n", ""));
            continue;
        }
        let (mode, user, group, size) = (&row.mode, &row.user, &row.group, size(row.size));
        out.push_str(&format!(
            "{letter}{mode:>4} {user:<8} {group:<8} {size:>9} {moment:<19} {name}{flags}\n"
        ));
    }
    out
}

/// What `backup --dry-run` says.
pub fn plan(plan: &BackupPlan) -> String {
    let mut out = String::from("this would be captured (nothing was written):\n");
    for c in &plan.components {
        let amount = match c.method.as_str() {
            "command" => "the output of its command".to_owned(),
            _ => format!("{}, {}", count(c.files, "file"), size(c.size)),
        };
        out.push_str(&format!("  {:<16} {amount}\n", c.name));
        for database in &c.databases {
            out.push_str(&format!("    database {database}, through SQLite\n"));
        }
        if !c.rules.is_empty() {
            out.push_str(&format!("    without {}\n", c.rules.join(", ")));
        }
    }
    if let Some(growth) = &plan.growth {
        let (month, days) = (size(growth.bytes_a_month), growth.days.round().max(1.0) as u64);
        let of = format!("{} of the last {}", count(growth.snapshots, "snapshot"), count(days, "day"));
        out.push_str(&format!("at the pace of {of}, snapshots add {month} a month\n"));
    }
    out
}

/// What `restore` says.
pub fn restore(report: &RestoreReport) -> String {
    let mut out = format!(
        "restored {} ({}, {}) of snapshot {} to {}\n",
        count(report.files, "file"),
        size(report.bytes),
        count(report.entries, "entry"),
        report.snapshot,
        report.to
    );
    if report.databases_checked > 0 {
        out.push_str(&format!("databases checked: {}\n", report.databases_checked));
    }
    for kept in &report.kept {
        out.push_str(&format!("the old one is kept as {kept}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_thing_is_one() {
        let said: Vec<String> =
            [0, 1, 2].iter().flat_map(|n| [count(*n, "file"), count(*n, "entry")]).collect();
        assert_eq!(said, ["0 files", "0 entries", "1 file", "1 entry", "2 files", "2 entries"]);
    }

    #[test]
    fn sizes_have_three_digits_at_most() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_996, "10 kB"),
            (999_600, "1.0 MB"),
            (5_500_000_000, "5.5 GB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }
}
