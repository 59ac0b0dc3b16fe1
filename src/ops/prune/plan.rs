//! The plan: what retention lets go of a store, and which objects nothing else needs. Reads nothing, deletes nothing.

use crate::model::chain::KnownSnapshot;
use crate::model::id::{HostId, ObjectId, SnapshotId};
use crate::model::mark::Tombstone;
use crate::model::retention::{Decision, Held, Policy, Reason, Scene, Verdicts, decide};
use crate::model::{ObjectKind, Timestamp};
use crate::ops::prune::look::{Data, Looked, records_in};
use crate::ops::vault::{Vault, View};
use jiff::SignedDuration;
use std::collections::{BTreeMap, HashSet};

/// An object that no record names may belong to a first backup over a slow line.
const ORPHAN_AGE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// So many snapshots, and so many objects, go into one tombstone. Every commit reads all tombstones of its store twice, and nobody reads a document above
/// `DOCUMENT_BYTES_MAX`, which some 800,000 objects would come to: neither a backup nor a prune would go through in that store any more.
const ROWS_MAX: usize = 100_000;

/// How much one run may announce.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    pub(super) snapshots: usize,
    pub(super) objects: usize,
}

impl Most {
    /// As much as one tombstone names, and not more than so many snapshots.
    pub(super) fn of(snapshots: usize) -> Self {
        Self { snapshots: snapshots.min(ROWS_MAX), objects: ROWS_MAX }
    }
}

/// A snapshot that may go.
#[derive(Debug, Clone)]
pub(super) struct Going {
    pub(super) snapshot: SnapshotId,
    pub(super) record: ObjectId,
    pub(super) time: Timestamp,
}

/// What is to become of the snapshots of one host.
pub(super) struct HostPlan {
    pub(super) host: HostId,
    pub(super) verdicts: Verdicts,
}

/// Which snapshots may go.
pub(super) struct Choice {
    pub(super) hosts: Vec<HostPlan>,
    /// All that may go, oldest first.
    pub(super) going: Vec<Going>,
}

/// What is decided by.
pub(super) struct Deciding<'a> {
    pub(super) vault: &'a Vault,
    pub(super) view: &'a View,
    pub(super) looked: &'a Looked,
    pub(super) policy: &'a Policy,
    /// The host that prunes.
    pub(super) own: HostId,
    /// The hosts whose snapshots may go.
    pub(super) hosts: &'a [HostId],
}

impl Deciding<'_> {
    pub(super) fn choose(&self) -> Choice {
        let (mut hosts, mut going) = (Vec::new(), Vec::new());
        for host in self.hosts {
            let held: Vec<Held<'_>> = self.held(host);
            let (policy, now) = (self.policy, self.looked.now);
            let scene = Scene { policy, instance: &self.view.info.instance, now, others: *host != self.own };
            let verdicts = decide(&held, &scene);
            for (decision, held) in verdicts.decisions.iter().zip(&held) {
                if !decision.keep && !self.vault_bad(&decision.snapshot) {
                    let time = held.known.record.started;
                    let (snapshot, record) = (decision.snapshot.clone(), decision.record);
                    going.push(Going { snapshot, record, time });
                }
            }
            hosts.push(HostPlan { host: *host, verdicts });
        }
        going.sort_by(|a, b| (a.time, &a.snapshot).cmp(&(b.time, &b.snapshot)));
        Choice { hosts, going }
    }

    fn vault_bad(&self, id: &SnapshotId) -> bool {
        !self.looked.stored.contains_key(id)
    }

    fn held(&self, host: &HostId) -> Vec<Held<'_>> {
        let stored = |s: &KnownSnapshot| self.looked.stored.get(&s.record.snapshot).copied().flatten();
        let snapshots = self.vault.history.snapshots(host).iter().filter(|s| self.view.has(s));
        snapshots.map(|known| Held { known, stored: stored(known) }).collect()
    }
}

/// What a new tombstone names.
pub(super) struct Announced {
    pub(super) snapshots: Vec<Going>,
    pub(super) objects: Vec<(ObjectKind, ObjectId)>,
    /// Sum of the sizes of the objects.
    pub(super) bytes: u64,
    /// So many more objects nothing needs then. They are too many for one tombstone, and later ones name them.
    pub(super) later: u64,
}

impl Announced {
    pub(super) fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.objects.is_empty()
    }
}

/// So many snapshots may go in a run beside what `waiting` names: with that, half of what may go.
pub(super) fn room_beside(choice: &Choice, waiting: &[&Tombstone]) -> usize {
    let announced = announced_by(waiting);
    let waits = choice.going.iter().filter(|going| announced.contains(&going.record)).count();
    choice.going.len().div_ceil(2).saturating_sub(waits)
}

