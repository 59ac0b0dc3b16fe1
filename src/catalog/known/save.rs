//! Writing the catalog, generation by generation.

use crate::catalog::known::body::{Body, archive_body, blocks_of, stretch_body, sum};
use crate::catalog::known::db::{FORMAT, identity, read_generation};
use crate::catalog::known::{ComponentUpdate, KnownError, Update, frames};
use crate::durable::crash;
use crate::model::ObjectId;
use rusqlite::{Connection, OpenFlags, Transaction, params};
use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const SCHEMA: &str = "PRAGMA journal_mode = DELETE;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS generations (record BLOB, component INTEGER, turn INTEGER, body BLOB NOT NULL, sum BLOB NOT NULL,
  PRIMARY KEY (record, component)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS archives (component INTEGER, id BLOB, body BLOB NOT NULL, sum BLOB NOT NULL,
  PRIMARY KEY (component, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stretches (row INTEGER PRIMARY KEY, component INTEGER, segment BLOB, body BLOB NOT NULL,
  packed BLOB NOT NULL, sum BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (id BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;";

/// Writes `update` in one transaction, beside the generation of the record before. To be called before the record is put: which of the two is true, the store
/// will say. After an error the catalog is to be removed.
pub fn save(path: &Path, update: &Update<'_>) -> Result<(), KnownError> {
    let failed = |source| KnownError::Database { path: path.to_owned(), source };
    let mut db = open(path)?;
    let before = match &update.before {
        None => Vec::new(),
        Some(before) => {
            let changed = |_| KnownError::Changed { path: path.to_owned() };
            identity(&db, &update.now).and_then(|()| read_generation(&db, before)).map_err(changed)?
        }
    };
    let transaction = db.transaction().map_err(failed)?;
    write(&transaction, update, before).map_err(failed)?;
    crash::point("catalog: to be committed");
    transaction.commit().map_err(failed)?;
    crash::point("catalog: committed");
    Ok(())
}

/// Opens the database, and makes it where there is none.
pub(super) fn open(path: &Path) -> Result<Connection, KnownError> {
    let failed = |source| KnownError::Database { path: path.to_owned(), source };
    let made = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    drop(made.map_err(|source| KnownError::File { path: path.to_owned(), source })?);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(failed)?;
    db.execute_batch(SCHEMA).map_err(failed)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    Ok(db)
}

/// Generations kept beside the new one: that of the record before, and one more for a store that lags.
const KEPT: usize = 2;

fn write(db: &Transaction<'_>, update: &Update<'_>, before: Vec<(i64, Body)>) -> rusqlite::Result<()> {
    let now = &update.now;
    let vault = now.vault.to_string();
    let meta: [(&str, &[u8]); 3] = [("format", FORMAT), ("vault", vault.as_bytes()), ("host", &now.host.0)];
    for (key, value) in meta {
        db.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![key, value])?;
    }
    forget_all_but(db, update)?;
    let turn: i64 =
        db.query_row("SELECT coalesce(max(turn), 0) + 1 FROM generations", [], |row| row.get(0))?;
    let mut bodies: BTreeMap<i64, Body> = before.into_iter().collect();
    if let Some(alive) = &update.alive {
        bodies.retain(|number, _| u64::try_from(*number).is_ok_and(|number| alive.contains(&number)));
    }
    for component in &update.components {
        let number = i64::try_from(component.number).unwrap_or(i64::MAX);
        bodies.insert(number, write_component(db, number, component)?);
    }
    for (component, body) in &bodies {
        let body = body.encode();
        let sum = sum(0, *component, &now.record.0, [&body, b""]);
        let insert = "INSERT OR REPLACE INTO generations VALUES (?1, ?2, ?3, ?4, ?5)";
        db.execute(insert, params![&now.record.0[..], component, turn, body, &sum[..]])?;
    }
    sweep(db)
}

/// Drops generations but the one before and the youngest others.
fn forget_all_but(db: &Transaction<'_>, update: &Update<'_>) -> rusqlite::Result<()> {
    let mut query = db.prepare("SELECT record FROM generations GROUP BY record ORDER BY max(turn) DESC")?;
    let all: Vec<Vec<u8>> = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let before = update.before.map(|id| id.0.to_vec());
    let others = all.into_iter().filter(|record| Some(record) != before.as_ref());
    for record in others.skip(KEPT - usize::from(before.is_some())) {
        db.execute("DELETE FROM generations WHERE record = ?1", [record])?;
    }
    Ok(())
}

fn write_component(db: &Transaction<'_>, number: i64, update: &ComponentUpdate) -> rusqlite::Result<Body> {
    let mut body = Body { stretches: update.keep.clone(), archives: Vec::new(), full: update.full };
    let insert = "INSERT INTO stretches (component, segment, body, packed, sum) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut insert = db.prepare(insert)?;
    for stretch in &update.put {
        let (id, bytes) = (&stretch.segment.0[..], stretch_body(stretch));
        let sum = sum(2, number, id, [&bytes, &stretch.packed]);
        insert.execute(params![number, id, bytes, stretch.packed, &sum[..]])?;
        body.stretches.push(db.last_insert_rowid());
    }
    let mut find = db.prepare(frames::FIND)?;
    let mut insert = db.prepare("INSERT OR REPLACE INTO archives VALUES (?1, ?2, ?3, ?4)")?;
    for archive in &update.archives {
        // Another generation may share the row, and need frames of it that this one does not.
        let whole = frames::with_those_of_its_row(&mut find, number, archive)?;
        let (id, bytes) = (&archive.info.sha256.0[..], archive_body(&whole));
        let sum = sum(1, number, id, [&bytes, b""]);
        insert.execute(params![number, id, bytes, &sum[..]])?;
        body.archives.push(archive.info.sha256);
    }
    Ok(body)
}

/// Removes rows that no generation has.
fn sweep(db: &Transaction<'_>) -> rusqlite::Result<()> {
    let (mut rows, mut archives) = (HashSet::new(), HashSet::new());
    let mut query = db.prepare("SELECT component, body FROM generations")?;
    let mut found = query.query([])?;
    while let Some(row) = found.next()? {
        let component: i64 = row.get(0)?;
        let body = Body::decode(row.get_ref(1)?.as_blob()?).unwrap_or_default();
        rows.extend(body.stretches);
        archives.extend(body.archives.into_iter().map(|id| (component, id.0.to_vec())));
    }
    let mut query = db.prepare("SELECT row FROM stretches")?;
    let there: Vec<i64> = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for row in there.iter().filter(|row| !rows.contains(row)) {
        db.execute("DELETE FROM stretches WHERE row = ?1", [row])?;
    }
    let mut query = db.prepare("SELECT component, id FROM archives")?;
    let there: Vec<(i64, Vec<u8>)> =
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    for (component, id) in there.into_iter().filter(|archive| !archives.contains(archive)) {
        db.execute("DELETE FROM archives WHERE component = ?1 AND id = ?2", params![component, id])?;
    }
    sweep_blocks(db)
}

/// Removes block hashes that no stretch refers to.
fn sweep_blocks(db: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut used: HashSet<Vec<u8>> = HashSet::new();
    let mut query = db.prepare("SELECT segment, body FROM stretches")?;
    let mut found = query.query([])?;
    while let Some(row) = found.next()? {
        let Ok(segment) = row.get_ref(0)?.as_blob()?.try_into().map(ObjectId) else { continue };
        let blocks = blocks_of(segment, row.get_ref(1)?.as_blob()?);
        used.extend(blocks.into_iter().map(|id| id.0.to_vec()));
    }
    let mut query = db.prepare("SELECT id FROM blocks")?;
    let there: Vec<Vec<u8>> = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for id in there.iter().filter(|id| !used.contains(*id)) {
        db.execute("DELETE FROM blocks WHERE id = ?1", [id])?;
    }
    Ok(())
}
