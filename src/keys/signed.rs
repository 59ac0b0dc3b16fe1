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
        return Err(damaged("it is larger than any signed document may be".into()));
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
    if !signature.ends_with('\n') {
        return Err(damaged("its last line does not end".into()));
    }
    let key = verify(namespace, line, signature).map_err(|e| damaged(e.to_string()))?;
    let value: T = document::parse(line, kind).map_err(from_document)?;
    if value.signer() != key.id {
        return Err(damaged(format!("it names signer {}, but {} signed it", value.signer(), key.id)));
    }
    value.check().map_err(damaged)?;
    Ok(Signed { value, hash: ObjectId::of(line), line: line.to_vec(), key })
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
        return Err(KeyError::Signing { verb: "sign for another key", id: signer.id().to_string() });
    }
    let line = document::line_of(document).map_err(KeyError::Json)?;
    let signature = signer.sign(namespace, &line)?;
    Ok((document::join(&line, &signature), ObjectId::of(&line)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::document::namespace::{MARK, RECORD, TOMBSTONE};
    use crate::model::mark::Statement;

    fn mark(signer: &Signer) -> Mark {
        Mark {
            format: 1,
            needs: Vec::new(),
            doc: "mark".into(),
            vault: VaultId::from_random([1; 17]),
            host: signer.id().into(),
            signer: signer.id(),
            number: 1,
            previous: None,
            time: "2026-11-23T08:00:00Z".parse().unwrap(),
            agent: "backstay test".into(),
            statement: Statement::Absent { instance: VaultId::from_random([2; 17]), entries: Vec::new() },
        }
    }

    fn sealed_text(text: &str, signer: &Signer) -> Vec<u8> {
        let signature = signer.sign(MARK, text.as_bytes()).unwrap();
        document::join(text.as_bytes(), &signature)
    }

    fn damaged(bytes: &[u8]) -> String {
        match open_document::<Mark>(bytes, "mark", MARK) {
            Err(OpenError::Damaged(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sealed_document_opens_to_the_same() {
        let signer = Signer::generate().unwrap();
        let mark = mark(&signer);
        let (bytes, hash) = seal_document(&mark, &signer, MARK).unwrap();
        let opened = open_document::<Mark>(&bytes, "mark", MARK).unwrap();
        assert_eq!((&opened.value, opened.hash, opened.key.id), (&mark, hash, signer.id()));
        assert_eq!(ObjectId::of(&opened.line), hash);
        assert!(seal_document(&mark, &Signer::generate().unwrap(), MARK).is_err());
    }

    #[test]
    fn every_flipped_bit_of_a_document_is_damage() {
        let signer = Signer::generate().unwrap();
        let (bytes, _) = seal_document(&mark(&signer), &signer, MARK).unwrap();
        // The last byte is the line end after the signature.
        for at in 0..bytes.len() - 1 {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                // `format` 9 is too new: that is said first, whoever signed.
                assert!(open_document::<Mark>(&changed, "mark", MARK).is_err(), "byte {at}, bit {bit}");
            }
        }
        for end in 0..bytes.len() - 1 {
            assert!(open_document::<Mark>(&bytes[..end], "mark", MARK).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn too_new_is_said_before_anything_else_is_looked_at() {
        for text in [
            "{\"format\":2,\"needs\":[],\"type\":\"mark\"}\n",
            "{\"format\":1,\"needs\":[\"x\"],\"type\":\"mark\"}\nnot a signature",
        ] {
            let opened = open_document::<Mark>(text.as_bytes(), "mark", MARK);
            assert!(matches!(opened, Err(OpenError::TooNew(_))), "{opened:?}");
        }
    }

    #[test]
    fn a_document_signed_by_another_key_than_it_names_is_damage() {
        let (one, other) = (Signer::generate().unwrap(), Signer::generate().unwrap());
        let line = String::from_utf8(document::line_of(&mark(&one)).unwrap()).unwrap();
        assert!(damaged(&sealed_text(&line, &other)).contains("names signer"));
    }

    #[test]
    fn a_document_of_one_kind_is_not_one_of_another() {
        let signer = Signer::generate().unwrap();
        let (bytes, _) = seal_document(&mark(&signer), &signer, MARK).unwrap();
        assert!(open_document::<Mark>(&bytes, "mark", RECORD).is_err(), "signed for another purpose");
        assert!(open_document::<Record>(&bytes, "record", RECORD).is_err());
        assert!(open_document::<Tombstone>(&bytes, "tombstone", TOMBSTONE).is_err());
        assert!(open_document::<Record>(&bytes, "mark", MARK).is_err());
    }

    #[test]
    fn impossible_documents_are_damage_though_signed() {
        let signer = Signer::generate().unwrap();
        let mut placed = mark(&signer);
        placed.number = 2;
        let (bytes, _) = seal_document(&placed, &signer, MARK).unwrap();
        assert!(damaged(&bytes).contains("place in the chain"));
        let line = String::from_utf8(document::line_of(&mark(&signer)).unwrap()).unwrap();
        let twice = line.replace("\"number\":1", "\"number\":1,\"number\":1");
        assert!(damaged(&sealed_text(&twice, &signer)).contains("duplicate"));
        for text in ["\n", "[]\n", "{}\n", "null\n", "{\"format\":\"1\"}\n"] {
            damaged(&sealed_text(text, &signer));
        }
    }

    #[test]
    fn a_kind_of_mark_that_is_not_known_still_opens() {
        let signer = Signer::generate().unwrap();
        let line = String::from_utf8(document::line_of(&mark(&signer)).unwrap()).unwrap();
        let later = line.replace("\"mark\":\"absent\"", "\"mark\":\"hologram\",\"x\":{}");
        let opened = open_document::<Mark>(&sealed_text(&later, &signer), "mark", MARK).unwrap();
        assert_eq!(opened.value.statement, Statement::Unknown);
    }
}
