//! What a folder source is asked for, and why it cannot begin.

use crate::model::entry::Why;
use crate::source::folder::rules::BadPattern;
use std::io;
use std::path::PathBuf;

/// A folder component as plain values.
#[derive(Debug, Clone)]
pub struct FolderSpec {
    /// The component's name, for problems.
    pub component: String,
    /// The directory that paths are relative to; absolute.
    pub base: PathBuf,
    /// What of it.
    pub what: What,
    /// gitignore patterns, relative to the component's root. They win over patterns from files.
    pub exclude: Vec<String>,
    /// Files with such patterns. A bare name (`.gitignore`) is looked for in every directory and holds from there down, as with git;
    /// a name with a `/` is one file, relative to `base`, whose patterns are relative to the component's root.
    pub exclude_from: Vec<String>,
    /// Of directories with a valid `CACHEDIR.TAG`, only the directory and the tag are captured.
    pub exclude_caches: bool,
    /// The same for directories that hold a file of one of these names.
    pub exclude_if_present: Vec<String>,
    /// What lies on another file system is listed as `left`, not entered.
    pub one_file_system: bool,
    /// gitignore patterns: what they match may be unreadable without making the snapshot incomplete.
    pub allow_unreadable: Vec<String>,
    /// Other components, stores, state: listed as `left` with this reason, never entered. Absolute.
    pub nested: Vec<(PathBuf, Why)>,
}

/// What of a base directory a component is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// All of it; `base` is the component's root.
    Tree,
    /// These absolute paths, and what is below them. Those outside `base` are put below `_root/` at their absolute place.
    List(Vec<PathBuf>),
    /// This one regular file; the component's only entry, under its base name.
    Single(PathBuf),
}

impl FolderSpec {
    /// All of `base`, with no exceptions.
    pub fn tree(component: impl Into<String>, base: impl Into<PathBuf>) -> Self {
        Self {
            component: component.into(),
            base: base.into(),
            what: What::Tree,
            exclude: Vec::new(),
            exclude_from: Vec::new(),
            exclude_caches: false,
            exclude_if_present: Vec::new(),
            one_file_system: false,
            allow_unreadable: Vec::new(),
            nested: Vec::new(),
        }
    }
}

/// Why a folder cannot be captured at all. Everything smaller is a [`crate::model::Problem`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Not there: a wrong path, or something that is not mounted. Never an empty snapshot.
    #[error("{} does not exist", path.display())]
    Missing {
        /// What.
        path: PathBuf,
    },
    /// A folder was expected.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// What.
        path: PathBuf,
    },
    /// A file was expected.
    #[error("{} is not a regular file but {what}", path.display())]
    NotAFile {
        /// What.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// It is there and cannot be opened.
    #[error("cannot open {}", path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pattern in the configuration is not one.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// A file that `exclude_from` names by path cannot be read: without it, more than was asked for would be captured.
    #[error("cannot read the patterns in {}", path.display())]
    PatternFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A listed path cannot be told from the place where paths outside the base are put.
    #[error("{} cannot be captured in a list of paths, because the name _root is taken there", path.display())]
    Reserved {
        /// The path.
        path: PathBuf,
    },
}
