//! Why a database was not captured.

use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// What went wrong in the child, as it is sent to the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Cause {
    Missing,
    Empty,
    NotADatabase,
    Locked,
    WriterWouldWait,
    HotJournal,
    ReadOnlyWal,
    WalGrew,
    NoRoom,
    Damaged,
    Unreadable,
}

/// The child's last words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) detail: String,
}

impl Failure {
    pub(super) fn new(cause: Cause, detail: &(impl Display + ?Sized)) -> Self {
        Self { cause, detail: detail.to_string() }
    }

    /// An error of writing a copy into `spool`.
    pub(super) fn of_spool(spool: &Path, error: &io::Error) -> Self {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let cause = if full { Cause::NoRoom } else { Cause::Unreadable };
        Self::new(cause, &format!("cannot write a copy in {}: {error}", spool.display()))
    }
}

/// Why a database was not captured. Each names the database; [`SqliteError::hint`] says what to do.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SqliteError {
    /// There is no such file. Nothing was created in its place.
    #[error("database {db} does not exist", db = .0.display())]
    Missing(PathBuf),
    /// It is empty, or has no schema: a wrong path, or a database that was never filled.
    #[error("database {db} is empty: {1}", db = .0.display())]
    Empty(PathBuf, String),
    /// Its first bytes are not those of a SQLite database; it may be encrypted.
    #[error("{db} is not a SQLite database: {1}", db = .0.display())]
    NotADatabase(PathBuf, String),
    /// Somebody else held a lock for too long.
    #[error("database {db} stayed locked: {1}", db = .0.display())]
    Locked(PathBuf, String),
    /// In rollback-journal mode, no copy of one state could be made: it is large, and was written to all the time.
    #[error("copying database {db} would make its writers wait too long: {1}", db = .0.display())]
    WriterWouldWait(PathBuf, String),
    /// A writer was killed; the journal must be rolled back first, which backstay does not do.
    #[error("database {db} has a journal that must be rolled back first: {1}", db = .0.display())]
    HotJournal(PathBuf, String),
    /// A database in WAL mode that nobody has open, where its sidecars cannot be created.
    #[error("database {db} is in WAL mode and its -wal and -shm files cannot be made: {1}", db = .0.display())]
    ReadOnlyWal(PathBuf, String),
    /// The log grew too much while the transaction was open.
    #[error("the log of database {db} grew too much during the capture: {1}", db = .0.display())]
    WalGrew(PathBuf, String),
    /// No room for a copy.
    #[error("no room to capture database {db}: {1}", db = .0.display())]
    NoRoom(PathBuf, String),
    /// SQLite says that it is damaged.
    #[error("database {db} is damaged: {1}", db = .0.display())]
    Damaged(PathBuf, String),
    /// It cannot be read for another reason.
    #[error("cannot read database {db}: {1}", db = .0.display())]
    Unreadable(PathBuf, String),
    /// The child could not be started, died, was killed, or said something that makes no sense.
    #[error("the capture of database {db} ended early: {1}", db = .0.display())]
    ChildDied(PathBuf, String),
    /// `finish` was called before all bytes were read.
    #[error("internal: {1} bytes of database {db} were not read", db = .0.display())]
    NotRead(PathBuf, u64),
}

impl SqliteError {
    /// The child's `failure` with `database`.
    pub(super) fn of(database: &Path, failure: Failure) -> Self {
        let (path, detail) = (database.to_owned(), failure.detail);
        match failure.cause {
            Cause::Missing => Self::Missing(path),
            Cause::Empty => Self::Empty(path, detail),
            Cause::NotADatabase => Self::NotADatabase(path, detail),
            Cause::Locked => Self::Locked(path, detail),
            Cause::WriterWouldWait => Self::WriterWouldWait(path, detail),
            Cause::HotJournal => Self::HotJournal(path, detail),
            Cause::ReadOnlyWal => Self::ReadOnlyWal(path, detail),
            Cause::WalGrew => Self::WalGrew(path, detail),
            Cause::NoRoom => Self::NoRoom(path, detail),
            Cause::Damaged => Self::Damaged(path, detail),
            Cause::Unreadable => Self::Unreadable(path, detail),
        }
    }

    /// What to do about it, where that can be said.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing(_) => Some("correct the path in the configuration, or mount what it is on"),
            Self::Empty(..) => Some(
                "correct the path in the configuration; remove the component if the database is not used yet",
            ),
            Self::NotADatabase(..) => Some("if it is encrypted, dump it with a command component"),
            Self::Locked(..) => Some("let the program that uses it end its transaction, and back up again"),
            Self::WriterWouldWait(..) => Some(
                "switch the database to WAL mode (PRAGMA journal_mode=WAL), in which nobody waits; or back up when nobody writes, or raise `lock_limit`",
            ),
            Self::HotJournal(..) => {
                Some("open it once with its own program or with sqlite3, which rolls the journal back")
            }
            Self::ReadOnlyWal(..) => Some(
                "make its directory writable for backstay, or keep its program running during the backup",
            ),
            Self::WalGrew(..) => Some("back up when fewer writes happen, or give the spool a faster disk"),
            Self::NoRoom(..) => Some("make room in the state directory"),
            Self::Damaged(..) => {
                Some("restore it from an older snapshot, or repair it with sqlite3's .recover")
            }
            Self::Unreadable(..) | Self::ChildDied(..) | Self::NotRead(..) => None,
        }
    }
}
