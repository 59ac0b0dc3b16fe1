//! Marks that excuse what a chain lacks: `prune`, `absent` and `settle`.

use crate::model::chain::{ChainEntry, KnownSnapshot};
use crate::model::id::{ObjectId, SignerId, VaultId};
use crate::model::mark::{Removed, Role, Statement};
use crate::model::mark_rules::PlacedMark;
use crate::model::trust_rules::{Dropped, Keys};
use std::collections::{BTreeMap, BTreeSet};

/// What `settle` marks say.
#[derive(Debug, Default, Clone)]
pub(crate) struct Settled {
    /// Entries that lost.
    pub(crate) dropped: Dropped,
    /// Entries that stand, or are accepted as lost: with their hash where it is known.
    pub(crate) kept: BTreeMap<(SignerId, u64), Option<ObjectId>>,
}

/// The settlements that count: by a `prune` key, which must not be the forked signer's own. A later one takes the place of an earlier.
pub(crate) fn settlements(marks: &[PlacedMark<'_>], keys: &Keys) -> Settled {
    let mut settled = Settled::default();
    for mark in marks.iter().filter(|m| keys.has_role(m.entry, Role::Prune)) {
        if matches!(mark.statement, Statement::Settle { of, .. } if *of == mark.entry.signer()) {
            continue;
        }
        settle_with(&mut settled, mark.statement);
    }
    settled
}

/// Takes up one settlement.
pub(crate) fn settle_with(settled: &mut Settled, statement: &Statement) {
    let Statement::Settle { of, entry: number, keep, drop } = statement else {
        return;
    };
    settled.kept.insert((*of, *number), *keep);
    settled.dropped.retain(|(signer, dropped, _)| (signer, dropped) != (of, number));
    let losing = drop.iter().filter(|hash| Some(**hash) != *keep);
    settled.dropped.extend(losing.map(|hash| (*of, *number, *hash)));
}

/// A record that a `prune` mark calls gone from a store and that lies there all the same counts as good there no more: it must take no
/// place of one that was kept instead of it.
pub(crate) fn pruned_is_not_good(snapshots: &mut [KnownSnapshot], marks: &[PlacedMark<'_>], keys: &Keys) {
    let mut gone: BTreeMap<ObjectId, BTreeSet<&VaultId>> = BTreeMap::new();
    for mark in marks.iter().filter(|m| keys.has_role(m.entry, Role::Prune)) {
        if let Statement::Prune { instance, removed } = mark.statement {
            for row in removed.iter().filter(|row| row.snapshot.is_some()) {
                gone.entry(row.hash).or_default().insert(instance);
            }
        }
    }
    for snapshot in snapshots.iter_mut() {
        for instance in gone.get(&snapshot.hash).into_iter().flatten() {
            let once = &mut snapshot.once_good;
            for set in [
                &mut snapshot.good_in,
                &mut snapshot.good_by_others_in,
                &mut snapshot.sound_by_others_in,
                &mut once.by_all,
                &mut once.by_others,
                &mut once.sound_by_others,
            ] {
                set.remove(*instance);
            }
        }
        snapshot.good = !snapshot.good_in.is_empty();
    }
}

/// Entries that marks excuse in every store looked at.
pub(crate) fn excused(
    entries: &[ChainEntry],
    keys: &Keys,
    settled: &Settled,
    instances: &BTreeSet<VaultId>,
) -> BTreeSet<(SignerId, u64, ObjectId)> {
    let mut where_gone: BTreeMap<(SignerId, u64, ObjectId), BTreeSet<&VaultId>> = BTreeMap::new();
    for entry in entries.iter().filter(|e| keys.counts(e)) {
        let (instance, list, any): (_, &[Removed], _) = match entry.as_mark().map(|m| &m.statement) {
            Some(Statement::Prune { instance, removed }) if keys.has_role(entry, Role::Prune) => {
                (instance, removed, true)
            }
            Some(Statement::Absent { instance, entries }) => (instance, entries, false),
            _ => continue,
        };
        for gone in list.iter().filter(|gone| any || gone.signer == entry.signer()) {
            let key = (gone.signer, gone.number, gone.hash);
            if instances.contains(instance) && !settled.dropped.contains(&key) {
                where_gone.entry(key).or_default().insert(instance);
            }
        }
    }
    where_gone.into_iter().filter(|(_, stores)| stores.len() == instances.len()).map(|(key, _)| key).collect()
}
