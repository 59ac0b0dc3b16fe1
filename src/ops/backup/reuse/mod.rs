//! What of earlier snapshots a new one may refer to.
//!
//! The catalog says that a file has the bytes it had, and where they lie. It never says that those archives exist: each is looked for in the store, must be
//! named by no tombstone, found bad by no verification, and be sealed to exactly the recipients of today. What fails in one of these is packed again.

mod brought;
mod choose;
mod contents;
mod cursor;
mod drain;
mod fetch;
mod in_order;
mod known;
mod lines;
mod rebuild;
mod save;
mod stored;
mod tables;

pub(super) use brought::{Brought, bring};
pub(super) use contents::{Contents, SMALL_BYTES, covers};
pub(super) use cursor::{Cursor, Whole};
pub(super) use known::{Facts, Settled, same_database};
pub(super) use save::Saved;

use crate::catalog::known::{Expected, Known, KnownArchive, KnownStretch, Loaded, Sums, load, remove};
use crate::model::chain::KnownSnapshot;
use crate::model::id::RecipientId;
use crate::model::proof::Standing;
use crate::model::{ObjectId, ObjectKind, ObjectRef, Timestamp, VaultId};
use crate::ops::backup::packer::whole_archive;
use crate::ops::commit::Chain;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::session::{Session, Writer};
use crate::ops::vault::Vault;
use crate::store::Key;
use drain::Drain;
use lines::{Late, alive, is_twice};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use stored::Stored;
use tables::Gathered;

/// The catalog's file in the state directory.
pub(crate) const FILE: &str = "catalog.db";

/// What is known of this host's newest snapshots, as far as it may be used now.
pub(super) struct Reuse {
    path: PathBuf,
    known: Known,
    proved: HashSet<ObjectId>,
    /// Objects that records of this host name and that are not there, or not with their size.
    pub(super) lost: BTreeSet<ObjectId>,
    /// Components of which something may be referred to.
    usable: HashSet<u64>,
    /// What everything is sealed to today, sorted.
    recipients: Vec<RecipientId>,
    /// What verifications said of the objects in this store.
    standing: HashMap<ObjectId, Standing>,
    /// The store that was asked: what was found there holds for no other.
    instance: VaultId,
    /// When the newest snapshot of this host was begun.
    last_backup: Option<Timestamp>,
    /// How large components were of late.
    late: Late,
    /// Components that may come again: others are forgotten.
    alive: HashSet<u64>,
    /// What of each component is packed again.
    drains: HashMap<u64, Drain>,
    /// Block hashes that are not written down yet.
    gathered: Mutex<Gathered>,
    /// What reads earlier content of which the catalog has no block hashes: it was made again, in this run or an earlier one. None where there is no earlier snapshot.
    stored: Option<Stored>,
}

/// A component that is to be captured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Its number.
    pub(super) number: u64,
    /// How often it is to stand alone, if ever.
    pub(super) full_every: Option<Duration>,
}

/// What is to be captured, and of what nothing may be used.
pub(super) struct Wishes<'a> {
    pub(super) components: &'a [Wanted],
    /// Nothing of before may be referred to.
    pub(super) full: bool,
    /// Objects that are damaged.
    pub(super) bad: &'a BTreeSet<ObjectId>,
}

impl Wishes<'_> {
    /// Whether a component with a number is to be captured.
    fn wants(&self) -> impl Fn(u64) -> bool {
        let wanted: HashSet<u64> = self.components.iter().map(|w| w.number).collect();
        move |number| wanted.contains(&number)
    }
}

/// What is known of one component.
#[derive(Clone, Copy)]
pub(super) struct Old<'a> {
    reuse: &'a Reuse,
    number: u64,
    pub(super) stretches: &'a [KnownStretch],
    drain: Option<&'a Drain>,
}

