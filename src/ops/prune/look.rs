//! Before anything is planned: is all that the store holds known, and told honestly?
//!
//! A listing alone never says that something is not there. It must agree with the chains, with what this machine saw before, and with a
//! direct look for entries behind the ends that it shows.

use crate::model::chain::{Break, BreakKind, ChainEntry, EntryBody};
use crate::model::document::DOCUMENT_BYTES_MAX;
use crate::model::id::{ObjectId, SignerId, SnapshotId};
use crate::model::mark::{Role, Statement};
use crate::model::{ObjectKind, Timestamp};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::excuses::{excused_in, unsaid};
use crate::ops::session::{Session, in_store};
use crate::ops::vault::{BadDocument, Vault, View, name_of, too_new};
use crate::store::{Key, Prefix, Store};
use jiff::SignedDuration;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Clocks that differ by more decide nothing.
const SKEW_MAX: SignedDuration = SignedDuration::from_mins(5);
/// The least time between a tombstone and what it announces.
const GRACE_MIN: SignedDuration = SignedDuration::from_hours(24);
/// The longest: what a record says of its own length must not hold everything up for ever.
const GRACE_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);
/// So many places behind the end of each chain are looked at directly.
const BEHIND: u64 = 4;

/// A data object that a store lists.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data {
    pub(super) kind: ObjectKind,
    pub(super) id: ObjectId,
    pub(super) size: u64,
    pub(super) modified: Option<Timestamp>,
}

/// What a store holds, after all that can be doubted about it was.
pub(super) struct Looked {
    pub(super) now: Timestamp,
    /// Records that are listed, and when the store says each was put.
    pub(super) stored: HashMap<SnapshotId, Option<Timestamp>>,
    pub(super) data: Vec<Data>,
    /// Objects named by records that are passed over: they stay.
    pub(super) held: HashSet<ObjectId>,
    /// From a tombstone to what it announces.
    pub(super) grace: SignedDuration,
}

/// One store and what is asked about it.
pub(super) struct Look<'a> {
    pub(super) session: &'a Session,
    pub(super) vault: &'a Vault,
    pub(super) view: &'a View,
    /// Documents in this very store that cannot be used, also where another one has them whole.
    pub(super) bad: &'a [BadDocument],
    /// Records that are passed over.
    pub(super) ignore: &'a BTreeSet<SnapshotId>,
}

