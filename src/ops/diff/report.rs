//! What a comparison gives.

use crate::model::{Kind, Problem, SnapshotId, Timestamp};
use crate::ops::diff::pages::Pages;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its content is another.
    Changed,
    /// Only what is known of it beside the content is another.
    Metadata,
    /// It became something else: a file a link, a folder a file.
    Type,
    /// It has another name; its content is the same.
    Renamed,
}

/// What of an entry differs, as a set of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Aspects(u16);

macro_rules! aspects {
    ($($name:ident = $bit:literal, $word:literal;)*) => {
        #[expect(missing_docs, reason = "each is the word beside it")]
        impl Aspects {
            $(pub const $name: Self = Self(1 << $bit);)*
            const WORDS: &'static [(Self, &'static str)] = &[$((Self::$name, $word)),*];
        }
    };
}
aspects! {
    CONTENT = 0, "content";
    TARGET = 1, "target";
    MODE = 2, "mode";
    OWNER = 3, "owner";
    MTIME = 4, "mtime";
    XATTRS = 5, "xattrs";
    LINKS = 6, "links";
    DEVICE = 7, "device";
}

impl Aspects {
    /// Adds `other` when `differs`.
    pub(super) fn add(&mut self, other: Self, differs: bool) {
        self.0 |= if differs { other.0 } else { 0 };
    }

    /// True when nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True when all of `other` is in it.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Its words.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Self::WORDS.iter().filter(move |(aspect, _)| self.has(*aspect)).map(|(_, word)| *word)
    }
}

impl Serialize for Aspects {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        self.words().try_for_each(|word| list.serialize_element(word))?;
        list.end()
    }
}

/// One difference.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// `component/path`, control characters escaped.
    pub path: String,
    /// What became of it.
    pub status: Status,
    /// What it is now; of what is gone, what it was.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What it was, where that is something else.
    pub was: Option<Kind>,
    /// Of what was renamed: its old path.
    pub from: Option<String>,
    /// Length in the older state, in bytes; of what is no file 0.
    pub size_before: u64,
    /// Length in the newer state.
    pub size_after: u64,
    /// What differs.
    pub what: Aspects,
    /// Of databases: how much of them.
    pub pages: Option<Pages>,
}

/// A component that was not compared.
#[derive(Debug, Clone, Serialize)]
pub struct NotCompared {
    /// Its name.
    pub component: String,
    /// Why.
    pub why: String,
}

/// Numbers of differences.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Summary {
    /// New paths.
    pub added: u64,
    /// Paths that are gone.
    pub removed: u64,
    /// Files with other content.
    pub changed: u64,
    /// Same content, other metadata.
    pub metadata: u64,
    /// Something else now.
    pub retyped: u64,
    /// Same content, other path.
    pub renamed: u64,
    /// Bytes of files that are new.
    pub bytes_added: u64,
    /// Bytes of files that are gone.
    pub bytes_removed: u64,
}

/// What differs.
#[derive(Debug, Clone, Serialize)]
pub struct DiffReport {
    /// The older snapshot.
    pub from: SnapshotId,
    /// When it was made.
    pub from_time: Timestamp,
    /// The newer snapshot; none for the live tree.
    pub to: Option<SnapshotId>,
    /// When that was made.
    pub to_time: Option<Timestamp>,
    /// When the live tree was looked at.
    pub looked_at: Option<Timestamp>,
    /// Differences, component by component, in the order of paths.
    pub changes: Vec<Change>,
    /// Their numbers.
    pub summary: Summary,
    /// Components that the newer side does not have.
    pub only_in_from: Vec<String>,
    /// Components that the older side does not have.
    pub only_in_to: Vec<String>,
    /// Components that could not be compared.
    pub not_compared: Vec<NotCompared>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

impl DiffReport {
    /// Counts the changes.
    pub(super) fn sum_up(&mut self) {
        let mut sums = Summary::default();
        for change in &self.changes {
            match change.status {
                Status::Added => {
                    sums.added += 1;
                    sums.bytes_added += change.size_after;
                }
                Status::Removed => {
                    sums.removed += 1;
                    sums.bytes_removed += change.size_before;
                }
                Status::Changed => sums.changed += 1,
                Status::Metadata => sums.metadata += 1,
                Status::Type => sums.retyped += 1,
                Status::Renamed => sums.renamed += 1,
            }
        }
        self.summary = sums;
    }
}
