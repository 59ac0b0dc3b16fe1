//! The index of a snapshot: everything about it that is not public.

use crate::model::entry::{bytes_of, text_or_b64};
use crate::model::id::{ComponentName, HostId, ObjectId, SnapshotId, VaultId};
use crate::model::manifest::{FORMAT, Lines, ManifestError};
use crate::model::path::RelPath;
use crate::model::record::CheckResult;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An index has at most this many components.
pub const COMPONENTS_MAX: usize = 4096;

/// What a component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComponentKind {
    /// A folder or a single file.
    Folder,
    /// A list of paths.
    Paths,
    /// A SQLite database.
    Sqlite,
    /// The output of a command.
    Command,
}

/// State of a git working tree when a snapshot was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitState {
    /// The commit.
    pub commit: String,
    /// The branch, if on one.
    pub branch: Option<String>,
    /// `git describe`.
    pub describe: Option<String>,
    /// Whether there were uncommitted changes.
    pub dirty: bool,
    /// Its folder, relative to that of the configuration; `.` where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The commit that holds the uncommitted changes, where git kept them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// The component of the snapshot that holds a bundle of the whole repository, where one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}

/// The first line of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexHeader {
    /// Format number.
    pub format: u32,
    /// Words a reader must know.
    pub needs: Vec<String>,
    /// `index`.
    #[serde(rename = "type")]
    pub doc: String,
    /// The vault.
    pub vault: VaultId,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The host.
    pub host: HostId,
    /// The host's name.
    pub hostname: String,
    /// The project's name.
    pub project: String,
    /// `linux`, `macos`.
    pub system: String,
    /// The note given with `--note`.
    pub note: Option<String>,
    /// Git state, with `--git`.
    pub git: Option<GitState>,
    /// Further working trees of the project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub git_more: Vec<GitState>,
    /// Who wrote it.
    pub agent: String,
    /// Text of the configuration file.
    pub config: String,
    /// Where that file was.
    pub config_path: String,
    /// What component numbers are made with, base64.
    pub naming_key: String,
}

/// A segment of a component's listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRef {
    /// The object.
    pub object: ObjectId,
    /// Its size in bytes.
    pub size: u64,
    /// How many entries it holds.
    pub entries: u64,
    /// Path of its first entry.
    pub first: RelPath,
    /// Path of its last entry.
    pub last: RelPath,
}

/// A component in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexComponent {
    /// Its name.
    pub name: ComponentName,
    /// Its public number.
    pub number: u64,
    /// What it is.
    pub kind: ComponentKind,
    /// The directory that paths are relative to.
    pub base: String,
    /// Whether it is one file.
    pub single: bool,
    /// How it was captured.
    pub method: String,
    /// When its capture began.
    pub started: Timestamp,
    /// The moment its state is of.
    pub instant: Timestamp,
    /// Whether everything was captured.
    pub complete: bool,
    /// What the checks said.
    pub check: CheckResult,
    /// Number of entries.
    pub entries: u64,
    /// Number of files.
    pub files: u64,
    /// Number of directories.
    pub dirs: u64,
    /// Sum of file sizes in bytes.
    pub size: u64,
    /// Whether every byte lies in archives of this run.
    pub alone: bool,
    /// Its segments in order.
    pub segments: Vec<SegmentRef>,
    /// Archives that its entries refer to, oldest first.
    pub archives: Vec<ObjectId>,
    /// How many things could not be read.
    pub unreadable: u64,
    /// The exclusion patterns that were in force.
    pub rules: Vec<String>,
}

/// A whole index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The first line.
    pub header: IndexHeader,
    /// One for each component, in the order of the record.
    pub components: Vec<IndexComponent>,
}

