//! Snapshots opened with an identity: every listing read, every file's content compared, or only what damaged objects cost.

use crate::archive::Pool;
use crate::keys::Identities;
use crate::model::chain::KnownSnapshot;
use crate::model::entry::FLAG_DATABASE;
use crate::model::index::{Index, IndexComponent, SegmentRef};
use crate::model::manifest::ArchiveInfo;
use crate::model::path::escape;
use crate::model::{Entry, Kind, ObjectId, Record, RelPath};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::objects::SnapshotReader;
use crate::ops::restore::read::{Reading, chain_text};
use crate::ops::session::Session;
use crate::ops::sources::Sources;
use crate::ops::verify::content::{Checker, Content, Seen, Wanted};
use crate::ops::verify::links::Names;
use crate::ops::verify::scratch::Scratch;
use crate::store::Store;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// What was found in a snapshot that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// The objects that it lies in.
    pub(super) objects: Vec<ObjectId>,
    pub(super) what: Lost,
    pub(super) why: String,
}

/// What is lost, or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// The index: nothing of the snapshot can be found.
    Snapshot,
    /// A listing: everything of a component from one path to another.
    Listing(String, String),
    /// One file.
    File(String),
    /// A file that is whole, a database, and fails its check; the component's number.
    Check(String, u64),
    /// A file that was not looked at, for want of room.
    NotChecked(String),
    /// A file that is whole, a database, and that only its own program can check; the component's number.
    Foreign(String, u64),
}

impl Lost {
    /// True when something cannot be had; not when it is whole and fails a check, or was not looked at.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Snapshot | Self::Listing(..) | Self::File(_))
    }
}

/// Opens snapshots of one store.
pub(super) struct Opener<'a> {
    pub(super) session: &'a Session,
    pub(super) store: Arc<dyn Store>,
    pub(super) sources: Arc<Sources>,
    pub(super) identities: &'a Identities,
    pub(super) scratch: &'a Scratch,
    pub(super) pool: Pool,
    /// What was found whole in this store, and need not be read again.
    pub(super) seen: Seen,
    /// What its listings say of files with several names.
    names: Names,
    /// Files that were compared, and databases that passed.
    pub(super) files: u64,
    pub(super) databases: u64,
}

/// One listing on its way.
struct Listing<'s> {
    record: &'s Record,
    component: &'s IndexComponent,
    reference: &'s SegmentRef,
    /// Only what these objects cost.
    only: Option<&'s HashSet<ObjectId>>,
}

impl<'a> Opener<'a> {
    pub(super) fn new(
        session: &'a Session,
        store: &Arc<dyn Store>,
        identities: &'a Identities,
        scratch: &'a Scratch,
    ) -> Self {
        let sources = Arc::new(Sources::alone(session, store));
        let (store, pool) = (Arc::clone(store), Pool::for_machine());
        Self {
            session,
            store,
            sources,
            identities,
            scratch,
            pool,
            seen: Seen::default(),
            names: Names::default(),
            files: 0,
            databases: 0,
        }
    }
}

