//! The record: the small public document whose presence commits a snapshot.

use crate::model::id::{HostId, ObjectId, RecipientId, SignerId, SnapshotId, VaultId};
use crate::model::manifest::NUMBER_END;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What kind of snapshot a record commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotKind {
    /// Made by `backup`.
    Normal,
    /// Made by a rollback.
    Safety,
    /// A long run's interim: holds its objects against prune; nothing else uses it.
    Partial,
}

/// Where a data object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// Below `archives/`.
    Archive,
    /// Below `manifests/`: segments, maps, indexes.
    Manifest,
}

/// A data object that a snapshot needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "(ObjectKind, u64, ObjectId, u32)", from = "(ObjectKind, u64, ObjectId, u32)")]
pub struct ObjectRef {
    /// Where it lies.
    pub kind: ObjectKind,
    /// Its size in bytes.
    pub size: u64,
    /// Its name.
    pub id: ObjectId,
    /// Index of its recipient set in the record.
    pub recipients: u32,
}

impl From<ObjectRef> for (ObjectKind, u64, ObjectId, u32) {
    fn from(o: ObjectRef) -> Self {
        (o.kind, o.size, o.id, o.recipients)
    }
}
impl From<(ObjectKind, u64, ObjectId, u32)> for ObjectRef {
    fn from((kind, size, id, recipients): (ObjectKind, u64, ObjectId, u32)) -> Self {
        Self { kind, size, id, recipients }
    }
}

/// What the checks of a component's databases or dumps said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckResult {
    /// There was nothing to check.
    None,
    /// All passed.
    Passed,
    /// One was not checked, because it is large or because the check could not be run: left to a drill.
    Deferred,
    /// At least one failed: the snapshot is not good.
    Failed,
}

/// The public line about one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentLine {
    /// Stays the same from snapshot to snapshot; tells nothing of the name.
    pub number: u64,
    /// Sum of file sizes in bytes.
    pub size: u64,
    /// How many manifest entries.
    pub entries: u64,
    /// Whether everything asked for was captured.
    pub complete: bool,
    /// What the checks said.
    pub check: CheckResult,
    /// Changes when the component's configuration did.
    pub setup: String,
}

/// The record of a snapshot (section 4 of the format).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Format number.
    pub format: u32,
    /// Words a reader must know.
    pub needs: Vec<String>,
    /// `record`.
    #[serde(rename = "type")]
    pub doc: String,
    /// The vault it belongs to.
    pub vault: VaultId,
    /// The snapshot it commits.
    pub snapshot: SnapshotId,
    /// What kind of snapshot.
    pub kind: SnapshotKind,
    /// The host whose state it is.
    pub host: HostId,
    /// Who signed.
    pub signer: SignerId,
    /// Place in the signer's chain, from 1.
    pub number: u64,
    /// Hash of the signer's entry before.
    pub previous: Option<ObjectId>,
    /// When the run began.
    pub started: Timestamp,
    /// When the record was made.
    pub finished: Timestamp,
    /// Whether everything asked for was captured.
    pub complete: bool,
    /// Whether every byte lies in archives of this run.
    pub alone: bool,
    /// One line for each component.
    pub components: Vec<ComponentLine>,
    /// The recipient sets that occur.
    pub recipients: Vec<Vec<RecipientId>>,
    /// Every data object needed.
    pub objects: Vec<ObjectRef>,
    /// The index object; none in a partial record.
    pub index: Option<ObjectId>,
    /// Partial records: the snapshot that the run will commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<SnapshotId>,
    /// Public tags.
    pub tags: Vec<String>,
    /// Whether retention must keep it for ever.
    pub milestone: bool,
    /// Who wrote it.
    pub agent: String,
}

/// Checks that a chain entry's number and `previous` can belong together.
pub fn check_place(number: u64, previous: Option<&ObjectId>) -> Result<(), String> {
    if number == 0 || number >= NUMBER_END || (number == 1) != previous.is_none() {
        return Err("its place in the chain is impossible".into());
    }
    Ok(())
}

impl Record {
    /// What a well-formed record must also be, beyond its JSON shape.
    pub fn check(&self) -> Result<(), String> {
        let partial = self.kind == SnapshotKind::Partial;
        let index = self.index.and_then(|id| self.object(&id));
        let indexed = index.is_some_and(|o| o.kind == ObjectKind::Manifest);
        if partial == indexed || partial != self.run.is_some() || (partial && self.index.is_some()) {
            return Err("its index is not among its objects".into());
        }
        if self.snapshot.time().map(Timestamp::as_second) != Some(self.started.as_second()) {
            return Err("its id is of another time than its start".into());
        }
        let mut names: Vec<&ObjectId> = self.objects.iter().map(|o| &o.id).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("it lists an object twice".into());
        }
        let sets = self.recipients.len();
        if self.objects.iter().any(|o| o.recipients as usize >= sets || o.size == 0) {
            return Err("an object names no recipient set or is empty".into());
        }
        let counts = self.components.iter().flat_map(|c| [c.number, c.size, c.entries]);
        if counts.chain(self.objects.iter().map(|o| o.size)).any(|n| n >= NUMBER_END) {
            return Err("it holds a number that is too large".into());
        }
        check_place(self.number, self.previous.as_ref())?;
        Ok(())
    }

    /// The object called `id`, if this record lists it.
    pub fn object(&self, id: &ObjectId) -> Option<&ObjectRef> {
        self.objects.iter().find(|o| o.id == *id)
    }
}
