//! What a kit finds: stores, hosts, snapshots, and which of them is the best to take.

use super::rank::Against;
use super::reach::place_named;
use crate::keys::Kit;
use crate::model::chain::KnownSnapshot;
use crate::model::record::SnapshotKind;
use crate::model::{HostId, SnapshotId, Timestamp};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::select;
use crate::ops::session::Session;
use crate::ops::vault::{Vault, is_trusted};
use serde::Serialize;

/// A store of the kit.
#[derive(Debug, Clone, Serialize)]
pub struct FoundStore {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub location: String,
    /// Whether it was read.
    pub here: bool,
    /// Why not, when it could not be.
    pub problem: Option<String>,
}

/// A host that has trusted snapshots.
#[derive(Debug, Clone, Serialize)]
pub struct FoundHost {
    /// Its id.
    pub host: String,
    /// Its name, where the kit or its list of trusted keys has one.
    pub name: Option<String>,
    /// Whether the kit is of this host.
    pub of_kit: bool,
    /// How many snapshots.
    pub snapshots: u64,
    /// How many of them are good.
    pub good: u64,
    /// When the newest was begun.
    pub newest: Option<Timestamp>,
}

/// A snapshot of the kit's host.
#[derive(Debug, Clone, Serialize)]
pub struct FoundSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// `normal`, or `safety`: made by a rollback, and never taken unless it is named.
    pub kind: SnapshotKind,
    /// When the run began.
    pub started: Timestamp,
    /// Complete, checked, read back.
    pub good: bool,
    /// Everything asked for was captured.
    pub complete: bool,
    /// Why it is not good, if it is not.
    pub not_good_because: Option<String>,
    /// How many components.
    pub components: u64,
    /// Sum of file sizes in bytes.
    pub size: u64,
    /// Tags.
    pub tags: Vec<String>,
}

/// What was found, and what would be taken.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// The kit's stores.
    pub stores: Vec<FoundStore>,
    /// Hosts with trusted snapshots in them.
    pub hosts: Vec<FoundHost>,
    /// Snapshots of the kit's host: good ones first, newest first.
    pub snapshots: Vec<FoundSnapshot>,
    /// Which of them is taken when nobody names another.
    pub taken: Option<SnapshotId>,
    /// Why this one, or why none.
    pub why: String,
    /// What is wrong with the history; then none is taken by itself.
    pub history: Vec<String>,
}

/// Puts together what `vault` holds for the kit's host, of whose snapshots it is known what stands `against` them.
pub(super) fn of(session: &Session, vault: &Vault, kit: &Kit, (host, against): (&HostId, &Against)) -> Found {
    let mut history = select::breaks_of(vault, &[*host]);
    let newer = vault.bad.iter().filter(|bad| bad.too_new);
    history.extend(newer.map(|bad| format!("{} was written by a newer backstay", bad.key)));
    let unreached = unreached(session, vault, kit, host);
    // A place that somebody named may be an older copy, and nobody would notice. Elsewhere a store that is away died with the machine as a rule, and to
    // take nothing would be to recover nothing: it is said beside the choice.
    if history.is_empty() && place_named(kit, &session.around).is_some() {
        history.clone_from(&unreached);
    }
    let mut known: Vec<&KnownSnapshot> =
        vault.history.snapshots(host).iter().rev().filter(|s| is_candidate(s)).collect();
    // Stable: newest first within each.
    known.sort_by_key(|s| against.rank(s));
    let snapshots: Vec<FoundSnapshot> = known.into_iter().map(|s| row(s, against)).collect();
    let (taken, mut why) = taken(&snapshots, &history);
    if taken.is_some() && !unreached.is_empty() {
        let lines = unreached.join(", ");
        why.push_str(&format!("; but {lines}: newer snapshots may lie in a store that is away"));
    }
    let hosts = vault.hosts().iter().map(|h| host_row(vault, kit, h, h == host)).collect();
    Found { stores: stores(session, vault), hosts, snapshots, taken, why, history }
}

fn is_candidate(snapshot: &KnownSnapshot) -> bool {
    snapshot.is_usable() && snapshot.record.kind != SnapshotKind::Partial
}

/// With stores away: entries of the host that the kit knows of and that are nowhere here. One store alone is measured by the kit where its history is
/// judged.
fn unreached(session: &Session, vault: &Vault, kit: &Kit, host: &HostId) -> Vec<String> {
    if session.stores.len() < 2 || session.around.as_of.is_some() {
        return Vec::new();
    }
    let own = kit.heads.iter().filter(|(signer, _)| vault.history.keys().is_of(signer, host));
    let beyond = own.filter_map(|(signer, (known, _))| {
        let there = vault.history.heads.get(signer).map_or(0, |head| head.0);
        (there < *known).then(|| {
            format!("the kit knows of entry {known} of signer {signer}, and the stores that are here end at {there}")
        })
    });
    beyond.collect()
}

fn row(known: &KnownSnapshot, against: &Against) -> FoundSnapshot {
    let record = &known.record;
    FoundSnapshot {
        id: record.snapshot.clone(),
        kind: record.kind,
        started: record.started,
        good: known.good,
        complete: record.complete,
        not_good_because: against.why(known).map(str::to_owned),
        components: record.components.len() as u64,
        size: record.components.iter().map(|c| c.size).sum(),
        tags: known.tags.iter().cloned().collect(),
    }
}