impl Opener<'_> {
    /// Opens `snapshot` and compares all of it, or, with `only`, what needs one of these objects. Gives what was found wrong.
    ///
    /// Fails with [`Class::NoIdentity`] when no identity here opens it, and when the store fails; damage is a finding and never an error.
    pub(super) fn check(
        &mut self,
        snapshot: &KnownSnapshot,
        only: Option<&HashSet<ObjectId>>,
    ) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let Some(index) = self.index(&snapshot.record, &mut findings)? else {
            return Ok(findings);
        };
        for component in &index.components {
            for reference in &component.segments {
                self.session.around.interrupt.check()?;
                // With `only` the caller asks about each listing once.
                if !self.seen.listing(&reference.object) {
                    let listing = Listing { record: &snapshot.record, component, reference, only };
                    self.listing(&listing, &mut findings)?;
                }
            }
            let asked = |f: &Finding| only.is_none_or(|bad| f.objects.iter().any(|id| bad.contains(id)));
            findings.extend(self.at_odds(component).filter(asked));
        }
        Ok(findings)
    }

    /// Names of one file that say different things: then nothing of the component is restored.
    fn at_odds(&self, component: &IndexComponent) -> Option<Finding> {
        let objects = || component.segments.iter().map(|segment| segment.object);
        let path = self.names.at_odds(objects())?;
        let (first, last) = (component.segments.first()?, component.segments.last()?);
        let what = Lost::Listing(place(component, &first.first), place(component, &last.last));
        let why = format!("{path}: it is another name of a file, and says something else of it");
        Some(Finding { objects: objects().collect(), what, why })
    }

    fn index(&self, record: &Record, findings: &mut Vec<Finding>) -> Result<Option<Index>> {
        let reader = SnapshotReader { store: &*self.store, record, identities: self.identities };
        match reader.index() {
            Ok(index) => Ok(Some(index)),
            Err(e) => {
                let why = damage_only(e)?;
                let objects = record.index.into_iter().collect();
                findings.push(Finding { objects, what: Lost::Snapshot, why });
                Ok(None)
            }
        }
    }

    fn listing(&mut self, listing: &Listing<'_>, findings: &mut Vec<Finding>) -> Result<()> {
        let before = findings.len();
        let reader =
            SnapshotReader { store: &*self.store, record: listing.record, identities: self.identities };
        let segment = match reader.segment(listing.component, listing.reference) {
            Ok(segment) => segment,
            Err(e) => {
                let why = damage_only(e)?;
                let (first, last) = (&listing.reference.first, &listing.reference.last);
                let what = Lost::Listing(place(listing.component, first), place(listing.component, last));
                findings.push(Finding { objects: vec![listing.reference.object], what, why });
                if listing.only.is_some() {
                    self.seen.add_listing(listing.reference.object);
                }
                return Ok(());
            }
        };
        if listing.only.is_some() {
            // What it costs is told once, however many snapshots share it.
            self.seen.add_listing(listing.reference.object);
        }
        self.names.note(listing.reference.object, &segment.entries);
        let mut infos = segment.archives;
        let mut files = Vec::new();
        for entry in segment.entries.into_iter().filter(|e| e.kind == Kind::File) {
            if listing.only.is_none_or(|bad| touches(&entry, bad) || !entry.maps.is_empty()) {
                self.wanted(listing, entry, &mut files, &mut infos, findings)?;
            }
        }
        self.compare(listing, &files, infos, findings)?;
        if findings.len() == before {
            self.seen.add_listing(listing.reference.object);
        }
        Ok(())
    }

    /// Adds a file that is to be compared, with what its maps say; one whose maps cannot be read is lost.
    fn wanted(
        &self,
        listing: &Listing<'_>,
        entry: Entry,
        files: &mut Vec<Wanted>,
        infos: &mut Vec<ArchiveInfo>,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let reader =
            SnapshotReader { store: &*self.store, record: listing.record, identities: self.identities };
        match reader.extents(listing.component, &entry) {
            Ok((extents, more)) => {
                let asked = |bad: &HashSet<ObjectId>| extents.iter().any(|e| bad.contains(&e.archive));
                if listing.only.is_none_or(asked) {
                    infos.extend(more);
                    files.push(Wanted { entry, extents });
                }
            }
            Err(e) => {
                let why = damage_only(e)?;
                let objects = entry.maps.iter().map(|map| map.object);
                let objects = objects.filter(|id| listing.only.is_none_or(|bad| bad.contains(id))).collect();
                let what = Lost::File(place(listing.component, &entry.path));
                findings.push(Finding { objects, what, why });
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        listing: &Listing<'_>,
        files: &[Wanted],
        infos: Vec<ArchiveInfo>,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        for file in files {
            if let Some(why) = self.seen.foreign(file) {
                findings.push(foreign(listing, file, why));
            }
        }
        let fresh: Vec<&Wanted> = files.iter().filter(|file| !self.seen.file(file)).collect();
        let reading = Reading {
            sources: &self.sources,
            record: listing.record,
            identities: self.identities,
            pool: &self.pool,
            interrupt: &self.session.around.interrupt,
        };
        let progress = &self.session.around.progress;
        let advance = |bytes| progress.advance(bytes);
        let databases = listing.only.is_none();
        let checker =
            Checker { reading, scratch: self.scratch, advance: &advance, databases, thorough: false };
        let outcomes = checker.check(&fresh, infos)?;
        // A store that does not answer is no damage.
        self.sources.answered()?;
        for (file, outcome) in fresh.into_iter().zip(outcomes) {
            self.files += 1;
            let path = place(listing.component, &file.entry.path);
            let (what, why) = match outcome {
                Content::Whole => {
                    self.databases += u64::from(databases && file.entry.has_flag(FLAG_DATABASE));
                    self.seen.add_file(file);
                    continue;
                }
                Content::CheckUnknown(why) => {
                    findings.push(foreign(listing, file, &why));
                    self.seen.add_foreign(file, why);
                    continue;
                }
                Content::Lost(why) => (Lost::File(path), why),
                Content::CheckFailed(why) => (Lost::Check(path, listing.component.number), why),
                Content::NotChecked(why) => (Lost::NotChecked(path), why),
            };
            let archives: BTreeSet<ObjectId> = file.extents.iter().map(|e| e.archive).collect();
            let asked = |id: &ObjectId| listing.only.is_none_or(|bad| bad.contains(id));
            findings.push(Finding { objects: archives.into_iter().filter(asked).collect(), what, why });
        }
        Ok(())
    }
}

fn foreign(listing: &Listing<'_>, file: &Wanted, why: &str) -> Finding {
    let path = place(listing.component, &file.entry.path);
    Finding { objects: Vec::new(), what: Lost::Foreign(path, listing.component.number), why: why.to_owned() }
}

/// `component/path`, as commands take it.
fn place(component: &IndexComponent, path: &RelPath) -> String {
    match path.is_root() {
        true => component.name.to_string(),
        false => format!("{}/{}", component.name, escape(path.as_bytes())),
    }
}

fn touches(entry: &Entry, bad: &HashSet<ObjectId>) -> bool {
    entry.extents.iter().any(|e| bad.contains(&e.archive))
}

/// What is wrong, when that is damage; every other error is handed on.
fn damage_only(error: OpError) -> Result<String> {
    match error.class {
        Class::Damage => Ok(chain_text(&error)),
        _ => Err(error),
    }
}
