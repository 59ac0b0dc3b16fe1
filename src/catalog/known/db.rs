//! The database file. Everything is read at once and proved by checksums before any of it is used.

use crate::catalog::known::wire::{Source, put, put_bytes};
use crate::catalog::known::{Known, KnownArchive, KnownStretch};
use crate::durable::crash;
use crate::model::id::RecipientId;
use crate::model::manifest::{ArchiveInfo, Frame};
use crate::model::{HostId, ObjectId, RelPath, VaultId};
use rusqlite::{Connection, OpenFlags, Transaction, params};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The catalog cannot be written. It is to be removed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KnownError {
    /// The database refused.
    #[error("the catalog {path:?} cannot be used")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file could not be made or removed.
    #[error("the catalog {path:?} cannot be written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not the one that was read.
    #[error("the catalog {path:?} changed while it was in use")]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

/// What a catalog must say of itself to be used.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The vault.
    pub vault: &'a VaultId,
    /// The host.
    pub host: &'a HostId,
    /// The hash of the host's newest record.
    pub record: &'a ObjectId,
}

/// What came of looking for a catalog.
#[derive(Debug)]
pub enum Loaded {
    /// There is none.
    Absent,
    /// It cannot be used, and why. It must be removed.
    Useless(String),
    /// It describes the newest record.
    Usable(Known),
}

/// What a snapshot changes in the catalog.
#[derive(Debug)]
pub struct Update<'a> {
    /// Whose catalog it is to be: `record` is the new record.
    pub now: Expected<'a>,
    /// The record that the kept rows described; `None` begins anew.
    pub before: Option<ObjectId>,
    /// The components of the snapshot. Others stay as they are.
    pub components: Vec<ComponentUpdate>,
}

/// What a snapshot changes for one component.
#[derive(Debug, Default)]
pub struct ComponentUpdate {
    /// The component's number.
    pub number: u64,
    /// Segments whose rows stay as they are.
    pub keep: Vec<ObjectId>,
    /// Rows that are new.
    pub put: Vec<KnownStretch>,
    /// Every archive that the component refers to.
    pub archives: Vec<KnownArchive>,
}

const FORMAT: &[u8] = b"1";
const SCHEMA: &str = "PRAGMA journal_mode = DELETE;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS archives (component INTEGER, id BLOB, body BLOB NOT NULL, sum BLOB NOT NULL,
  PRIMARY KEY (component, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stretches (component INTEGER, segment BLOB, body BLOB NOT NULL, packed BLOB NOT NULL, sum BLOB NOT NULL,
  PRIMARY KEY (component, segment));";

type Why = String;

fn text(e: impl ToString) -> Why {
    e.to_string()
}

/// Reads the catalog at `path` whole.
pub fn load(path: &Path, expected: &Expected<'_>) -> Loaded {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Loaded::Absent,
        Err(e) => return Loaded::Useless(e.to_string()),
        Ok(facts) if !facts.is_file() => return Loaded::Useless("it is not a regular file".into()),
        Ok(_) => {}
    }
    match read(path, expected) {
        Ok(known) => Loaded::Usable(known),
        Err(why) => Loaded::Useless(why),
    }
}

fn read(path: &Path, expected: &Expected<'_>) -> Result<Known, Why> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(text)?;
    let record = identity(&db, expected)?;
    if record != *expected.record {
        return Err("it describes another snapshot than the newest".into());
    }
    let mut known = Known { record: Some(record), ..Known::default() };
    read_archives(&db, &mut known)?;
    read_stretches(&db, &mut known)?;
    for stretches in known.components.values_mut() {
        stretches.sort_by(|a, b| a.first.cmp(&b.first));
        if stretches.windows(2).any(|w| w[0].last >= w[1].first) {
            return Err("two of its stretches overlap".into());
        }
    }
    Ok(known)
}

/// Checks whose catalog it is and gives the record that it describes.
fn identity(db: &Connection, expected: &Expected<'_>) -> Result<ObjectId, Why> {
    let meta = |key: &str| -> Result<Vec<u8>, Why> {
        db.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).map_err(text)
    };
    if meta("format")? != FORMAT {
        return Err("it has another format".into());
    }
    let ours = meta("vault")? == expected.vault.to_string().into_bytes() && meta("host")? == expected.host.0;
    if !ours {
        return Err("it is of another vault or host".into());
    }
    id_of(&meta("record")?)
}