fn announced_by(waiting: &[&Tombstone]) -> HashSet<ObjectId> {
    waiting.iter().flat_map(|t| &t.snapshots).map(|row| row.1).collect()
}

/// Half of what may go and is not announced yet, oldest first, and not more than `most`; with the objects that nothing else needs then. What is too much
/// of these comes after their records: a record that waits, or is gone, needs nothing.
pub(super) fn announce(
    choice: &Choice,
    deciding: &Deciding<'_>,
    waiting: &[&Tombstone],
    most: Most,
) -> Announced {
    let announced = announced_by(waiting);
    let mut rest: Vec<Going> =
        choice.going.iter().filter(|g| !announced.contains(&g.record)).cloned().collect();
    // At most half, so that a mistake is noticed while there is something left; one alone goes.
    rest.truncate(rest.len().div_ceil(2).min(most.snapshots));
    let going: HashSet<ObjectId> = choice.going.iter().map(|g| g.record).collect();
    let leaving: HashSet<ObjectId> = rest
        .iter()
        .map(|g| g.record)
        .chain(announced.into_iter().filter(|record| going.contains(record)))
        .collect();
    let (needed, left) = needs(deciding, |record| leaving.contains(record));
    let named: HashSet<ObjectId> = waiting.iter().flat_map(|t| &t.objects).map(|row| row.1).collect();
    let looked = deciding.looked;
    let free = |d: &&Data| !needed.contains(&d.id) && !looked.held.contains(&d.id) && !named.contains(&d.id);
    let (mut objects, mut orphans): (Vec<Data>, Vec<Data>) =
        looked.data.iter().filter(free).partition(|d| left.contains(&d.id));
    orphans.retain(|d| {
        d.modified.is_some_and(|at| looked.now.duration_since(at) >= ORPHAN_AGE.max(looked.grace))
    });
    orphans.sort_unstable_by_key(|d| (d.modified, d.id));
    orphans.truncate(orphans.len().div_ceil(2));
    // The order of a listing must not decide which of them go.
    objects.sort_unstable_by_key(|d| (d.kind, d.id));
    objects.extend(orphans);
    let later = objects.len().saturating_sub(most.objects) as u64;
    objects.truncate(most.objects);
    let bytes = objects.iter().fold(0, |sum, d| d.size.saturating_add(sum));
    let objects = objects.into_iter().map(|d| (d.kind, d.id)).collect();
    Announced { snapshots: rest, objects, bytes, later }
}

/// The objects that records of the store need, and those that records which leave would need.
pub(super) fn needs(
    deciding: &Deciding<'_>,
    leaves: impl Fn(&ObjectId) -> bool,
) -> (HashSet<ObjectId>, HashSet<ObjectId>) {
    let (mut needed, mut left) = (HashSet::new(), HashSet::new());
    for (record, hash) in records_in(deciding.vault, deciding.view) {
        let into = if leaves(&hash) { &mut left } else { &mut needed };
        into.extend(record.objects.iter().map(|object| object.id));
    }
    (needed, left)
}

