//! Making a copy of a database whole: what its log or its journal holds goes into the one file.

use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// Brings what lies in the log or the journal beside the database at `path` into the database, as its own program would when it opens it.
///
/// Everything there is a copy that nobody else uses: SQLite writes to it and removes what lies beside it. `Err` when it could not; then the files are of no
/// use any more.
pub fn fold_copy(path: &Path) -> Result<(), String> {
    fold(path).map_err(|e| e.to_string())?;
    for ending in ["-wal", "-journal"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(ending);
        if std::fs::symlink_metadata(&beside).is_ok_and(|facts| facts.len() > 0) {
            return Err(format!("its {ending} is still there"));
        }
    }
    Ok(())
}

fn fold(path: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // Alone with it: then the index of the log is in memory, and needs no file that a file system could refuse.
    connection.query_row("PRAGMA locking_mode = EXCLUSIVE", (), |_| Ok(()))?;
    // The first read is what rolls a journal back, and what finds that this is no database.
    connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get::<_, i64>(0))?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
    connection.close().map_err(|(_, e)| e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// Copies of a database that is open and of what lies beside it.
    fn copies(begin: &str) -> (tempfile::TempDir, PathBuf) {
        let top = tempfile::tempdir().unwrap();
        let live = top.path().join("live.db");
        let connection = Connection::open(&live).unwrap();
        connection.execute_batch("PRAGMA cache_size = 1; CREATE TABLE t(x)").unwrap();
        connection.execute_batch(begin).unwrap();
        let copy = top.path().join("copy.db");
        for ending in ["", "-wal", "-journal"] {
            let at = |name: &str| top.path().join(format!("{name}.db{ending}"));
            if at("live").exists() {
                std::fs::copy(at("live"), at("copy")).unwrap();
            }
        }
        drop(connection);
        (top, copy)
    }

    const ROWS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
        INSERT INTO t SELECT randomblob(500) FROM n;";

    fn rows(path: &Path) -> i64 {
        let connection = Connection::open(path).unwrap();
        connection.query_row("SELECT count(*) FROM t", (), |row| row.get(0)).unwrap()
    }

    #[test]
    fn committed_rows_of_a_log_are_in_the_one_file_and_nothing_is_left_beside_it() {
        let begin = format!("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; {ROWS}");
        let (top, copy) = copies(&begin);
        assert!(top.path().join("copy.db-wal").exists());
        fold_copy(&copy).unwrap();
        assert!(!top.path().join("copy.db-wal").exists());
        assert_eq!(rows(&copy), 500);
    }

    #[test]
    fn a_transaction_that_was_cut_off_is_rolled_back() {
        let (top, copy) = copies(&format!("{ROWS} BEGIN; DELETE FROM t;"));
        assert!(top.path().join("copy.db-journal").exists());
        fold_copy(&copy).unwrap();
        assert!(!top.path().join("copy.db-journal").exists());
        assert_eq!(rows(&copy), 500);
    }

    #[test]
    fn what_is_no_database_is_an_error() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("copy.db");
        std::fs::write(&path, "this is no database any more").unwrap();
        std::fs::write(top.path().join("copy.db-wal"), "and this is no log").unwrap();
        assert!(fold_copy(&path).is_err());
    }
}
