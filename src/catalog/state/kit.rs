//! Whether a printed recovery kit was ever proved, and when somebody was last told that none was.
//!
//! Nothing that protects data depends on it: a file that cannot be read counts as never proved.

use crate::catalog::state::{State, StateError};
use crate::model::{ObjectId, Timestamp};
use serde::{Deserialize, Serialize};

const FILE: &str = "kit.json";
const REMEDY: &str = "it says only when a kit was proved: move it away, and prove a kit again";

/// What is remembered of kits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KitMemory {
    /// When a kit was last proved.
    pub proved: Option<Timestamp>,
    /// What that kit said of keys and stores, as one hash.
    pub essence: Option<ObjectId>,
    /// When somebody was last reminded.
    pub reminded: Option<Timestamp>,
}

impl State {
    /// What is remembered of kits; nothing when there is nothing that can be read.
    pub fn kit_memory(&self) -> KitMemory {
        self.load::<KitMemory>(FILE, REMEDY).ok().flatten().unwrap_or_default()
    }

    /// Remembers it.
    pub fn remember_kit(&self, memory: &KitMemory) -> Result<(), StateError> {
        let _held = self.exclusively()?;
        self.save(FILE, memory)
    }
}
