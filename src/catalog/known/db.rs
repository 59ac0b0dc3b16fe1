//! The database file. Everything that is wanted is read at once and proved by checksums before any of it is used.

use crate::catalog::known::body::{Body, get_archive, get_stretch, sum};
use crate::catalog::known::{Known, KnownArchive, KnownStretch};
use crate::model::{HostId, ObjectId, VaultId};
use rusqlite::{Connection, OpenFlags, params};
use std::collections::HashSet;
use std::io;
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
    /// It describes other records than this one. It stays: the next run may find one of them the newest.
    Other,
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
    /// The numbers of those others that may come again; the rest is forgotten. `None`: none is.
    pub alive: Option<HashSet<u64>>,
}

/// What a snapshot changes for one component.
#[derive(Debug, Default)]
pub struct ComponentUpdate {
    /// The component's number.
    pub number: u64,
    /// Rows that stay as they are, by [`KnownStretch::row`].
    pub keep: Vec<i64>,
    /// Rows that are new.
    pub put: Vec<KnownStretch>,
    /// Every archive that the component refers to.
    pub archives: Vec<KnownArchive>,
    /// When it was last packed so that it stands alone, in seconds since 1970.
    pub full: i64,
}

pub(super) const FORMAT: &[u8] = b"2";
type Why = String;

fn text(e: impl ToString) -> Why {
    e.to_string()
}

/// Reads of the catalog at `path` what it has of the components whose numbers are `wanted`.
pub fn load(path: &Path, expected: &Expected<'_>, wanted: impl Fn(u64) -> bool) -> Loaded {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Loaded::Absent,
        Err(e) => return Loaded::Useless(e.to_string()),
        Ok(facts) if !facts.is_file() => return Loaded::Useless("it is not a regular file".into()),
        Ok(_) => {}
    }
    match read(path, expected, &wanted) {
        Ok(Some(known)) => Loaded::Usable(known),
        Ok(None) => Loaded::Other,
        Err(why) => Loaded::Useless(why),
    }
}

fn read(path: &Path, expected: &Expected<'_>, wanted: &dyn Fn(u64) -> bool) -> Result<Option<Known>, Why> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(text)?;
    identity(&db, expected)?;
    let generation = read_generation(&db, expected.record)?;
    if generation.is_empty() {
        return Ok(None);
    }
    let mut known = Known { record: Some(*expected.record), ..Known::default() };
    for (component, body) in &generation {
        let number = u64::try_from(*component).map_err(|_| damaged())?;
        if !wanted(number) {
            continue;
        }
        read_archives(&db, *component, body, &mut known)?;
        read_stretches(&db, *component, body, &mut known)?;
        known.full.insert(number, body.full);
    }
    for stretches in known.components.values_mut() {
        stretches.sort_by(|a, b| a.first.cmp(&b.first));
        if stretches.windows(2).any(|w| w[0].last >= w[1].first) {
            return Err("two of its stretches overlap".into());
        }
    }
    Ok(Some(known))
}

/// Checks whose catalog it is.
pub(super) fn identity(db: &Connection, expected: &Expected<'_>) -> Result<(), Why> {
    let meta = |key: &str| -> Result<Vec<u8>, Why> {
        db.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).map_err(text)
    };
    if meta("format")? != FORMAT {
        return Err("it has another format".into());
    }
    let ours = meta("vault")? == expected.vault.to_string().into_bytes() && meta("host")? == expected.host.0;
    ours.then_some(()).ok_or_else(|| "it is of another vault or host".into())
}

pub(super) fn read_generation(db: &Connection, record: &ObjectId) -> Result<Vec<(i64, Body)>, Why> {
    let mut query =
        db.prepare("SELECT component, body, sum FROM generations WHERE record = ?1").map_err(text)?;
    let mut rows = query.query([&record.0[..]]).map_err(text)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(text)? {
        let component: i64 = row.get(0).map_err(text)?;
        let blob = |column| row.get_ref(column).and_then(|v| Ok(v.as_blob()?)).map_err(text);
        let body = blob(1)?;
        if blob(2)? != sum(0, component, &record.0, [body, b""]) {
            return Err(damaged());
        }
        found.push((component, Body::decode(body).ok_or_else(damaged)?));
    }
    Ok(found)
}

pub(super) fn id_of(bytes: &[u8]) -> Result<ObjectId, Why> {
    bytes.try_into().map(ObjectId).map_err(|_| "it holds a hash that is none".to_owned())
}

fn damaged() -> Why {
    "a row of it is damaged".to_owned()
}

fn read_archives(db: &Connection, component: i64, body: &Body, known: &mut Known) -> Result<(), Why> {
    let select = "SELECT body, sum FROM archives WHERE component = ?1 AND id = ?2";
    let mut query = db.prepare(select).map_err(text)?;
    for id in &body.archives {
        let mut rows = query.query(params![component, &id.0[..]]).map_err(text)?;
        let row = rows.next().map_err(text)?.ok_or_else(damaged)?;
        let blob = |column| row.get_ref(column).and_then(|v| Ok(v.as_blob()?)).map_err(text);
        let body = blob(0)?;
        if blob(1)? != sum(1, component, &id.0, [body, b""]) {
            return Err(damaged());
        }
        known.archives.insert(*id, get_archive(*id, body).ok_or_else(damaged)?);
    }
    Ok(())
}

fn read_stretches(db: &Connection, component: i64, body: &Body, known: &mut Known) -> Result<(), Why> {
    let select = "SELECT segment, body, packed, sum FROM stretches WHERE row = ?1 AND component = ?2";
    let mut query = db.prepare(select).map_err(text)?;
    let number = u64::try_from(component).map_err(|_| damaged())?;
    let stretches = known.components.entry(number).or_default();
    for number in &body.stretches {
        let mut rows = query.query(params![number, component]).map_err(text)?;
        let row = rows.next().map_err(text)?.ok_or_else(damaged)?;
        let blob = |column| row.get_ref(column).and_then(|v| Ok(v.as_blob()?)).map_err(text);
        let (segment, body, packed) = (blob(0)?, blob(1)?, blob(2)?);
        if blob(3)? != sum(2, component, segment, [body, packed]) {
            return Err(damaged());
        }
        let stretch = get_stretch(id_of(segment)?, body, packed).ok_or_else(damaged)?;
        stretches.push(KnownStretch { row: *number, ..stretch });
    }
    Ok(())
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
