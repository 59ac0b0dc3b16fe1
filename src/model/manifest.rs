//! Segments and maps: JSON lines under a header, encoded and decoded with every check of the format.

mod sifted;

pub use sifted::Sifted;

use crate::model::entry::{Entry, Extent, MAP_RANGE, RawEntry, check_extents};
use crate::model::id::{ComponentName, ObjectId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::BufRead;

/// The format this program reads and writes.
pub const FORMAT: u32 = 1;
/// Numbers in documents are below this: all programs that read JSON take them for the same number.
pub const NUMBER_END: u64 = 1 << 53;
/// A line of a manifest has at most this many bytes.
const LINE_BYTES_MAX: usize = 16 << 20;
/// A manifest object may unpack to at most this many bytes.
pub const MANIFEST_BYTES_MAX: usize = 64 << 20;

/// Why a manifest object cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestError {
    /// Written by a later program; upgrading helps.
    #[error("{0}")]
    TooNew(String),
    /// Not what the format says.
    #[error("line {line}: {why}")]
    Malformed {
        /// Line number from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// Checks `format` and `needs` (section 2 of the format). Every document goes through this before anything else in it is believed.
pub fn check_version(format: u32, needs: &[String]) -> Result<(), String> {
    if format > FORMAT {
        return Err(format!("format {format} is newer than this backstay understands (format {FORMAT})"));
    }
    match needs.first() {
        Some(word) => Err(format!("it needs {word:?}, which this backstay does not know")),
        None => Ok(()),
    }
}

/// A zstd frame of an archive: which stretch of tar it holds and where it lies in the age plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(u64, u64, u64, u64)", from = "(u64, u64, u64, u64)")]
pub struct Frame {
    /// Offset of its first byte in the tar stream.
    pub tar_offset: u64,
    /// Offset in the age plaintext.
    pub offset: u64,
    /// Compressed length, in the age plaintext.
    pub length: u64,
    /// How many bytes of tar it holds.
    pub tar_length: u64,
}

impl From<Frame> for (u64, u64, u64, u64) {
    fn from(f: Frame) -> Self {
        (f.tar_offset, f.offset, f.length, f.tar_length)
    }
}
impl From<(u64, u64, u64, u64)> for Frame {
    fn from((tar_offset, offset, length, tar_length): (u64, u64, u64, u64)) -> Self {
        Self { tar_offset, offset, length, tar_length }
    }
}

/// What a reader must know of an archive to read stretches of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveInfo {
    /// Its name.
    pub sha256: ObjectId,
    /// Its size in bytes.
    pub size: u64,
    /// Length of age header and nonce: offset of the first payload chunk.
    pub payload: u64,
    /// Length of the whole tar stream in bytes.
    pub tar: u64,
    /// Frames, by tar offset: in a manifest those that its extents touch, after packing all.
    pub frames: Vec<Frame>,
}

impl ArchiveInfo {
    /// The frames that hold bytes `tar_offset..tar_offset + length` (length > 0).
    pub fn frames_of(&self, tar_offset: u64, length: u64) -> &[Frame] {
        let end = tar_offset.saturating_add(length);
        let first = self.frames.partition_point(|f| f.tar_offset.saturating_add(f.tar_length) <= tar_offset);
        let last = self.frames.partition_point(|f| f.tar_offset < end);
        &self.frames[first..last.max(first)]
    }

    /// True when the frames hold all bytes of `extent`, which lies in this archive.
    pub fn covers(&self, extent: &Extent) -> bool {
        let mut at = extent.tar_offset;
        for frame in self.frames_of(at, extent.length) {
            if frame.tar_offset > at {
                return false;
            }
            at = at.max(frame.tar_offset.saturating_add(frame.tar_length));
        }
        at >= extent.tar_offset.saturating_add(extent.length)
    }

    /// The same archive with only the frames that `extents` touch (those of this archive).
    #[must_use]
    pub fn narrowed<'a>(&self, extents: impl Iterator<Item = &'a Extent>) -> Self {
        let mut keep = vec![false; self.frames.len()];
        for extent in extents.filter(|e| e.archive == self.sha256) {
            let first = self.frames.partition_point(|f| f.tar_offset + f.tar_length <= extent.tar_offset);
            let last = self.frames.partition_point(|f| f.tar_offset < extent.tar_offset + extent.length);
            keep[first..last.max(first)].fill(true);
        }
        let frames = self.frames.iter().zip(keep).filter(|(_, k)| *k).map(|(f, _)| *f).collect();
        Self { frames, ..self.clone() }
    }

    fn check(&self) -> Result<(), &'static str> {
        let apart = |w: &[Frame]| w[0].tar_offset.saturating_add(w[0].tar_length) <= w[1].tar_offset;
        let ordered = self.frames.windows(2).all(apart);
        let sane = |f: &Frame| {
            f.tar_length > 0
                && f.tar_length <= FRAME_TAR_MAX
                && f.tar_offset.checked_add(f.tar_length).is_some_and(|end| end <= self.tar)
                && f.offset.checked_add(f.length).is_some_and(|end| end <= self.size)
        };
        let numbers = self.size < NUMBER_END && self.tar < NUMBER_END;
        if self.payload >= self.size || !numbers || !self.frames.iter().all(sane) || !ordered {
            return Err("an archive's description is impossible");
        }
        Ok(())
    }
}

