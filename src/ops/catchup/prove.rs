//! What is proved of objects in a store, and what is found bad there: said by verdicts, the bad before it is mended.

use super::{CatchUp, Named, Stop};
use crate::durable::crash;
use crate::model::chain::EntryBody;
use crate::model::mark::{Level, Statement, Target, Verdict};
use crate::model::record::CheckResult;
use crate::model::{ObjectId, Record, Timestamp};
use crate::ops::carried::{Carried, ranges};
use crate::ops::commit::prove_in;
use crate::ops::error::{Class, Doing, Result};
use crate::ops::session::in_store;
use crate::ops::union::store_problem;
use crate::store::Key;
use std::collections::BTreeSet;
use std::sync::Arc;

impl CatchUp<'_, '_> {
    /// What this run proved of the record's objects in the store at `view`.
    pub(super) fn verdict(
        &self,
        view: usize,
        record: &Record,
        hash: ObjectId,
        began: Timestamp,
    ) -> Option<Verdict> {
        self.verdict_on(view, record, hash, began, &|_| true)
    }

    /// The same of those objects for which `meant` is true.
    fn verdict_on(
        &self,
        view: usize,
        record: &Record,
        hash: ObjectId,
        began: Timestamp,
        meant: &dyn Fn(&ObjectId) -> bool,
    ) -> Option<Verdict> {
        let proved = self.proved.get(&view)?;
        let objects = (0u64..).zip(&record.objects).filter(|(_, o)| meant(&o.id));
        let here = objects.filter_map(|(at, o)| Some((at, *proved.get(&o.id)?)));
        let level = least(here.clone().map(|(_, how)| how))?;
        let covered = ranges(here.map(|(at, _)| at));
        let checks: Vec<(u64, CheckResult)> = record
            .components
            .iter()
            .filter(|c| c.check != CheckResult::None)
            .map(|c| (c.number, c.check))
            .collect();
        Some(Verdict {
            target: Target { snapshot: record.snapshot.clone(), record: hash },
            instance: self.views[view].info.instance.clone(),
            level,
            began,
            good: checks.iter().all(|c| c.1 != CheckResult::Failed),
            covered,
            bad: Vec::new(),
            checks,
        })
    }

    /// The same, and what older verdicts proved of the rest: those end when prune takes the snapshots that they are about.
    pub(super) fn verdicts(
        &self,
        view: usize,
        record: &Record,
        hash: ObjectId,
        began: Timestamp,
    ) -> Vec<Verdict> {
        let Some(own) = self.verdict(view, record, hash, began) else {
            return Vec::new();
        };
        let (proved, known) = (self.proved.get(&view), self.known.get(view));
        let older = (0u64..).zip(&record.objects).filter_map(|(place, object)| {
            let now = proved.is_some_and(|proved| proved.contains_key(&object.id));
            Some((place, *known?.get(&object.id).filter(|_| !now)?))
        });
        let now = self.session.around.clock.now();
        let carried = Carried::of(older, now, self.session.reverify()).verdicts(&own);
        std::iter::once(own).chain(carried).collect()
    }

    /// Looks again at the newest record of this host in the store at `view`, and at those that came late and that nobody proved: a run that
    /// was killed after it put one there did not. What is missing is brought; what nobody proved there is read and proved.
    pub(in crate::ops) fn look_again(&mut self, view: usize) -> std::result::Result<(), Stop> {
        if self.ledger.forked {
            return Ok(());
        }
        let unproved = |number: &u64| match self.ledger.entries.get(number).map(|own| &own.entry.body) {
            Some(EntryBody::Record(record)) => !self.all_known(view, record),
            _ => false,
        };
        let mut numbers: BTreeSet<u64> = self.ledger.came_late(view).into_iter().filter(unproved).collect();
        numbers.extend(self.ledger.newest_record(view));
        numbers.into_iter().try_for_each(|number| self.look_again_at(view, number))
    }

    /// Whether verdicts proved every object of the record in the store at `view`.
    fn all_known(&self, view: usize, record: &Record) -> bool {
        self.known.get(view).is_some_and(|known| record.objects.iter().all(|o| known.contains_key(&o.id)))
    }

