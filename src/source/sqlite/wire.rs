//! What parent and child say to each other: one JSON request, then frames of a tag, a length (u32, big-endian) and so many bytes.

use crate::model::record::CheckResult;
use crate::source::sqlite::CheckPolicy;
use data_encoding::BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Data frames hold at most this many bytes; pages may be 64 KiB.
pub(super) const CHUNK: usize = 1 << 20;
/// A frame that is longer is nonsense.
const FRAME_MAX: u32 = 2 << 20;

/// What the child is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) database: WirePath,
    pub(super) spool: WirePath,
    pub(super) no_links: bool,
    pub(super) lock_limit_ms: u64,
    pub(super) busy_limit_ms: u64,
    pub(super) check: CheckPolicy,
    /// `sqlite_dbpage` may be used; tests say no.
    pub(super) pages: bool,
}

#[cfg(test)]
impl Request {
    /// One for a test that makes no copy.
    pub(super) fn of(database: &Path) -> Self {
        Self {
            database: WirePath::from(database),
            spool: WirePath::from(Path::new("none")),
            no_links: true,
            lock_limit_ms: 1000,
            busy_limit_ms: 10_000,
            check: CheckPolicy::Auto,
            pages: true,
        }
    }
}

/// A path that need not be text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct WirePath(pub(super) PathBuf);

impl From<&Path> for WirePath {
    fn from(path: &Path) -> Self {
        Self(path.to_owned())
    }
}
impl From<WirePath> for String {
    fn from(path: WirePath) -> Self {
        BASE64.encode(path.0.as_os_str().as_bytes())
    }
}
impl TryFrom<String> for WirePath {
    type Error = data_encoding::DecodeError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Ok(Self(PathBuf::from(OsString::from_vec(BASE64.decode(text.as_bytes())?))))
    }
}

/// How the bytes were had: the words of the index's `method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Method {
    Pages,
    Backup,
    Copy,
}

impl Method {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pages => "sqlite-pages",
            Self::Backup => "sqlite-backup",
            Self::Copy => "sqlite-copy",
        }
    }
}

/// What comes before the pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) page_size: u32,
    pub(super) pages: u64,
    /// `page_size` × `pages`: so many bytes follow in data frames.
    pub(super) size: u64,
    pub(super) journal_mode: String,
    pub(super) method: Method,
    /// When the transaction began.
    pub(super) instant: Timestamp,
}

/// What comes after them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trailer {
    pub(super) check: CheckResult,
    pub(super) messages: Vec<String>,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Header = b'H' as isize,
    Data = b'D' as isize,
    Trailer = b'T' as isize,
    Failure = b'F' as isize,
}

impl Tag {
    fn of(byte: u8) -> Option<Self> {
        [Self::Header, Self::Data, Self::Trailer, Self::Failure].into_iter().find(|tag| *tag as u8 == byte)
    }
}

/// A frame on its way.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) tag: Tag,
    pub(super) bytes: Vec<u8>,
}

impl Frame {
    pub(super) fn json(tag: Tag, value: &impl Serialize) -> io::Result<Self> {
        Ok(Self { tag, bytes: serde_json::to_vec(value)? })
    }

    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let length = u32::try_from(self.bytes.len()).ok().filter(|l| *l <= FRAME_MAX);
        let length = length.ok_or_else(|| io::Error::other("a frame is too long"))?;
        let mut head = [self.tag as u8, 0, 0, 0, 0];
        head[1..].copy_from_slice(&length.to_be_bytes());
        out.write_all(&head)?;
        out.write_all(&self.bytes)
    }

    /// Reads what a frame is, and how many bytes of it follow. The end of the stream between two frames is an error too: a trailer ends the talk.
    pub(super) fn read_head(from: &mut impl Read) -> io::Result<(Tag, u32)> {
        let mut head = [0; 5];
        from.read_exact(&mut head)?;
        let tag = Tag::of(head[0]).ok_or_else(|| io::Error::other("a frame of an unknown kind"))?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        if length > FRAME_MAX {
            return Err(io::Error::other("a frame is too long"));
        }
        Ok((tag, length))
    }
}
