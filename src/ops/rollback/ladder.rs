//! What is left to try when a snapshot cannot be used: one rung a line, the nearest first. Only said, never done.

use crate::config::{CommandLine, Config, Place};
use crate::model::SnapshotId;
use crate::model::record::SnapshotKind;
use crate::ops::look::{self, SnapshotRow};
use crate::ops::select;
use crate::ops::session::Session;

/// So many older snapshots are named.
const OLDER: usize = 3;

/// The rungs, for a project whose snapshot `wanted` (as it was asked for) cannot be used. `session` where one could be opened.
pub fn ladder(config: &Config, session: Option<&Session>, wanted: Option<&str>) -> Vec<String> {
    let Older { good, safety } = session.map(|session| older(session, wanted)).unwrap_or_default();
    let mut rungs = good;
    rungs.extend(stores(config));
    rungs.extend(crate::ops::git::ways_back(config));
    if let Some(command) = &config.emergency {
        rungs.push(format!("[emergency] of the configuration: {}", line(command)));
    }
    rungs.extend(safety);
    rungs.push("without backstay: RECOVER.md and recover.py in the store, with the recovery kit".into());
    rungs
}

/// True when `wanted` means no snapshot, or none that is in reach: what is not found then is no mistake in the name of a component.
pub fn means_none(session: &Session, wanted: &str) -> bool {
    session.read_vault().and_then(|vault| select::named(session, &vault, wanted).map(drop)).is_err()
}

fn line(command: &CommandLine) -> String {
    match command {
        CommandLine::Args(args) => args.join(" "),
        CommandLine::Shell(text) => text.clone(),
    }
}

/// Snapshots that are older than the one that was asked for, as rungs.
#[derive(Default)]
struct Older {
    /// Good ones that were made of an application as somebody ran it.
    good: Vec<String>,
    /// What a rollback put away: somebody had a reason to leave that state.
    safety: Vec<String>,
}

fn older(session: &Session, wanted: Option<&str>) -> Older {
    let Ok(list) = look::list(session) else {
        return Older::default();
    };
    let usable = |row: &&SnapshotRow| {
        row.good && row.trusted && row.void.is_none() && row.kind != SnapshotKind::Partial
    };
    let is_wanted = |id: &SnapshotId| wanted.is_some_and(|wanted| id.to_string().starts_with(wanted));
    // What a word such as `latest` means is the newest; what cannot be found leaves them all.
    let from = match wanted {
        Some(word) if word.starts_with("latest") => 1,
        _ => list.snapshots.iter().rev().position(|row| is_wanted(&row.id)).map_or(0, |place| place + 1),
    };
    let rows = list.snapshots.iter().rev().skip(from).filter(usable);
    let (safety, good): (Vec<_>, Vec<_>) = rows.partition(|row| row.kind == SnapshotKind::Safety);
    let rung = |what: &str, row: &SnapshotRow| {
        let note = row.note.as_deref().map(|note| format!("  ({note})")).unwrap_or_default();
        format!("{what}: backstay rollback {}{note}", row.id)
    };
    let put_away = "a safety snapshot, of what a rollback put away";
    Older {
        good: good.into_iter().take(OLDER).map(|row| rung("an older good snapshot", row)).collect(),
        safety: safety.into_iter().take(OLDER).map(|row| rung(put_away, row)).collect(),
    }
}

fn stores(config: &Config) -> Vec<String> {
    let names: Vec<&str> = config.stores.iter().map(|s| s.name.as_str()).collect();
    if names.len() > 1 {
        let what = "another store: backstay sync brings to each what another has whole; each by itself";
        return vec![format!("{what}: backstay --store NAME list (NAME is one of {})", names.join(", "))];
    }
    let place = match config.stores.first().map(|s| &s.place) {
        Some(Place::Path(path)) => path.display().to_string(),
        Some(Place::Url(_)) => "the bucket".into(),
        None => return Vec::new(),
    };
    vec![format!("a copy of {place}, if there is one: backstay --store PATH restore ID --to DIR")]
}