    fn look_again_at(&mut self, view: usize, number: u64) -> std::result::Result<(), Stop> {
        let Some(own) = self.ledger.entries.get(&number) else {
            return Ok(());
        };
        let (EntryBody::Record(record), hash) = (own.entry.body.clone(), own.entry.hash) else {
            return Ok(());
        };
        let (store, instance) = (Arc::clone(&self.views[view].store), self.views[view].info.instance.clone());
        let looked = self.session.around.clock.now();
        let whole = prove_in(&*store, &instance, &record.objects)?;
        if whole.is_ok() && self.all_known(view, &record) {
            return Ok(());
        }
        let bad = match whole {
            Ok(()) => BTreeSet::new(),
            Err(why) => self.say_bad(view, &record, hash, looked, &why)?,
        };
        crash::point("catch-up: looking again");
        // Only what begins after the bad word was signed takes it back.
        let began = self.session.around.clock.now();
        let nowhere = self.bring_objects(view, &record)?;
        let again = prove_in(&*store, &instance, &record.objects)?;
        if let Some(why) = nowhere.map(|nowhere| nowhere.why).or_else(|| again.err()) {
            // What is damaged there does not keep what is new from it.
            let what = format!("snapshot {} is damaged there: {why}", record.snapshot);
            let hint = "`backstay sync` mends it when a store that has it whole is here";
            self.session.trouble(store_problem(store.name(), what, hint));
            return Ok(());
        }
        if let Some(verdict) = self.verdict(view, &record, hash, began) {
            self.sign(Statement::Verdict(verdict))?;
        }
        let others = self.sharing(view, hash, &bad);
        self.say_proved(view, &others, began, &bad)
    }

    /// Says which objects of a record are not there, before anything is mended, and gives them: what was proved of them ends with this.
    fn say_bad(
        &mut self,
        view: usize,
        record: &Record,
        hash: ObjectId,
        began: Timestamp,
        why: &str,
    ) -> std::result::Result<BTreeSet<ObjectId>, Stop> {
        let store = &self.views[view].store;
        let mut bad = BTreeSet::new();
        for object in &record.objects {
            let key = Key::data(object.kind, object.id);
            if in_store(&**store, store.head(&key))? != Some(object.size) {
                bad.insert(object.id);
            }
        }
        self.session.note(&format!("store {}: snapshot {}: {why}", store.name(), record.snapshot));
        if !bad.is_empty() {
            let here = std::iter::once((Arc::new(record.clone()), hash));
            let all: Vec<Named> = here.chain(self.sharing(view, hash, &bad)).collect();
            self.found_bad(view, &all, began, &bad)?;
        }
        Ok(bad)
    }

    /// Signs that these objects were found bad in the store at `view`, of each of `records` that needs one of them: each object once, until it
    /// is proved there again. True when something was signed.
    pub(in crate::ops) fn found_bad(
        &mut self,
        view: usize,
        records: &[Named],
        began: Timestamp,
        bad: &BTreeSet<ObjectId>,
    ) -> std::result::Result<bool, Stop> {
        if let Some(known) = self.known.get_mut(view) {
            known.retain(|id, _| !bad.contains(id));
        }
        let mut said_now = false;
        for (record, hash) in records {
            let said = self.said_bad.get(view);
            let unsaid = |id: &ObjectId| bad.contains(id) && !said.is_some_and(|said| said.says(id, hash));
            let bad: Vec<ObjectId> = record.objects.iter().map(|o| o.id).filter(unsaid).collect();
            if bad.is_empty() {
                continue;
            }
            self.sign(Statement::Verdict(Verdict {
                target: Target { snapshot: record.snapshot.clone(), record: *hash },
                instance: self.views[view].info.instance.clone(),
                level: Level::Presence,
                began,
                good: false,
                covered: Vec::new(),
                bad,
                checks: Vec::new(),
            }))?;
            said_now = true;
        }
        Ok(said_now)
    }

