//! What is wrong now, and who was told.

use crate::agent::tell::ping::Beat;
use crate::durable;
use crate::model::Timestamp;
use crate::ops::error::{Class, Doing, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const FILE: &str = "notify.json";
/// Held while the memory is changed: for a moment.
pub(super) const LOCK: &str = "notify.lock";
/// Held by whoever tells: for as long as those who are told take.
pub(super) const TELLS: &str = "notify-tells.lock";

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// When it was begun.
    pub(super) first: Timestamp,
    /// When a backup last went well.
    pub(super) last_good: Option<Timestamp>,
    /// What is wrong, by what it is about: `backup`, `stores`, `kit`.
    pub(super) troubles: BTreeMap<String, Trouble>,
    /// Who was told of what.
    pub(super) told: BTreeMap<String, BTreeMap<String, Told>>,
    /// What the dead-man service has to hear still, and since when. Only the last counts.
    #[serde(default)]
    pub(super) beat: Option<(Beat, Timestamp)>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trouble {
    /// Since when.
    pub(super) since: Timestamp,
    /// The word of what is told.
    pub(super) event: String,
    /// The exit code that told of it, where one did.
    pub(super) code: Option<u8>,
    /// In one line.
    pub(super) title: String,
    /// In full.
    pub(super) text: String,
}

/// Somebody was told, or it was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// The word of what was told; none when it could not be.
    pub(super) event: Option<String>,
    /// Since when it is wrong.
    pub(super) since: Timestamp,
    /// Its line.
    pub(super) title: String,
}

impl Memory {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { first: now, last_good: None, troubles: BTreeMap::new(), told: BTreeMap::new(), beat: None }
    }

    pub(super) fn load(dir: &Path, now: Timestamp) -> std::result::Result<Self, String> {
        let path = dir.join(FILE);
        let cannot = |e: &dyn std::error::Error| format!("{} cannot be read: {e}", path.display());
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| cannot(&e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::new(now)),
            Err(e) => Err(cannot(&e)),
        }
    }

    pub(super) fn save(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let cannot = || format!("{} cannot be written", path.display());
        let bytes = serde_json::to_vec_pretty(self).doing(Class::Failed, cannot)?;
        durable::replace(&path, &bytes).doing(Class::Failed, cannot)
    }

    /// Something is wrong, newly or still.
    pub(super) fn trouble(&mut self, about: &str, now: Trouble) {
        let since = self.troubles.get(about).map_or(now.since, |before| before.since);
        self.troubles.insert(about.to_owned(), Trouble { since, ..now });
    }

    /// It is not wrong any more.
    pub(super) fn over(&mut self, about: &str) {
        self.troubles.remove(about);
    }
}
