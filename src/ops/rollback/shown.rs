//! What is told of a rollback, to people and programs: what it would do, and what it did.

use crate::model::{Problem, SnapshotId};
use crate::ops::git::Moved;
use crate::ops::rollback::lost::Lost;
use crate::ops::rollback::standing::Down;
use crate::ops::rollback::trees::ShownMove;
use crate::ops::whose::ShownHost;
use serde::Serialize;

/// A plan as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct ShownPlan {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Whose it is.
    pub host: ShownHost,
    /// What is exchanged.
    pub places: Vec<ShownPlace>,
    /// What is read in, and how, in words.
    pub dumps: Vec<String>,
    /// Services that are stopped and started, in the order in which they are started.
    pub services: Vec<String>,
    /// Those that are down, and are started.
    pub starts: Vec<String>,
    /// Those that are down, and stay so.
    pub down: Vec<String>,
    /// Working trees of git that are put back, with the commits.
    pub git: Vec<ShownMove>,
    /// Bytes that are fetched.
    pub bytes: u64,
    /// What was made or changed since the snapshot and goes away, of each component but dumps.
    pub lost_since: Vec<Lost>,
    /// What to know before.
    pub warnings: Vec<Problem>,
}

/// A directory in which something is exchanged.
#[derive(Debug, Clone, Serialize)]
pub struct ShownPlace {
    /// The component.
    pub component: String,
    /// The directory.
    pub dir: String,
    /// Only these names of it; everything when there are none.
    pub names: Vec<String>,
    /// What of it stays as it is, at its top.
    pub stays: Vec<String>,
}

/// What a rollback did.
#[derive(Debug, Clone, Serialize)]
pub struct RollbackReport {
    /// To which snapshot.
    pub snapshot: SnapshotId,
    /// The snapshot of what was live before.
    pub safety: Option<SnapshotId>,
    /// Components that were put back.
    pub components: Vec<String>,
    /// Services that run on it: stopped and started again, or started.
    pub services: Vec<String>,
    /// Those that were down before, and were not started.
    pub down: Vec<Down>,
    /// It is the end of an undo: what was live before the rollback to `snapshot` is live again.
    pub taken_back: bool,
    /// Where the state from before is kept.
    pub kept: Vec<String>,
    /// Working trees of git that were put back.
    pub git: Vec<Moved>,
    /// Milliseconds from the first stop of a service until the last was well; none when none was stopped, or the run that did it was killed.
    pub downtime_ms: Option<u64>,
    /// What of that was the exchange itself.
    pub exchange_ms: Option<u64>,
    /// Everything worth knowing.
    pub problems: Vec<Problem>,
}
