//! What each store was seen to hold: a store that shows less than it did was rolled back; one that never had an entry only lags.

use crate::catalog::state::{Head, State, StateError};
use crate::model::{SignerId, VaultId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

type Heads = BTreeMap<SignerId, Head>;

#[derive(Default, Serialize, Deserialize)]
struct Instances {
    instances: BTreeMap<VaultId, Heads>,
}

const FILE: &str = "instances.json";
const REMEDY: &str = "it tells whether a store was rolled back: bring it back from a copy, or, if you are sure that the stores show all that \
                      they ever held, move it away";

impl State {
    /// The highest entries ever seen in the store with that instance, by signer. Empty when it was never read.
    pub fn heads_in(&self, instance: &VaultId) -> Result<Heads, StateError> {
        Ok(self.heads_everywhere()?.remove(instance).unwrap_or_default())
    }

    /// The same of every store that was ever seen.
    pub fn heads_everywhere(&self) -> Result<BTreeMap<VaultId, Heads>, StateError> {
        Ok(self.load::<Instances>(FILE, REMEDY)?.unwrap_or_default().instances)
    }

    /// Remembers entries that were seen in the store with that instance, or put there, durably. Lower ones than those known change nothing.
    /// What is remembered of a store outlives its place in the configuration.
    pub fn raise_heads_in(&self, instance: &VaultId, seen: &[(SignerId, Head)]) -> Result<(), StateError> {
        let turn = self.turn()?;
        let mut known = self.load::<Instances>(FILE, REMEDY)?.unwrap_or_default();
        let new = !known.instances.contains_key(instance);
        let heads = known.instances.entry(instance.clone()).or_default();
        let mut changed = new;
        for (signer, head) in seen {
            if heads.get(signer).is_none_or(|before| before.number < head.number) {
                heads.insert(*signer, *head);
                changed = true;
            }
        }
        if changed { self.save_in(turn, FILE, known) } else { Ok(()) }
    }
}
