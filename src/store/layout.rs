//! Object keys: the only place that spells them.

use crate::model::{ObjectId, ObjectKind, SignerId, SnapshotId};
use std::fmt;

/// The name of an object in a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `backstay.json`
    Store,
    /// `RECOVER.md`
    RecoverMd,
    /// `RECOVER.md.sig`
    RecoverMdSig,
    /// `recover.py`
    RecoverPy,
    /// `recover.py.sig`
    RecoverPySig,
    /// `archives/<2 hex>/<sha256>.tar.zst.age`
    Archive(ObjectId),
    /// `manifests/<2 hex>/<sha256>.jsonl.zst.age`
    Manifest(ObjectId),
    /// `snapshots/<id>.json`
    Record(SnapshotId),
    /// `marks/<signer>/<number>.json`
    Mark(SignerId, u64),
    /// `tombstones/<id>.json`
    Tombstone(SnapshotId),
}

/// A folder of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// `archives/`
    Archives,
    /// `manifests/`
    Manifests,
    /// `snapshots/`
    Records,
    /// `marks/`
    Marks,
    /// `tombstones/`
    Tombstones,
}

impl Prefix {
    /// The folder's name without a slash.
    pub fn dir(self) -> &'static str {
        match self {
            Self::Archives => "archives",
            Self::Manifests => "manifests",
            Self::Records => "snapshots",
            Self::Marks => "marks",
            Self::Tombstones => "tombstones",
        }
    }
}

const ARCHIVE_SUFFIX: &str = ".tar.zst.age";
const MANIFEST_SUFFIX: &str = ".jsonl.zst.age";

impl Key {
    /// The key of a data object.
    pub fn data(kind: ObjectKind, id: ObjectId) -> Self {
        match kind {
            ObjectKind::Archive => Self::Archive(id),
            ObjectKind::Manifest => Self::Manifest(id),
        }
    }

    /// The key that `text` spells, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let whole = [Self::Store, Self::RecoverMd, Self::RecoverMdSig, Self::RecoverPy, Self::RecoverPySig];
        let candidate = match text.split('/').collect::<Vec<_>>()[..] {
            [_] => whole.into_iter().find(|key| key.to_string() == text)?,
            ["archives", _, name] => Self::Archive(name.strip_suffix(ARCHIVE_SUFFIX)?.parse().ok()?),
            ["manifests", _, name] => Self::Manifest(name.strip_suffix(MANIFEST_SUFFIX)?.parse().ok()?),
            ["snapshots", name] => Self::Record(name.strip_suffix(".json")?.parse().ok()?),
            ["tombstones", name] => Self::Tombstone(name.strip_suffix(".json")?.parse().ok()?),
            ["marks", signer, name] => {
                Self::Mark(signer.parse().ok()?, name.strip_suffix(".json")?.parse().ok()?)
            }
            _ => return None,
        };
        // Only the one spelling counts: `marks/…/7.json` is not `marks/…/0000000007.json`.
        (candidate.to_string() == text).then_some(candidate)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let two = |id: &ObjectId| format!("{:02x}", id.as_bytes()[0]);
        match self {
            Self::Store => f.write_str("backstay.json"),
            Self::RecoverMd => f.write_str("RECOVER.md"),
            Self::RecoverMdSig => f.write_str("RECOVER.md.sig"),
            Self::RecoverPy => f.write_str("recover.py"),
            Self::RecoverPySig => f.write_str("recover.py.sig"),
            Self::Archive(id) => write!(f, "archives/{}/{id}{ARCHIVE_SUFFIX}", two(id)),
            Self::Manifest(id) => write!(f, "manifests/{}/{id}{MANIFEST_SUFFIX}", two(id)),
            Self::Record(id) => write!(f, "snapshots/{id}.json"),
            Self::Mark(signer, number) => write!(f, "marks/{signer}/{number:010}.json"),
            Self::Tombstone(id) => write!(f, "tombstones/{id}.json"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_back_from_its_text_and_nothing_else_is_a_key() {
        let id = ObjectId::of(b"x");
        let snapshot: SnapshotId = "20261123T080000Z-abcdefgh".parse().unwrap();
        let signer = SignerId([7; 16]);
        let keys = [
            Key::Store,
            Key::RecoverMd,
            Key::RecoverMdSig,
            Key::RecoverPy,
            Key::RecoverPySig,
            Key::Archive(id),
            Key::Manifest(id),
            Key::Record(snapshot.clone()),
            Key::Mark(signer, 7),
            Key::Tombstone(snapshot),
        ];
        for key in keys {
            assert_eq!(Key::parse(&key.to_string()), Some(key));
        }
        let unpadded = format!("marks/{signer}/7.json");
        let elsewhere = Key::Archive(id).to_string().replace("archives/", "archives/zz/");
        for wrong in ["", "x", "snapshots/", "snapshots/x.json", "a/b/c/d", &unpadded, &elsewhere] {
            assert_eq!(Key::parse(wrong), None, "{wrong}");
        }
    }
}
