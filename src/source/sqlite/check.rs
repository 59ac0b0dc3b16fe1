//! Checking a database that was restored and that nobody else has open.

use rusqlite::{Connection, OpenFlags};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a check of a database says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// It complains of nothing.
    Sound,
    /// What it complains of.
    Unsound(String),
    /// It could not be checked: its schema needs functions or modules which only its own program has. That says nothing of its pages.
    Unknown(String),
}

/// Runs `quick_check` on the database file at `path`.
///
/// The file is opened as immutable: no lock is taken and no sidecar is made, so it must be one that no program uses.
pub fn check_file(path: &Path) -> Checked {
    judge(complaints(path, "PRAGMA quick_check(20)"))
}

/// The same with `integrity_check`, which also compares every index with its table and takes far longer.
pub fn check_file_wholly(path: &Path) -> Checked {
    judge(complaints(path, "PRAGMA integrity_check(20)"))
}

fn judge(said: rusqlite::Result<Vec<String>>) -> Checked {
    match said {
        Ok(lines) if lines.is_empty() => Checked::Sound,
        Ok(lines) => Checked::Unsound(lines.join("; ")),
        Err(e) if is_foreign(&e) => Checked::Unknown(e.to_string()),
        Err(e) => Checked::Unsound(e.to_string()),
    }
}

/// Whether an error during a check is no damage, but a schema that needs functions or modules which only its own program has.
pub(super) fn is_foreign(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error().map(|e| e.extended_code & 0xff), Some(rusqlite::ffi::SQLITE_ERROR))
}

fn complaints(path: &Path, pragma: &str) -> rusqlite::Result<Vec<String>> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri(path), flags)?;
    let mut statement = connection.prepare(pragma)?;
    let rows = statement.query_map((), |row| row.get::<_, String>(0))?;
    let lines: Vec<String> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// Looks at a database that programs may be using: it opens, it has tables, and `quick_check` complains of nothing. Read-only; waits at most
/// `limit` for a lock. No other code of this process may have the file open: closing it here would drop its locks.
pub fn check_live(path: &Path, limit: std::time::Duration) -> Result<(), String> {
    let check = || -> rusqlite::Result<(i64, String)> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(limit)?;
        let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
        let said = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
        Ok((tables, said))
    };
    match check() {
        Err(e) => Err(format!("{}: {e}", path.display())),
        Ok((0, _)) => Err(format!("{}: it is empty", path.display())),
        Ok((_, said)) if said != "ok" => Err(format!("{}: {said}", path.display())),
        Ok(_) => Ok(()),
    }
}

/// `path` as a URI that means just this file, whatever characters it has.
fn uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_database_is_found_and_a_whole_one_leaves_no_sidecars() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b%?#.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a); CREATE INDEX i ON t(a);")
            .unwrap();
        for n in 0..2000 {
            connection.execute("INSERT INTO t VALUES (?1)", [format!("row {n}")]).unwrap();
        }
        connection.close().unwrap();
        assert_eq!(check_file(&path), Checked::Sound);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 4096].fill(7);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(check_file(&path), Checked::Unsound(_)));
    }
}
