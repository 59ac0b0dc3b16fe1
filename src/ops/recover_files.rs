//! Whether the files with which people would help themselves, `RECOVER.md` and `recover.py`, are those that a trusted key signed: somebody
//! will run them on the worst of days.

use crate::keys::{SignatureError, verify};
use crate::model::document::namespace;
use crate::model::{ObjectId, SignerId};
use crate::ops::error::Result;
use crate::ops::many::each;
use crate::ops::session::in_store;
use crate::ops::vault::{BadDocument, Vault};
use crate::store::{Key, Store, StoreErrorKind};

/// They are far smaller.
pub(super) const BYTES_MAX: u64 = 16 << 20;

/// An instruction and its signature: as keys, or as what lies there.
pub(super) struct Pair<T> {
    pub(super) file: T,
    pub(super) signature: T,
}

/// The four files.
pub(super) const PAIRS: [Pair<Key>; 2] = [
    Pair { file: Key::RecoverMd, signature: Key::RecoverMdSig },
    Pair { file: Key::RecoverPy, signature: Key::RecoverPySig },
];

/// Those of the four files that are missing or not what was signed.
pub fn check(store: &dyn Store, vault: &Vault) -> Result<Vec<BadDocument>> {
    let keys = PAIRS.map(|pair| [pair.file, pair.signature]).concat();
    let mut read = each(&keys, |key| read(store, key)).into_iter();
    let mut next = || read.next().unwrap_or(Ok(None));
    let mut bad = Vec::new();
    for keys in PAIRS {
        bad.extend(faults(vault, &keys, &Pair { file: next()?, signature: next()? }));
    }
    Ok(bad)
}

/// What lies in a store of a pair.
pub(super) fn read_pair(store: &dyn Store, keys: &Pair<Key>) -> Result<Pair<Option<Vec<u8>>>> {
    Ok(Pair { file: read(store, &keys.file)?, signature: read(store, &keys.signature)? })
}

/// Those of a pair that are missing or not what was signed.
pub(super) fn faults(vault: &Vault, keys: &Pair<Key>, there: &Pair<Option<Vec<u8>>>) -> Vec<BadDocument> {
    match (&there.file, &there.signature) {
        (Some(bytes), Some(armored)) => {
            fault(vault, (&keys.file, bytes), (&keys.signature, armored)).into_iter().collect()
        }
        (file, armored) => {
            let missing = [(&keys.file, file.is_none()), (&keys.signature, armored.is_none())];
            missing.into_iter().filter(|m| m.1).map(|m| told(m.0, "it is missing")).collect()
        }
    }
}

/// Who signed exactly these bytes, whether trusted or not.
pub(super) fn signed_by(there: &Pair<Option<Vec<u8>>>) -> Option<SignerId> {
    let text = whole(there.signature.as_deref()?)?;
    verify(namespace::RECOVER, there.file.as_deref()?, text).ok().map(|by| by.id)
}

/// SHA-256 of the instructions as they lie in stores, each version once, where a trusted key signed them. An upgrade leaves those of an older
/// version in a store, and two stores may have two.
#[derive(Debug, Clone, Default)]
pub struct Lying {
    /// `recover.py`.
    pub recover_py: Vec<ObjectId>,
    /// `RECOVER.md`.
    pub recover_md: Vec<ObjectId>,
}

impl Lying {
    /// Those of `stores`. What cannot be read is not known.
    pub fn in_stores<'s>(
        stores: impl Iterator<Item = &'s dyn Store>,
        trusted: &dyn Fn(&SignerId) -> bool,
    ) -> Self {
        let mut lying = Self::default();
        for store in stores {
            for keys in &PAIRS {
                let Ok(there) = read_pair(store, keys) else { continue };
                let signed = signed_by(&there).filter(|by| trusted(by)).and(there.file.as_deref());
                let known = match keys.file {
                    Key::RecoverPy => &mut lying.recover_py,
                    _ => &mut lying.recover_md,
                };
                if let Some(id) = signed.map(ObjectId::of).filter(|id| !known.contains(id)) {
                    known.push(id);
                }
            }
        }
        lying
    }
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
