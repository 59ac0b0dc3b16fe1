//! What a backup tells of the snapshot that it made.

use crate::model::record::CheckResult;
use crate::model::{Problem, SnapshotId, Timestamp};
use crate::ops::backup::StoreReport;
use crate::ops::git::KeptTree;
use crate::ops::kit_standing::KitStanding;

/// One component of a snapshot that was made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ComponentReport {
    /// Its name.
    pub name: String,
    /// Sum of file sizes in bytes.
    pub size: u64,
    /// Number of entries.
    pub entries: u64,
    /// Whether everything was captured.
    pub complete: bool,
    /// What the checks said.
    pub check: CheckResult,
    /// The moment its state is of.
    pub instant: Timestamp,
}

/// What was made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct BackupReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Whether everything asked for was captured.
    pub complete: bool,
    /// Whether every object was read back and every check passed.
    pub good: bool,
    /// Its components.
    pub components: Vec<ComponentReport>,
    /// Objects put.
    pub objects: u64,
    /// Bytes put.
    pub stored_bytes: u64,
    /// Bytes of objects that were there before and that this snapshot needs, too.
    pub reused_bytes: u64,
    /// The store.
    pub store: String,
    /// Where that is.
    pub location: String,
    /// What came of it in each store.
    pub stores: Vec<StoreReport>,
    /// What was recorded of git, with `--git`.
    pub git: Vec<KeptTree>,
    /// Seconds it took.
    pub seconds: f64,
    /// Breaks found in the history of this store, as lines.
    pub history: Vec<String>,
    /// How the project stands with its recovery kit.
    pub kit: KitStanding,
    /// Components that retention lets nothing go of because they shrank; none where that was not looked at.
    #[serde(skip)]
    pub shrunk: Option<Vec<Shrunk>>,
    /// Everything worth knowing.
    pub problems: Vec<Problem>,
}

/// A component with less than half of what it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// Its name.
    pub component: String,
    /// In which snapshot, from what to what, and what ends it.
    pub why: String,
}
