//! Row 0: the words of backstay as types.
//!
//! Everything that format 1 says about names, records, marks, manifests and their rules is here, with the checks that a
//! reader must make. This module must never do I/O, read a clock or spawn anything: whatever it decides follows from its arguments.

mod breaks;
pub mod chain;
mod chain_check;
pub mod clock;
pub mod document;
pub mod entry;
mod excuses;
pub mod id;
pub mod index;
pub mod manifest;
pub mod mark;
mod mark_rules;
pub mod path;
pub mod proof;
pub mod record;
pub mod report;
pub mod retention;
pub mod schedule;
pub mod segment_cut;
pub mod seldom;
pub mod selector;
pub mod settling;
pub mod trust_rules;

pub use clock::{Clock, SystemClock, Timestamp};
pub use entry::{Entry, Extent, Kind, MapRef};
pub use id::{ComponentName, ContentHash, HostId, ObjectId, SignerId, SnapshotId, VaultId};
pub use path::RelPath;
pub use record::{ObjectKind, ObjectRef, Record};
pub use report::{Problem, ProblemKind, Progress, SilentProgress};
