//! Which snapshots are good: what counting verdicts prove, for how long, and what ends it.

use crate::model::chain::{KnownSnapshot, KnownVerdict, Reader};
use crate::model::id::{HostId, ObjectId, VaultId};
use crate::model::mark::Level;
use crate::model::record::{CheckResult, SnapshotKind};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// What the last verdict about an object said: the verdict's place in the order, and when the proof began (none: it was found bad).
type Said = (usize, Option<Timestamp>);

/// What is known of the objects of a host in a store.
#[derive(Default)]
struct Objects {
    /// By the host itself.
    own: HashMap<ObjectId, Said>,
    /// By verifiers.
    others: HashMap<ObjectId, Said>,
}

/// Fills in where each snapshot is good. Marks must have been applied before.
pub(crate) fn judge(snapshots: &mut [KnownSnapshot], reader: &Reader) {
    let objects = objects(snapshots);
    for snapshot in snapshots.iter_mut() {
        if !may_be_good(snapshot) {
            continue;
        }
        for instance in &reader.instances {
            let Some(known) = objects.get(&(snapshot.record.host, instance.clone())) else {
                continue;
            };
            if is_good(snapshot, instance, known, reader, false) {
                snapshot.good_in.insert(instance.clone());
            }
            if is_good(snapshot, instance, known, reader, true) {
                snapshot.good_by_others_in.insert(instance.clone());
            }
        }
        snapshot.good = !snapshot.good_in.is_empty();
    }
}

fn may_be_good(snapshot: &KnownSnapshot) -> bool {
    let record = &snapshot.record;
    let checks = record
        .components
        .iter()
        .all(|c| c.check != CheckResult::Failed);
    snapshot.is_usable() && record.kind != SnapshotKind::Partial && record.complete && checks
}

/// A proof reaches the objects of the same host only: what one host claims of its records must not touch another's.
fn objects(snapshots: &[KnownSnapshot]) -> BTreeMap<(HostId, VaultId), Objects> {
    let mut verdicts: Vec<(&KnownSnapshot, &KnownVerdict)> = snapshots
        .iter()
        .flat_map(|s| s.verdicts.iter().map(move |v| (s, v)))
        .collect();
    // Those of one signer are in order already, and their times do not run backwards.
    verdicts.sort_by_key(|(_, v)| (v.time, v.signer));
    let mut objects: BTreeMap<(HostId, VaultId), Objects> = BTreeMap::new();
    for (place, (snapshot, known)) in verdicts.into_iter().enumerate() {
        let entry = objects
            .entry((snapshot.record.host, known.verdict.instance.clone()))
            .or_default();
        let said = if known.own {
            &mut entry.own
        } else {
            &mut entry.others
        };
        if proves(known.verdict.level) {
            let began = known.verdict.began.min(known.time);
            for id in covered(snapshot, known) {
                said.insert(id, (place, Some(began)));
            }
        }
        for id in &known.verdict.bad {
            said.insert(*id, (place, None));
        }
    }
    objects
}

/// To be there is no proof; to have been taken by a server that compares the hash is one.
fn proves(level: Level) -> bool {
    level != Level::Presence
}

fn covered<'a>(
    snapshot: &'a KnownSnapshot,
    known: &'a KnownVerdict,
) -> impl Iterator<Item = ObjectId> + 'a {
    let objects = &snapshot.record.objects;
    let index = move |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(objects.len());
    let range = move |&(from, to): &(u64, u64)| index(from)..index(to).max(index(from));
    known
        .verdict
        .covered
        .iter()
        .flat_map(move |row| objects[range(row)].iter().map(|object| object.id))
}

fn is_good(
    snapshot: &KnownSnapshot,
    instance: &VaultId,
    known: &Objects,
    reader: &Reader,
    others_only: bool,
) -> bool {
    let fresh = |began: Timestamp| reader.now.duration_since(began) <= reader.reverify;
    let proved = |id: &ObjectId| {
        let (own, other) = (known.own.get(id), known.others.get(id));
        // Whoever found it bad is heard; only for the proof it matters who gives it.
        let last = match (own, other) {
            (Some(own), Some(other)) if others_only && own.1.is_some() => Some(other),
            (Some((_, Some(_))), None) if others_only => None,
            (own, other) => own.max(other),
        };
        last.is_some_and(|(_, began)| began.is_some_and(fresh))
    };
    snapshot
        .record
        .objects
        .iter()
        .all(|object| proved(&object.id))
        && passes(snapshot, instance)
}

/// No verdict about this snapshot itself stands against it: a failed check, or a failure that names no object (a drill that did not end
/// well) and that no later verdict at least as deep has taken back.
fn passes(snapshot: &KnownSnapshot, instance: &VaultId) -> bool {
    let here = || {
        snapshot
            .verdicts
            .iter()
            .map(|known| &known.verdict)
            .filter(|v| v.instance == *instance)
    };
    let mut checks: BTreeMap<u64, CheckResult> = BTreeMap::new();
    checks.extend(here().flat_map(|v| v.checks.iter().copied()));
    let failed = here()
        .enumerate()
        .filter(|(_, v)| !v.good && v.bad.is_empty());
    let taken_back = |(place, bad): (usize, &crate::model::mark::Verdict)| {
        here()
            .skip(place + 1)
            .any(|v| v.good && v.level >= bad.level)
    };
    checks.values().all(|check| *check != CheckResult::Failed)
        && failed.map(taken_back).all(|back| back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_alone_is_no_proof() {
        let proving = [
            Level::Put,
            Level::Presence,
            Level::Read,
            Level::Decrypt,
            Level::Drill,
        ]
        .map(proves);
        assert_eq!(proving, [true, false, true, true, true]);
    }
}