fn id_of(bytes: &[u8]) -> Result<ObjectId, Why> {
    bytes.try_into().map(ObjectId).map_err(|_| "it holds a hash that is none".to_owned())
}

fn damaged() -> Why {
    "a row of it is damaged".to_owned()
}

/// Over everything in a row, so that no part of it can change unnoticed or move to another row.
fn sum(table: u8, component: i64, id: &[u8], parts: [&[u8]; 2]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[table]).update(&component.to_le_bytes());
    for part in [id, parts[0], parts[1]] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    *hasher.finalize().as_bytes()
}

fn read_archives(db: &Connection, known: &mut Known) -> Result<(), Why> {
    let mut query = db.prepare("SELECT component, id, body, sum FROM archives").map_err(text)?;
    let mut rows = query.query([]).map_err(text)?;
    while let Some(row) = rows.next().map_err(text)? {
        let component: i64 = row.get(0).map_err(text)?;
        let blob = |column| row.get_ref(column).and_then(|v| Ok(v.as_blob()?)).map_err(text);
        let (id, body) = (blob(1)?, blob(2)?);
        if blob(3)? != sum(1, component, id, [body, b""]) {
            return Err(damaged());
        }
        let archive = get_archive(id_of(id)?, body).ok_or_else(damaged)?;
        known.archives.insert(archive.info.sha256, archive);
    }
    Ok(())
}

fn read_stretches(db: &Connection, known: &mut Known) -> Result<(), Why> {
    let mut query =
        db.prepare("SELECT component, segment, body, packed, sum FROM stretches").map_err(text)?;
    let mut rows = query.query([]).map_err(text)?;
    while let Some(row) = rows.next().map_err(text)? {
        let component: i64 = row.get(0).map_err(text)?;
        let blob = |column| row.get_ref(column).and_then(|v| Ok(v.as_blob()?)).map_err(text);
        let (segment, body, packed) = (blob(1)?, blob(2)?, blob(3)?);
        if blob(4)? != sum(2, component, segment, [body, packed]) {
            return Err(damaged());
        }
        let stretch = get_stretch(id_of(segment)?, body, packed).ok_or_else(damaged)?;
        let number = u64::try_from(component).map_err(|_| damaged())?;
        known.components.entry(number).or_default().push(stretch);
    }
    Ok(())
}

fn put_recipients(out: &mut Vec<u8>, recipients: &[RecipientId]) {
    put(out, recipients.len() as u64);
    for id in recipients {
        out.extend_from_slice(&id.0);
    }
}

fn get_recipients(source: &mut Source<'_>) -> Option<Vec<RecipientId>> {
    let count = source.count(16)?;
    (0..count).map(|_| source.array().map(RecipientId)).collect()
}

fn archive_body(archive: &KnownArchive) -> Vec<u8> {
    let mut out = Vec::new();
    let info = &archive.info;
    for number in [info.size, info.payload, info.tar, archive.age, u64::from(archive.delta)] {
        put(&mut out, number);
    }
    put_recipients(&mut out, &archive.recipients);
    put(&mut out, info.frames.len() as u64);
    for frame in &info.frames {
        for number in [frame.tar_offset, frame.offset, frame.length, frame.tar_length] {
            put(&mut out, number);
        }
    }
    out
}

fn get_archive(sha256: ObjectId, body: &[u8]) -> Option<KnownArchive> {
    let mut source = Source(body);
    let (size, payload, tar) = (source.number()?, source.number()?, source.number()?);
    let (age, delta) = (source.number()?, source.number()? != 0);
    let recipients = get_recipients(&mut source)?;
    let count = source.count(4)?;
    let mut frame = || {
        Some(Frame {
            tar_offset: source.number()?,
            offset: source.number()?,
            length: source.number()?,
            tar_length: source.number()?,
        })
    };
    let frames = (0..count).map(|_| frame()).collect::<Option<Vec<_>>>()?;
    let info = ArchiveInfo { sha256, size, payload, tar, frames };
    Some(KnownArchive { info, age, delta, recipients })
}

