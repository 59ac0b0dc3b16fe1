//! Entries of other trusted signers: copied, lowest number first. Nothing is signed in their name.

use super::One;
use crate::durable::crash;
use crate::model::SignerId;
use crate::model::chain::{ChainEntry, EntryBody};
use crate::ops::carry::{Had, NotHad};
use crate::ops::catchup::{CatchUp, Stop};
use crate::ops::commit::prove_in;
use crate::ops::excuses::excused_in;
use crate::ops::originals::original;
use crate::ops::session::in_store;
use crate::ops::union::store_problem;
use crate::ops::vault::{key_of, name_of};
use std::collections::{BTreeMap, HashSet};

impl One<'_> {
    /// Copies what the store lacks of other signers that are trusted. A stranger's entries are not followed: they could name any amount.
    pub(super) fn foreign(&mut self, catch_up: &CatchUp<'_, '_>) -> Result<(), Stop> {
        let view = &self.vault.views[self.view];
        let (keys, excused) = (self.vault.history.keys(), excused_in(self.vault, &view.info.instance));
        let deleted: HashSet<_> = self.vault.snapshots().filter(|s| s.delete_asked).map(|s| s.hash).collect();
        let own = |signer: &SignerId| keys.is_of(signer, &self.host);
        let mut missing: BTreeMap<(SignerId, u64), &ChainEntry> = BTreeMap::new();
        for entry in self.vault.entries.iter().filter(|e| keys.counts(e) && !own(&e.signer())) {
            let name = name_of(entry);
            if !view.present.contains(&name) && !excused.contains(&name) {
                missing.insert((entry.signer(), entry.number()), entry);
            }
        }
        let mut stopped: HashSet<SignerId> = HashSet::new();
        for ((signer, _), entry) in missing {
            self.session.around.interrupt.check()?;
            if stopped.contains(&signer) {
                self.report.entries_behind += 1;
            } else if deleted.contains(&entry.hash) || !self.copy_entry(catch_up, entry)? {
                // Above a hole nothing is put: only that signer could say what is absent.
                stopped.insert(signer);
                self.report.entries_behind += 1;
            } else {
                self.report.entries += 1;
            }
        }
        Ok(())
    }

    fn copy_entry(&mut self, catch_up: &CatchUp<'_, '_>, entry: &ChainEntry) -> Result<bool, Stop> {
        let key = key_of(entry);
        let mut holders = self.vault.views.iter().filter(|v| v.present.contains(&name_of(entry)));
        let bytes = holders.find_map(|v| original(&*v.store, &key, &entry.hash, &self.vault.info.vault));
        let Some(bytes) = bytes else {
            return Ok(false);
        };
        let (store, instance) = (&*self.vault.views[self.view].store, self.instance().clone());
        let EntryBody::Record(record) = &entry.body else {
            in_store(store, store.put_bytes(&key, &bytes))?;
            return Ok(true);
        };
        let carrier = catch_up.carrier(self.view);
        for object in &record.objects {
            self.session.around.interrupt.check()?;
            match carrier.bring(object) {
                Ok(Had::Whole) => {}
                Ok(_) => {
                    self.report.objects += 1;
                    self.report.bytes += object.size;
                }
                Err(NotHad::Nowhere(_)) => return Ok(false),
                Err(NotHad::Target(error)) => return Err(error.into()),
            }
        }
        if prove_in(store, &instance, &record.objects)?.is_err() {
            return Ok(false);
        }
        crash::point("sync: foreign objects proved");
        in_store(store, store.put_bytes(&key, &bytes))?;
        crash::point("sync: foreign record put");
        if let Err(why) = prove_in(store, &instance, &record.objects)? {
            let what = format!("snapshot {} of another host was put there, and then {why}", record.snapshot);
            let hint = "run `backstay sync` again; only that host can void it";
            self.session.trouble(store_problem(store.name(), what, hint));
        }
        Ok(true)
    }
}
