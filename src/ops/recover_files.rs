//! Whether the files with which people would help themselves, `RECOVER.md` and `recover.py`, are those that a trusted key signed: somebody
//! will run them on the worst of days.

use crate::keys::{SignatureError, verify};
use crate::model::document::namespace;
use crate::ops::error::Result;
use crate::ops::many::try_each;
use crate::ops::session::in_store;
use crate::ops::vault::{BadDocument, Vault};
use crate::store::{Key, Store, StoreErrorKind};

/// They are far smaller.
pub(super) const BYTES_MAX: u64 = 16 << 20;

/// Those of the four files that are missing or not what was signed.
pub fn check(store: &dyn Store, vault: &Vault) -> Result<Vec<BadDocument>> {
    let pairs = [(Key::RecoverMd, Key::RecoverMdSig), (Key::RecoverPy, Key::RecoverPySig)];
    let keys = pairs.each_ref().map(|(key, signature)| [key.clone(), signature.clone()]).concat();
    let mut read = try_each(&keys, |key| read(store, key))?.into_iter();
    let mut next = || read.next().flatten();
    let mut bad = Vec::new();
    for (key, signature) in pairs {
        match (next(), next()) {
            (Some(bytes), Some(armored)) => bad.extend(fault(vault, (&key, &bytes), (&signature, &armored))),
            (file, armored) => {
                let missing = [(&key, file.is_none()), (&signature, armored.is_none())];
                bad.extend(missing.into_iter().filter(|m| m.1).map(|m| told(m.0, "it is missing")));
            }
        }
    }
    Ok(bad)
}

/// The bytes of a file; none when it is not there. One that is too large comes as nothing that is signed.
pub(super) fn read(store: &dyn Store, key: &Key) -> Result<Option<Vec<u8>>> {
    match store.get(key, BYTES_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind == StoreErrorKind::NotFound => Ok(None),
        Err(e) if e.kind == StoreErrorKind::Corrupt => Ok(Some(Vec::new())),
        Err(e) => in_store(store, Err(e)),
    }
}

/// Whether a signature is one of exactly these bytes, by whatever key.
pub(super) fn fits(bytes: &[u8], armored: &[u8]) -> bool {
    whole(armored).is_some_and(|text| verify(namespace::RECOVER, bytes, text).is_ok())
}

/// A signature's text; none when it is cut off or no text.
fn whole(armored: &[u8]) -> Option<&str> {
    std::str::from_utf8(armored).ok().filter(|text| text.ends_with('\n'))
}

fn fault(
    vault: &Vault,
    (key, bytes): (&Key, &[u8]),
    (signature, armored): (&Key, &[u8]),
) -> Option<BadDocument> {
    match whole(armored).map(|text| verify(namespace::RECOVER, bytes, text)) {
        Some(Ok(by)) if vault.history.keys().is_trusted(&by.id) => None,
        Some(Ok(by)) => Some(told(key, &format!("{} signed it, whose key is not trusted", by.id))),
        Some(Err(SignatureError::Wrong)) => {
            Some(told(key, &format!("{signature} does not fit it: one of the two was changed")))
        }
        Some(Err(e)) => Some(told(signature, &e.to_string())),
        None => Some(told(signature, "it is cut off or not text")),
    }
}

fn told(key: &Key, why: &str) -> BadDocument {
    BadDocument { key: key.to_string(), why: why.to_owned(), too_new: false }
}
