//! What a verification found, for people.

use super::{count, size, time};
use crate::model::mark::Level;
use crate::ops::proofs::{Said, StoreProof};
use crate::ops::verify::{Damage, VerifiedStore, VerifyReport};

/// So many paths of one damaged object are shown; JSON has more.
const PATHS: usize = 20;
/// So many snapshots of one damaged object are shown; JSON has all.
const SNAPSHOTS: usize = 8;

/// What `verify` says.
pub fn verify(report: &VerifyReport) -> String {
    let mut out = String::new();
    for store in &report.stores {
        out.push_str(&store_lines(store, report));
        for damage in report.damage.iter().filter(|d| d.store == store.name) {
            out.push_str(&damage_lines(damage));
        }
    }
    if let Some(why) = &report.not_signed {
        out.push_str(&format!("what was found is not signed, so lists do not show it: {why}\n"));
    } else if report.verdicts > 0 {
        out.push_str(&format!("{} signed\n", count(report.verdicts, "verdict")));
    }
    let broken = report.damage.len() as u64;
    if broken > 0 {
        out.push_str(&format!("{} damaged or missing\n", count(broken, "object")));
    }
    out
}

/// What is proved of a snapshot in one store, on one line.
pub(super) fn proof(proof: &StoreProof) -> String {
    let mut words = vec![match (proof.good, proof.self_verified) {
        (true, true) => "good (self-verified)".to_owned(),
        (true, false) => "good".to_owned(),
        (false, _) => "not proved".to_owned(),
    }];
    if !proof.bad.is_empty() {
        words.push(format!("{} DAMAGED", count(proof.bad.len() as u64, "object")));
    }
    if let Some(since) = proof.proved_since {
        words.push(format!("every byte read since {}", time(since)));
    }
    let word = |said: &Said| if said.good { "well" } else { "NOT WELL" };
    match &proof.last_drill {
        Some(drill) => words.push(format!("drilled {}, {}", time(drill.at), word(drill))),
        None => words.push("never drilled".to_owned()),
    }
    format!("{}: {}", proof.store, words.join(", "))
}

fn store_lines(store: &VerifiedStore, report: &VerifyReport) -> String {
    let at = format!("{} ({})", store.name, store.location);
    let (snapshots, objects) = (count(store.snapshots, "snapshot"), count(store.objects, "object"));
    let mut out = match &store.problem {
        Some(_) if store.objects == 0 => return format!("{at}: NOT VERIFIED\n"),
        Some(_) => format!("{at}: NOT VERIFIED TO THE END, {snapshots}, {objects}, {}\n", size(store.bytes)),
        None => format!("{at}: {snapshots}, {objects}, {}\n", size(store.bytes)),
    };
    let whole = match report.level {
        Level::Presence => "there with the right sizes",
        Level::Read => "whole, as far as was looked",
        _ => "whole, content compared",
    };
    if store.problem.is_none() {
        out.push_str(&format!("  {} of {} {whole}\n", store.whole, store.snapshots));
    }
    if store.read_objects > 0 {
        let read = count(store.read_objects, "object");
        out.push_str(&format!("  read and compared: {} in {read}\n", size(store.read_bytes)));
    }
    if store.files > 0 {
        out.push_str(&format!(
            "  opened and compared: {}, {} checked\n",
            count(store.files, "file"),
            count(store.databases, "database")
        ));
    }
    match (store.unproved_bytes, store.proved_since) {
        (0, Some(since)) => out.push_str(&format!("  every byte was proved since {}\n", time(since))),
        (0, None) => {}
        (bytes, _) => out.push_str(&format!(
            "  {} not proved as lately as it should be; `backstay verify --read-data` reads all\n",
            size(bytes)
        )),
    }
    for id in store.lacking.iter().take(SNAPSHOTS) {
        out.push_str(&format!("  LACKS snapshot {id}\n"));
    }
    if store.lacking.len() > SNAPSHOTS {
        out.push_str(&format!("  and {} more\n", store.lacking.len() - SNAPSHOTS));
    }
    out
}

fn damage_lines(damage: &Damage) -> String {
    let mut out = format!("  DAMAGED {}: {}\n", damage.object, damage.why);
    if !damage.snapshots.is_empty() {
        let ids: Vec<&str> =
            damage.snapshots.iter().rev().take(SNAPSHOTS).map(crate::model::SnapshotId::as_str).collect();
        let more = damage.snapshots.len().saturating_sub(SNAPSHOTS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        out.push_str(&format!("    needed by {}{more}\n", ids.join(", ")));
    }
    for path in damage.paths.iter().take(PATHS) {
        out.push_str(&format!("    lost here: {path}\n"));
    }
    let more = damage.paths.len().saturating_sub(PATHS) as u64 + damage.more_paths;
    if more > 0 {
        out.push_str(&format!("    and {} more (--json names them)\n", count(more, "path")));
    }
    if damage.opened && damage.paths.is_empty() {
        out.push_str("    no file's content is lost by it\n");
    }
    out.push_str(&format!("    way out: {}\n", damage.way_out));
    out
}
