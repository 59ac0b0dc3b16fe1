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

/// Half of what may go and is not announced yet, oldest first, and not more than `most`; with the objects that nothing else needs then.
pub(super) fn announce(
    choice: &Choice,
    deciding: &Deciding<'_>,
    waiting: &[&Tombstone],
    most: usize,
) -> Announced {
    let announced = announced_by(waiting);
    let mut rest: Vec<Going> =
        choice.going.iter().filter(|g| !announced.contains(&g.record)).cloned().collect();
    // At most half, so that a mistake is noticed while there is something left; one alone goes.
    rest.truncate(rest.len().div_ceil(2).min(most));
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
    orphans.sort_by_key(|d| d.modified);
    orphans.truncate(orphans.len().div_ceil(2));
    objects.extend(orphans);
    let bytes = objects.iter().fold(0, |sum, d| d.size.saturating_add(sum));
    let objects = objects.into_iter().map(|d| (d.kind, d.id)).collect();
    Announced { snapshots: rest, objects, bytes }
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
