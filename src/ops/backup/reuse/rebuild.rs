//! A catalog that was lost, made again from the newest listings. It needs an identity; without one everything is packed anew.
//!
//! What is remembered then is where content lies, not which file has it: every file is read once, and found by its hash. What a listing says is proved as
//! strictly as when it is read for a restore.

use crate::catalog::known::{
    ComponentUpdate, Expected, Known, KnownArchive, KnownStretch, Loaded, Row, Stretch, Update, load, save,
};
use crate::keys::Identities;
use crate::model::chain::KnownSnapshot;
use crate::model::id::RecipientId;
use crate::model::index::{IndexComponent, SegmentRef};
use crate::model::manifest::ArchiveInfo;
use crate::model::{Entry, ObjectId, Record};
use crate::ops::backup::chain_text;
use crate::ops::backup::reuse::drain::used;
use crate::ops::backup::reuse::{Reuse, Wishes};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::objects::SnapshotReader;
use crate::ops::session::Session;
use crate::store::Store;
use std::collections::{BTreeMap, HashSet};

/// About so many bytes of a tar stream are its first member and its end.
const EVERY_ARCHIVE: u64 = 4096;

/// What is needed to read listings.
pub(super) struct Rebuild<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) identities: &'a Identities,
    /// This host's snapshots in the order of their numbers.
    pub(super) snapshots: &'a [KnownSnapshot],
}

impl Reuse {
    /// Makes the catalog again from listings, or what it lacks of these components, where an identity is here to open them. Where that fails they are packed anew, which
    /// is said.
    pub(super) fn rebuild(
        &mut self,
        session: &Session,
        snapshots: &[KnownSnapshot],
        expected: &Expected<'_>,
        (numbers, wishes): (&[u64], &Wishes<'_>),
    ) {
        let some = self.known.record.is_some();
        let gone = match some {
            true => "what was remembered of earlier snapshots lacks some components",
            false => "what was remembered of earlier snapshots is gone",
        };
        let Some(stored) = &self.stored else { return };
        let rebuilt = || -> std::result::Result<Option<Known>, String> {
            let identities = stored.identities()?;
            if identities.is_empty() {
                return Ok(None);
            }
            session.note(&format!("{gone}: it is made again from their listings, and every file is read"));
            let rebuild = Rebuild { store: &*session.store, identities, snapshots };
            let components = rebuild.components(numbers).map_err(|e| chain_text(&e))?;
            let update = Update { now: *expected, before: self.known.record, components, alive: None };
            save(&self.path, &update).map_err(|e| chain_text(&e))?;
            match load(&self.path, expected, wishes.wants()) {
                Loaded::Usable(known) => Ok(Some(known)),
                _ => Err("it does not come back as it was written".into()),
            }
        };
        let anew = if some { "those are packed anew" } else { "everything is packed anew" };
        match rebuilt() {
            Ok(Some(known)) => self.known = known,
            Ok(None) => {
                session.note(&format!("{gone}, and no identity is here to read their listings: {anew}"));
            }
            Err(why) => session.note(&format!("{anew}, because earlier listings cannot be used: {why}")),
        }
    }
}

impl Rebuild<'_> {
    /// What the newest snapshot that has it says of each component with one of these numbers.
    pub(super) fn components(&self, numbers: &[u64]) -> Result<Vec<ComponentUpdate>> {
        let mut missing: HashSet<u64> = numbers.iter().copied().collect();
        let mut found = Vec::new();
        let newest_first = self.snapshots.iter().rev().filter(|s| s.is_usable() && s.record.index.is_some());
        for record in newest_first.map(|s| &*s.record) {
            if missing.is_empty() {
                break;
            }
            if !record.components.iter().any(|c| missing.contains(&c.number)) {
                continue;
            }
            let reader = SnapshotReader { store: self.store, record, identities: self.identities };
            for component in reader.index()?.components.iter().filter(|c| missing.remove(&c.number)) {
                found.push(self.component(&reader, component)?);
            }
        }
        Ok(found)
    }