/// A frame holds at most this many bytes of content.
pub const FRAME_TAR_MAX: u64 = 4 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    needs: Vec<String>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    component: Option<ComponentName>,
    archives: Vec<ArchiveInfo>,
}

/// The archives that manifests refer to, by name, with all their frames.
pub type ArchiveTable = BTreeMap<ObjectId, ArchiveInfo>;

/// A decoded segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The component it belongs to.
    pub component: ComponentName,
    /// The archives its extents refer to.
    pub archives: Vec<ArchiveInfo>,
    /// Its entries in walk order.
    pub entries: Vec<Entry>,
}

/// A decoded map: the extents of one range of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// The archives its extents refer to.
    pub archives: Vec<ArchiveInfo>,
    /// The extents, by offset in the file.
    pub extents: Vec<Extent>,
}

/// An archive that an extent names is not described so that a reader would find its bytes. Such a listing must never be written: only a restore would notice.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undescribed {
    /// It is not in the table it was to be looked up in: a mistake in this program.
    #[error("internal: archive {0} is not described")]
    Archive(ObjectId),
    /// Some of its frames are not.
    #[error("where some frames of archive {0} lie, which it refers to, is not known")]
    Frames(ObjectId),
}

fn header_archives<'a>(
    extents: impl Iterator<Item = &'a Extent> + Clone,
    table: &ArchiveTable,
) -> Result<Vec<ArchiveInfo>, Undescribed> {
    let mut names: Vec<ObjectId> = extents.clone().map(|e| e.archive).collect();
    names.sort_unstable();
    names.dedup();
    let describe = |name: &ObjectId| {
        let info = table.get(name).ok_or(Undescribed::Archive(*name))?.narrowed(extents.clone());
        let covered = extents.clone().filter(|e| e.archive == *name).all(|e| info.covers(e));
        covered.then_some(info).ok_or(Undescribed::Frames(*name))
    };
    names.iter().map(describe).collect()
}

fn line<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        // Writing plain structs to memory cannot fail; were it to, a torn line must not stay.
        out.truncate(start);
    }
    out.push(b'\n');
}

impl Segment {
    /// The bytes of a segment of `entries`; every archive they name must be in `table`.
    pub fn encode(
        component: &ComponentName,
        entries: &[Entry],
        table: &ArchiveTable,
    ) -> Result<Vec<u8>, Undescribed> {
        let archives = header_archives(entries.iter().flat_map(|e| &e.extents), table)?;
        let names: Vec<ObjectId> = archives.iter().map(|a| a.sha256).collect();
        let index = |name: &ObjectId| names.binary_search(name).map_or(u32::MAX, |i| i as u32);
        let mut out = Vec::with_capacity(entries.len() * 256);
        let component = Some(component.clone());
        line(
            &mut out,
            &Header { format: FORMAT, needs: vec![], kind: "segment".into(), component, archives },
        );
        for entry in entries {
            line(&mut out, &RawEntry::of(entry, index));
        }
        Ok(out)
    }

