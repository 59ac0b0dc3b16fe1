//! What the newest snapshots of this host hold, as far as this machine remembers: which file had which bytes, and where they lie.
//!
//! It is a copy of what manifests say, with the facts by which a file is known again. It can be lost at any time and costs time only. It must never
//! say that an object exists, and never be used beside a history that went on without it: the hash of the newest record tells.

mod blocks;
mod body;
mod db;
mod frames;
mod rest;
mod save;
mod stretch;
#[cfg(test)]
mod tests;
mod usage;
mod wire;

pub use blocks::{keep_blocks, read_blocks};
pub use db::{ComponentUpdate, Expected, KnownError, Loaded, Update, load, remove};
pub use save::save;
pub use stretch::{Row, RowRef, Stretch, Sums};
pub use usage::Usage;

use crate::model::id::RecipientId;
use crate::model::manifest::ArchiveInfo;
use crate::model::{ObjectId, RelPath};
use std::collections::{BTreeMap, HashMap};

/// An archive that entries of a component refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownArchive {
    /// What readers must know of it, with all its frames.
    pub info: ArchiveInfo,
    /// The number of the record that it was made for: older archives have lower ones.
    pub age: u64,
    /// It belongs to a snapshot whose component did not stand alone.
    pub delta: bool,
    /// How many bytes of its tar stream were in use when it was made, as [`Usage`] counts them.
    pub content: u64,
    /// What it is sealed to, sorted.
    pub recipients: Vec<RecipientId>,
}

/// A segment and what its entries were made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownStretch {
    /// Its number in the catalog; 0 before it is saved.
    pub row: i64,
    /// The segment's object.
    pub segment: ObjectId,
    /// That object's size in bytes.
    pub size: u64,
    /// What it and its maps are sealed to, sorted.
    pub recipients: Vec<RecipientId>,
    /// Path of its first entry.
    pub first: RelPath,
    /// Path of its last entry.
    pub last: RelPath,
    /// The maps that its entries refer to, with their sizes.
    pub maps: Vec<(ObjectId, u64)>,
    /// The kept block hashes that its rows refer to, by SHA-256.
    pub blocks: Vec<ObjectId>,
    /// As [`Stretch::archives`].
    pub archives: Vec<(ObjectId, u64)>,
    /// As [`Stretch::shared`].
    pub shared: bool,
    /// Sum of the sizes of its files in bytes.
    pub content: u64,
    /// Its rows, as [`Stretch::encode`] gives them.
    pub packed: Vec<u8>,
}

impl KnownStretch {
    /// Its rows; `None` when they make no sense.
    pub fn open(&self) -> Option<Stretch> {
        Stretch::open(&self.packed)
    }
}

/// What is known of one host in one vault, of the components that were asked for. Every row was compared with its checksum.
#[derive(Debug, Default)]
pub struct Known {
    /// The record that it describes, by hash.
    pub record: Option<ObjectId>,
    /// Archives by name.
    pub archives: BTreeMap<ObjectId, KnownArchive>,
    /// The stretches of each component, by its number, in walk order.
    pub components: HashMap<u64, Vec<KnownStretch>>,
    /// When each component, by its number, was last packed so that it stands alone, in seconds since 1970.
    pub full: HashMap<u64, i64>,
}
