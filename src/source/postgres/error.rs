//! Why a database could not be made, filled, or exchanged.

use crate::source::command::CommandError;
use std::io;
use std::path::PathBuf;

/// Why a database could not be made, filled, or exchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// One of the server's programs failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file of ours could not be written or read.
    #[error("component {component}: cannot use {}", path.display())]
    Io {
        /// The component.
        component: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The server said something else than it was asked.
    #[error("component {component}: the server's answer cannot be understood: {answer:?}")]
    Answer {
        /// The component.
        component: String,
        /// What it said.
        answer: String,
    },
    /// Fewer tables came back than the dump has.
    #[error(
        "component {component}: the dump has {expected} tables, and the new database {database:?} has {found}"
    )]
    Tables {
        /// The component.
        component: String,
        /// The new database.
        database: String,
        /// In the dump.
        expected: u64,
        /// In the database.
        found: u64,
    },
    /// A database is not what it was.
    #[error(
        "component {component}: database {database:?} is not the one that it was: somebody made, renamed or dropped it meanwhile"
    )]
    Strange {
        /// The component.
        component: String,
        /// Its name.
        database: String,
    },
}
