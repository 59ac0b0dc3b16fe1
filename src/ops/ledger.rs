//! This host's chain across all stores: which entry lies where, and what each store lacks.

use crate::model::chain::{ChainEntry, EntryBody};
use crate::model::mark::{Removed, Statement};
use crate::model::proof::Standing;
use crate::model::{HostId, ObjectId, SignerId, VaultId};
use crate::ops::error::{Class, Doing, Result};
use crate::ops::excuses::{excuses_in, said};
use crate::ops::session::Session;
use crate::ops::vault::{EntryName, Vault, key_of, name_of, parse_entry};
use crate::store::Key;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// An entry of this host, and its bytes where they are at hand.
pub(super) struct OwnEntry {
    pub(super) key: Key,
    pub(super) entry: ChainEntry,
    pub(super) bytes: Option<Vec<u8>>,
}

/// What one store holds of this host's chain.
struct Holding {
    instance: VaultId,
    present: BTreeSet<u64>,
    excused: BTreeSet<u64>,
    /// Of those excused: what `absent` marks of earlier runs name, and no `prune` mark.
    absent: BTreeSet<u64>,
    /// What cannot be brought in this run, and what nobody may say is not there.
    not_now: BTreeSet<u64>,
}

/// This host's entries by number, over all its keys.
pub(super) struct Ledger {
    pub(super) entries: BTreeMap<u64, OwnEntry>,
    /// Entries that only marks name: nobody has them any more.
    gone: BTreeMap<u64, Removed>,
    holdings: Vec<Holding>,
    /// Two entries have one number: nothing is carried across that.
    pub(super) forked: bool,
    voids: BTreeSet<(ObjectId, Option<VaultId>)>,
    deleted: BTreeSet<ObjectId>,
}

impl Ledger {
    /// What the stores that were read, and the documents kept here, hold of the chain of `host`.
    pub(super) fn of(session: &Session, vault: &Vault, host: &HostId) -> Result<Self> {
        let kept = kept_here(session, vault)?;
        // What ends a fork counts from when it is signed: else nothing could ever be carried across that fork, it itself neither.
        let settles = |(entry, _): &Kept| {
            matches!(entry.as_mark().map(|m| &m.statement), Some(Statement::Settle { .. }))
        };
        let settled =
            kept.iter().any(settles).then(|| vault.history_with(kept.iter().map(|(e, _)| e.clone())));
        let history = settled.as_ref().unwrap_or(&vault.history);
        let own = |signer: &SignerId| history.keys().is_of(signer, host) || HostId::from(*signer) == *host;
        let mut ledger = Self {
            entries: BTreeMap::new(),
            gone: BTreeMap::new(),
            holdings: Vec::new(),
            forked: false,
            voids: BTreeSet::new(),
            deleted: vault.snapshots().filter(|s| s.delete_asked).map(|s| s.hash).collect(),
        };
        // What lost when a fork was settled lies in the stores for ever, and is none of this chain.
        let stands = |e: &ChainEntry| !history.is_dropped(&e.signer(), e.number(), &e.hash);
        for entry in vault.entries.iter().filter(|e| own(&e.signer()) && stands(e)) {
            ledger.add(entry.clone(), None);
        }
        let mut signed_here = Vec::new();
        for (entry, bytes) in kept.into_iter().filter(|(e, _)| own(&e.signer()) && stands(e)) {
            signed_here.push(entry.clone());
            ledger.add(entry, Some(bytes));
        }
        for view in &vault.views {
            let held = |(number, own): (&u64, &OwnEntry)| {
                view.present.contains(&name_of(&own.entry)).then_some(*number)
            };
            let (pruned, absent) = excuses_in(vault, &view.info.instance);
            let numbers = |names: BTreeSet<EntryName>| -> BTreeSet<u64> {
                names.into_iter().filter(|e| own(&e.0)).map(|e| e.1).collect()
            };
            let (pruned, absent) = (numbers(pruned), numbers(absent));
            ledger.holdings.push(Holding {
                instance: view.info.instance.clone(),
                present: ledger.entries.iter().filter_map(held).collect(),
                excused: pruned.union(&absent).copied().collect(),
                absent: absent.difference(&pruned).copied().collect(),
                not_now: BTreeSet::new(),
            });
        }
        // Anybody may sign that any number is gone; only who may say so makes it one of this chain.
        for row in said(vault).flat_map(|said| said.rows()) {
            if own(&row.signer) && !ledger.entries.contains_key(&row.number) {
                ledger.gone.insert(row.number, row.clone());
            }
        }
        signed_here.iter().for_each(|entry| ledger.excuse(entry));
        Ok(ledger)
    }

