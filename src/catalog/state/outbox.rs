//! Signed documents of this host that some store of the configuration does not have yet.
//!
//! With several stores the one that led when a document was signed may be gone when another is to have it: what was signed is then still here,
//! so that marks reach every store, and an entry whose objects are lost can be named by its hash.

use crate::catalog::state::pending::{document_of, document_text};
use crate::catalog::state::{DIR_MODE, Pending, State, StateError};
use crate::durable::{self, Dir, DurableError};
use crate::model::SignerId;
use crate::store::Key;
use std::path::PathBuf;

const FOLDER: &str = "outbox";

fn name(signer: &SignerId, number: u64) -> String {
    format!("{signer}.{number:010}")
}

impl State {
    fn outbox(&self) -> PathBuf {
        self.dir().join(FOLDER)
    }

    /// Keeps a signed document, durably, before its first put. The same one again is fine; another of that number is an error.
    pub fn keep_document(
        &self,
        signer: &SignerId,
        number: u64,
        key: &Key,
        bytes: &[u8],
    ) -> Result<(), StateError> {
        durable::create_dirs(&self.outbox(), DIR_MODE)?;
        let path = self.outbox().join(name(signer, number));
        let text = document_text(&path, key, bytes)?;
        match durable::write_new(&path, &text, 0o600) {
            Ok(()) => Ok(()),
            Err(DurableError::Exists { .. }) => {
                let there = self.kept_documents()?.into_iter().find(|kept| kept.key == *key);
                if there.is_some_and(|kept| kept.bytes == bytes) {
                    return Ok(durable::sync_dir(&self.outbox())?);
                }
                let (pending, new) = (format!("entry {number}"), key.to_string());
                Err(StateError::PendingOther { path, pending, new })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// All documents that are kept, the lowest number of each signer first.
    pub fn kept_documents(&self) -> Result<Vec<Pending>, StateError> {
        let dir = match Dir::open(&self.outbox()) {
            Ok(dir) => dir,
            Err(e) if e.is_not_found() => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        let mut names = dir.names()?;
        names.retain(|name| !durable::is_temp_name(name));
        names.sort();
        let mut kept = Vec::new();
        for name in names {
            let path = self.outbox().join(&name);
            let text = match std::fs::read(&path) {
                Ok(text) => text,
                // Another run forgot it meanwhile.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => return Err(DurableError::Io { verb: "read", path, source }.into()),
            };
            kept.push(document_of(&path, &text)?);
        }
        Ok(kept)
    }

    /// Forgets a document: every store of the configuration has it, or an `absent` mark for that store names it.
    pub fn forget_document(&self, signer: &SignerId, number: u64) -> Result<(), StateError> {
        match durable::remove(&self.outbox().join(name(signer, number))) {
            Ok(_) => Ok(()),
            Err(e) if e.is_not_found() => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}