impl Reuse {
    /// Reads the catalog and proves what it refers to, for the components that are wished for.
    pub(super) fn open(
        session: &Session,
        writer: &Writer,
        vault: &Vault,
        chain: &Chain<'_>,
        wishes: &Wishes<'_>,
    ) -> Result<Self> {
        let mut recipients = writer.recipients.ids();
        recipients.sort_unstable();
        let standing = vault.history.standing(&chain.host, &chain.instance);
        let instance = chain.instance.clone();
        let path = session.state()?.dir().join(FILE);
        let mut reuse = Self {
            path,
            known: Known::default(),
            proved: HashSet::new(),
            lost: BTreeSet::new(),
            usable: HashSet::new(),
            recipients,
            standing,
            instance,
            last_backup: None,
            late: Late::default(),
            alive: HashSet::new(),
            drains: HashMap::new(),
            gathered: Mutex::default(),
            stored: None,
        };
        let snapshots = vault.history.hosts.get(&chain.host).map_or(&[][..], Vec::as_slice);
        let now = session.around.clock.now();
        reuse.late = Late::of(snapshots, now);
        reuse.alive = alive((session, writer), snapshots, wishes.components, now);
        let Some(newest) = snapshots.iter().rev().find(|s| s.is_usable() && s.record.index.is_some()) else {
            return Ok(reuse);
        };
        reuse.last_backup = Some(newest.record.started);
        reuse.stored = Some(Stored::of(session, &newest.record));
        let expected = Expected { vault: &chain.vault, host: &chain.host, record: &newest.hash };
        match load(&reuse.path, &expected, wishes.wants()) {
            Loaded::Usable(known) => reuse.known = known,
            Loaded::Useless(why) => {
                session.note(&format!("what was remembered of earlier snapshots cannot be used: {why}"));
                reuse.forget()?;
            }
            Loaded::Absent | Loaded::Other => {}
        }
        let lacks = reuse.lacks(snapshots, wishes.components);
        if !lacks.is_empty() {
            reuse.rebuild(session, snapshots, &expected, (lacks.as_slice(), wishes));
        }
        let due = |w: &&Wanted| wishes.full || reuse.is_due(w, now);
        let numbers: Vec<u64> = wishes.components.iter().filter(|w| !due(w)).map(|w| w.number).collect();
        reuse.prove(chain, snapshots, &numbers)?;
        reuse.proved.retain(|id| !wishes.bad.contains(id));
        reuse.lost.retain(|id| !wishes.bad.contains(id));
        reuse.usable = numbers.into_iter().filter(|n| reuse.has_archives(*n)).collect();
        let whole = whole_archive(session.config.as_ref().and_then(|c| c.packing.archive_size));
        reuse.drains = reuse.usable.iter().map(|n| (*n, reuse.drain(*n, whole))).collect();
        Ok(reuse)
    }

    /// Components that snapshots have and the catalog has not. It may know some of them: when it was lost, a run for these alone may have come first.
    fn lacks(&self, snapshots: &[KnownSnapshot], wanted: &[Wanted]) -> Vec<u64> {
        let mut lacks: HashSet<u64> = wanted.iter().map(|w| w.number).collect();
        lacks.retain(|number| !self.known.components.contains_key(number));
        let usable = snapshots.iter().filter(|s| s.is_usable() && s.record.index.is_some());
        let stored: HashSet<u64> =
            usable.flat_map(|s| s.record.components.iter().map(|line| line.number)).collect();
        lacks.into_iter().filter(|number| stored.contains(number)).collect()
    }

    /// True when a component is to be packed so that it stands alone, because it was not for as long as the configuration says.
    fn is_due(&self, wanted: &Wanted, now: Timestamp) -> bool {
        let Some(every) = wanted.full_every else { return false };
        let since = self.known.full.get(&wanted.number).map_or(i64::MIN, |full| *full);
        let age = now.as_second().saturating_sub(since);
        age < 0 || u64::try_from(age).unwrap_or(u64::MAX) >= every.as_secs()
    }

    /// True unless a component has archives and none of them may be referred to: then nothing of it is, and the snapshot stands alone.
    fn has_archives(&self, number: u64) -> bool {
        let stretches = self.known.components.get(&number).map_or(&[][..], Vec::as_slice);
        let mut archives = stretches.iter().flat_map(|s| &s.archives).peekable();
        archives.peek().is_none() || archives.any(|(id, _)| self.proved.contains(id))
    }

