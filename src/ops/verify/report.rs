//! What a verification tells.

use crate::model::mark::Level;
use crate::model::{Problem, SnapshotId, Timestamp};
use crate::ops::error::Class;
use crate::ops::verify::objects::FaultKind;
use serde::Serialize;

/// What was verified, and what was found.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// How deep: `presence`, `read` or `decrypt`.
    pub level: Level,
    /// The stores that were asked for.
    pub stores: Vec<VerifiedStore>,
    /// Everything that is missing or damaged.
    pub damage: Vec<Damage>,
    /// Breaks in the history, as lines.
    pub history: Vec<String>,
    /// How many verdicts were signed.
    pub verdicts: u64,
    /// Why what was found could not be signed, where it could not.
    pub not_signed: Option<String>,
    /// Why, for the exit code.
    #[serde(skip)]
    pub not_signed_class: Option<Class>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Everything else worth knowing.
    pub problems: Vec<Problem>,
}

/// What was found in one store.
#[derive(Debug, Clone, Serialize)]
pub struct VerifiedStore {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub location: String,
    /// Why it could not be verified to the end, where that is so.
    pub problem: Option<String>,
    /// Snapshots that were looked at.
    pub snapshots: u64,
    /// Those of them that are as they must be, as far as was looked.
    pub whole: u64,
    /// Snapshots that were asked for and that it does not have.
    pub lacking: Vec<SnapshotId>,
    /// Objects that these need.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were read and compared now.
    pub read_objects: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Bytes of objects that nobody proved within the time that a proof counts, after this.
    pub unproved_bytes: u64,
    /// When the oldest proof that still counts began; none where something has no proof.
    pub proved_since: Option<Timestamp>,
    /// Files whose content was compared (`--decrypt`).
    pub files: u64,
    /// Databases that were checked and passed (`--decrypt`).
    pub databases: u64,
}

/// Something that is missing or damaged.
#[derive(Debug, Clone, Serialize)]
pub struct Damage {
    /// In which store.
    pub store: String,
    /// The object.
    pub object: String,
    /// In what way.
    pub kind: FaultKind,
    /// What exactly is wrong.
    pub why: String,
    /// The snapshots that need it, oldest first.
    pub snapshots: Vec<SnapshotId>,
    /// What cannot be restored from this store because of it: files, `FIRST to LAST` for a listing, `everything` for an index. Empty where no
    /// identity is here to tell, and where nothing is lost.
    pub paths: Vec<String>,
    /// How many more.
    pub more_paths: u64,
    /// Whether an identity was here to find out what is lost.
    pub opened: bool,
    /// Other stores that have it.
    pub elsewhere: Vec<String>,
    /// What to do now.
    pub way_out: String,
}

/// So many paths of one damaged object are named.
pub(super) const PATHS_MAX: usize = 1000;

impl Damage {
    pub(super) fn add_path(&mut self, path: String) {
        if self.paths.contains(&path) {
            return;
        }
        match self.paths.len() < PATHS_MAX {
            true => self.paths.push(path),
            false => self.more_paths += 1,
        }
    }
}
