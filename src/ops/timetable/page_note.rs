//! Where the agent's status page is, for people and for `status`: a file that the agent writes and takes away again.

use crate::durable;
use crate::ops::error::{Class, Doing, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How it is named in the state folder.
const FILE: &str = "page.json";

/// What is noted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageNote {
    /// Where it is.
    pub url: Option<String>,
    /// Why it is nowhere, or not where it should be.
    pub problem: Option<String>,
}

impl PageNote {
    /// Writes it into `state_dir`.
    pub fn save(&self, state_dir: &Path) -> Result<()> {
        let path = state_dir.join(FILE);
        let cannot = || format!("where the status page is cannot be written to {}", path.display());
        let bytes = serde_json::to_vec_pretty(self).doing(Class::Failed, cannot)?;
        durable::replace(&path, &bytes).doing(Class::Failed, cannot)
    }

    /// What is noted in `state_dir`; it counts only while an agent runs. What cannot be read says nothing: nothing but the page depends on it.
    pub fn load(state_dir: &Path) -> Self {
        let bytes = std::fs::read(state_dir.join(FILE)).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Takes it away.
    pub fn remove(state_dir: &Path) {
        // One that stays counts for nothing without an agent.
        let _stays = std::fs::remove_file(state_dir.join(FILE));
    }
}
