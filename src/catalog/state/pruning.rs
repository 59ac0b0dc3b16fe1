//! Which records a store showed at the last prune: one that is missing or is another later, without a mark that says so, stops the next.

use crate::catalog::state::{State, StateError};
use crate::model::{ObjectId, SnapshotId, VaultId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default, Serialize, Deserialize)]
struct Seen {
    records: BTreeMap<VaultId, BTreeSet<SnapshotId>>,
    /// Of those that could be read: SHA-256 of line 1. A file from before has none.
    #[serde(default)]
    hashes: BTreeMap<VaultId, BTreeMap<SnapshotId, ObjectId>>,
}

const FILE: &str = "records.json";
const REMEDY: &str = "it tells whether records vanished from a store: bring it back from a copy, or, if you are sure that the stores show \
                      all that they ever held, move it away";

impl State {
    /// The records that the store with that instance showed at the last prune, each with its hash where it could be read; empty when there
    /// was none.
    pub fn records_seen(
        &self,
        instance: &VaultId,
    ) -> Result<BTreeMap<SnapshotId, Option<ObjectId>>, StateError> {
        let mut known = self.load::<Seen>(FILE, REMEDY)?.unwrap_or_default();
        let records = known.records.remove(instance).unwrap_or_default();
        let mut hashes = known.hashes.remove(instance).unwrap_or_default();
        Ok(records.into_iter().map(|id| (id.clone(), hashes.remove(&id))).collect())
    }

    /// Remembers the records that the store with that instance shows now, durably, in place of those before.
    pub fn see_records(
        &self,
        instance: &VaultId,
        records: &BTreeMap<SnapshotId, Option<ObjectId>>,
    ) -> Result<(), StateError> {
        let _held = self.exclusively()?;
        let mut known = self.load::<Seen>(FILE, REMEDY)?.unwrap_or_default();
        let ids: BTreeSet<SnapshotId> = records.keys().cloned().collect();
        let hashes: BTreeMap<SnapshotId, ObjectId> =
            records.iter().filter_map(|(id, hash)| Some((id.clone(), (*hash)?))).collect();
        if known.records.get(instance) == Some(&ids) && known.hashes.get(instance) == Some(&hashes) {
            return Ok(());
        }
        known.records.insert(instance.clone(), ids);
        known.hashes.insert(instance.clone(), hashes);
        self.save(FILE, known)
    }
}