    fn component(&self, reader: &SnapshotReader<'_>, component: &IndexComponent) -> Result<ComponentUpdate> {
        let mut archives: BTreeMap<ObjectId, ArchiveInfo> = BTreeMap::new();
        let mut put = Vec::new();
        for reference in &component.segments {
            put.push(self.stretch(reader, component, reference, &mut archives)?);
        }
        let used = used(&put);
        let archive = |info: ArchiveInfo| {
            let used = used.get(&info.sha256).copied().unwrap_or(0);
            self.archive(reader.record, info, used)
        };
        let archives = archives.into_values().map(archive).collect();
        let alone = |s: &&KnownSnapshot| {
            let has = s.record.components.iter().any(|c| c.number == component.number);
            s.is_usable() && s.record.alone && has
        };
        let alone = self.snapshots.iter().rev().find(alone).map(|s| s.record.started.as_second());
        let full = if component.alone { Some(reader.record.started.as_second()) } else { alone };
        let (number, full) = (component.number, full.unwrap_or(0));
        Ok(ComponentUpdate { number, keep: Vec::new(), put, archives, full })
    }

    fn stretch(
        &self,
        reader: &SnapshotReader<'_>,
        component: &IndexComponent,
        reference: &SegmentRef,
        archives: &mut BTreeMap<ObjectId, ArchiveInfo>,
    ) -> Result<KnownStretch> {
        let segment = reader.segment(component, reference)?;
        let mut rows = Vec::with_capacity(segment.entries.len());
        add(archives, segment.archives);
        for entry in segment.entries {
            let (extents, more) = reader.extents(component, &entry)?;
            add(archives, more);
            let mut row = Row::new(Entry { extents, ..entry }, None, false);
            // Whether others share its bytes is not known.
            row.copied = true;
            rows.push(row);
        }
        let packed =
            Stretch::encode(&rows).doing(Class::Failed, || "cannot pack rows of the catalog".into())?;
        let opened = Stretch::open(&packed);
        let opened =
            opened.ok_or_else(|| OpError::new(Class::Failed, "internal: a stretch cannot be opened"))?;
        Ok(KnownStretch {
            row: 0,
            segment: reference.object,
            size: reference.size,
            recipients: recipients(reader.record, &reference.object),
            first: reference.first.clone(),
            last: reference.last.clone(),
            maps: opened.maps,
            blocks: Vec::new(),
            archives: opened.archives,
            shared: opened.shared,
            content: opened.sums.size,
            packed,
        })
    }

    fn archive(&self, record: &Record, mut info: ArchiveInfo, used: u64) -> KnownArchive {
        info.frames.sort_unstable_by_key(|f| f.tar_offset);
        info.frames.dedup();
        let made = self.snapshots.iter().find(|s| s.record.object(&info.sha256).is_some());
        let made = made.map_or(record, |s| &s.record);
        let recipients = recipients(record, &info.sha256);
        // How much was in use when it was made is not known: all but what every archive has, if this is not its own snapshot.
        let all = info.tar.saturating_sub(EVERY_ARCHIVE).max(used);
        let content = if made.number == record.number { used } else { all };
        KnownArchive { info, age: made.number, delta: !made.alone, content, recipients }
    }
}

fn add(archives: &mut BTreeMap<ObjectId, ArchiveInfo>, infos: Vec<ArchiveInfo>) {
    for info in infos {
        match archives.get_mut(&info.sha256) {
            Some(known) => known.frames.extend(info.frames),
            None => drop(archives.insert(info.sha256, info)),
        }
    }
}

/// What an object is sealed to, sorted.
fn recipients(record: &Record, id: &ObjectId) -> Vec<RecipientId> {
    let set = record.object(id).and_then(|o| record.recipients.get(o.recipients as usize));
    let mut set = set.cloned().unwrap_or_default();
    set.sort_unstable();
    set
}
