//! What of earlier snapshots a new one may refer to.
//!
//! The catalog says that a file has the bytes it had, and where they lie. It never says that those archives exist: each is looked for in the store, must be
//! named by no tombstone, found bad by no verification, and be sealed to exactly the recipients of today. What fails in one of these is packed again.

mod cursor;
mod known;
mod save;

pub(super) use cursor::{Cursor, Whole};
pub(super) use known::{Facts, Settled, same_database};
pub(super) use save::Saved;

use crate::catalog::known::{Expected, Known, KnownArchive, KnownStretch, Loaded, Sums, load, remove};
use crate::model::chain::KnownSnapshot;
use crate::model::id::RecipientId;
use crate::model::proof::Standing;
use crate::model::{ObjectId, ObjectKind, ObjectRef, Timestamp, VaultId};
use crate::ops::commit::Chain;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::session::{Session, Writer};
use crate::ops::vault::Vault;
use crate::store::Key;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

/// The catalog's file in the state directory.
pub(crate) const FILE: &str = "catalog.db";

/// What is known of this host's newest snapshots, as far as it may be used now.
pub(super) struct Reuse {
    path: PathBuf,
    known: Known,
    proved: HashSet<ObjectId>,
    /// What everything is sealed to today, sorted.
    recipients: Vec<RecipientId>,
    /// What verifications said of the objects in this store.
    standing: HashMap<ObjectId, Standing>,
    /// The store that was asked: what was found there holds for no other.
    instance: VaultId,
    /// When the newest snapshot of this host was begun.
    last_backup: Option<Timestamp>,
}

/// What is known of one component.
#[derive(Clone, Copy)]
pub(super) struct Old<'a> {
    reuse: &'a Reuse,
    pub(super) stretches: &'a [KnownStretch],
}

impl Reuse {
    /// Reads the catalog and proves what it refers to, for the components with these numbers. With `full` nothing is used.
    pub(super) fn open(
        session: &Session,
        writer: &Writer,
        vault: &Vault,
        chain: &Chain<'_>,
        numbers: &[u64],
        full: bool,
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
            recipients,
            standing,
            instance,
            last_backup: None,
        };
        let snapshots = vault.history.hosts.get(&chain.host).map_or(&[][..], Vec::as_slice);
        let Some(newest) = snapshots.iter().rev().find(|s| s.is_usable() && s.record.index.is_some()) else {
            return Ok(reuse);
        };
        reuse.last_backup = Some(newest.record.started);
        let expected = Expected { vault: &chain.vault, host: &chain.host, record: &newest.hash };
        match load(&reuse.path, &expected) {
            Loaded::Usable(known) => reuse.known = known,
            Loaded::Absent | Loaded::Other => {}
            Loaded::Useless(why) => {
                session.note(&format!(
                    "everything is read and packed anew, because what was remembered cannot be used: {why}"
                ));
                reuse.forget()?;
            }
        }
        if !full {
            reuse.prove(chain, snapshots, numbers)?;
        }
        Ok(reuse)
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
        for archive in self.known.archives.values().filter(|a| a.recipients == self.recipients) {
            wanted.push(object(ObjectKind::Archive, &archive.info.sha256, archive.info.size));
        }
        let stretches = numbers.iter().filter_map(|n| self.known.components.get(n)).flatten();
        for stretch in stretches.filter(|s| s.recipients == self.recipients) {
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
        let there = |o: &&ObjectRef| sizes.get(&Key::data(o.kind, o.id)) == Some(&o.size);
        let well =
            |o: &&ObjectRef| !doomed.contains(&o.id) && !self.standing.get(&o.id).is_some_and(|s| s.bad);
        self.proved = wanted.iter().filter(there).filter(well).map(|o| o.id).collect();
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
        // Where no archive may be referred to, nothing is: then the snapshot stands alone.
        let any = self.known.archives.keys().any(|id| self.proved.contains(id));
        let stretches = self.known.components.get(&number).filter(|_| any).map_or(&[][..], Vec::as_slice);
        Old { reuse: self, stretches }
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

    /// What is known of an archive.
    pub(super) fn archive(&self, id: &ObjectId) -> Option<&'a KnownArchive> {
        self.reuse.known.archives.get(id)
    }

    /// What everything is sealed to today, sorted.
    pub(super) fn recipients(&self) -> &'a [RecipientId] {
        &self.reuse.recipients
    }

    /// True when twice as much is known as `sums` counts.
    pub(super) fn holds_more_than(&self, sums: &Sums) -> bool {
        let mut known = Sums::default();
        self.stretches.iter().filter_map(KnownStretch::open).for_each(|s| known.add(s.sums));
        known.entries > 2 * sums.entries || known.size > 2 * sums.size
    }

    /// True when there is nothing to refer to.
    pub(super) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }
}