#[derive(Serialize, Deserialize)]
struct RawSegmentRef {
    sha256: ObjectId,
    size: u64,
    entries: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_b64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_b64: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct RawComponent {
    component: ComponentName,
    number: u64,
    kind: ComponentKind,
    base: String,
    single: bool,
    method: String,
    started: Timestamp,
    instant: Timestamp,
    complete: bool,
    check: CheckResult,
    entries: u64,
    files: u64,
    dirs: u64,
    size: u64,
    alone: bool,
    segments: Vec<RawSegmentRef>,
    archives: Vec<ObjectId>,
    unreadable: u64,
    rules: Vec<String>,
}

impl RawSegmentRef {
    fn of(segment: &SegmentRef) -> Self {
        let (first, first_b64) = text_or_b64(segment.first.as_bytes());
        let (last, last_b64) = text_or_b64(segment.last.as_bytes());
        let SegmentRef { object: sha256, size, entries, .. } = *segment;
        Self { sha256, size, entries, first, first_b64, last, last_b64 }
    }

    fn check(self) -> Option<SegmentRef> {
        let first = RelPath::new(&bytes_of(self.first, self.first_b64)?).ok()?;
        let last = RelPath::new(&bytes_of(self.last, self.last_b64)?).ok()?;
        let ordered = first <= last;
        let Self { sha256: object, size, entries, .. } = self;
        ordered.then_some(SegmentRef { object, size, entries, first, last })
    }
}

impl RawComponent {
    fn of(c: &IndexComponent) -> Self {
        Self {
            component: c.name.clone(),
            number: c.number,
            kind: c.kind,
            base: c.base.clone(),
            single: c.single,
            method: c.method.clone(),
            started: c.started,
            instant: c.instant,
            complete: c.complete,
            check: c.check,
            entries: c.entries,
            files: c.files,
            dirs: c.dirs,
            size: c.size,
            alone: c.alone,
            segments: c.segments.iter().map(RawSegmentRef::of).collect(),
            archives: c.archives.clone(),
            unreadable: c.unreadable,
            rules: c.rules.clone(),
        }
    }

    fn check(self) -> Option<IndexComponent> {
        let segments: Option<Vec<_>> = self.segments.into_iter().map(RawSegmentRef::check).collect();
        let segments = segments?;
        let apart = segments.windows(2).all(|pair| pair[0].last < pair[1].first);
        let entries = segments.iter().try_fold(0_u64, |sum, s| sum.checked_add(s.entries));
        let apart = apart && entries == Some(self.entries);
        apart.then_some(IndexComponent {
            name: self.component,
            number: self.number,
            kind: self.kind,
            base: self.base,
            single: self.single,
            method: self.method,
            started: self.started,
            instant: self.instant,
            complete: self.complete,
            check: self.check,
            entries: self.entries,
            files: self.files,
            dirs: self.dirs,
            size: self.size,
            alone: self.alone,
            segments,
            archives: self.archives,
            unreadable: self.unreadable,
            rules: self.rules,
        })
    }
}

impl Index {
    /// The bytes of the index object before compression.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut out = serde_json::to_vec(&self.header)?;
        out.push(b'\n');
        for component in &self.components {
            serde_json::to_writer(&mut out, &RawComponent::of(component))?;
            out.push(b'\n');
        }
        Ok(out)
    }

    /// Reads and checks an index.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut lines = Lines::new(bytes);
        let header: IndexHeader = lines.header("index")?;
        let mut components: Vec<IndexComponent> = Vec::new();
        while let Some(raw) = lines.next::<RawComponent>()? {
            let component =
                raw.check().ok_or_else(|| lines.malformed("a component's segments are impossible"))?;
            if components.len() >= COMPONENTS_MAX {
                return Err(lines.malformed("there are more than 4096 components"));
            }
            if components.iter().any(|c| c.name == component.name) {
                return Err(lines.malformed("a component is listed twice"));
            }
            components.push(component);
        }
        Ok(Self { header, components })
    }

    /// The component called `name`.
    pub fn component(&self, name: &str) -> Option<&IndexComponent> {
        self.components.iter().find(|c| c.name.as_str() == name)
    }
}

impl IndexHeader {
    /// All working trees that were recorded.
    pub fn working_trees(&self) -> Vec<GitState> {
        self.git.iter().chain(&self.git_more).cloned().collect()
    }

    /// The number that this program writes.
    pub const FORMAT: u32 = FORMAT;
}
