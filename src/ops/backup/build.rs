//! A component on its way into a snapshot: what was found of it so far.

use crate::model::index::ComponentKind;
use crate::model::record::CheckResult;
use crate::model::{ComponentName, Entry, Problem, RelPath, Timestamp};
use crate::ops::backup::held::HeldFile;
use crate::ops::backup::listing::Listing;
use crate::ops::backup::packer::{LocalExtent, Packer};
use crate::ops::backup::reuse::{Brought, Contents, Facts, Old, Settled};
use crate::platform::filesystem::keeps_change_times;
use crate::platform::users::Names;
use crate::source::folder::{Excluded, OpenFile};
use std::collections::{BTreeMap, HashMap};

/// An entry with its content packed: what lies in archives of this run, which have no names yet, beside what the entry refers to already.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Its extents are those in older archives, all of them also where it has maps.
    pub(super) entry: Entry,
    /// What was packed in this run.
    pub(super) extents: Vec<LocalExtent>,
    /// What will tell whether it is still the same.
    pub(super) facts: Facts,
    /// A member of this run's archives has it.
    pub(super) packed: bool,
    /// Parts of earlier tries that the last one does not have.
    pub(super) superseded: Vec<u64>,
    /// It looked like a database but was packed as a file.
    pub(super) database_hint: bool,
}

impl Item {
    /// An entry without content.
    pub(super) fn bare(entry: Entry) -> Self {
        let (extents, superseded) = (Vec::new(), Vec::new());
        Self { entry, extents, facts: Facts::default(), packed: true, superseded, database_hint: false }
    }

    /// An entry that is as it was.
    pub(super) fn unchanged(entry: Entry, facts: Facts) -> Self {
        Self { facts, packed: false, ..Self::bare(entry) }
    }

    /// True when `entry`, which is listed elsewhere, is another name of just this.
    pub(super) fn says(&self, entry: &Entry) -> bool {
        self.extents.is_empty() && self.entry == Entry { path: self.entry.path.clone(), ..entry.clone() }
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
    /// When it was last packed so that it stands alone, in seconds since 1970; this run's beginning if nothing of before is referred to.
    pub(super) full: i64,
    /// What it had before.
    pub(super) old: Old<'a>,
    /// That, by content.
    pub(super) contents: Contents<'a>,
    /// What the database that is captured next is compared with, where it had to be brought from the store.
    pub(super) brought: Option<Brought>,
    /// Which times tell of every change.
    pub(super) settled: Settled,
    /// Whether a device keeps change times.
    pub(super) file_systems: HashMap<u64, bool>,
    pub(super) listing: Listing,
    /// Entries that the walk did not list, by path.
    pub(super) unlisted: BTreeMap<RelPath, Item>,
    /// Files as they were while services were stopped, by path.
    pub(super) held: HashMap<RelPath, HeldFile>,
    pub(super) packer: Packer<'a>,
    pub(super) names: &'a Names,
    pub(super) problems: Vec<Problem>,
}

impl Build<'_> {
    /// What will tell, next time, whether a file that was read is still the same.
    pub(super) fn facts_of(&mut self, open: &OpenFile) -> Facts {
        let known = self.file_systems.entry(open.ident.dev);
        let believed = *known.or_insert_with(|| keeps_change_times(&open.file));
        let facts = Facts::of(open.ident, self.settled);
        // What made trouble is looked at each time, so that the trouble is told each time.
        let still = open.entry.flags.is_empty() && open.warnings.is_empty();
        Facts { safe: facts.safe && believed && still, ..facts }
    }

    /// Notes a problem, and tells it as it happens.
    pub(super) fn problem(&mut self, problem: Problem) {
        self.packer.run.progress.problem(&problem);
        self.problems.push(problem);
    }
}