    fn add(&mut self, entry: ChainEntry, bytes: Option<Vec<u8>>) {
        if let Some(Statement::Void { target, instance, .. }) = entry.as_mark().map(|m| &m.statement) {
            self.voids.insert((target.record, instance.clone()));
        }
        match self.entries.get_mut(&entry.number()) {
            Some(there) if there.entry.hash != entry.hash => self.forked = true,
            Some(there) => there.bytes = there.bytes.take().or(bytes),
            None => {
                let key = key_of(&entry);
                self.entries.insert(entry.number(), OwnEntry { key, entry, bytes });
            }
        }
    }

    /// Takes up an entry that was signed just now and put into the store at `view`.
    pub(super) fn learn(&mut self, entry: ChainEntry, bytes: Vec<u8>, view: usize) {
        let number = entry.number();
        self.excuse(&entry);
        self.add(entry, Some(bytes));
        self.put(number, view);
    }

    /// Takes up what a mark of this machine says is gone, as every reader will: a key calls only its own entries absent, and what is pruned may be
    /// another's.
    fn excuse(&mut self, entry: &ChainEntry) {
        let (instance, rows, any) = match entry.as_mark().map(|m| &m.statement) {
            Some(Statement::Prune { instance, removed }) => (instance, removed, true),
            Some(Statement::Absent { instance, entries }) => (instance, entries, false),
            _ => return,
        };
        let meant = |row: &&Removed| {
            let known =
                self.row(row.number).is_some_and(|own| own.signer == row.signer && own.hash == row.hash);
            known && (any || row.signer == entry.signer())
        };
        let numbers: Vec<u64> = rows.iter().filter(meant).map(|row| row.number).collect();
        if let Some(holding) = self.holdings.iter_mut().find(|h| h.instance == *instance) {
            holding.excused.extend(numbers);
        }
    }

    /// Takes up that nobody misses an entry in the store at `view`, although it is not there.
    pub(super) fn pass_over(&mut self, number: u64, view: usize) {
        if let Some(holding) = self.holdings.get_mut(view) {
            holding.excused.insert(number);
        }
    }

    /// Takes up that the store at `view` has an entry now.
    pub(super) fn put(&mut self, number: u64, view: usize) {
        if let Some(holding) = self.holdings.get_mut(view) {
            holding.present.insert(number);
        }
    }

    /// Numbers that the store at `view` lacks, lowest first. What no store and no mark knows is nobody's to bring.
    pub(super) fn missing(&self, view: usize) -> Vec<u64> {
        let Some(holding) = self.holdings.get(view) else {
            return Vec::new();
        };
        let known: BTreeSet<u64> = self.entries.keys().chain(self.gone.keys()).copied().collect();
        let there = |n: &u64| holding.present.contains(n) || holding.excused.contains(n);
        known.into_iter().filter(|n| !there(n)).collect()
    }

    /// Numbers that an `absent` mark names for the store at `view`, and that another store shows after all: it was away when the mark was
    /// signed. What is void there, or was asked to go, is not among them.
    pub(super) fn returned(&self, view: usize) -> BTreeSet<u64> {
        let elsewhere =
            |n: &u64| (0..self.holdings.len()).any(|other| other != view && self.holds(other, *n));
        let wanted = |n: &u64| self.entries.get(n).is_some_and(|own| !self.unwanted(&own.entry.hash, view));
        let absent = self.holdings.get(view).into_iter().flat_map(|h| h.absent.difference(&h.present));
        absent.filter(|n| elsewhere(n) && wanted(n)).copied().collect()
    }