    /// Takes up what a verdict says that was signed just now, at `time`.
    pub(super) fn learn_verdict(&mut self, verdict: &Verdict, time: Timestamp) {
        let view = self.views.iter().position(|v| v.info.instance == verdict.instance);
        let own = self.ledger.entries.values().find(|own| own.entry.hash == verdict.target.record);
        if let Some(said) = view.and_then(|view| self.said_bad.get_mut(view))
            && let Some(EntryBody::Record(record)) = own.map(|own| &own.entry.body)
        {
            said.learn(record, verdict.target.record, verdict, time);
        }
    }

    /// Records of this host beside `but` that the store at `view` has for good and that need one of `objects`.
    fn sharing(&self, view: usize, but: ObjectId, objects: &BTreeSet<ObjectId>) -> Vec<Named> {
        let mut found = Vec::new();
        for (number, own) in &self.ledger.entries {
            let hash = own.entry.hash;
            if let EntryBody::Record(record) = &own.entry.body
                && hash != but
                && self.ledger.holds(view, *number)
                && !self.ledger.unwanted(&hash, view)
                && record.objects.iter().any(|o| objects.contains(&o.id))
            {
                found.push((Arc::clone(record), hash));
            }
        }
        found
    }

    /// Says of each of `records` which of `objects` this run proved in the store at `view`. No database was checked.
    pub(in crate::ops) fn say_proved(
        &mut self,
        view: usize,
        records: &[Named],
        began: Timestamp,
        objects: &BTreeSet<ObjectId>,
    ) -> std::result::Result<(), Stop> {
        for (record, hash) in records {
            if let Some(verdict) = self.verdict_on(view, record, *hash, began, &|id| objects.contains(id)) {
                self.sign(Statement::Verdict(Verdict { checks: Vec::new(), good: true, ..verdict }))?;
            }
        }
        Ok(())
    }

    /// What verdicts proved in the store at `view` counts no more: it is not what it was.
    pub(in crate::ops) fn trust_nothing(&mut self, view: usize) {
        if let Some(known) = self.known.get_mut(view) {
            known.clear();
        }
        self.had_counts_no_more(view);
    }

    /// Takes up that an object was read and found whole in the store at `view`.
    pub(in crate::ops) fn proved_now(&mut self, view: usize, object: ObjectId) {
        self.proved.entry(view).or_default().insert(object, Level::Read);
    }

    /// Forgets documents that every store of the configuration has, or is excused from.
    pub(in crate::ops) fn tidy_outbox(&self) -> Result<()> {
        let (state, config) = (self.session.state()?, self.session.config()?);
        let mut lowest_missing = u64::MAX;
        for store in &config.stores {
            let cannot = || "cannot read which stores were seen".into();
            let instance = state.instance_of(&store.name).doing(Class::Damage, cannot)?;
            let view = self.views.iter().position(|v| Some(&v.info.instance) == instance.as_ref());
            let lacks = match (view, instance) {
                (Some(view), _) => self.ledger.missing(view).first().copied(),
                (None, Some(instance)) => {
                    let heads = crate::ops::union::heads_in(state, &instance)?;
                    let head = heads.get(&self.chain.signer_id()).map_or(0, |head| head.0);
                    Some(head + 1)
                }
                (None, None) => Some(1),
            };
            lowest_missing = lowest_missing.min(lacks.unwrap_or(u64::MAX));
        }
        let done = self.ledger.entries.range(..lowest_missing).filter(|(_, own)| own.bytes.is_some());
        for (number, own) in done {
            state
                .forget_document(&own.entry.signer(), *number)
                .doing(Class::Failed, || "cannot forget what every store has".into())?;
        }
        Ok(())
    }
}

/// One level for several objects: no more than was done with each of them.
fn least(levels: impl Iterator<Item = Level>) -> Option<Level> {
    levels.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_only_put_is_not_said_to_be_read_beside_what_was() {
        assert_eq!(least([Level::Read, Level::Put, Level::Read].into_iter()), Some(Level::Put));
        assert_eq!(least([Level::Read].into_iter()), Some(Level::Read));
        assert_eq!(least(std::iter::empty()), None);
    }
}
