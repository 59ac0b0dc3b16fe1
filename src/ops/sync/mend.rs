//! Objects of records that a store has: missing, of another size, or (when all is read) with other bytes: brought again from another store.

use super::One;
use crate::model::ObjectId;
use crate::model::chain::{EntryBody, KnownSnapshot, Trust};
use crate::model::record::ObjectRef;
use crate::ops::carry::{Had, NotHad};
use crate::ops::catchup::{CatchUp, Named, Stop};
use crate::ops::session::in_store;
use crate::ops::vault::name_of;
use crate::store::Key;
use std::collections::{BTreeMap, BTreeSet, HashSet};

impl One<'_> {
    /// Looks at every object of the records that are in the store, and mends what is not whole. Of this host's snapshots the verdicts say it:
    /// first what is bad, then what is proved again. All is looked at before anything is said: one verdict for each snapshot that needs what is
    /// bad, however many objects that are.
    pub(super) fn mend(&mut self, catch_up: &mut CatchUp<'_, '_>) -> Result<(), Stop> {
        self.spool_clear()?;
        let began = self.session.around.clock.now();
        let records = self.records_there();
        let Found { bad, mut turned } = self.look(catch_up, &records)?;
        let signs = |(record, _): &Named| record.host == self.host && !catch_up.ledger.forked;
        let own: Vec<Named> = records.into_iter().filter(signs).collect();
        // What was proved of it before ends here, whatever becomes of the repair.
        let bad_ids = bad.iter().map(|o| o.id).collect();
        let said_now = catch_up.found_bad(self.view, &own, began, &bad_ids)?;
        let mending = self.session.around.clock.now();
        let mut mended = BTreeSet::new();
        for object in &bad {
            self.session.around.interrupt.check()?;
            if self.mend_object(catch_up, object)? {
                mended.insert(object.id);
            }
        }
        turned.iter().chain(&mended).for_each(|id| catch_up.proved_now(self.view, *id));
        if !said_now {
            // Whatever was called bad was so before this began: one word on each snapshot says it all.
            turned.append(&mut mended);
        }
        catch_up.say_proved(self.view, &own, began, &turned)?;
        // Only what begins after the bad word was signed takes it back.
        catch_up.say_proved(self.view, &own, mending, &mended)
    }

    /// Which objects of `records` are not whole, and which are although they were found bad before.
    fn look(&self, catch_up: &CatchUp<'_, '_>, records: &[Named]) -> Result<Found, Stop> {
        let named_bad = self.named_bad();
        let mut looked: HashSet<ObjectId> = HashSet::new();
        let mut found = Found::default();
        for object in records.iter().flat_map(|(record, _)| &record.objects) {
            if !looked.insert(object.id) {
                continue;
            }
            self.session.around.interrupt.check()?;
            if !self.is_whole(catch_up, object, &named_bad)? {
                found.bad.push(*object);
            } else if named_bad.contains(&object.id) {
                // A run that mended it was killed before it could say so, or somebody else mended it: it was read just now.
                found.turned.insert(object.id);
            }
        }
        Ok(found)
    }

    /// The records that the store has and that count, oldest first.
    fn records_there(&self) -> Vec<Named> {
        let view = &self.vault.views[self.view];
        let counts = |s: &&KnownSnapshot| s.trusted == Trust::Trusted && s.void.is_none();
        let usable: HashSet<ObjectId> = self.vault.snapshots().filter(counts).map(|s| s.hash).collect();
        let mut records = BTreeMap::new();
        for entry in self.vault.entries.iter().filter(|e| view.present.contains(&name_of(e))) {
            if let EntryBody::Record(record) = &entry.body
                && usable.contains(&entry.hash)
            {
                records.insert((record.started, entry.hash), std::sync::Arc::clone(record));
            }
        }
        records.into_iter().map(|((_, hash), record)| (record, hash)).collect()
    }

    /// Objects that a verdict found bad in this store and that none proved since.
    fn named_bad(&self) -> HashSet<ObjectId> {
        let history = &self.vault.history;
        let standing = history.hosts.keys().flat_map(|host| history.standing(host, self.instance()));
        standing.filter(|(_, standing)| standing.bad).map(|(id, _)| id).collect()
    }

    fn is_whole(
        &self,
        catch_up: &CatchUp<'_, '_>,
        object: &ObjectRef,
        named_bad: &HashSet<ObjectId>,
    ) -> Result<bool, Stop> {
        let store = &*self.vault.views[self.view].store;
        let there = in_store(store, store.head(&Key::data(object.kind, object.id)))?;
        if there != Some(object.size) {
            return Ok(false);
        }
        if self.options.read_data || named_bad.contains(&object.id) {
            return Ok(catch_up.carrier(self.view).read_back(object)?);
        }
        Ok(true)
    }

    /// Brings one object from wherever it is whole; false when it is so nowhere.
    fn mend_object(&mut self, catch_up: &CatchUp<'_, '_>, object: &ObjectRef) -> Result<bool, Stop> {
        let key = Key::data(object.kind, object.id).to_string();
        match catch_up.carrier(self.view).bring(object) {
            Ok(Had::Whole) => Ok(true),
            Ok(_) => {
                self.report.objects += 1;
                self.report.bytes += object.size;
                self.report.mended.push(key);
                Ok(true)
            }
            Err(NotHad::Nowhere(_)) => {
                self.report.lost.push(key);
                Ok(false)
            }
            Err(NotHad::Target(error)) => Err(error.into()),
        }
    }
}

/// What looking at a store found.
#[derive(Default)]
struct Found {
    bad: Vec<ObjectRef>,
    /// Found bad before and whole now: read just now.
    turned: BTreeSet<ObjectId>,
}