/// Snapshots that would go, were it not for a freeze.
pub(super) fn frozen(choice: &Choice) -> BTreeMap<SnapshotId, HostId> {
    let only_frozen = |d: &&Decision| {
        let frozen = |reason: &Reason| matches!(reason, Reason::Frozen(_));
        d.keep && d.because.iter().all(|b| frozen(&b.reason))
    };
    let of = |plan: &HostPlan| {
        let frozen = plan.verdicts.decisions.iter().filter(only_frozen);
        frozen.map(|d| (d.snapshot.clone(), plan.host)).collect::<Vec<_>>()
    };
    choice.hosts.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::TrustList;
    use crate::model::chain::{ChainEntry, Heads};
    use crate::model::record::SnapshotKind;
    use crate::model::{ObjectRef, Record, SignerId, VaultId};
    use crate::ops::vault::{Judge, StoreInfo, StoreReading};
    use crate::store::testing::MemoryStore;
    use jiff::tz::TimeZone;
    use std::sync::Arc;

    const SIGNER: SignerId = SignerId([1; 16]);

    fn now() -> Timestamp {
        "2026-11-30T12:00:00Z".parse().unwrap()
    }

    fn id(n: u8) -> ObjectId {
        ObjectId::of(&[n])
    }

    /// A record that needs objects with these numbers.
    fn record(number: u64, needs: &[u8]) -> ChainEntry {
        let object = |n: &u8| ObjectRef { kind: ObjectKind::Archive, size: 10, id: id(*n), recipients: 0 };
        let record = Record {
            format: 1,
            needs: Vec::new(),
            doc: "record".into(),
            vault: VaultId::from_random([0; 17]),
            snapshot: SnapshotId::new(now(), number.to_be_bytes()[3..].try_into().unwrap()),
            kind: SnapshotKind::Normal,
            host: SIGNER.into(),
            signer: SIGNER,
            number,
            previous: None,
            started: now(),
            finished: now(),
            complete: true,
            alone: true,
            components: Vec::new(),
            recipients: vec![Vec::new()],
            objects: needs.iter().map(object).collect(),
            index: None,
            run: None,
            tags: Vec::new(),
            milestone: false,
            agent: "test".into(),
        };
        let hash = ObjectId::of(&number.to_be_bytes());
        ChainEntry::record(record, hash)
    }

    fn vault(entries: Vec<ChainEntry>) -> Vault {
        let info = StoreInfo {
            format: 1,
            needs: Vec::new(),
            doc: "store".into(),
            vault: VaultId::from_random([0; 17]),
            instance: VaultId::from_random([1; 17]),
            created: now(),
            agent: "test".into(),
        };
        let reading = StoreReading {
            store: Arc::new(MemoryStore::new("local")),
            info,
            entries,
            bad: Vec::new(),
            older: Vec::new(),
            hidden: false,
            seen: Heads::new(),
        };
        let (trust, heads) = (TrustList::default(), Heads::new());
        let reverify = SignedDuration::from_hours(24 * 30);
        let judge = Judge { trust: &trust, vault: None, heads: &heads, now: now(), reverify };
        Vault::of(vec![reading], &judge).unwrap()
    }

    fn tombstone(announced: &Announced) -> Tombstone {
        Tombstone {
            format: 1,
            needs: Vec::new(),
            doc: "tombstone".into(),
            vault: VaultId::from_random([0; 17]),
            instance: VaultId::from_random([1; 17]),
            id: SnapshotId::new(now(), [9; 5]),
            signer: SIGNER,
            created: now(),
            not_before: now(),
            snapshots: announced.snapshots.iter().map(|g| (g.snapshot.clone(), g.record)).collect(),
            objects: announced.objects.clone(),
        }
    }

    #[test]
    fn what_is_too_much_for_one_tombstone_comes_into_the_next() {
        let (goes, stays) = (record(1, &[1, 2, 3, 4, 5]), record(2, &[5, 6]));
        let snapshot = goes.snapshot().unwrap().clone();
        let going = vec![Going { snapshot, record: goes.hash, time: now() }];
        let choice = Choice { hosts: Vec::new(), going };
        let vault = vault(vec![goes, stays]);
        let modified = Some(now() - SignedDuration::from_hours(24 * 30));
        // Seven to ten no record names.
        let data = |n| Data { kind: ObjectKind::Archive, id: id(n), size: 10, modified };
        let looked = Looked {
            now: now(),
            stored: std::collections::HashMap::new(),
            data: (1..=10).map(data).collect(),
            held: HashSet::new(),
            grace: SignedDuration::from_hours(24),
        };
        let (own, policy) = (HostId::from(SIGNER), Policy::bare(TimeZone::UTC));
        let deciding = Deciding {
            vault: &vault,
            view: &vault.views[0],
            looked: &looked,
            policy: &policy,
            own,
            hosts: &[],
        };
        let most = Most { snapshots: usize::MAX, objects: 3 };
        let mut waiting: Vec<Tombstone> = Vec::new();
        let mut named: Vec<ObjectId> = Vec::new();
        let mut turns = Vec::new();
        loop {
            let announced = announce(&choice, &deciding, &waiting.iter().collect::<Vec<_>>(), most);
            if announced.is_empty() {
                break;
            }
            turns.push((announced.snapshots.len(), announced.objects.len(), announced.later));
            named.extend(announced.objects.iter().map(|row| row.1));
            waiting.push(tombstone(&announced));
        }
        // Four of the record; of the four others half, and half of what is left.
        assert_eq!(turns, [(1, 3, 3), (0, 3, 0), (0, 1, 0), (0, 1, 0)]);
        let first: HashSet<ObjectId> = named.iter().take(4).copied().collect();
        assert_eq!(
            first,
            (1..=4).map(id).collect::<HashSet<_>>(),
            "what a record leaves comes before what none names"
        );
        let all: HashSet<ObjectId> = named.iter().copied().collect();
        assert_eq!(all, HashSet::from([1, 2, 3, 4, 7, 8, 9, 10].map(id)), "and nothing that is needed");
        assert_eq!(named.len(), all.len(), "each once");
    }

    #[test]
    fn no_run_announces_more_than_one_tombstone_holds() {
        let most = Most::of(usize::MAX);
        assert_eq!((most.snapshots, most.objects), (ROWS_MAX, ROWS_MAX));
        assert_eq!(Most::of(5).snapshots, 5);
        // A row of either is less than 128 bytes.
        assert!(2 * ROWS_MAX as u64 * 128 < crate::model::document::DOCUMENT_BYTES_MAX);
    }
}