    fn drain(&self, number: u64, whole: u64) -> Drain {
        let stretches = self.known.components.get(&number).map_or(&[][..], Vec::as_slice);
        Drain::plan(stretches, &self.known.archives, whole, |id| self.proved.contains(id))
    }

    /// When the component was last packed so that it stands alone; `now` if it is so now.
    pub(super) fn full(&self, number: u64, alone: bool, now: Timestamp) -> i64 {
        let before = self.known.full.get(&number).copied();
        before.filter(|_| !alone).unwrap_or(now.as_second())
    }

    /// Removes the catalog.
    fn forget(&mut self) -> Result<()> {
        self.known = Known::default();
        remove(&self.path).doing(Class::Failed, || "cannot remove a catalog that is of no use".into())
    }

    /// Finds out which objects of these components may be referred to.
    fn prove(&mut self, chain: &Chain<'_>, snapshots: &[KnownSnapshot], numbers: &[u64]) -> Result<()> {
        let mut wanted: Vec<ObjectRef> = Vec::new();
        let object = |kind, id: &ObjectId, size| ObjectRef { kind, size, id: *id, recipients: 0 };
        let stretches: Vec<&KnownStretch> =
            numbers.iter().filter_map(|n| self.known.components.get(n)).flatten().collect();
        let archives: HashSet<ObjectId> =
            stretches.iter().flat_map(|s| s.archives.iter().map(|(id, _)| *id)).collect();
        let known = archives.iter().filter_map(|id| self.known.archives.get(id));
        for archive in known.filter(|a| a.recipients == self.recipients) {
            wanted.push(object(ObjectKind::Archive, &archive.info.sha256, archive.info.size));
        }
        for stretch in stretches.into_iter().filter(|s| s.recipients == self.recipients) {
            wanted.push(object(ObjectKind::Manifest, &stretch.segment, stretch.size));
            wanted.extend(stretch.maps.iter().map(|(id, size)| object(ObjectKind::Manifest, id, *size)));
        }
        let wanted = self.signed_for(wanted, snapshots);
        if wanted.is_empty() {
            return Ok(());
        }
        let doomed = chain.doomed()?;
        let sizes = chain.sizes(&wanted).map_err(|why| {
            OpError::new(Class::Store, "cannot look for what earlier snapshots left in the store")
                .because(why)
        })?;
        let there = |o: &ObjectRef| sizes.get(&Key::data(o.kind, o.id)) == Some(&o.size);
        let bad = |o: &ObjectRef| self.standing.get(&o.id).is_some_and(|s| s.bad);
        let well = |o: &&ObjectRef| there(o) && !doomed.contains(&o.id) && !bad(o);
        self.proved = wanted.iter().filter(well).map(|o| o.id).collect();
        self.lost = wanted.iter().filter(|o| !there(o) && !bad(o)).map(|o| o.id).collect();
        Ok(())
    }

    /// Those of `wanted` that a record of this host names with that kind and size, sealed to the recipients of today: what the catalog says of an object counts for
    /// nothing.
    fn signed_for(&self, wanted: Vec<ObjectRef>, snapshots: &[KnownSnapshot]) -> Vec<ObjectRef> {
        let mut waiting: HashMap<ObjectId, ObjectRef> = wanted.into_iter().map(|o| (o.id, o)).collect();
        let mut found = Vec::with_capacity(waiting.len());
        for record in snapshots.iter().rev().filter(|s| s.is_usable()).map(|s| &s.record) {
            if waiting.is_empty() {
                break;
            }
            let set = |n: u32| {
                let mut set = record.recipients.get(n as usize).cloned().unwrap_or_default();
                set.sort_unstable();
                set
            };
            let ours: Vec<bool> =
                (0..record.recipients.len()).map(|n| set(n as u32) == self.recipients).collect();
            for object in &record.objects {
                let same = |o: &ObjectRef| (o.kind, o.size) == (object.kind, object.size);
                if let Some(wanted) = waiting.remove(&object.id)
                    && same(&wanted)
                    && ours.get(object.recipients as usize) == Some(&true)
                {
                    found.push(wanted);
                }
            }
        }
        found
    }

