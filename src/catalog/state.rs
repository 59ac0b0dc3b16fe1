//! The state directory of a project: lock, spool, and the few facts that stores must not be asked for.
//!
//! - `heads.json`: the highest chain entry ever seen of each signer. It only rises, so a store that hides its newest entries is noticed.
//! - `pending`: the signed document that is being put. A number that was signed once is never given to other content, so it is kept here
//!   before the first put and put again after a crash.
//! - `outbox/`: signed documents that not every store has yet. `instances.json`: the highest entries seen in each store.
//! - `drills.json`: what came of the last drill from each store.
//! - `records.json`: which records each store showed at the last prune.
//! - `shown.age`: names and notes that a list read from indexes, sealed to the identities that opened these.
//! - `vault.json`: the vault and the instance of each store, remembered at first sight.
//! - `kit.json`: when a recovery kit was proved.
//! - `lock`, `spool/`.
//!
//! This module must never take a file that it cannot read for an absent one: what it would forget is what an attacker wants forgotten.

mod drills;
mod heads;
mod instances;
mod kit;
mod outbox;
mod pending;
mod pruning;
mod shown;
mod vault;

pub use drills::DrillNote;
pub use heads::Head;
pub use kit::KitMemory;
pub use pending::Pending;
pub use vault::Trust;

use crate::durable::{self, Dir, DurableError, FileLock, Held, Swept};
use crate::model::{ObjectId, SignerId, Timestamp, VaultId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What went wrong with the state directory, or with a store compared with what it remembers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A file could not be read or written.
    #[error("the state directory cannot be used")]
    Durable(#[from] DurableError),
    /// A file could not be written, so what was seen is not remembered. What is there could be read, and was compared.
    #[error("the state folder {dir:?} cannot be written")]
    Unwritable {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: DurableError,
    },
    /// A file is there and does not make sense. Nothing was changed.
    #[error("{path:?} cannot be understood: {why}; {remedy}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What a person can do.
        remedy: &'static str,
    },
    /// Two different entries of one number were seen: the history was rewritten.
    #[error(
        "entry {number} of signer {signer} has the hash {found}, and {known} was seen before: the history was rewritten or forked"
    )]
    Rewritten {
        /// Whose entry.
        signer: SignerId,
        /// Its number.
        number: u64,
        /// The hash remembered.
        known: ObjectId,
        /// The hash shown now.
        found: ObjectId,
    },
    /// Another signed document waits to be put; nothing else may be signed before.
    #[error(
        "{pending} was signed and is not put yet ({path:?} holds it); it must be put before {new} is signed"
    )]
    PendingOther {
        /// The file that holds it.
        path: PathBuf,
        /// The key of the document that waits.
        pending: String,
        /// The key of the document that was to be kept.
        new: String,
    },
    /// A store belongs to another vault than before.
    #[error(
        "store {store:?} belongs to vault {found}, and this project's is {known} (remembered in {path:?}); check the store's address, and remove that file only if the project was really given a new vault"
    )]
    OtherVault {
        /// The file that remembers.
        path: PathBuf,
        /// The store's name.
        store: String,
        /// The vault remembered.
        known: VaultId,
        /// The vault that the store names.
        found: VaultId,
    },
    /// A store is not the one that it was.
    #[error(
        "store {store:?} is another one than before: its instance is {found}, and {known} is remembered in {path:?}"
    )]
    OtherInstance {
        /// The file that remembers.
        path: PathBuf,
        /// The store's name.
        store: String,
        /// The instance remembered.
        known: VaultId,
        /// The instance that the store names.
        found: VaultId,
    },
    /// Two stores are one, or one is a copy of the other.
    #[error(
        "stores {store:?} and {other:?} have the same instance {instance}: they are one store, or one is a copied folder; name a folder of its own for each, and let `backstay init` make a store in it"
    )]
    SameInstance {
        /// The store looked at.
        store: String,
        /// The one that had the instance before.
        other: String,
        /// The instance.
        instance: VaultId,
    },
}

const FORMAT: u32 = 1;
const DIR_MODE: u32 = 0o700;
/// How long a change of a small file may wait for another process that changes one.
const PATIENCE: Duration = Duration::from_secs(30);

/// The state directory of a project. Cheap to open; all its files are 0600 and written durably.
#[derive(Debug, Clone)]
pub struct State {
    dir: PathBuf,
}

impl StateError {
    /// True when a store is another one than before, or belongs to another vault.
    pub fn is_about_the_store(&self) -> bool {
        matches!(self, Self::OtherVault { .. } | Self::OtherInstance { .. } | Self::SameInstance { .. })
    }
}

