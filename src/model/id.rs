//! Names of things: each a type of its own, so that none can be taken for another.

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;

/// A text that is not a name of the kind it should be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not {expected}")]
pub struct BadId {
    text: String,
    expected: &'static str,
}

fn bad(text: &str, expected: &'static str) -> BadId {
    let text = text.chars().take(80).collect();
    BadId { text, expected }
}

macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(D::Error::custom)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The 32 bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, HEXLOWER.encode(&self.0))
            }
        }
        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                let raw = text.strip_prefix($prefix).and_then(|hex| HEXLOWER.decode(hex.as_bytes()).ok());
                raw.and_then(|raw| raw.try_into().ok()).map(Self).ok_or_else(|| bad(text, $expected))
            }
        }
        text_serde!($name);
    };
}

hash_id!(
    /// SHA-256 of an object's bytes, which is also its name in a store.
    ObjectId, "", "a SHA-256 (64 lower-case hex digits)"
);
hash_id!(
    /// BLAKE3 of the bytes of a file that its extents cover, in order.
    ContentHash, "b3:", "a content hash (b3: and 64 lower-case hex digits)"
);

impl ObjectId {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_digest(&ring::digest::digest(&ring::digest::SHA256, bytes))
    }

    /// The SHA-256 of what went into `context`, which was made for it.
    pub fn of_all(context: ring::digest::Context) -> Self {
        Self::of_digest(&context.finish())
    }

    fn of_digest(digest: &ring::digest::Digest) -> Self {
        let mut raw = [0; 32];
        raw.copy_from_slice(digest.as_ref());
        Self(raw)
    }
}

impl ContentHash {
    /// The BLAKE3 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

macro_rules! key_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }
        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                let raw = HEXLOWER.decode(text.as_bytes()).ok();
                raw.and_then(|raw| raw.try_into().ok()).map(Self).ok_or_else(|| bad(text, $expected))
            }
        }
        text_serde!($name);
    };
}

key_id!(
    /// First half of the SHA-256 of a signer's public key (wire encoding).
    SignerId, "a signer id (32 lower-case hex digits)"
);
key_id!(
    /// The signer id of the first key a host signed with.
    HostId, "a host id (32 lower-case hex digits)"
);
key_id!(
    /// First half of the SHA-256 of a recipient's text.
    RecipientId, "a recipient fingerprint (32 lower-case hex digits)"
);

fn half_sha256(bytes: &[u8]) -> [u8; 16] {
    let whole = ObjectId::of(bytes).0;
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

impl SignerId {
    /// The id of the key with this wire encoding.
    pub fn of_key(wire: &[u8]) -> Self {
        Self(half_sha256(wire))
    }
}

impl RecipientId {
    /// The fingerprint of a recipient's text (`age1…`).
    pub fn of_text(text: &str) -> Self {
        Self(half_sha256(text.as_bytes()))
    }
}

impl From<SignerId> for HostId {
    fn from(first_key: SignerId) -> Self {
        Self(first_key.0)
    }
}

const BASE32_ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";

fn is_base32(text: &str) -> bool {
    text.bytes().all(|b| BASE32_ALPHABET.contains(&b))
}

fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

/// The id shared by all stores of a vault; also the shape of a store's instance id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultId(String);

impl VaultId {
    /// Makes an id of 130 random bits from 17 random bytes.
    pub fn from_random(random: [u8; 17]) -> Self {
        let mut text = base32(&random);
        text.truncate(26);
        Self(text)
    }
}

impl fmt::Display for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for VaultId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        if text.len() == 26 && is_base32(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(bad(text, "a vault id (26 characters of a-z2-7)"))
    }
}
text_serde!(VaultId);

/// `YYYYMMDDTHHMMSSZ-xxxxxxxx`: sorts by time, reads at a glance. Tombstone ids have the same shape.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId(String);

impl SnapshotId {
    /// Length of the text of every snapshot id.
    pub const LEN: usize = 25;

    /// The id of a snapshot begun at `time`; five random bytes tell it from others of the same second.
    pub fn new(time: jiff::Timestamp, random: [u8; 5]) -> Self {
        let stamp = time.strftime("%Y%m%dT%H%M%SZ");
        Self(format!("{stamp}-{}", base32(&random)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The second in the id's text.
    pub fn time(&self) -> Option<jiff::Timestamp> {
        let stamp = self.0.get(..16)?;
        let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for SnapshotId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let candidate = Self(text.to_owned());
        let shaped = text.len() == Self::LEN && text.is_ascii() && text.as_bytes()[16] == b'-';
        if shaped && is_base32(&text[17..]) && candidate.time().is_some() {
            return Ok(candidate);
        }
        Err(bad(text, "a snapshot id (YYYYMMDDTHHMMSSZ-xxxxxxxx)"))
    }
}
text_serde!(SnapshotId);

/// The name of a component: lower-case letters, digits, `-` and `_`, beginning with a letter or digit, at most 64.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ComponentName(String);

impl ComponentName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ComponentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl FromStr for ComponentName {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        let starts = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if starts && text.len() <= 64 && text.bytes().all(inner) {
            return Ok(Self(text.to_owned()));
        }
        Err(bad(text, "a component name (a-z, 0-9, - and _, at most 64, first a letter or digit)"))
    }
}
text_serde!(ComponentName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_ids_round_trip_and_reject_nonsense() {
        let time: jiff::Timestamp = "2026-11-23T08:00:07.5Z".parse().unwrap();
        let id = SnapshotId::new(time, [0, 1, 2, 3, 255]);
        assert_eq!(id.as_str().len(), SnapshotId::LEN);
        assert!(id.as_str().starts_with("20261123T080007Z-"));
        assert_eq!(id.as_str().parse::<SnapshotId>().unwrap(), id);
        assert_eq!(id.time().unwrap().as_second(), time.as_second());
        for wrong in [
            "",
            "latest",
            "20261323T080007Z-aaaaaaaa",
            "20261123T080007Z-aaaaaaa1",
            "../../etc/passwd/aaaaaaaaa",
        ] {
            assert!(wrong.parse::<SnapshotId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn hashes_are_lower_case_hex_only() {
        let id = ObjectId::of(b"abc");
        assert_eq!(id.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(id.to_string().parse::<ObjectId>().unwrap(), id);
        assert!(id.to_string().to_uppercase().parse::<ObjectId>().is_err());
        assert!("b3:00".parse::<ContentHash>().is_err());
    }

    #[test]
    fn component_names_cannot_be_paths() {
        for wrong in ["", ".backstay", "a/b", "..", "-x", "Ä", "Backend", &"a".repeat(65)] {
            assert!(wrong.parse::<ComponentName>().is_err(), "{wrong}");
        }
        assert!("db-2_x".parse::<ComponentName>().is_ok());
    }
}
