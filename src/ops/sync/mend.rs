//! Objects of records that a store has: missing, of another size, or (when all is read) with other bytes: brought again from another store.

use super::One;
use crate::model::chain::{EntryBody, KnownSnapshot, Trust};
use crate::model::record::ObjectRef;
use crate::model::{ObjectId, Record};
use crate::ops::carry::{Had, NotHad};
use crate::ops::catchup::{CatchUp, Stop};
use crate::ops::session::in_store;
use crate::ops::vault::name_of;
use crate::store::Key;
use std::collections::{BTreeMap, BTreeSet, HashSet};

impl One<'_> {
    /// Looks at every object of the records that are in the store, and mends what is not whole. Of this host's snapshots the verdicts say it:
    /// first what is bad, then what is proved again.
    pub(super) fn mend(&mut self, catch_up: &mut CatchUp<'_, '_>) -> Result<(), Stop> {
        self.spool_clear()?;
        let records = self.records_there();
        let named_bad = self.named_bad();
        let mut looked: HashSet<ObjectId> = HashSet::new();
        for (hash, record) in records {
            self.session.around.interrupt.check()?;
            let mut bad = Vec::new();
            for object in record.objects.iter().filter(|o| looked.insert(o.id)) {
                if !self.is_whole(catch_up, object, &named_bad)? {
                    bad.push(*object);
                }
            }
            if !bad.is_empty() {
                self.mend_record(catch_up, &record, hash, bad)?;
            }
        }
        Ok(())
    }

    /// The records that the store has and that count, oldest first.
    fn records_there(&self) -> Vec<(ObjectId, std::sync::Arc<Record>)> {
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
        records.into_iter().map(|((_, hash), record)| (hash, record)).collect()
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

    fn mend_record(
        &mut self,
        catch_up: &mut CatchUp<'_, '_>,
        record: &Record,
        hash: ObjectId,
        bad: Vec<ObjectRef>,
    ) -> Result<(), Stop> {
        let own = record.host == self.host;
        let began = self.session.around.clock.now();
        let named: BTreeSet<ObjectId> = bad.iter().map(|o| o.id).collect();
        if own && !catch_up.ledger.forked {
            // First what is bad: what was proved of it before ends here, whatever becomes of the repair.
            catch_up.found_bad(self.view, record, hash, began, &named)?;
        }
        for object in bad {
            let key = Key::data(object.kind, object.id).to_string();
            match catch_up.carrier(self.view).bring(&object) {
                Ok(Had::Whole) => {}
                Ok(_) => {
                    self.report.objects += 1;
                    self.report.bytes += object.size;
                    self.report.mended.push(key);
                }
                Err(NotHad::Nowhere(_)) => {
                    self.report.lost.push(key);
                    continue;
                }
                Err(NotHad::Target(error)) => return Err(error.into()),
            }
            catch_up.proved_now(self.view, object.id);
        }
        if own && !catch_up.ledger.forked {
            catch_up.say_proved(self.view, record, hash, began, &named)?;
        }
        Ok(())
    }
}
