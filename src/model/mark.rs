//! Marks and tombstones: what is said about a vault after a snapshot was committed.

use crate::model::id::{HostId, ObjectId, SignerId, SnapshotId, VaultId};
use crate::model::record::{CheckResult, ObjectKind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a signing key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sign records of its own host.
    Host,
    /// Give verdicts that count for other hosts.
    Verify,
    /// Write tombstones; end a milestone.
    Prune,
}

/// How deep a verification went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A server that enforces SHA-256 took it, or it was just read back after a repair.
    Put,
    /// Objects are there with their sizes.
    Presence,
    /// Every object was read and its hash compared.
    Read,
    /// Archives were opened and their content compared.
    Decrypt,
    /// The snapshot was restored and checked.
    Drill,
}

/// A chain entry that a prune removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Whose entry.
    pub signer: SignerId,
    /// Its number.
    pub number: u64,
    /// The hash of its line 1.
    pub hash: ObjectId,
    /// The snapshot, for records.
    pub snapshot: Option<SnapshotId>,
}

/// What a key mark does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyAction {
    /// The key is one of that host from now on.
    Introduce,
    /// The key signs no more.
    Retire,
}

/// A snapshot as marks name it: its id, and the record that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// SHA-256 of line 1 of its record: the mark counts for no other.
    pub record: ObjectId,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Of what.
    #[serde(flatten)]
    pub target: Target,
    /// In which store.
    pub instance: VaultId,
    /// How deep.
    pub level: Level,
    /// When reading began.
    pub began: Timestamp,
    /// Whether all that was looked at is well.
    pub good: bool,
    /// What was looked at: half-open ranges of indexes into the record's objects.
    pub covered: Vec<(u64, u64)>,
    /// Those found missing or damaged.
    pub bad: Vec<ObjectId>,
    /// Databases and dumps checked, by component number.
    pub checks: Vec<(u64, CheckResult)>,
}

/// What a mark says (section 5 of the format).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mark", rename_all = "lowercase")]
#[expect(missing_docs, reason = "the fields are those of the format's table")]
pub enum Statement {
    /// The commit of this snapshot did not hold.
    Void {
        #[serde(flatten)]
        target: Target,
        instance: Option<VaultId>,
        reason: String,
    },
    /// Tags added and removed.
    Tag {
        #[serde(flatten)]
        target: Target,
        add: Vec<String>,
        remove: Vec<String>,
    },
    /// The note, base64 of an age file.
    Note {
        #[serde(flatten)]
        target: Target,
        sealed: String,
    },
    /// Milestone or no longer.
    Milestone {
        #[serde(flatten)]
        target: Target,
        on: bool,
    },
    /// What a verification found.
    Verdict(Verdict),
    /// Somebody asked for it to go.
    Delete(Target),
    /// Ends a freeze.
    Accept {
        #[serde(flatten)]
        target: Target,
        components: Vec<u64>,
        reason: String,
    },
    /// Chain entries gone from a store on purpose.
    Prune { instance: VaultId, removed: Vec<Removed> },
    /// Chain entries that never came into a store.
    Absent { instance: VaultId, entries: Vec<Removed> },
    /// Ends a fork, or accepts that an entry is lost.
    Settle { of: SignerId, entry: u64, keep: Option<ObjectId>, drop: Vec<ObjectId> },
    /// A key comes or goes.
    Key {
        action: KeyAction,
        key: String,
        #[serde(rename = "for")]
        host: HostId,
        last: Option<(u64, ObjectId)>,
    },
    /// A kind that a later program knows; counts in the chain, says nothing.
    #[serde(other)]
    Unknown,
}

/// A mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Format number.
    pub format: u32,
    /// Words a reader must know.
    pub needs: Vec<String>,
    /// `mark`.
    #[serde(rename = "type")]
    pub doc: String,
    /// The vault.
    pub vault: VaultId,
    /// The host that signs.
    pub host: HostId,
    /// Who signed.
    pub signer: SignerId,
    /// Place in the signer's chain.
    pub number: u64,
    /// Hash of the signer's entry before.
    pub previous: Option<ObjectId>,
    /// When.
    pub time: Timestamp,
    /// Who wrote it.
    pub agent: String,
    /// What it says.
    #[serde(flatten)]
    pub statement: Statement,
}

/// What a prune will delete after the grace period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Format number.
    pub format: u32,
    /// Words a reader must know.
    pub needs: Vec<String>,
    /// `tombstone`.
    #[serde(rename = "type")]
    pub doc: String,
    /// The vault.
    pub vault: VaultId,
    /// The store it is for.
    pub instance: VaultId,
    /// Its own id, shaped like a snapshot id.
    pub id: SnapshotId,
    /// Who signed.
    pub signer: SignerId,
    /// When it was written.
    pub created: Timestamp,
    /// Nothing may go before.
    pub not_before: Timestamp,
    /// Snapshots that will go.
    pub snapshots: Vec<(SnapshotId, ObjectId)>,
    /// Objects that will go.
    pub objects: Vec<(ObjectKind, ObjectId)>,
}