    /// When the newest snapshot of this host was begun.
    pub(super) fn last_backup(&self) -> Option<Timestamp> {
        self.last_backup
    }

    /// Fails when the snapshot is to be committed in another store than was asked.
    pub(super) fn check_store(&self, chain: &Chain<'_>) -> Result<()> {
        if self.instance == chain.instance {
            return Ok(());
        }
        Err(OpError::new(Class::Failed, "internal: what is referred to was looked for in another store"))
    }

    /// What is known of the component with this number.
    pub(super) fn component(&self, number: u64) -> Old<'_> {
        let usable = self.usable.contains(&number);
        let stretches = self.known.components.get(&number).filter(|_| usable);
        let stretches = stretches.map_or(&[][..], Vec::as_slice);
        Old { reuse: self, number, stretches, drain: self.drains.get(&number) }
    }

    /// What verifications said of an object.
    pub(super) fn standing(&self, id: &ObjectId) -> Standing {
        self.standing.get(id).copied().unwrap_or_default()
    }
}

impl<'a> Old<'a> {
    /// True when an object may be referred to.
    pub(super) fn may_use(&self, id: &ObjectId) -> bool {
        self.reuse.proved.contains(id)
    }

    /// True when what lies in this archive is to be packed again.
    pub(super) fn drains(&self, id: &ObjectId) -> bool {
        self.drain.is_some_and(|drain| drain.has(id))
    }

    /// How many bytes may still be packed again.
    fn left(&self) -> u64 {
        self.drain.map_or(0, Drain::left)
    }

    /// Takes `bytes`, which are packed again, off this run's share, and gives how many there were of it.
    fn drained(&self, bytes: u64) -> u64 {
        self.drain.map_or(0, |drain| drain.spend(bytes))
    }

    /// What is known of an archive.
    pub(super) fn archive(&self, id: &ObjectId) -> Option<&'a KnownArchive> {
        self.reuse.known.archives.get(id)
    }

    /// What everything is sealed to today, sorted.
    pub(super) fn recipients(&self) -> &'a [RecipientId] {
        &self.reuse.recipients
    }

    /// True when what is known serves better than a capture that is not complete and counts `sums`: more than twice as much is known, as when a disk is not
    /// mounted. But not for ever: when the newest records show as little, that is what there is, and whatever changed would be packed again in each run. Of nothing
    /// at all nothing can be.
    pub(super) fn serves_better_than(&self, sums: &Sums) -> bool {
        let mut known = Sums::default();
        self.stretches.iter().filter_map(KnownStretch::open).for_each(|s| known.add(s.sums));
        let for_good = sums.entries > 0 && self.reuse.late.were_small(self.number, &known);
        is_twice(&known, sums.entries, sums.size) && !for_good
    }

    /// Removes the catalog, of which something proved to be wrong. The next run makes it again.
    pub(super) fn put_away(&self) {
        drop(remove(&self.reuse.path));
    }

    /// True when there is nothing to refer to.
    pub(super) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }
}

/// What the catalog knows of a segment with these rows.
#[cfg(test)]
fn stretch_of(rows: &[crate::catalog::known::Row]) -> KnownStretch {
    let packed = crate::catalog::known::Stretch::encode(rows).unwrap();
    let opened = crate::catalog::known::Stretch::open(&packed).unwrap();
    KnownStretch {
        row: 0,
        segment: ObjectId::of(b"a segment"),
        size: 1,
        recipients: Vec::new(),
        first: rows[0].entry.path.clone(),
        last: rows[rows.len() - 1].entry.path.clone(),
        maps: Vec::new(),
        blocks: Vec::new(),
        archives: opened.archives,
        shared: opened.shared,
        content: opened.sums.size,
        packed,
    }
}