    /// Reads and checks a segment.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        Sifted::read(bytes, None).map(|sifted| sifted.segment)
    }
}

impl Map {
    /// The bytes of a map of `extents`, which lie in one range of [`MAP_RANGE`].
    pub fn encode(extents: &[Extent], table: &ArchiveTable) -> Result<Vec<u8>, Undescribed> {
        let archives = header_archives(extents.iter(), table)?;
        let names: Vec<ObjectId> = archives.iter().map(|a| a.sha256).collect();
        let mut out = Vec::with_capacity(extents.len() * 32);
        line(
            &mut out,
            &Header { format: FORMAT, needs: vec![], kind: "map".into(), component: None, archives },
        );
        for e in extents {
            let archive = names.binary_search(&e.archive).map_or(u32::MAX, |i| i as u32);
            line(&mut out, &(e.offset, archive, e.tar_offset, e.length));
        }
        Ok(out)
    }

    /// Reads and checks the map of the range that begins at `offset` of a file of `size` bytes.
    pub fn decode(bytes: &[u8], offset: u64, size: u64) -> Result<Self, ManifestError> {
        let mut lines = Lines::new(bytes);
        let header = read_header(&mut lines, "map")?;
        let names: Vec<ObjectId> = header.archives.iter().map(|a| a.sha256).collect();
        let mut rows = Vec::new();
        while let Some(row) = lines.next::<(u64, u32, u64, u64)>()? {
            rows.push(row);
        }
        let extents = check_extents(&rows, &names, size).map_err(|why| lines.malformed(why))?;
        let end = offset.saturating_add(MAP_RANGE);
        if extents.iter().any(|e| e.offset < offset || e.offset + e.length > end) {
            return Err(lines.malformed("a map reaches outside its range"));
        }
        Ok(Self { archives: header.archives, extents })
    }
}

fn read_header(lines: &mut Lines<'_>, kind: &str) -> Result<Header, ManifestError> {
    let header = lines.header::<Header>(kind)?;
    for archive in &header.archives {
        archive.check().map_err(|why| lines.malformed(why))?;
    }
    Ok(header)
}

/// What every header line has; read first, so that a newer one is refused as newer and not as malformed.
#[derive(Deserialize)]
struct Version {
    format: u32,
    needs: Vec<String>,
    #[serde(rename = "type")]
    kind: String,
}

/// Reads JSON lines, counting them.
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, number: 0 }
    }

    pub(crate) fn malformed(&self, why: impl ToString) -> ManifestError {
        ManifestError::Malformed { line: self.number, why: why.to_string() }
    }

    fn raw(&mut self) -> Result<Option<&'a [u8]>, ManifestError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        // The fast way of the standard library to find a byte; of bytes that are in memory it has no errors.
        let length = BufRead::skip_until(&mut &*self.rest, b'\n').unwrap_or(0);
        let (line, rest) = self.rest.split_at(length);
        let line = line.strip_suffix(b"\n").ok_or_else(|| self.malformed("the last line is cut off"))?;
        if line.len() > LINE_BYTES_MAX {
            return Err(self.malformed("the line is longer than 16 MiB"));
        }
        self.rest = rest;
        Ok(Some(line))
    }

    /// The header line, of which `type` must be `kind`.
    pub(crate) fn header<T: DeserializeOwned>(&mut self, kind: &str) -> Result<T, ManifestError> {
        let line = self.raw()?.ok_or_else(|| self.malformed("it is empty"))?;
        let version: Version = serde_json::from_slice(line).map_err(|e| self.malformed(e))?;
        if version.format == 0 {
            return Err(self.malformed("there is no format 0"));
        }
        check_version(version.format, &version.needs).map_err(ManifestError::TooNew)?;
        if version.kind != kind {
            return Err(self.malformed(format!("it is a {:?}, not a {kind:?}", version.kind)));
        }
        serde_json::from_slice(line).map_err(|e| self.malformed(e))
    }

    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ManifestError> {
        let Some(line) = self.raw()? else {
            return Ok(None);
        };
        serde_json::from_slice(line).map(Some).map_err(|e| self.malformed(e))
    }
}

#[cfg(test)]
mod tests;
