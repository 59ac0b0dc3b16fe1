//! Which records a store showed at the last prune: one that is missing later without a mark that says so stops the next.

use crate::catalog::state::{State, StateError};
use crate::model::{SnapshotId, VaultId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default, Serialize, Deserialize)]
struct Seen {
    records: BTreeMap<VaultId, BTreeSet<SnapshotId>>,
}

const FILE: &str = "records.json";
const REMEDY: &str = "it tells whether records vanished from a store: bring it back from a copy, or, if you are sure that the stores show \
                      all that they ever held, move it away";

impl State {
    /// The records that the store with that instance showed at the last prune; empty when there was none.
    pub fn records_seen(&self, instance: &VaultId) -> Result<BTreeSet<SnapshotId>, StateError> {
        let mut known = self.load::<Seen>(FILE, REMEDY)?.unwrap_or_default();
        Ok(known.records.remove(instance).unwrap_or_default())
    }

    /// Remembers the records that the store with that instance shows now, durably, in place of those before.
    pub fn see_records(&self, instance: &VaultId, records: &BTreeSet<SnapshotId>) -> Result<(), StateError> {
        let _held = self.exclusively()?;
        let mut known = self.load::<Seen>(FILE, REMEDY)?.unwrap_or_default();
        if known.records.get(instance) == Some(records) {
            return Ok(());
        }
        known.records.insert(instance.clone(), records.clone());
        self.save(FILE, known)
    }
}
