//! Signed documents: opened with the checks of the format in their order, and sealed.
//!
//! Nothing of a document may be believed before its signature was checked, its version aside.

use crate::keys::error::KeyError;
use crate::keys::signer::{Signer, VerifyingKey, verify};
use crate::model::document::{self, DOCUMENT_BYTES_MAX, DocumentError};
use crate::model::mark::{Mark, Tombstone};
use crate::model::record::{Record, check_place};
use crate::model::{ObjectId, SignerId, VaultId};
use serde::de::{DeserializeOwned, IgnoredAny};

/// A document that names its signer.
pub trait Document {
    /// Who signed, as the document says.
    fn signer(&self) -> SignerId;
    /// The vault that it belongs to; whoever opens it compares.
    fn vault(&self) -> &VaultId;
    /// What a well-formed document must also be, beyond its JSON shape.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Document for Record {
    fn signer(&self) -> SignerId {
        self.signer
    }
    fn vault(&self) -> &VaultId {
        &self.vault
    }
    fn check(&self) -> Result<(), String> {
        Self::check(self)
    }
}

impl Document for Mark {
    fn signer(&self) -> SignerId {
        self.signer
    }
    fn vault(&self) -> &VaultId {
        &self.vault
    }
    fn check(&self) -> Result<(), String> {
        check_place(self.number, self.previous.as_ref())
    }
}

impl Document for Tombstone {
    fn signer(&self) -> SignerId {
        self.signer
    }
    fn vault(&self) -> &VaultId {
        &self.vault
    }
}

/// A document whose signature was checked. Whether the key is trusted is another question.
#[derive(Debug, Clone)]
pub struct Signed<T> {
    /// What it says.
    pub value: T,
    /// SHA-256 of line 1 with its `\n`.
    pub hash: ObjectId,
    /// Line 1 with its `\n`.
    pub line: Vec<u8>,
    /// Who signed.
    pub key: VerifyingKey,
}

/// Why a document is not used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// Written by a later program; upgrading helps.
    #[error("{0}")]
    TooNew(String),
    /// Not what the format says.
    #[error("{0}")]
    Damaged(String),
}

/// Opens the signed document `bytes` of type `kind` (`record`, `mark`, `tombstone`).
///
/// The caller has yet to compare the vault and the object's own name with what the document says, and to ask whether the key is trusted.
pub fn open_document<T: Document + DeserializeOwned>(
    bytes: &[u8],
    kind: &str,
    namespace: &str,
) -> Result<Signed<T>, OpenError> {
    let damaged = |why: String| OpenError::Damaged(why);
    if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(damaged(
            "it is larger than any signed document may be".into(),
        ));
    }
    let end = bytes
        .iter()
        .position(|&b| b == b'\n')
        .ok_or_else(|| damaged("its first line does not end".into()))?;
    let (line, signature) = bytes.split_at(end + 1);
    // The version first: a later format may sign in another way, and "too new" is not "damaged".
    document::parse::<IgnoredAny>(line, kind).map_err(from_document)?;
    let signature =
        std::str::from_utf8(signature).map_err(|_| damaged("its signature is not text".into()))?;
    let key = verify(namespace, line, signature).map_err(|e| damaged(e.to_string()))?;
    let value: T = document::parse(line, kind).map_err(from_document)?;
    if value.signer() != key.id {
        return Err(damaged(format!(
            "it names signer {}, but {} signed it",
            value.signer(),
            key.id
        )));
    }
    value.check().map_err(damaged)?;
    Ok(Signed {
        value,
        hash: ObjectId::of(line),
        line: line.to_vec(),
        key,
    })
}

fn from_document(error: DocumentError) -> OpenError {
    match error {
        DocumentError::TooNew(why) => OpenError::TooNew(why),
        DocumentError::Malformed(why) => OpenError::Damaged(why),
    }
}

/// Signs `document`: the bytes to store, and the hash of line 1 that the next entry of the chain names.
pub fn seal_document<T: Document + serde::Serialize>(
    document: &T,
    signer: &Signer,
    namespace: &str,
) -> Result<(Vec<u8>, ObjectId), KeyError> {
    if document.signer() != signer.id() {
        return Err(KeyError::Signing {
            verb: "sign for another key",
            id: signer.id().to_string(),
        });
    }
    let line = document::line_of(document).map_err(KeyError::Json)?;
    let signature = signer.sign(namespace, &line)?;
    Ok((document::join(&line, &signature), ObjectId::of(&line)))
}
