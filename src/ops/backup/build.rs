//! A component on its way into a snapshot: what was found of it so far.

use crate::model::index::ComponentKind;
use crate::model::record::CheckResult;
use crate::model::{ComponentName, Entry, Problem, Timestamp};
use crate::ops::backup::packer::{LocalExtent, Packer};
use crate::platform::users::Names;
use crate::source::folder::Excluded;

/// An entry with its content packed, its archives not yet named.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) entry: Entry,
    pub(super) extents: Vec<LocalExtent>,
    /// Parts of earlier tries that the last one does not have.
    pub(super) superseded: Vec<u64>,
    /// It looked like a database but was packed as a file.
    pub(super) database_hint: bool,
}

impl Item {
    /// An entry without content.
    pub(super) fn bare(entry: Entry) -> Self {
        Self { entry, extents: Vec::new(), superseded: Vec::new(), database_hint: false }
    }
}

/// A component being captured.
pub(super) struct Build<'a> {
    pub(super) name: ComponentName,
    pub(super) number: u64,
    pub(super) setup: String,
    pub(super) kind: ComponentKind,
    pub(super) base: String,
    pub(super) single: bool,
    pub(super) method: String,
    pub(super) started: Timestamp,
    pub(super) instant: Timestamp,
    pub(super) complete: bool,
    pub(super) check: CheckResult,
    pub(super) unreadable_count: u64,
    pub(super) rules: Vec<String>,
    pub(super) strict: bool,
    /// What may be unreadable without making the snapshot incomplete.
    pub(super) allow: Excluded,
    /// Whether unpacking this run's archives gives just this component.
    pub(super) alone: bool,
    pub(super) items: Vec<Item>,
    pub(super) packer: Packer<'a>,
    pub(super) names: &'a Names,
    pub(super) problems: Vec<Problem>,
}

impl Build<'_> {
    /// Notes a problem, and tells it as it happens.
    pub(super) fn problem(&mut self, problem: Problem) {
        self.packer.run.progress.problem(&problem);
        self.problems.push(problem);
    }
}
