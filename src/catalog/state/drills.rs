//! What came of the last drill from each store, also of one that found nothing out: no verdict tells of that.

use crate::catalog::state::{State, StateError};
use crate::model::{SnapshotId, Timestamp, VaultId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What came of a drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillNote {
    /// Which snapshot was brought back.
    pub snapshot: SnapshotId,
    /// When it began.
    pub at: Timestamp,
    /// `full`, `partial`, `unrecoverable` or `inconclusive`.
    pub result: String,
    /// Whether it was of all components of the configuration.
    #[serde(default)]
    pub whole: bool,
    /// How long bringing it back took, in seconds.
    pub restore_seconds: f64,
}

#[derive(Default, Serialize, Deserialize)]
struct Drills {
    drills: BTreeMap<VaultId, DrillNote>,
}

const FILE: &str = "drills.json";
const REMEDY: &str = "it only tells when the last drill was: move it away";

impl State {
    /// The last drill from each store, by instance.
    pub fn drills(&self) -> Result<BTreeMap<VaultId, DrillNote>, StateError> {
        Ok(self.load::<Drills>(FILE, REMEDY)?.unwrap_or_default().drills)
    }

    /// Remembers a drill from the store with that instance, durably, in the place of the one before.
    pub fn note_drill(&self, instance: &VaultId, note: DrillNote) -> Result<(), StateError> {
        let _held = self.exclusively()?;
        let mut known = self.load::<Drills>(FILE, REMEDY)?.unwrap_or_default();
        known.drills.insert(instance.clone(), note);
        self.save(FILE, known)
    }
}
