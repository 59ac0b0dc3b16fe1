//! What `tag`, `note`, `milestone`, `delete`, `prune` and `settle` say.

use super::{count, size, time};
use crate::ops::marking::MarkReport;
use crate::ops::prune::{Fate, PruneReport, PrunedStore};
use crate::ops::settle::SettleReport;

/// One line for each snapshot that something was said about.
pub fn marked(report: &MarkReport, what: &str) -> String {
    let line = |row: &crate::ops::marking::MarkedSnapshot| format!("snapshot {}: {what}\n", row.id);
    report.snapshots.iter().map(line).collect()
}

/// What `delete` asks about.
pub fn deletions(report: &MarkReport) -> String {
    let mut out = String::from(
        "These snapshots are to be deleted from every store. The next prune announces them, and one a day later deletes them:\n",
    );
    for row in &report.snapshots {
        let tags =
            if row.tags.is_empty() { String::new() } else { format!("  tags {}", row.tags.join(", ")) };
        out.push_str(&format!("  {}  made {}{tags}\n", row.id, time(row.started)));
        if let Some(why) = &row.stays_because {
            out.push_str(&format!("    cannot go: {why}\n"));
        }
    }
    out
}

/// What `settle` asks about.
pub fn settlement(report: &SettleReport) -> String {
    let mut out = String::from(
        "This is wrong, and would be accepted by everybody who trusts this machine's key to prune:\n",
    );
    for history in &report.histories {
        for wrong in &history.wrong {
            out.push_str(&format!("  {wrong}\n"));
        }
        if !history.lost.is_empty() {
            out.push_str(&format!("    accepted as lost: {}\n", numbers(&history.lost)));
        }
        for id in &history.dropped {
            out.push_str(&format!("    snapshot {id} becomes untrusted\n"));
        }
    }
    out.push_str("Nothing is deleted. An entry that comes back later, from a store or a copy, counts again where it was accepted as lost.\n");
    out
}

/// `entry 3`, `entries 3, 5 to 9`.
fn numbers(of: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in of {
        match runs.last_mut() {
            Some((_, to)) if *to + 1 == *number => *to = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let run = |(from, to): &(u64, u64)| if from == to { from.to_string() } else { format!("{from} to {to}") };
    let runs: Vec<String> = runs.iter().map(run).collect();
    format!("{} {}", if of.len() == 1 { "entry" } else { "entries" }, runs.join(", "))
}

/// What `settle` did.
pub fn settled(report: &SettleReport) -> String {
    if report.histories.is_empty() {
        return "the history is whole; there is nothing to settle\n".into();
    }
    let mut out = String::new();
    for history in &report.histories {
        out.push_str(&format!("the history signed by {} is settled\n", history.signer));
    }
    for left in &report.left {
        out.push_str(&format!("still wrong: {left}\n"));
    }
    out
}

/// What was planned and done, store by store; with every snapshot when `all`.
pub fn prune(report: &PruneReport, all: bool) -> String {
    let mut out = String::new();
    for accepted in &report.accepted {
        out.push_str(&format!("accepted: {} in {}\n", accepted.components.join(", "), accepted.snapshot));
    }
    for store in &report.stores {
        out.push_str(&format!("{} ({})\n", store.name, store.location));
        let last = |out: &mut String| {
            if let Some(last) = store.last_pruned {
                out.push_str(&format!("  last deleted from: {}\n", time(last)));
            }
        };
        if let Some(problem) = &store.problem {
            out.push_str(&format!("  nothing was done: {problem}\n"));
            continue;
        }
        if store.elsewhere {
            out.push_str("  pruned by another host, left alone\n");
            last(&mut out);
            continue;
        }
        if all {
            rows(&mut out, store);
        }
        frozen(&mut out, store);
        done(&mut out, store, report.dry_run);
    }
    out
}

fn rows(out: &mut String, store: &PrunedStore) {
    for row in &store.snapshots {
        let fate = match row.fate {
            Fate::Stays => "stays",
            Fate::Later => "later",
            Fate::Goes => "GOES ",
            Fate::Waits => "waits",
        };
        out.push_str(&format!("  {fate}  {}  {}\n", row.id, row.reasons.join("; ")));
    }
}

fn frozen(out: &mut String, store: &PrunedStore) {
    for freeze in &store.frozen {
        let good = count(freeze.good_needed, "good snapshot");
        out.push_str(&format!(
            "  FROZEN {}: {}. Nothing of it goes until {good} more are there, or you have looked: backstay prune --accept {}\n",
            freeze.component, freeze.why, freeze.accept
        ));
    }
    if store.held_by_freeze > 0 {
        let held = count(store.held_by_freeze, "snapshot");
        out.push_str(&format!("  {held} would go and are kept because of that\n"));
    }
}

fn done(out: &mut String, store: &PrunedStore, dry_run: bool) {
    let deleted = &store.deleted;
    let goes = |fate: Fate| store.snapshots.iter().filter(|row| row.fate == fate).count() as u64;
    if dry_run {
        let crate::ops::prune::WouldFree { objects, bytes } = store.would_free.unwrap_or_default();
        out.push_str(&format!(
            "  would announce {} and {} ({}); {} stay, {} would follow later\n",
            count(goes(Fate::Goes), "snapshot"),
            count(objects, "object"),
            size(bytes),
            goes(Fate::Stays),
            goes(Fate::Later)
        ));
    } else if deleted.snapshots + deleted.objects > 0 {
        out.push_str(&format!(
            "  deleted {} and {} ({})\n",
            count(deleted.snapshots, "snapshot"),
            count(deleted.objects, "object"),
            size(deleted.bytes)
        ));
        if store.keeps_versions == Some(true) {
            out.push_str(&format!(
                "  the bucket keeps versions: these {} are only hidden, and paid for until its own rules remove old versions\n",
                size(deleted.bytes)
            ));
        }
    }
    for waiting in &store.waiting {
        if waiting.snapshots + waiting.objects == 0 {
            out.push_str("  what was announced before stays: it is kept or needed again\n");
            continue;
        }
        out.push_str(&format!(
            "  announced: {} and {} go at the first prune after {}\n",
            count(waiting.snapshots, "snapshot"),
            count(waiting.objects, "object"),
            time(waiting.not_before)
        ));
    }
    if store.objects_later > 0 {
        out.push_str(&format!(
            "  {} more that nothing will need: too many for one announcement, the next runs of prune go on\n",
            count(store.objects_later, "object")
        ));
    }
    if !store.others_tombstones.is_empty() {
        out.push_str(&format!(
            "  announced by others, who must delete it themselves: {}\n",
            store.others_tombstones.join(", ")
        ));
    }
    if !dry_run && deleted.snapshots + deleted.objects == 0 && store.waiting.is_empty() {
        out.push_str("  nothing to delete\n");
    }
}
