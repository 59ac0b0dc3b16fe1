//! What can be wrong with a chain, in words.

use crate::model::id::{ObjectId, SignerId, SnapshotId};
use std::fmt;

/// A place where the history of a signer is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// Whose chain.
    pub signer: SignerId,
    /// The number at which it shows.
    pub number: u64,
    /// The snapshot with that number, where it is a record that is known.
    pub snapshot: Option<SnapshotId>,
    /// What is wrong.
    pub kind: BreakKind,
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakKind {
    /// Two entries have one number.
    Forked {
        /// The hashes of their lines.
        hashes: Vec<ObjectId>,
    },
    /// Entries are not there and nothing says why.
    Gap {
        /// The last of those missing.
        to: u64,
    },
    /// An entry does not follow on the one before.
    WrongPrevious,
    /// Entries that were seen before are not there.
    RolledBack {
        /// The highest number seen before.
        seen: u64,
        /// The highest there now; 0 for none.
        found: u64,
    },
    /// Another entry than was seen before has this number.
    Rewritten {
        /// What was seen.
        seen: ObjectId,
    },
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signer, number, snapshot, kind } = self;
        write!(f, "the history signed by {signer} ")?;
        match kind {
            BreakKind::Forked { hashes } => {
                write!(f, "is forked: {} entries have number {number}", hashes.len())?;
            }
            BreakKind::Gap { to } if to == number => {
                write!(f, "has a gap: entry {number} is missing")?;
            }
            BreakKind::Gap { to } => write!(f, "has a gap: entries {number} to {to} are missing")?,
            BreakKind::WrongPrevious => {
                write!(f, "does not hang together: entry {number} follows on another entry")?;
            }
            BreakKind::RolledBack { seen, found } => {
                write!(f, "was rolled back: entry {seen} was seen before, now the last is {found}")?;
            }
            BreakKind::Rewritten { .. } => {
                write!(f, "was rewritten: entry {number} is not the one seen before")?;
            }
        }
        match snapshot {
            Some(id) => write!(f, " (snapshot {id})"),
            None => Ok(()),
        }
    }
}
