//! Live SQLite databases, each captured by a child process of its own in one read transaction.
//!
//! A process that closes any descriptor of a database file loses all its POSIX locks on it, even those that SQLite holds through another descriptor. So
//! one child opens one database and nothing else of backstay does meanwhile. The child must never write to the database, its log or its journal, never delete
//! a sidecar, and never wait for the network while its transaction is open.
//!
//! The child is this program, started as `backstay __capture-sqlite`: it reads a request (JSON) from stdin and answers with frames on stdout (`wire`).

mod capture;
mod check;
mod checking;
mod child;
mod copy;
mod error;
mod fold;
mod live;
mod outlet;
mod pages;
mod raw;
#[cfg(test)]
mod testing;
mod twin;
mod wire;

pub use capture::{CheckOutcome, SqliteCapture, capture};
pub use check::{Checked, check_file, check_file_wholly, check_live};
pub use child::{CHILD_COMMAND, child_main};
pub use error::SqliteError;
pub use fold::fold_copy;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Databases up to this many bytes are checked at each snapshot when the policy is [`CheckPolicy::Auto`].
pub const AUTO_CHECK_MAX: u64 = 4 << 30;

/// Whether `quick_check` runs on what is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckPolicy {
    /// Up to [`AUTO_CHECK_MAX`]; larger ones are left to a drill.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A database as plain values.
#[derive(Debug, Clone)]
pub struct SqliteSpec {
    /// The component's name, for messages.
    pub component: String,
    /// The database file; absolute.
    pub database: PathBuf,
    /// When no part of that path may be a symbolic link: for databases that were found inside a folder, where others may write.
    pub no_links: bool,
    /// This program.
    pub exe: PathBuf,
    /// In rollback-journal mode, for how long writers may be made to wait.
    pub lock_limit: Duration,
    /// Whether to check.
    pub check: CheckPolicy,
    /// A directory for copies that must be made before they can be sent.
    pub spool: PathBuf,
    /// How long to wait for a lock that somebody else holds.
    pub busy_limit: Duration,
}
