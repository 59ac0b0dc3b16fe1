//! One line of a segment: a file, directory, link or other thing of a component, and where its bytes lie.

use crate::model::id::ContentHash;
use crate::model::id::ObjectId;
use crate::model::manifest::NUMBER_END;
use crate::model::path::{PATH_BYTES_MAX, RelPath};
use crate::model::seldom::Seldom;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Extents and maps are cut at multiples of this many bytes of a file.
pub const MAP_RANGE: u64 = 256 << 20;
/// A file with more extents than this has maps.
pub const EXTENTS_INLINE_MAX: usize = 256;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A socket: noted, never stored or restored.
    Socket,
    /// Was there, but was not captured; `why` says why. A rollback leaves it alone.
    Left,
}

/// Why something is in a listing but was not captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// It could not be read.
    Unreadable,
    /// It is another component.
    Component,
    /// It is a store.
    Store,
    /// It is backstay's own state.
    State,
    /// It is a sidecar of a captured database.
    Sidecar,
    /// It is on another file system.
    Mount,
    /// It vanished while it was to be read.
    Vanished,
}

/// Where bytes of a file lie: `length` bytes from `offset` of the file are found from `tar_offset` of an archive's tar stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// The archive.
    pub archive: ObjectId,
    /// Offset in the archive's tar stream (uncompressed), in bytes.
    pub tar_offset: u64,
    /// Length in bytes, never 0.
    pub length: u64,
}

/// A map object that holds the extents of one range of [`MAP_RANGE`] bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MapRef {
    /// Offset in the file at which the range begins.
    pub offset: u64,
    /// The map object.
    pub object: ObjectId,
    /// Its size in bytes.
    pub size: u64,
}

/// An entry, as the rest of the program uses it. Invalid ones cannot come out of [`crate::model::manifest::Segment::decode`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path within the component.
    pub path: RelPath,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Owner's name on the machine it was captured on.
    pub user: Option<Arc<str>>,
    /// Group's name on that machine.
    pub group: Option<Arc<str>>,
    /// Modification time: seconds since 1970 (may be negative) and nanoseconds.
    pub mtime: (i64, u32),
    /// Files: length in bytes. Else 0.
    pub size: u64,
    /// Files: hash of the covered bytes.
    pub hash: Option<ContentHash>,
    /// Files: where the bytes lie, by offset; empty when `maps` is not.
    pub extents: Vec<Extent>,
    /// Files with many extents: where those are written down.
    pub maps: Seldom<Vec<MapRef>>,
    /// Symbolic links: what they say.
    pub target: Option<Box<[u8]>>,
    /// A number common to all names of one inode (16 hex digits in JSON).
    pub link: Option<u64>,
    /// `Left`: why.
    pub why: Option<Why>,
    /// Devices: major and minor number.
    pub dev: Option<(u32, u32)>,
    /// Extended attributes by name.
    pub xattrs: Seldom<BTreeMap<String, Vec<u8>>>,
    /// `unsteady`, `crash_consistent`, `database`.
    pub flags: Seldom<Vec<String>>,
}

impl Entry {
    /// An entry without content, owner 0, mode 0, time 0: to be filled in.
    pub fn new(path: RelPath, kind: Kind) -> Self {
        Self {
            path,
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            user: None,
            group: None,
            mtime: (0, 0),
            size: 0,
            hash: None,
            extents: Vec::new(),
            maps: Seldom::default(),
            target: None,
            link: None,
            why: None,
            dev: None,
            xattrs: Seldom::default(),
            flags: Seldom::default(),
        }
    }

    /// True when `flag` is set.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }
}

/// The file changed while it was read.
pub const FLAG_UNSTEADY: &str = "unsteady";
/// A database packed as bytes.
pub const FLAG_CRASH_CONSISTENT: &str = "crash_consistent";
/// A database captured through SQLite.
pub const FLAG_DATABASE: &str = "database";

/// The JSON shape of an entry. Archives are indexes into the segment's header.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RawEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path_b64: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtime: Option<(i64, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hash: Option<ContentHash>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) extents: Vec<(u64, u32, u64, u64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) maps: Vec<(u64, ObjectId, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target_b64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<Why>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dev: Option<(u32, u32)>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) xattrs: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) flags: Vec<String>,
}