fn stretch_body(stretch: &KnownStretch) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, stretch.size);
    put_recipients(&mut out, &stretch.recipients);
    put_bytes(&mut out, stretch.first.as_bytes());
    put_bytes(&mut out, stretch.last.as_bytes());
    put(&mut out, stretch.maps.len() as u64);
    for (id, size) in &stretch.maps {
        out.extend_from_slice(&id.0);
        put(&mut out, *size);
    }
    out
}

fn get_stretch(segment: ObjectId, body: &[u8], packed: &[u8]) -> Option<KnownStretch> {
    let mut source = Source(body);
    let (size, recipients) = (source.number()?, get_recipients(&mut source)?);
    let first = RelPath::new(source.bytes()?).ok()?;
    let last = RelPath::new(source.bytes()?).ok()?;
    let count = source.count(33)?;
    let mut map = || Some((ObjectId(source.array()?), source.number()?));
    let maps = (0..count).map(|_| map()).collect::<Option<Vec<_>>>()?;
    let whole = source.is_empty() && first <= last;
    whole.then(|| KnownStretch { segment, size, recipients, first, last, maps, packed: packed.to_vec() })
}

/// Removes the catalog and what SQLite keeps beside it. None is fine.
pub fn remove(path: &Path) -> Result<(), KnownError> {
    for ending in ["-wal", "-shm", "-journal", ""] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        let path = PathBuf::from(name);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(KnownError::File { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes `update` in one transaction. After an error the catalog is to be removed: what is in it may describe no record.
pub fn save(path: &Path, update: &Update<'_>) -> Result<(), KnownError> {
    if update.before.is_none() {
        remove(path)?;
    }
    let failed = |source| KnownError::Database { path: path.to_owned(), source };
    let made = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    drop(made.map_err(|source| KnownError::File { path: path.to_owned(), source })?);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(failed)?;
    db.execute_batch(SCHEMA).map_err(failed)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    if let Some(before) = &update.before {
        let known = identity(&db, &update.now);
        if known.as_ref() != Ok(before) {
            return Err(KnownError::Changed { path: path.to_owned() });
        }
    }
    let transaction = db.transaction().map_err(failed)?;
    write(&transaction, update).map_err(failed)?;
    crash::point("catalog: to be committed");
    transaction.commit().map_err(failed)?;
    crash::point("catalog: committed");
    Ok(())
}

fn write(db: &Transaction<'_>, update: &Update<'_>) -> rusqlite::Result<()> {
    let now = &update.now;
    let vault = now.vault.to_string();
    let meta: [(&str, &[u8]); 4] =
        [("format", FORMAT), ("vault", vault.as_bytes()), ("host", &now.host.0), ("record", &now.record.0)];
    for (key, value) in meta {
        db.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![key, value])?;
    }
    for component in &update.components {
        write_component(db, component)?;
    }
    Ok(())
}

fn write_component(db: &Transaction<'_>, update: &ComponentUpdate) -> rusqlite::Result<()> {
    let number = i64::try_from(update.number).unwrap_or(i64::MAX);
    let keep: std::collections::HashSet<&[u8]> = update.keep.iter().map(|id| &id.0[..]).collect();
    let mut there: Vec<Vec<u8>> = Vec::new();
    let mut query = db.prepare("SELECT segment FROM stretches WHERE component = ?1")?;
    let mut rows = query.query([number])?;
    while let Some(row) = rows.next()? {
        there.push(row.get(0)?);
    }
    for segment in there.iter().filter(|s| !keep.contains(&s[..])) {
        db.execute("DELETE FROM stretches WHERE component = ?1 AND segment = ?2", params![number, segment])?;
    }
    let mut insert = db.prepare("INSERT OR REPLACE INTO stretches VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for stretch in &update.put {
        let (id, body) = (&stretch.segment.0[..], stretch_body(stretch));
        let sum = sum(2, number, id, [&body, &stretch.packed]);
        insert.execute(params![number, id, body, stretch.packed, &sum[..]])?;
    }
    db.execute("DELETE FROM archives WHERE component = ?1", [number])?;
    let mut insert = db.prepare("INSERT INTO archives VALUES (?1, ?2, ?3, ?4)")?;
    for archive in &update.archives {
        let (id, body) = (&archive.info.sha256.0[..], archive_body(archive));
        let sum = sum(1, number, id, [&body, b""]);
        insert.execute(params![number, id, body, &sum[..]])?;
    }
    Ok(())
}
