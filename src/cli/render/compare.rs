//! What `diff` and `find` say.

use super::{count, plain, size, time};
use crate::model::Kind;
use crate::ops::diff::{Aspects, Change, DiffReport, Pages, Status, Summary};
use crate::ops::look::{FindReport, FoundPath, Version};

fn letter(status: Status) -> char {
    match status {
        Status::Added => '+',
        Status::Removed => '-',
        Status::Changed => 'M',
        Status::Metadata => 'm',
        Status::Type => 'T',
        Status::Renamed => 'R',
    }
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "folder",
        Kind::Symlink => "link",
        Kind::Fifo => "FIFO",
        Kind::Char | Kind::Block => "device",
        Kind::Socket => "socket",
        Kind::Left => "not captured",
    }
}

fn pages_text(pages: &Pages) -> String {
    let most = if pages.exact { "" } else { "at most " };
    let total = count(pages.total, "page");
    format!("{most}{} of {total} of {} changed", pages.changed, size(u64::from(pages.size)))
}

/// What is worth saying of a change beside its path.
fn detail(change: &Change) -> String {
    let mut words = Vec::new();
    match change.status {
        Status::Added if change.kind == Kind::File => words.push(size(change.size_after)),
        Status::Removed if change.kind == Kind::File => words.push(size(change.size_before)),
        Status::Type => {
            let was = change.was.unwrap_or(change.kind);
            words.push(format!("{} -> {}", kind_word(was), kind_word(change.kind)));
        }
        Status::Changed if change.size_before != change.size_after => {
            words.push(format!("{} -> {}", size(change.size_before), size(change.size_after)));
        }
        Status::Changed if change.what.has(Aspects::CONTENT) => words.push(size(change.size_after)),
        _ => {}
    }
    words.extend(change.pages.as_ref().map(pages_text));
    // That the time of a changed file is another one goes without saying.
    let obvious = |word: &&str| *word == "content" || (*word == "mtime" && change.status == Status::Changed);
    let aspects: Vec<&str> = change.what.words().filter(|word| !obvious(word)).collect();
    words.extend((!aspects.is_empty()).then(|| aspects.join(" ")));
    words.join(", ")
}

fn summary(sums: &Summary) -> String {
    let mut words = Vec::new();
    let mut say = |number: u64, text: String| words.extend((number > 0).then_some(text));
    say(sums.added, format!("{} added ({})", sums.added, size(sums.bytes_added)));
    say(sums.removed, format!("{} removed ({})", sums.removed, size(sums.bytes_removed)));
    say(sums.changed, format!("{} changed", sums.changed));
    say(sums.metadata, format!("{} with other metadata", sums.metadata));
    say(sums.retyped, format!("{} became something else", sums.retyped));
    say(sums.renamed, format!("{} renamed", sums.renamed));
    if words.is_empty() { "no difference".to_owned() } else { words.join(", ") }
}

/// What `diff` says.
pub fn diff(report: &DiffReport) -> String {
    let mut out = format!("from snapshot {} of {}\n", report.from, time(report.from_time));
    match (&report.to, report.to_time.or(report.looked_at)) {
        (Some(to), Some(moment)) => out.push_str(&format!("to snapshot   {to} of {}\n", time(moment))),
        (_, Some(moment)) => out.push_str(&format!("to the live tree as it is at {}\n", time(moment))),
        _ => {}
    }
    for change in &report.changes {
        let from = change.from.as_ref().map(|from| format!("{from} -> ")).unwrap_or_default();
        let detail = detail(change);
        let gap = if detail.is_empty() { "" } else { "  " };
        out.push_str(&format!("{} {from}{}{gap}{detail}\n", letter(change.status), change.path));
    }
    for name in &report.only_in_from {
        out.push_str(&format!("component {name} is on the older side only, and was not compared\n"));
    }
    for name in &report.only_in_to {
        out.push_str(&format!("component {name} is on the newer side only, and was not compared\n"));
    }
    for left in &report.not_compared {
        out.push_str(&format!("component {} was not compared: {}\n", left.component, left.why));
    }
    out.push_str(&format!("{}\n", summary(&report.summary)));
    out
}

fn version(version: &Version) -> String {
    let content = match version.kind {
        Kind::File => size(version.size),
        kind => kind_word(kind).to_owned(),
    };
    let target = version.target.as_ref().map(|target| format!(" -> {target}")).unwrap_or_default();
    let newest = version.snapshots.first().map(ToString::to_string).unwrap_or_default();
    let more = match version.snapshots.len() {
        0 | 1 => String::new(),
        number => format!(" and {} older, back to {}", number - 1, time(version.oldest)),
    };
    format!("  {}  {content:>9}  {newest}{more}{target}\n", time(version.newest))
}

/// What `find` says.
pub fn find(report: &FindReport) -> String {
    let mut out = String::new();
    let hosts = report.paths.iter().any(|p| Some(p.host) != report.paths.first().map(|p| p.host));
    for path in &report.paths {
        let FoundPath { hostname, path: name, gone, versions, .. } = path;
        let host = if hosts { format!("{}: ", plain(hostname)) } else { String::new() };
        let gone = if *gone { "  (not in the newest snapshot)" } else { "" };
        out.push_str(&format!("{host}{name}{gone}\n"));
        versions.iter().for_each(|v| out.push_str(&version(v)));
    }
    out
}
