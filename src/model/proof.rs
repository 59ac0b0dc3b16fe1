//! Which snapshots are good: what counting verdicts prove, for how long, and what ends it.

use crate::model::chain::{History, KnownSnapshot, KnownVerdict, Reader};
use crate::model::id::{HostId, ObjectId, VaultId};
use crate::model::mark::Level;
use crate::model::record::{CheckResult, SnapshotKind};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// What verdicts said of one object, each with its place in their order.
#[derive(Default)]
struct Said {
    /// The last that found it bad, whoever that was.
    bad: Option<usize>,
    /// The host's last proof, and when it began.
    own: Option<(usize, Timestamp)>,
    /// A verifier's last proof.
    other: Option<(usize, Timestamp)>,
}

impl Said {
    /// True when a proof that nobody took back later began at `since` or after.
    fn proved(&self, since: Timestamp, others_only: bool) -> bool {
        let own = self.own.filter(|_| !others_only);
        let counts = |(place, began): (usize, Timestamp)| Some(place) > self.bad && began >= since;
        own.is_some_and(counts) || self.other.is_some_and(counts)
    }
}

/// What is known of the objects of a host in a store.
type Objects = HashMap<ObjectId, Said>;

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
    let checks = record.components.iter().all(|c| c.check != CheckResult::Failed);
    snapshot.is_usable() && record.kind != SnapshotKind::Partial && record.complete && checks
}

/// A proof reaches the objects of the same host only: what one host claims of its records must not touch another's.
fn objects(snapshots: &[KnownSnapshot]) -> BTreeMap<(HostId, VaultId), Objects> {
    let mut verdicts: Vec<(&KnownSnapshot, &KnownVerdict)> =
        snapshots.iter().flat_map(|s| s.verdicts.iter().map(move |v| (s, v))).collect();
    verdicts.sort_by_key(|(_, v)| (v.time, v.signer, v.number));
    let mut objects: BTreeMap<(HostId, VaultId), Objects> = BTreeMap::new();
    for (place, (snapshot, known)) in verdicts.into_iter().enumerate() {
        let said = objects.entry((snapshot.record.host, known.verdict.instance.clone())).or_default();
        if proves(known.verdict.level) {
            let began = known.verdict.began.min(known.time);
            for id in covered(snapshot, known) {
                let object: &mut Said = said.entry(id).or_default();
                let bad = object.bad;
                let proof = if known.own { &mut object.own } else { &mut object.other };
                // Any proof counts: one that is carried over from older ones ends no younger one.
                let younger = proof.filter(|(at, _)| Some(*at) > bad).map(|(_, began)| began);
                *proof = Some((place, younger.map_or(began, |younger| younger.max(began))));
            }
        }
        for id in &known.verdict.bad {
            said.entry(*id).or_default().bad = Some(place);
        }
    }
    objects
}

/// What counting verdicts say of one object in one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// It was found missing or damaged, and nobody proved it since.
    pub bad: bool,
    /// When the last proof that still holds began; `None` when there is none.
    pub proved: Option<Timestamp>,
}

impl Said {
    fn standing(&self) -> Standing {
        let holds = |proof: Option<(usize, Timestamp)>| proof.filter(|(place, _)| Some(*place) > self.bad);
        let proved = holds(self.own).into_iter().chain(holds(self.other)).map(|(_, began)| began).max();
        Standing { bad: self.bad.is_some() && proved.is_none(), proved }
    }
}

impl History {
    /// What counting verdicts say of the objects of `host` in the store `instance`. Objects that none names are not listed.
    pub fn standing(&self, host: &HostId, instance: &VaultId) -> HashMap<ObjectId, Standing> {
        let snapshots = self.hosts.get(host).map_or(&[][..], Vec::as_slice);
        let mut known = objects(snapshots);
        let said = known.remove(&(*host, instance.clone())).unwrap_or_default();
        said.into_iter().map(|(id, said)| (id, said.standing())).collect()
    }
}

/// To be there is no proof; to have been taken by a server that compares the hash is one.
fn proves(level: Level) -> bool {
    level != Level::Presence
}

fn covered<'a>(snapshot: &'a KnownSnapshot, known: &'a KnownVerdict) -> impl Iterator<Item = ObjectId> + 'a {
    let objects = &snapshot.record.objects;
    let index = move |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(objects.len());
    let range = move |&(from, to): &(u64, u64)| index(from)..index(to).max(index(from));
    known.verdict.covered.iter().flat_map(move |row| objects[range(row)].iter().map(|object| object.id))
}

fn is_good(
    snapshot: &KnownSnapshot,
    instance: &VaultId,
    known: &Objects,
    reader: &Reader,
    others_only: bool,
) -> bool {
    let since = reader.now.saturating_sub(reader.reverify).unwrap_or(Timestamp::MIN);
    let proved = |id: &ObjectId| known.get(id).is_some_and(|said| said.proved(since, others_only));
    snapshot.record.objects.iter().all(|object| proved(&object.id)) && passes(snapshot, instance)
}

/// No verdict about this snapshot itself stands against it: a failed check, or a failure that names no object (a drill that did not end
/// well) and that no later verdict at least as deep has taken back.
fn passes(snapshot: &KnownSnapshot, instance: &VaultId) -> bool {
    let here = || snapshot.verdicts.iter().map(|known| &known.verdict).filter(|v| v.instance == *instance);
    let mut checks: BTreeMap<u64, CheckResult> = BTreeMap::new();
    checks.extend(here().flat_map(|v| v.checks.iter().copied()));
    let mut failed = here().enumerate().filter(|(_, v)| !v.good && v.bad.is_empty());
    let taken_back = |(place, bad): (usize, &crate::model::mark::Verdict)| {
        here().skip(place + 1).any(|v| v.good && v.level >= bad.level)
    };
    checks.values().all(|check| *check != CheckResult::Failed) && failed.all(taken_back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_alone_is_no_proof() {
        let proving = [Level::Put, Level::Presence, Level::Read, Level::Decrypt, Level::Drill].map(proves);
        assert_eq!(proving, [true, false, true, true, true]);
    }
}