/// Splits bytes into a text field and a base64 field, of which one is set.
pub(crate) fn text_or_b64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}

/// The bytes of a text field or its base64 twin; `None` unless just one of them is there and well-formed.
pub(crate) fn bytes_of(text: Option<String>, b64: Option<String>) -> Option<Vec<u8>> {
    match (text, b64) {
        (Some(text), None) => Some(text.into_bytes()),
        (None, Some(b64)) => BASE64.decode(b64.as_bytes()).ok(),
        _ => None,
    }
}

impl RawEntry {
    /// The JSON shape of `entry`; `archive_index` gives the place of an archive in the header.
    pub(crate) fn of(entry: &Entry, archive_index: impl Fn(&ObjectId) -> u32) -> Self {
        let (path, path_b64) = text_or_b64(entry.path.as_bytes());
        let (target, target_b64) = entry.target.as_deref().map_or((None, None), text_or_b64);
        let row = |e: &Extent| (e.offset, archive_index(&e.archive), e.tar_offset, e.length);
        let there = entry.kind != Kind::Left;
        Self {
            path,
            path_b64,
            kind: entry.kind,
            mode: there.then(|| format!("{:04o}", entry.mode)),
            uid: there.then_some(entry.uid),
            gid: there.then_some(entry.gid),
            user: entry.user.as_deref().map(str::to_owned),
            group: entry.group.as_deref().map(str::to_owned),
            mtime: there.then_some(entry.mtime),
            size: (entry.kind == Kind::File).then_some(entry.size),
            hash: entry.hash,
            extents: entry.extents.iter().map(row).collect(),
            maps: entry.maps.iter().map(|m| (m.offset, m.object, m.size)).collect(),
            target,
            target_b64,
            link: entry.link.map(|n| format!("{n:016x}")),
            why: entry.why,
            dev: entry.dev,
            xattrs: entry.xattrs.iter().map(|(k, v)| (k.clone(), BASE64.encode(v))).collect(),
            flags: entry.flags.to_vec(),
        }
    }

    /// Checks everything that section 6.4 of the format says of one entry. What it has in common with the one `before` it is held once.
    pub(crate) fn check(self, archives: &[ObjectId], before: Option<&Entry>) -> Result<Entry, String> {
        let path = bytes_of(self.path, self.path_b64).ok_or("path or path_b64 is missing or bad")?;
        let path = RelPath::new(&path).map_err(|e| e.to_string())?;
        let at = |why: &str| format!("{path}: {why}");
        let mut entry = Entry::new(path.clone(), self.kind);
        entry.why = self.why;
        if entry.kind == Kind::Left {
            return entry.why.map(|_| entry).ok_or_else(|| at("it does not say why it was left"));
        }
        entry.mode =
            self.mode.as_deref().and_then(octal).ok_or_else(|| at("mode is not four octal digits"))?;
        let mtime = self.mtime.filter(|(_, ns)| *ns <= 999_999_999);
        entry.mtime = mtime.ok_or_else(|| at("no modification time, or nanoseconds above 999999999"))?;
        let owner = self.uid.zip(self.gid);
        (entry.uid, entry.gid) = owner.ok_or_else(|| at("no owner"))?;
        if self.size.is_some() != (self.kind == Kind::File) {
            return Err(at("files, and only files, have a size"));
        }
        let size = self.size.unwrap_or(0);
        if size >= NUMBER_END {
            return Err(at("its size is impossible"));
        }
        entry.extents = check_extents(&self.extents, archives, size).map_err(|why| at(&why))?;
        entry.maps = check_maps(&self.maps, size).map_err(|why| at(&why))?.into();
        if let Some(link) = self.link {
            let number = u64::from_str_radix(&link, 16).ok().filter(|n| format!("{n:016x}") == link);
            entry.link = Some(number.ok_or_else(|| at("link is not 16 hex digits"))?);
        }
        entry.target = match (self.target, self.target_b64) {
            (None, None) => None,
            (text, b64) => Some(bytes_of(text, b64).ok_or_else(|| at("target is bad"))?.into()),
        };
        for (name, value) in self.xattrs {
            let value = BASE64.decode(value.as_bytes()).map_err(|_| at("an xattr is not base64"))?;
            entry.xattrs.insert(name, value);
        }
        entry.user = shared(self.user, before.and_then(|b| b.user.as_ref()));
        entry.group = shared(self.group, before.and_then(|b| b.group.as_ref()));
        entry.size = size;
        (entry.hash, entry.dev, entry.flags) = (self.hash, self.dev, self.flags.into());
        check_shape(&entry).map_err(at)?;
        Ok(entry)
    }
}