impl Look<'_> {
    /// Looks at the store, and remembers which records it shows.
    pub(super) fn all(&self) -> Result<Looked> {
        let now = self.session.around.clock.now();
        self.clocks(now)?;
        self.readable()?;
        self.whole()?;
        self.nothing_behind()?;
        let store = &*self.view.store;
        let listed = in_store(store, store.list(Prefix::Records))?;
        let record = |listed: crate::store::Listed| match listed.key {
            Key::Record(id) => Some((id, listed.modified)),
            _ => None,
        };
        let stored: HashMap<SnapshotId, Option<Timestamp>> = listed.into_iter().filter_map(record).collect();
        self.nothing_vanished(&stored)?;
        let mut data = Vec::new();
        for prefix in [Prefix::Archives, Prefix::Manifests] {
            for listed in in_store(store, store.list(prefix))? {
                let (kind, id) = match listed.key {
                    Key::Archive(id) => (ObjectKind::Archive, id),
                    Key::Manifest(id) => (ObjectKind::Manifest, id),
                    _ => continue,
                };
                data.push(Data { kind, id, size: listed.size, modified: listed.modified });
            }
        }
        let mut held = HashSet::new();
        for id in self.ignore.iter().filter(|id| stored.contains_key(*id)) {
            held.extend(names_in(&in_store(store, store.get(&Key::Record(id.clone()), DOCUMENT_BYTES_MAX))?));
            // What another store has whole says what it needs, however little is left of it here.
            let whole = self.vault.entries.iter().filter_map(|e| match &e.body {
                EntryBody::Record(record) if record.snapshot == *id => Some(record),
                _ => None,
            });
            held.extend(whole.flat_map(|record| &record.objects).map(|object| object.id));
        }
        Ok(Looked { now, stored, data, held, grace: self.grace(now) })
    }

    /// The store's clock, and this machine's own past.
    fn clocks(&self, now: Timestamp) -> Result<()> {
        let store = &*self.view.store;
        // Any answer tells the time, and the newest is the one that counts.
        in_store(store, store.head(&Key::Store))?;
        if let Some(ahead) = store.clock_ahead().filter(|ahead| ahead.abs() > SKEW_MAX) {
            return Err(clock_error(&format!(
                "the clock of store {:?} is {} seconds {} this machine's",
                store.name(),
                ahead.abs().as_secs(),
                if ahead.is_positive() { "ahead of" } else { "behind" }
            )));
        }
        let own = self.session.signer()?.id();
        // The last one: an earlier one may be of a run whose clock was wrong, and what came after it says that it is right again.
        let said = self.vault.entries.iter().filter(|e| e.signer() == own).max_by_key(|e| e.number());
        let said = said.map(ChainEntry::time);
        match said.filter(|said| said.duration_since(now) > SKEW_MAX) {
            Some(said) => {
                let why = format!(
                    "the last that this machine itself signed is of {said:.0}, and it says that it is {now:.0} now"
                );
                Err(clock_error(&why).hint(
                    "set this machine's clock right; where it was wrong then and is right now, the next backup or signed verification says so: after that, prune again",
                ))
            }
            None => Ok(()),
        }
    }

    /// Every record can be read, and every mark that could say something; in this very store: what another one has whole does not say which
    /// objects here it holds, whoever signed it.
    fn readable(&self) -> Result<()> {
        let keys = self.vault.history.keys();
        for bad in self.vault.bad.iter().chain(self.bad) {
            if bad.too_new {
                return Err(
                    too_new(&bad.key).because("what it asks for cannot be known, so nothing is deleted")
                );
            }
            let (id, signer) = match Key::parse(&bad.key) {
                Some(Key::Record(id)) => (Some(id), None),
                Some(Key::Mark(signer, _)) => (None, Some(signer)),
                _ => continue,
            };
            let passed_over = id.as_ref().is_some_and(|id| self.ignore.contains(id));
            // What a stranger writes in his own name says nothing, readable or not.
            if passed_over || signer.is_some_and(|signer| !keys.is_trusted(&signer)) {
                continue;
            }
            let hint = match &id {
                Some(id) => format!(
                    "`backstay sync` mends it where a trusted key signed it and another store has it; `--ignore {id}` passes over it: it stays, and so does what it names"
                ),
                None => "`backstay sync` mends it where another store has it".to_owned(),
            };
            let what =
                format!("{} cannot be read, and what it says may be needed: nothing is deleted", bad.key);
            return Err(OpError::new(Class::Damage, what).because(bad.why.clone()).hint(hint));
        }
        Ok(())
    }

    /// No chain is broken, and the store lacks nothing that another has.
    fn whole(&self) -> Result<()> {
        let breaks = &self.vault.history.breaks;
        if !explained(breaks, self.ignore.len() as u64) {
            let why: Vec<String> = breaks.iter().map(ToString::to_string).collect();
            let what = "the history is not whole: what is hidden may still be needed, so nothing is deleted";
            return Err(OpError::new(Class::Damage, what).because(why.join("; ")).hint(self.way_to_whole()?));
        }
        let keys = self.vault.history.keys();
        let excused = excused_in(self.vault, &self.view.info.instance);
        let lacks = |e: &&ChainEntry| {
            let name = name_of(e);
            keys.counts(e) && !self.view.present.contains(&name) && !excused.contains(&name)
        };
        match self.vault.entries.iter().filter(lacks).map(name_of).collect::<BTreeSet<_>>().len() {
            0 => Ok(()),
            number => {
                let name = self.view.store.name();
                let what = format!(
                    "store {name:?} lacks {number} records and marks that another store has: nothing is deleted in it"
                );
                Err(OpError::new(Class::Store, what).hint(format!("`backstay sync --to {name}` brings them")))
            }
        }
    }

    fn way_to_whole(&self) -> Result<&'static str> {
        for view in &self.vault.views {
            if !unsaid(self.session, self.vault, view, false)?.is_empty() {
                return Ok(
                    "a store was made, or was away, after these were deleted from the others: `backstay prune` without --dry-run says so",
                );
            }
        }
        Ok("`backstay list` shows the history; `backstay sync` brings what another store has")
    }

    /// Looks directly for marks behind the end of each trusted chain: a listing that was cut short does not show them.
    fn nothing_behind(&self) -> Result<()> {
        let store = &*self.view.store;
        let mut ends: BTreeMap<SignerId, u64> =
            self.vault.history.keys().signers().map(|signer| (*signer, 0)).collect();
        let excused = excused_in(self.vault, &self.view.info.instance);
        for (signer, number, _) in self.view.present.iter().chain(&excused) {
            if let Some(end) = ends.get_mut(signer) {
                *end = (*end).max(*number);
            }
        }
        for (signer, end) in ends {
            for number in end + 1..=end + BEHIND {
                let key = Key::Mark(signer, number);
                if in_store(store, store.head(&key))?.is_some() {
                    return Err(changed(store, &format!("{key} is there and was not listed")));
                }
            }
        }
        Ok(())
    }

    /// Every record that was seen at an earlier prune is still there, or a mark says that it was deleted.
    fn nothing_vanished(&self, stored: &HashMap<SnapshotId, Option<Timestamp>>) -> Result<()> {
        let (state, instance) = (self.session.state()?, &self.view.info.instance);
        let cannot = || "cannot read which records were seen before".into();
        let seen = state.records_seen(instance).doing(Class::Damage, cannot)?;
        let read: BTreeMap<&SnapshotId, ObjectId> =
            records_in(self.vault, self.view).map(|(record, hash)| (&record.snapshot, hash)).collect();
        let gone = pruned(self.vault, instance);
        let missing =
            |id: &&SnapshotId| !stored.contains_key(*id) && !gone.contains(*id) && !self.ignore.contains(*id);
        if let Some(id) = seen.keys().find(missing).or_else(|| read.keys().copied().find(missing)) {
            let what = format!(
                "store {:?} no longer shows snapshot {id}, and no mark says that it was deleted",
                self.view.store.name()
            );
            return Err(OpError::new(Class::Damage, what)
                .because("the listing may be old or cut short: nothing is deleted")
                .hint(format!("run it again later; if you removed it by hand, `--ignore {id}`")));
        }
        let other = |(id, before): &(&SnapshotId, &Option<ObjectId>)| {
            before.zip(read.get(*id).copied()).is_some_and(|(before, now)| before != now)
                && !self.ignore.contains(*id)
        };
        if let Some((id, _)) = seen.iter().find(other) {
            return Err(exchanged(self.view.store.name(), id));
        }
        let shown = |id: &SnapshotId| read.get(id).copied().or_else(|| seen.get(id).copied().flatten());
        let records = stored.keys().map(|id| (id.clone(), shown(id))).collect();
        let cannot = || "cannot remember which records are there".into();
        state.see_records(instance, &records).doing(Class::Failed, cannot)
    }

    /// Twice the longest backup that trusted keys tell of, at least a day.
    fn grace(&self, now: Timestamp) -> SignedDuration {
        let keys = self.vault.history.keys();
        let trusted = records_in(self.vault, self.view).filter(|(r, _)| keys.is_of(&r.signer, &r.host));
        let took =
            trusted.filter(|(r, _)| r.finished <= now).map(|(r, _)| r.finished.duration_since(r.started));
        let longest = took.max().unwrap_or(SignedDuration::ZERO);
        longest.saturating_mul(2).clamp(GRACE_MIN, GRACE_MAX)
    }
}

