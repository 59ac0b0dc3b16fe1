//! The demo's database: a writer that never stops, and the check that a copy holds exactly a prefix of what it committed.

use crate::ops::error::{Class, Doing, OpError, Result};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

/// Rows are written in transactions of this many; a copy must hold whole transactions only.
const BATCH: i64 = 20;
/// It is well when this many rows are in.
const READY: i64 = 2000;

/// Writes to `database` while `wanted`, and tells in `rows` how many it holds. Row `n` says what follows from `n`, so that a copy can be checked
/// without the original.
pub(super) fn write(database: &Path, rows: &AtomicI64, wanted: &dyn Fn() -> bool) -> Result<u8> {
    let doing = || format!("cannot write to {}", database.display());
    let mut connection = Connection::open(database).doing(Class::Failed, doing)?;
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;
             CREATE TABLE IF NOT EXISTS events(n INTEGER PRIMARY KEY, text TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS total(rows INTEGER NOT NULL);",
        )
        .doing(Class::Failed, doing)?;
    let written =
        connection.query_row("SELECT coalesce(max(rows), 0) FROM total", (), |row| row.get::<_, i64>(0));
    let mut next = written.doing(Class::Failed, doing)? + 1;
    // The demo ends its service; should it be killed itself, its service must not go on for ever.
    while wanted() {
        write_batch(&mut connection, next).doing(Class::Failed, doing)?;
        next += BATCH;
        if next > READY {
            rows.store(next - 1, Ordering::Relaxed);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    Ok(0)
}

fn write_batch(connection: &mut Connection, first: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for n in first..first + BATCH {
        transaction.execute("INSERT INTO events VALUES (?1, ?2)", (n, text_of(n)))?;
    }
    transaction.execute("DELETE FROM total", ())?;
    transaction.execute("INSERT INTO total VALUES (?1)", [first + BATCH - 1])?;
    transaction.commit()
}

fn text_of(n: i64) -> String {
    format!("event {n} {}", blake3::hash(&n.to_le_bytes()).to_hex())
}

/// Checks a copy: `integrity_check`, and exactly the rows 1 to N that N tells of. Gives N.
pub(super) fn check(database: &Path) -> Result<i64> {
    let doing = || format!("cannot check {}", database.display());
    let wrong = |what: String| OpError::new(Class::Failed, format!("{}: {what}", database.display()));
    let open = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE);
    let connection = open.doing(Class::Failed, doing)?;
    let verdict: String =
        connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).doing(Class::Failed, doing)?;
    if verdict != "ok" {
        return Err(wrong(format!("integrity_check says {verdict}")));
    }
    let total: i64 =
        connection.query_row("SELECT rows FROM total", (), |row| row.get(0)).doing(Class::Failed, doing)?;
    let mut statement =
        connection.prepare("SELECT n, text FROM events ORDER BY n").doing(Class::Failed, doing)?;
    let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).doing(Class::Failed, doing)?;
    let mut seen = 0;
    for row in rows {
        let (n, text): (i64, String) = row.doing(Class::Failed, doing)?;
        seen += 1;
        if n != seen || text != text_of(n) {
            return Err(wrong(format!("row {n} is not what was written")));
        }
    }
    if seen != total || seen % BATCH != 0 {
        return Err(wrong(format!("it holds {seen} rows and says {total}: not the end of a transaction")));
    }
    Ok(seen)
}
