//! What stores behind a network have in common: files that are put, what lies under a name, errors and waits.
//!
//! How a server is asked is each store's own; what its answers may be taken for must be the same in all of them.

use crate::bridge::{BridgeError, block_on};
use crate::model::ObjectId;
use crate::store::buffers::Buffer;
use crate::store::s3::failure::Failure;
use crate::store::{StoreError, StoreErrorKind};
use bytes::Bytes;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// What lies under a key.
pub(in crate::store) enum There {
    Same,
    Other,
    Nothing,
}

impl There {
    /// From what was read of it.
    pub(in crate::store) fn of(
        found: Result<(u64, ObjectId), Failure>,
        size: u64,
        sha256: &ObjectId,
    ) -> Result<Self, Failure> {
        match found {
            Ok(found) if found == (size, *sha256) => Ok(Self::Same),
            Ok(_) => Ok(Self::Other),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(Self::Nothing),
            Err(e) => Err(e),
        }
    }

    /// After something was put over another: only the bytes that were put will do.
    pub(in crate::store) fn replaced(self) -> Result<(), Failure> {
        match self {
            Self::Same => Ok(()),
            Self::Other | Self::Nothing => Err(Failure::new(
                StoreErrorKind::Corrupt,
                "after it was replaced the server still gives other bytes",
            )),
        }
    }
}

pub(in crate::store) fn taken() -> Failure {
    Failure::new(StoreErrorKind::Exists, "an object of that name is there already, with other bytes")
}

pub(in crate::store) fn not_its_name() -> Failure {
    Failure::new(StoreErrorKind::Corrupt, "the file to be put has another SHA-256 than its name says")
}

pub(in crate::store) fn spooled(e: std::io::Error) -> Failure {
    Failure::new(StoreErrorKind::Other, "the spooled file cannot be read or removed").because(e)
}

/// The parts of an upload that was completed come to another size.
pub(in crate::store) fn other_size(there: u64, size: u64) -> Failure {
    Failure::new(StoreErrorKind::Corrupt, format!("the parts make {there} bytes and not {size}"))
}

/// Opens a file that is to be put, which must have `size` bytes.
pub(in crate::store) fn open_spooled(path: &Path, size: u64) -> Result<File, Failure> {
    let file = File::open(path).map_err(spooled)?;
    let found = file.metadata().map_err(spooled)?.len();
    if found != size {
        let text = format!("the file to be put has {found} bytes, not {size}");
        return Err(Failure::new(StoreErrorKind::Corrupt, text));
    }
    Ok(file)
}

/// Reads all of a small file, which must be what its name says.
pub(in crate::store) fn read_spooled(
    mut file: &File,
    size: u64,
    sha256: &ObjectId,
) -> Result<Bytes, Failure> {
    let mut bytes = Buffer::of(usize::try_from(size).unwrap_or(0));
    file.read_exact(&mut bytes).map_err(spooled)?;
    let more = file.read(&mut [0]).map_err(spooled)?;
    if more > 0 || ObjectId::of(&bytes) != *sha256 {
        return Err(not_its_name());
    }
    Ok(Bytes::from_owner(bytes))
}

/// Takes away a file that was put.
pub(in crate::store) fn remove_spooled(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(spooled(e)),
        _ => Ok(()),
    }
}

/// Waits for `work` as long as nobody wants the end.
pub(in crate::store) fn wait<T>(
    interrupted: &(dyn Fn() -> bool + Send + Sync),
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    block_on(interrupted, work).unwrap_or_else(|e| {
        let kind = match e {
            BridgeError::Interrupted => StoreErrorKind::Interrupted,
            BridgeError::NoThreads | BridgeError::Inside => StoreErrorKind::Other,
        };
        Err(Failure::new(kind, e.to_string()))
    })
}

/// The failure as a store tells it.
pub(in crate::store) fn error(
    store: &str,
    verb: &'static str,
    subject: &dyn fmt::Display,
    failure: Failure,
) -> StoreError {
    let (store, subject, kind) = (store.to_owned(), subject.to_string(), failure.kind);
    StoreError { kind, store, verb, subject, source: failure.into() }
}