/// The records that were read in the store of `view`, each with its hash.
pub(super) fn records_in<'v>(
    vault: &'v Vault,
    view: &'v View,
) -> impl Iterator<Item = (&'v crate::model::Record, ObjectId)> {
    vault.entries.iter().filter(|e| view.present.contains(&name_of(e))).filter_map(|e| match &e.body {
        EntryBody::Record(record) => Some((&**record, e.hash)),
        EntryBody::Mark(_) => None,
    })
}

/// Snapshots that counting marks say were deleted from the store with that instance.
pub(super) fn pruned(vault: &Vault, instance: &crate::model::VaultId) -> BTreeSet<SnapshotId> {
    let keys = vault.history.keys();
    let mut gone = BTreeSet::new();
    for entry in vault.entries.iter().filter(|e| keys.has_role(e, Role::Prune)) {
        if let Some(Statement::Prune { instance: of, removed }) = entry.as_mark().map(|m| &m.statement)
            && of == instance
        {
            gone.extend(removed.iter().filter_map(|row| row.snapshot.clone()));
        }
    }
    gone
}

/// True when `breaks` are no more than holes where `passed_over` records would be.
fn explained(breaks: &[Break], passed_over: u64) -> bool {
    let hole = |b: &Break| match b.kind {
        BreakKind::Gap { to } => to.checked_sub(b.number).map(|more| more + 1),
        BreakKind::RolledBack { seen, found } => seen.checked_sub(found),
        _ => None,
    };
    let holes: Option<Vec<u64>> = breaks.iter().map(hole).collect();
    holes.is_some_and(|holes| holes.into_iter().fold(0, u64::saturating_add) <= passed_over)
}