    /// Numbers to bring to the store at `view`, lowest first: those missing, and those that returned.
    pub(super) fn to_bring(&self, view: usize) -> BTreeSet<u64> {
        let not_now = |n: &u64| self.holdings.get(view).is_some_and(|h| h.not_now.contains(n));
        self.missing(view).into_iter().chain(self.returned(view)).filter(|n| !not_now(n)).collect()
    }

    /// Takes up that the store at `view` goes on lacking an entry, and that nothing says so.
    pub(super) fn leave(&mut self, number: u64, view: usize) {
        if let Some(holding) = self.holdings.get_mut(view) {
            holding.not_now.insert(number);
        }
    }

    /// Takes up that an entry that returned cannot be brought in this run. The mark that names it stands.
    pub(super) fn give_up(&mut self, number: u64, view: usize) {
        if let Some(holding) = self.holdings.get_mut(view) {
            holding.absent.remove(&number);
        }
    }

    /// Records that lie in the store at `view` although an `absent` mark names them.
    pub(super) fn came_late(&self, view: usize) -> Vec<u64> {
        let record = |n: &u64| {
            let own = self.entries.get(n).filter(|own| matches!(own.entry.body, EntryBody::Record(_)));
            own.is_some_and(|own| !self.unwanted(&own.entry.hash, view))
        };
        let there = self.holdings.get(view).into_iter().flat_map(|h| h.absent.intersection(&h.present));
        there.filter(|n| record(n)).copied().collect()
    }

    /// How an `absent` mark names the entry.
    pub(super) fn row(&self, number: u64) -> Option<Removed> {
        let there = self.entries.get(&number).map(|own| Removed {
            signer: own.entry.signer(),
            number,
            hash: own.entry.hash,
            snapshot: own.entry.snapshot().cloned(),
        });
        there.or_else(|| self.gone.get(&number).cloned())
    }

    /// True when the store at `view` holds the entry.
    pub(super) fn holds(&self, view: usize, number: u64) -> bool {
        self.holdings.get(view).is_some_and(|h| h.present.contains(&number))
    }

    /// True when the record must not go into the store at `view`: its commit did not hold, or somebody who may asked for it to go.
    pub(super) fn unwanted(&self, record: &ObjectId, view: usize) -> bool {
        let instance = self.holdings.get(view).map(|h| h.instance.clone());
        self.voids.contains(&(*record, None))
            || self.voids.contains(&(*record, instance))
            || self.deleted.contains(record)
    }

    /// The newest record in the store at `view` that is not void: its number.
    pub(super) fn newest_record(&self, view: usize) -> Option<u64> {
        let record = |(number, own): (&u64, &OwnEntry)| {
            let wanted =
                matches!(own.entry.body, EntryBody::Record(_)) && !self.unwanted(&own.entry.hash, view);
            (wanted && self.holds(view, *number)).then_some(*number)
        };
        self.entries.iter().rev().find_map(record)
    }

    /// The highest number there is.
    pub(super) fn head(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(0)
    }
}

/// An entry that was signed on this machine, and its bytes.
type Kept = (ChainEntry, Vec<u8>);

/// What was signed here and is kept until every store has it.
fn kept_here(session: &Session, vault: &Vault) -> Result<Vec<Kept>> {
    let documents = session.state()?.kept_documents();
    let mut kept = Vec::new();
    for document in documents.doing(Class::Failed, || "cannot read what was signed and kept here".into())? {
        let entry = parse_entry(&document.key, &document.bytes, &vault.info.vault);
        let entry =
            entry.doing(Class::Failed, || format!("{} cannot be read as it is kept here", document.key))?;
        kept.extend(entry.map(|entry| (entry, document.bytes)));
    }
    Ok(kept)
}

/// Objects of a host that counting verdicts prove in a store, and that none found bad since; with what was said of each.
pub(super) fn proved_in(vault: &Vault, host: &HostId, instance: &VaultId) -> HashMap<ObjectId, Standing> {
    let mut standing = vault.history.standing(host, instance);
    standing.retain(|_, standing| standing.proved.is_some());
    standing
}