/// `name`, as the same piece of memory as one `before` it that reads the same: a million entries have few owners.
fn shared(name: Option<String>, before: Option<&Arc<str>>) -> Option<Arc<str>> {
    let name = name?;
    Some(before.filter(|before| ***before == *name).map_or_else(|| Arc::from(name), Arc::clone))
}

fn octal(text: &str) -> Option<u32> {
    let digits = text.len() == 4 && text.bytes().all(|b| b.is_ascii_digit());
    u32::from_str_radix(text, 8).ok().filter(|_| digits)
}

fn check_shape(entry: &Entry) -> Result<(), &'static str> {
    let is_file = entry.kind == Kind::File;
    let has_content = entry.size > 0 || !entry.extents.is_empty() || !entry.maps.is_empty();
    if is_file != entry.hash.is_some() || (!is_file && has_content) {
        return Err("files, and only files, have a hash and content");
    }
    if !entry.extents.is_empty() && !entry.maps.is_empty() {
        return Err("both extents and maps");
    }
    if (entry.kind == Kind::Symlink) != entry.target.is_some() {
        return Err("symbolic links, and only they, have a target");
    }
    if entry.target.as_ref().is_some_and(|t| t.is_empty() || t.contains(&0) || t.len() > PATH_BYTES_MAX) {
        return Err("the target is empty, too long or holds a NUL byte");
    }
    if matches!(entry.kind, Kind::Char | Kind::Block) != entry.dev.is_some() {
        return Err("devices, and only they, have device numbers");
    }
    if entry.path.is_root() && entry.kind != Kind::Dir {
        return Err("the root is not a directory");
    }
    if entry.xattrs.keys().any(|name| name.contains('\0') || name.is_empty()) {
        return Err("an xattr's name is empty or holds a NUL byte");
    }
    Ok(())
}

/// Checks rows of extents: in order, apart, within `size`, not across a map range, archives known.
pub(crate) fn check_extents(
    rows: &[(u64, u32, u64, u64)],
    archives: &[ObjectId],
    size: u64,
) -> Result<Vec<Extent>, String> {
    let mut covered = 0;
    let mut extents = Vec::with_capacity(rows.len());
    for &(offset, archive, tar_offset, length) in rows {
        let end = offset.checked_add(length).filter(|end| *end <= size);
        let end = end.ok_or("an extent reaches past the end of the file")?;
        let tar_end = tar_offset.checked_add(length);
        if length == 0 || offset < covered || tar_end.is_none() {
            return Err("extents overlap, are out of order or empty".into());
        }
        if offset / MAP_RANGE != (end - 1) / MAP_RANGE {
            return Err("an extent crosses a multiple of 256 MiB".into());
        }
        let archive = usize::try_from(archive).ok().and_then(|i| archives.get(i));
        let archive = *archive.ok_or("an extent names an archive that the header does not")?;
        covered = end;
        extents.push(Extent { offset, archive, tar_offset, length });
    }
    Ok(extents)
}

fn check_maps(rows: &[(u64, ObjectId, u64)], size: u64) -> Result<Vec<MapRef>, String> {
    let ordered = rows.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let aligned = rows.iter().all(|row| row.0 % MAP_RANGE == 0 && row.0 < size);
    if !ordered || !aligned {
        return Err("maps are out of order, past the end or not at multiples of 256 MiB".into());
    }
    Ok(rows.iter().map(|&(offset, object, size)| MapRef { offset, object, size }).collect())
}