/// Every SHA-256 that stands in `bytes`, whatever else is wrong with them.
pub(super) fn names_in(bytes: &[u8]) -> HashSet<ObjectId> {
    let hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let mut names = HashSet::new();
    for run in bytes.split(|b| !hex(b)).filter(|run| run.len() >= 64) {
        names.extend(
            run.windows(64).filter_map(|name| std::str::from_utf8(name).ok()?.parse::<ObjectId>().ok()),
        );
    }
    names
}

fn clock_error(why: &str) -> OpError {
    OpError::new(Class::Failed, "nothing is deleted while it is not certain what time it is")
        .because(why.to_owned())
        .hint("set this machine's clock right, then run it again")
}

/// The record of `id` is not the one that it was. What the old one needs has no record any more that would hold it.
fn exchanged(store: &str, id: &SnapshotId) -> OpError {
    let what = format!("store {store:?} shows another record for snapshot {id} than at an earlier prune");
    OpError::new(Class::Damage, what)
        .because("a record never changes: somebody wrote over it, and nothing is deleted")
        .hint(format!(
            "bring the old one back, from a version that the store keeps or another store. With `--ignore {id}` the new one stays, and what only the old one needed goes"
        ))
}

/// The store changed while it was read, or hides something.
pub(super) fn changed(store: &dyn Store, why: &str) -> OpError {
    let what =
        format!("store {:?} changed while it was read, or does not show all that it holds", store.name());
    OpError::new(Class::Store, what)
        .because(why.to_owned())
        .hint("nothing more is deleted; run it again. If it says so again, that store's listings cannot be relied on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects_are_found_in_any_rubbish() {
        let (a, b) = (ObjectId::of(b"a"), ObjectId::of(b"b"));
        let text = format!("{{\"objects\":[[\"archive\",5,\"{a}\",0],\0\u{7}{b}{a}x");
        let mut found: Vec<ObjectId> = names_in(text.as_bytes()).into_iter().collect();
        assert!([a, b].iter().all(|id| found.contains(id)));
        found.retain(|id| *id != a && *id != b);
        assert_eq!(found.len(), 63, "every place in a longer run counts");
        assert!(names_in(b"no name here 0123456789abcdef").is_empty());
    }

    #[test]
    fn only_as_many_holes_are_passed_over_as_records_were_named() {
        let found = |number, kind| Break { signer: SignerId([1; 16]), number, snapshot: None, kind };
        let one = [found(5, BreakKind::Gap { to: 5 })];
        assert!(explained(&[], 0) && !explained(&one, 0) && explained(&one, 1));
        let two = [found(5, BreakKind::Gap { to: 6 })];
        assert!(!explained(&two, 1) && explained(&two, 2));
        let end = [found(9, BreakKind::RolledBack { seen: 9, found: 8 })];
        assert!(explained(&end, 1) && !explained(&end, 0));
        assert!(!explained(&[found(5, BreakKind::WrongPrevious)], 9), "other breaks are never explained");
    }
}