fn host_row(vault: &Vault, kit: &Kit, host: &HostId, of_kit: bool) -> FoundHost {
    let trusted: Vec<&KnownSnapshot> =
        vault.history.snapshots(host).iter().filter(|s| is_trusted(s)).collect();
    let key = kit.trusted.keys().iter().find(|k| k.host.unwrap_or_else(|| k.id.into()) == *host);
    let name = if of_kit { Some(kit.hostname.clone()) } else { key.map(|key| key.name.clone()) };
    FoundHost {
        host: host.to_string(),
        name: name.filter(|name| !name.is_empty()),
        of_kit,
        snapshots: trusted.len() as u64,
        good: trusted.iter().filter(|s| s.good).count() as u64,
        newest: trusted.iter().map(|s| s.record.started).max(),
    }
}

fn stores(session: &Session, vault: &Vault) -> Vec<FoundStore> {
    let row = |slot: &crate::ops::stores::StoreSlot| {
        let problem = session.store_of(slot).err().map(|away| away.line());
        let read = vault.views.iter().any(|view| view.store.name() == slot.name);
        let unread = (!read && problem.is_none()).then(|| "it was not read".to_owned());
        let problem = problem.or(unread);
        FoundStore { name: slot.name.clone(), location: slot.place.clone(), here: problem.is_none(), problem }
    };
    session.stores.iter().map(row).collect()
}

fn taken(snapshots: &[FoundSnapshot], history: &[String]) -> (Option<SnapshotId>, String) {
    if !history.is_empty() {
        return (None, "the history is not whole, so nobody can say which snapshot is the newest".into());
    }
    // What a rollback put away is the state that somebody did not want.
    let Some(first) = snapshots.iter().find(|s| s.kind == SnapshotKind::Normal) else {
        let safety: Vec<&str> = snapshots.iter().map(|s| s.id.as_str()).collect();
        let why = match safety.is_empty() {
            true => "there is no snapshot of this host that can be used".to_owned(),
            false => format!(
                "there is no snapshot of this host by a backup that can be used; made by a rollback, and never taken unless it is named: {}",
                safety.join(", ")
            ),
        };
        return (None, why);
    };
    let newest = snapshots.iter().max_by_key(|s| s.started).unwrap_or(first);
    let why = match (first.good, first.id == newest.id) {
        (true, true) => "it is the newest, and good".to_owned(),
        (true, false) => {
            format!("it is the newest good one; {} is newer, but {}", newest.id, newer_because(newest))
        }
        (false, same) => {
            let newer = match same {
                true => String::new(),
                false => format!("; {} is newer, but {}", newest.id, newer_because(newest)),
            };
            let why = first.not_good_because.as_deref().unwrap_or_default();
            format!("none is good; this is the newest of the best: {why}{newer}")
        }
    };
    (Some(first.id.clone()), why)
}

/// Why a newer snapshot is passed over.
fn newer_because(newest: &FoundSnapshot) -> &str {
    match &newest.not_good_because {
        Some(why) if newest.kind == SnapshotKind::Normal => why,
        _ => "was made by a rollback",
    }
}

impl Found {
    /// The snapshots that may be taken without being named, in turn, should one not open.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = &SnapshotId> {
        self.snapshots.iter().filter(|s| s.kind == SnapshotKind::Normal).map(|s| &s.id)
    }
}

/// The snapshot that is taken when nobody names one.
pub(super) fn best(found: &Found) -> Result<String> {
    if let Some(id) = &found.taken {
        return Ok(id.to_string());
    }
    if found.history.is_empty() {
        let hint = match found.snapshots.is_empty() {
            true => "is it the right store? `backstay --kit KIT list --all-hosts` shows everything in it",
            false => "take one of them with --snapshot ID, if it is the state that you want",
        };
        return Err(OpError::new(Class::NotFound, found.why.clone()).hint(hint));
    }
    Err(OpError::new(Class::Damage, found.why.clone())
        .because(found.history.join("; "))
        .hint("bring the other stores of the kit here, if there are any; or take one of the list with --snapshot ID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(letter: u8, kind: SnapshotKind, good: bool, time: i64) -> FoundSnapshot {
        let started = Timestamp::from_second(time).unwrap();
        FoundSnapshot {
            id: SnapshotId::new(started, [letter; 5]),
            kind,
            started,
            good,
            complete: true,
            not_good_because: (!good).then(|| "it was never read back".to_owned()),
            components: 1,
            size: 1,
            tags: Vec::new(),
        }
    }

    #[test]
    fn what_a_rollback_put_away_is_never_taken_by_itself_also_where_there_is_nothing_else() {
        let safety = found(1, SnapshotKind::Safety, true, 200);
        let doubtful = found(2, SnapshotKind::Normal, false, 100);
        let both = [safety.clone(), doubtful.clone()];
        let (id, why) = taken(&both, &[]);
        assert_eq!(id, Some(doubtful.id), "{why}");
        let alone = vec![safety.clone()];
        let (id, why) = taken(&alone, &[]);
        assert!(id.is_none() && why.contains(safety.id.as_str()), "{why}");
        let newer = [found(3, SnapshotKind::Normal, true, 50), safety];
        assert!(taken(&newer, &[]).1.contains("made by a rollback"), "{:?}", taken(&newer, &[]));
        let nothing = Found {
            stores: Vec::new(),
            hosts: Vec::new(),
            snapshots: alone,
            taken: None,
            why: "so it is".into(),
            history: Vec::new(),
        };
        assert!(best(&nothing).unwrap_err().hint.unwrap().contains("--snapshot ID"));
    }
}
