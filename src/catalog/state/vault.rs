//! Which vault this is, and which store each name means: remembered at first sight.

use crate::catalog::state::{State, StateError};
use crate::model::VaultId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether a store was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Never seen under this name before; it is remembered now.
    First,
    /// The same as before.
    Known,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Vault {
    vault: VaultId,
    stores: BTreeMap<String, VaultId>,
}

const FILE: &str = "vault.json";
const REMEDY: &str = "it tells whether a store was exchanged: bring it back from a copy, or, if you are sure of your stores, move it away";

impl State {
    /// The vault, when a store was ever seen.
    pub fn vault(&self) -> Result<Option<VaultId>, StateError> {
        Ok(self.load::<Vault>(FILE, REMEDY)?.map(|known| known.vault))
    }

    /// Compares what the `backstay.json` of the store called `name` says with what is remembered, and remembers it at first sight.
    /// [`StateError::OtherVault`], [`StateError::OtherInstance`] or [`StateError::SameInstance`] when they differ; then nothing is changed.
    pub fn trust_store(&self, name: &str, vault: &VaultId, instance: &VaultId) -> Result<Trust, StateError> {
        let turn = self.turn()?;
        let known = self.load::<Vault>(FILE, REMEDY)?;
        let mut known = known.unwrap_or_else(|| Vault { vault: vault.clone(), stores: BTreeMap::new() });
        let path = self.dir().join(FILE);
        let store = name.to_owned();
        if known.vault != *vault {
            let (known, found) = (known.vault, vault.clone());
            return Err(StateError::OtherVault { path, store, known, found });
        }
        match known.stores.get(name) {
            Some(before) if before == instance => return Ok(Trust::Known),
            Some(before) => {
                let (known, found) = (before.clone(), instance.clone());
                return Err(StateError::OtherInstance { path, store, known, found });
            }
            None => {}
        }
        if let Some((other, _)) = known.stores.iter().find(|(_, seen)| *seen == instance) {
            let (other, instance) = (other.clone(), instance.clone());
            return Err(StateError::SameInstance { store, other, instance });
        }
        known.stores.insert(store, instance.clone());
        self.save_in(turn, FILE, known)?;
        Ok(Trust::First)
    }

    /// The instance of the store called `name`, when it was ever seen.
    pub fn instance_of(&self, name: &str) -> Result<Option<VaultId>, StateError> {
        Ok(self.load::<Vault>(FILE, REMEDY)?.and_then(|known| known.stores.get(name).cloned()))
    }

    /// Forgets which store `name` was: it is lost for good, and another takes its place. What was seen in it stays remembered.
    pub fn forget_store(&self, name: &str) -> Result<(), StateError> {
        let _held = self.exclusively()?;
        let Some(mut known) = self.load::<Vault>(FILE, REMEDY)? else {
            return Ok(());
        };
        if known.stores.remove(name).is_none() { Ok(()) } else { self.save(FILE, known) }
    }

    /// Forgets the stores that are not among `configured`, so that a store may be given another name. Call it before
    /// [`State::trust_store`], with all names of the configuration.
    pub fn keep_stores(&self, configured: &[&str]) -> Result<(), StateError> {
        let turn = self.turn()?;
        let Some(mut known) = self.load::<Vault>(FILE, REMEDY)? else {
            return Ok(());
        };
        let before = known.stores.len();
        known.stores.retain(|name, _| configured.contains(&name.as_str()));
        if known.stores.len() == before { Ok(()) } else { self.save_in(turn, FILE, known) }
    }
}