/// What excludes other processes while a small file is compared and perhaps written, or why nothing can be written. Comparing goes on without.
struct Turn(Result<Held, StateError>);

/// The spool of the state directory `dir`.
pub fn spool_dir(dir: &Path) -> PathBuf {
    dir.join("spool")
}

impl State {
    /// Opens the state directory `dir` and makes it and its spool (mode 0700) when they are missing.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let state = Self { dir: dir.to_owned() };
        durable::create_dirs(&state.spool_dir(), DIR_MODE)?;
        Ok(state)
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where data objects may be prepared.
    pub fn spool_dir(&self) -> PathBuf {
        spool_dir(&self.dir)
    }

    /// The lock of the whole project: one command that changes something at a time.
    pub fn lock(&self) -> FileLock {
        FileLock::new(self.dir.join("lock"))
    }

    /// Removes what killed runs left: files in the spool last changed before `older_than`, and unfinished state files, unless they are
    /// locked. The caller holds the project's lock.
    pub fn sweep(&self, older_than: Timestamp) -> Result<Swept, StateError> {
        let spool = durable::sweep(&Dir::open(&self.spool_dir())?, older_than, &|_| true)?;
        let mut own = durable::sweep(&Dir::open(&self.dir)?, older_than, &durable::is_temp_name)?;
        if let Ok(outbox) = Dir::open(&self.dir.join("outbox")) {
            own.removed += durable::sweep(&outbox, older_than, &durable::is_temp_name)?.removed;
        }
        Ok(Swept {
            removed: spool.removed + own.removed,
            bytes: spool.bytes + own.bytes,
            kept: spool.kept + own.kept,
        })
    }

    /// Excludes other processes while a small file is read and written: without it two readers that both saw something new could each
    /// write back what the other did not see.
    fn exclusively(&self) -> Result<Held, StateError> {
        let lock = FileLock::new(self.dir.join(".state.lock"));
        let now = || Timestamp::now();
        let held = lock.lock_wait("state", &now, Some(PATIENCE), &mut durable::sleep);
        held.map_err(|e| self.unwritable(e))
    }

    /// The same for what is mostly only compared: a folder that cannot be written must not keep a store from being recognised.
    fn turn(&self) -> Result<Turn, StateError> {
        match self.exclusively() {
            Err(e) if !matches!(e, StateError::Unwritable { .. }) => Err(e),
            held => Ok(Turn(held)),
        }
    }

    fn unwritable(&self, source: DurableError) -> StateError {
        match source {
            DurableError::Busy { .. } => source.into(),
            source => StateError::Unwritable { dir: self.dir.clone(), source },
        }
    }

    /// Writes a file that was read within `turn`.
    fn save_in<T: Serialize>(&self, turn: Turn, name: &str, content: T) -> Result<(), StateError> {
        let _held = turn.0?;
        self.save(name, content)
    }

    /// Reads a JSON file of the directory; `None` when there is none.
    fn load<T: DeserializeOwned>(&self, name: &str, remedy: &'static str) -> Result<Option<T>, StateError> {
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        let path = self.dir.join(name);
        let corrupt = |why: String| StateError::Corrupt { path: path.clone(), why, remedy };
        let value: Versioned<T> = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
        if value.format == FORMAT {
            return Ok(Some(value.content));
        }
        Err(corrupt(format!("it has format {}, and this program knows {FORMAT}", value.format)))
    }

    fn save<T: Serialize>(&self, name: &str, content: T) -> Result<(), StateError> {
        let path = self.dir.join(name);
        let corrupt = |e: serde_json::Error| StateError::Corrupt {
            path: path.clone(),
            why: e.to_string(),
            remedy: "please report this",
        };
        let mut text = serde_json::to_vec_pretty(&Versioned { format: FORMAT, content }).map_err(corrupt)?;
        text.push(b'\n');
        durable::replace(&path, &text).map_err(|e| self.unwritable(e))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let dir = Dir::open(&self.dir)?;
        let mut file = match dir.open_file(name) {
            Ok(file) => file,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).map_err(|source| DurableError::Io {
            verb: "read",
            path: self.dir.join(name),
            source,
        })?;
        Ok(Some(bytes))
    }
}

#[derive(serde::Deserialize, Serialize)]
struct Versioned<T> {
    format: u32,
    #[serde(flatten)]
    content: T,
}

#[cfg(test)]
mod tests;
