//! The hashes of large files' blocks, in pieces that are known by their own SHA-256.
//!
//! They are many bytes and few of them are used in a run, so they are read one file at a time, and each is proved by its name. A piece that is lost or
//! damaged is as if the file had never been seen: it costs time, nothing else. Pieces are written as they are made; those of a run that was killed go with the next save.

use crate::catalog::known::KnownError;
use crate::catalog::known::save::open;
use crate::durable::crash;
use crate::model::ObjectId;
use rusqlite::{Connection, OpenFlags, params};
use std::path::Path;

/// Keeps pieces. After an error the catalog is to be removed.
pub fn keep_blocks(path: &Path, pieces: &[(ObjectId, Vec<u8>)]) -> Result<(), KnownError> {
    let failed = |source| KnownError::Database { path: path.to_owned(), source };
    let mut db = open(path)?;
    let transaction = db.transaction().map_err(failed)?;
    for (id, body) in pieces {
        // Also over one that is there: it may be damaged.
        let insert = "INSERT OR REPLACE INTO blocks VALUES (?1, ?2)";
        transaction.execute(insert, params![&id.0[..], body]).map_err(failed)?;
    }
    crash::point("catalog: pieces to be kept");
    transaction.commit().map_err(failed)?;
    crash::point("catalog: pieces kept");
    Ok(())
}

/// Reads pieces, in this order; `None` when one is not there as it was kept.
pub fn read_blocks(path: &Path, ids: &[ObjectId]) -> Option<Vec<Vec<u8>>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).ok()?;
    let mut query = db.prepare("SELECT body FROM blocks WHERE id = ?1").ok()?;
    let mut piece = |id: &ObjectId| {
        let body: Vec<u8> = query.query_row([&id.0[..]], |row| row.get(0)).ok()?;
        (ObjectId::of(&body) == *id).then_some(body)
    };
    ids.iter().map(&mut piece).collect()
}
