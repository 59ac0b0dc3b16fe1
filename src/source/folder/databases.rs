//! Telling databases from other files: by their first bytes, never by name alone.

use crate::platform::at;
use rustix::fs::FileType;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// The first 16 bytes of a SQLite database.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// What SQLite keeps beside a database `NAME`: `NAME-wal` and so on.
pub(super) const SIDECARS: [&[u8]; 3] = [b"-journal", b"-shm", b"-wal"];

/// A SQLite database has at least one page of 512 bytes, and whole pages.
pub(super) fn size_fits(size: u64) -> bool {
    size >= 512 && size.is_multiple_of(512)
}

/// True when the open file begins like a SQLite database. The descriptor may be closed afterwards without harm: this process holds no locks on it.
pub(crate) fn has_sqlite_header(file: impl AsFd) -> bool {
    first_bytes(file) == Some(*SQLITE_MAGIC)
}

/// True when the open file is a SQLite database that is read and written with a write-ahead log.
pub(super) fn says_wal(file: impl AsFd) -> bool {
    // Bytes 18 and 19, the versions that whoever writes and reads must know: 2 for a log.
    first_bytes::<20>(file).is_some_and(|head| head.starts_with(SQLITE_MAGIC) && head[18..] == [2, 2])
}

/// True when the open file begins like a write-ahead log of SQLite.
pub(crate) fn has_wal_header(file: impl AsFd) -> bool {
    first_bytes::<4>(file).is_some_and(|magic| matches!(u32::from_be_bytes(magic), 0x377f_0682 | 0x377f_0683))
}

/// True when the open file begins like a rollback journal of SQLite.
pub(crate) fn has_journal_header(file: impl AsFd) -> bool {
    first_bytes(file) == Some([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7])
}

/// True when a SQLite database has that name in `dir`.
pub(crate) fn is_database_at(dir: impl AsFd, name: &[u8]) -> bool {
    open_file(dir, name).is_some_and(has_sqlite_header)
}

/// True when a log of SQLite has that name in `dir`, be its database one that can be told or not: encrypted ones cannot.
pub(crate) fn is_log_at(dir: impl AsFd, name: &[u8]) -> bool {
    open_file(dir, name).is_some_and(|file| has_wal_header(&file) || has_journal_header(&file))
}

fn open_file(dir: impl AsFd, name: &[u8]) -> Option<File> {
    // Never a FIFO or a device, which could keep whoever opens it waiting.
    let is_file = at::facts_if_any(&dir, name).ok()??.kind == FileType::RegularFile;
    is_file.then(|| at::open_to_read(&dir, name).ok()).flatten()
}

fn first_bytes<const N: usize>(file: impl AsFd) -> Option<[u8; N]> {
    let file = File::from(file.as_fd().try_clone_to_owned().ok()?);
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some(bytes)
}

/// True for names that databases usually have. Decides nothing but whether a neighbouring log is looked at.
pub(super) fn named_like_a_database(name: &[u8]) -> bool {
    const ENDINGS: [&[u8]; 4] = [b".db", b".db3", b".sqlite", b".sqlite3"];
    ENDINGS.iter().any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

/// The name of the database whose sidecar `name` would be.
pub(crate) fn owner_of_sidecar(name: &[u8]) -> Option<&[u8]> {
    SIDECARS.iter().find_map(|ending| name.strip_suffix(*ending)).filter(|owner| !owner.is_empty())
}

/// Which server's data a directory with this file in it is.
pub(super) fn server_of(name: &[u8]) -> Option<&'static str> {
    match name {
        b"PG_VERSION" => Some("PostgreSQL"),
        b"ibdata1" => Some("MySQL or MariaDB"),
        _ => None,
    }
}
