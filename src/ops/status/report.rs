//! How things stand, as data.

use crate::model::mark::Level;
use crate::model::record::CheckResult;
use crate::model::{SnapshotId, Timestamp};
use crate::ops::kit_standing::KitStanding;
use crate::ops::timetable::Standing;
use serde::{Deserialize, Serialize};

/// How bad it is in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All is well.
    Ok,
    /// Somebody should look when there is time.
    Warning,
    /// Somebody must act.
    Critical,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Concern {
    /// How bad it is.
    pub state: State,
    /// What.
    pub what: String,
    /// What to do.
    pub way_out: Option<String>,
}

/// A snapshot, briefly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    /// Its id.
    pub id: SnapshotId,
    /// When it was begun.
    pub started: Timestamp,
    /// How long ago, in seconds.
    pub age_seconds: i64,
    /// Everything asked for was captured.
    pub complete: bool,
}

/// The last time that stored objects of a snapshot were proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Of which snapshot.
    pub snapshot: SnapshotId,
    /// When reading began.
    pub time: Timestamp,
    /// How long ago, in seconds.
    pub age_seconds: i64,
    /// How deep it went.
    pub level: Level,
    /// It found all well.
    pub good: bool,
    /// The host looked at its own.
    pub self_verified: bool,
    /// Name of the key that signed it.
    pub by: String,
    /// In which store.
    pub store: String,
}

/// A component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStatus {
    /// Its name.
    pub name: String,
    /// The newest snapshot that holds it.
    pub newest: Option<Brief>,
    /// The newest good one.
    pub newest_good: Option<Brief>,
    /// What the newest one's checks said.
    pub check: Option<CheckResult>,
    /// The last proof of a snapshot that holds it.
    pub last_proof: Option<Proof>,
    /// Why retention lets nothing of it go now.
    pub frozen: Vec<String>,
}

/// A store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub location: String,
    /// It could be read.
    pub here: bool,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// The newest snapshot of this host in it.
    pub newest: Option<Brief>,
    /// The newest good one.
    pub newest_good: Option<Brief>,
    /// Signed entries that it lacks and another store has.
    pub entries_behind: u64,
    /// Objects in it that are known to be damaged or missing, and that a snapshot there needs.
    #[serde(default)]
    pub damaged_objects: u64,
    /// The snapshots there that need one of them, the newest first.
    #[serde(default)]
    pub damaged_snapshots: Vec<SnapshotId>,
    /// When a prune last removed something from it.
    pub last_prune: Option<Timestamp>,
    /// Name of the key that signed that.
    pub last_prune_by: Option<String>,
}

/// How things stand.
#[derive(Debug, Clone, Serialize)]
pub struct StatusReport {
    /// When it was looked.
    pub time: Timestamp,
    /// The project.
    pub project: String,
    /// How bad it is in all.
    pub state: State,
    /// One line, as monitoring wants it.
    pub line: String,
    /// What is not as it should be, the worst first.
    pub concerns: Vec<Concern>,
    /// The components of the configuration.
    pub components: Vec<ComponentStatus>,
    /// Stores in the order of the configuration.
    pub stores: Vec<StoreStatus>,
    /// The last drill.
    pub last_drill: Option<Proof>,
    /// Signed entries that wait here for a store.
    pub outbox: u64,
    /// What is run by itself; none without a `[schedule]`.
    pub schedule: Option<Standing>,
    /// How things stand with the recovery kit; none where no store could be opened.
    pub kit: Option<KitStanding>,
    /// What a killed run left to the next one.
    pub unfinished: Vec<String>,
    /// What could not be seen, and so is not judged.
    pub unseen: Vec<String>,
}
