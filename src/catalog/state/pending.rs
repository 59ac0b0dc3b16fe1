//! The signed document that is being put.

use crate::catalog::state::{State, StateError};
use crate::durable::{self, DurableError};
use crate::model::ObjectId;
use crate::store::Key;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A signed document that is to be put, or was while the process died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Where it goes.
    pub key: Key,
    /// The whole document.
    pub bytes: Vec<u8>,
}

/// First line of the file; the document's bytes follow.
#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    key: String,
    size: u64,
    sha256: ObjectId,
}

const FILE: &str = "pending";
const REMEDY: &str = "it holds a document that was signed and perhaps not put everywhere: bring it back from a copy, or, if you are \
                      sure that a store holds that document or none ever got it, move it away";

impl State {
    /// Keeps a signed document, durably, before its first put. The same one again is fine; while another waits, this is
    /// [`StateError::PendingOther`].
    pub fn set_pending(&self, key: &Key, bytes: &[u8]) -> Result<(), StateError> {
        let _held = self.exclusively()?;
        if let Some(there) = self.pending()? {
            if there.key == *key && there.bytes == bytes {
                // Its name may not be durable yet: whoever wrote it may have been killed in between.
                return Ok(durable::sync_dir(self.dir())?);
            }
            let path = self.dir().join(FILE);
            return Err(StateError::PendingOther {
                path,
                pending: there.key.to_string(),
                new: key.to_string(),
            });
        }
        let text = document_text(&self.dir().join(FILE), key, bytes)?;
        Ok(durable::write_new(&self.dir().join(FILE), &text, 0o600)?)
    }

    /// Lets another document wait in the place of the one called `before`, in one step: for a record that is put and must now be
    /// voided, so that a kill in between loses neither.
    pub fn swap_pending(&self, before: &Key, key: &Key, bytes: &[u8]) -> Result<(), StateError> {
        let _held = self.exclusively()?;
        let there = self.pending()?;
        if there.as_ref().is_none_or(|there| there.key != *before) {
            let pending = there.map_or_else(|| "nothing".to_owned(), |there| there.key.to_string());
            return Err(StateError::PendingOther {
                path: self.dir().join(FILE),
                pending,
                new: key.to_string(),
            });
        }
        let text = document_text(&self.dir().join(FILE), key, bytes)?;
        Ok(durable::replace(&self.dir().join(FILE), &text)?)
    }

    /// The document that waits, if there is one.
    pub fn pending(&self) -> Result<Option<Pending>, StateError> {
        let Some(text) = self.read(FILE)? else {
            return Ok(None);
        };
        document_of(&self.dir().join(FILE), &text).map(Some)
    }

    /// Forgets the document that waits, durably: it is in every store that will ever get it from this run. None is fine.
    pub fn clear_pending(&self) -> Result<(), StateError> {
        let _held = self.exclusively()?;
        durable::remove(&self.dir().join(FILE)).map(drop).map_err(|e: DurableError| e.into())
    }
}

/// A signed document as the state keeps it: its key, size and hash, then its bytes.
pub(super) fn document_text(file: &Path, key: &Key, bytes: &[u8]) -> Result<Vec<u8>, StateError> {
    let header = Header {
        format: super::FORMAT,
        key: key.to_string(),
        size: bytes.len() as u64,
        sha256: ObjectId::of(bytes),
    };
    let mut text = serde_json::to_vec(&header).map_err(|e| damaged(file, e.to_string()))?;
    text.push(b'\n');
    text.extend_from_slice(bytes);
    Ok(text)
}

/// Reads what [`document_text`] made.
pub(super) fn document_of(file: &Path, text: &[u8]) -> Result<Pending, StateError> {
    let end = text.iter().position(|b| *b == b'\n');
    let (head, rest) = text.split_at(end.ok_or_else(|| damaged(file, "it has no first line".into()))?);
    let bytes = &rest[1..];
    let header: Header = serde_json::from_slice(head).map_err(|e| damaged(file, e.to_string()))?;
    if header.format != super::FORMAT {
        let why = format!("it has format {}, and this program knows {}", header.format, super::FORMAT);
        return Err(damaged(file, why));
    }
    if header.size != bytes.len() as u64 || header.sha256 != ObjectId::of(bytes) {
        return Err(damaged(file, "the document in it is not the one that was kept".into()));
    }
    let key = Key::parse(&header.key).ok_or_else(|| damaged(file, "its key is none".into()))?;
    Ok(Pending { key, bytes: bytes.to_vec() })
}

fn damaged(file: &Path, why: String) -> StateError {
    StateError::Corrupt { path: file.to_owned(), why, remedy: REMEDY }
}
