//! Signed documents: one line of JSON and an SSH signature over it.

use crate::model::manifest::check_version;
use serde::Deserialize;

/// A signed document is at most this long.
pub const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

/// SSHSIG namespaces: what a signature is for is part of what is signed.
pub mod namespace {
    /// Records.
    pub const RECORD: &str = "backstay-record-1";
    /// Marks.
    pub const MARK: &str = "backstay-mark-1";
    /// Tombstones.
    pub const TOMBSTONE: &str = "backstay-tombstone-1";
    /// `RECOVER.md` and `recover.py`.
    pub const RECOVER: &str = "backstay-recover-1";
}

/// Why a signed document is not one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DocumentError {
    /// Written by a later program; upgrading helps.
    #[error("{0}")]
    TooNew(String),
    /// Not what the format says.
    #[error("{0}")]
    Malformed(String),
}

/// Splits a document into line 1 with its `\n` (what is signed and hashed) and the armored signature.
pub fn split(bytes: &[u8]) -> Option<(&[u8], &str)> {
    let end = bytes.iter().position(|&b| b == b'\n')? + 1;
    let signature = std::str::from_utf8(&bytes[end..]).ok()?;
    Some((&bytes[..end], signature))
}

/// Puts a document together again.
pub fn join(line: &[u8], signature: &str) -> Vec<u8> {
    let mut bytes = line.to_vec();
    bytes.extend_from_slice(signature.as_bytes());
    bytes
}

#[derive(Deserialize)]
struct Version {
    format: u32,
    needs: Vec<String>,
    #[serde(rename = "type")]
    kind: String,
}

/// Parses line 1 as a document of type `kind`, its version first.
pub fn parse<'a, T: Deserialize<'a>>(line: &'a [u8], kind: &str) -> Result<T, DocumentError> {
    let malformed = |e: serde_json::Error| DocumentError::Malformed(e.to_string());
    let version: Version = serde_json::from_slice(line).map_err(malformed)?;
    if version.format == 0 {
        return Err(DocumentError::Malformed("there is no format 0".into()));
    }
    check_version(version.format, &version.needs).map_err(DocumentError::TooNew)?;
    if version.kind != kind {
        return Err(DocumentError::Malformed(format!("it is a {:?}, not a {kind:?}", version.kind)));
    }
    serde_json::from_slice(line).map_err(malformed)
}

/// The bytes of line 1 of `document`, with its `\n`.
pub fn line_of<T: serde::Serialize>(document: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(document)?;
    line.push(b'\n');
    Ok(line)
}
