//! Deleting what was announced: the mark first, then records, then marks about them, then objects, the tombstone last.
//!
//! Decision 0020 says why this order loses nothing. Nothing here may be deleted that a tombstone of this pruner does not name, and nothing
//! that the new plan does not let go as well.

use crate::durable::crash;
use crate::model::chain::ChainEntry;
use crate::model::document::DOCUMENT_BYTES_MAX;
use crate::model::id::{ObjectId, SignerId, SnapshotId};
use crate::model::mark::{Removed, Role, Statement, Target, Tombstone};
use crate::model::{ObjectKind, VaultId};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::excuses::as_prune;
use crate::ops::marks::Marks;
use crate::ops::prune::look::{Looked, changed, names_in, records_in};
use crate::ops::prune::plan::Choice;
use crate::ops::session::in_store;
use crate::ops::vault::{Vault, View, name_of, store_error};
use crate::store::{Key, Prefix, Store, StoreErrorKind};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What was deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// Records.
    pub snapshots: u64,
    /// Marks about them.
    pub marks: u64,
    /// Objects that nothing needs.
    pub objects: u64,
    /// Sum of the sizes of these objects.
    pub bytes: u64,
    /// Objects that were announced and that a snapshot needs now: they stay.
    pub objects_kept: u64,
}

/// What is to be deleted now.
struct Work {
    records: Vec<Removed>,
    marks: Vec<Removed>,
    /// Rows that no mark names yet.
    unsaid: Vec<Removed>,
}

/// Deletes what `due` tombstones name and `choice`, the new plan, lets go.
pub(super) fn run(
    marks: &mut Marks,
    view: usize,
    looked: &Looked,
    choice: &Choice,
    due: &[Tombstone],
) -> Result<Deleted> {
    let work = work(marks.vault(), &marks.vault().views[view], choice, due);
    let instance = marks.vault().views[view].info.instance.clone();
    say(marks, &instance, &work.unsaid)?;
    let at = marks.vault().views[view].clone();
    let clear = Clear { marks, view: &at, looked };
    let mut deleted = Deleted::default();
    for row in &work.records {
        let Some(id) = &row.snapshot else { continue };
        clear.delete(&Key::Record(id.clone()))?;
        deleted.snapshots += 1;
        crash::point("prune: record deleted");
    }
    for row in &work.marks {
        clear.delete(&Key::Mark(row.signer, row.number))?;
        deleted.marks += 1;
        crash::point("prune: mark deleted");
    }
    let gone: HashSet<ObjectId> = work.records.iter().map(|row| row.hash).collect();
    clear.objects(due, &gone, &mut deleted)?;
    for tombstone in due {
        clear.delete(&Key::Tombstone(tombstone.id.clone()))?;
        crash::point("prune: tombstone deleted");
    }
    Ok(deleted)
}

/// Signs what goes, before it goes.
fn say(marks: &mut Marks, instance: &VaultId, unsaid: &[Removed]) -> Result<()> {
    if unsaid.is_empty() {
        return Ok(());
    }
    let marked = marks.put(as_prune(instance, unsaid))?;
    crash::point("prune: mark put");
    if marked.in_store(instance) {
        return Ok(());
    }
    let what = "the mark that says what is deleted could not be put into that store, so nothing is deleted";
    Err(OpError::new(Class::Store, what)
        .hint("`backstay sync` brings what the store lacks; then run it again"))
}

fn work(vault: &Vault, view: &View, choice: &Choice, due: &[Tombstone]) -> Work {
    let announced: HashSet<ObjectId> = due.iter().flat_map(|t| &t.snapshots).map(|row| row.1).collect();
    let going: HashSet<ObjectId> =
        choice.going.iter().map(|g| g.record).filter(|record| announced.contains(record)).collect();
    let said = said(vault, &view.info.instance);
    let row = |e: &ChainEntry| Removed {
        signer: e.signer(),
        number: e.number(),
        hash: e.hash,
        snapshot: e.snapshot().cloned(),
    };
    let there = || vault.entries.iter().filter(|e| view.present.contains(&name_of(e)));
    let mut rows: BTreeMap<(SignerId, u64, ObjectId), Removed> = BTreeMap::new();
    for entry in there().filter(|e| going.contains(&e.hash) && e.snapshot().is_some()) {
        rows.insert(name_of(entry), row(entry));
    }
    // A mark whose record went in an earlier run that was killed goes now.
    let dead: HashSet<ObjectId> = going.iter().copied().chain(said.iter().map(|name| name.2)).collect();
    let records: HashSet<ObjectId> = records_in(vault, view).map(|(_, hash)| hash).collect();
    let ends = ends(vault);
    for entry in there().filter(|e| about(e).is_some_and(|record| dead.contains(&record))) {
        let alive = about(entry).is_some_and(|record| records.contains(&record) && !going.contains(&record));
        if !alive && vault.history.keys().counts(entry) && ends.get(&entry.signer()) != Some(&entry.number())
        {
            rows.insert(name_of(entry), row(entry));
        }
    }
    let unsaid = rows.iter().filter(|(name, _)| !said.contains(*name)).map(|(_, row)| row.clone()).collect();
    let (records, marks) = rows.into_values().partition(|row| row.snapshot.is_some());
    Work { records, marks, unsaid }
}

/// What counting marks already say is gone from the store.
fn said(vault: &Vault, instance: &VaultId) -> BTreeSet<(SignerId, u64, ObjectId)> {
    let keys = vault.history.keys();
    let mut said = BTreeSet::new();
    for entry in vault.entries.iter().filter(|e| keys.has_role(e, Role::Prune)) {
        if let Some(Statement::Prune { instance: of, removed }) = entry.as_mark().map(|m| &m.statement)
            && of == instance
        {
            said.extend(removed.iter().map(|row| (row.signer, row.number, row.hash)));
        }
    }
    said
}

/// The newest entry of each signer. It stays: a reader who was never here must see where the chain ends.
fn ends(vault: &Vault) -> HashMap<SignerId, u64> {
    let mut ends: HashMap<SignerId, u64> = HashMap::new();
    for entry in &vault.entries {
        let end = ends.entry(entry.signer()).or_default();
        *end = (*end).max(entry.number());
    }
    ends
}

/// The record that a mark is about and is worth nothing without. What keys, prunes and settlements say is never deleted.
fn about(entry: &ChainEntry) -> Option<ObjectId> {
    match &entry.as_mark()?.statement {
        Statement::Void { target, .. }
        | Statement::Tag { target, .. }
        | Statement::Note { target, .. }
        | Statement::Milestone { target, .. }
        | Statement::Accept { target, .. }
        | Statement::Delete(target) => Some(target.record),
        Statement::Verdict(verdict) => {
            let Target { record, .. } = verdict.target;
            Some(record)
        }
        _ => None,
    }
}

struct Clear<'a> {
    marks: &'a Marks,
    view: &'a View,
    looked: &'a Looked,
}

impl Clear<'_> {
    fn store(&self) -> &dyn Store {
        &*self.view.store
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.marks.session().around.interrupt.check()?;
        match self.store().delete(key) {
            Err(e) if e.kind == StoreErrorKind::Denied => {
                let name = self.store().name().to_owned();
                let what = format!("store {name:?} refuses to delete {key}");
                Err(OpError::new(Class::Store, what).because(e).hint(format!(
                    "these keys may not delete there, or the object is locked; what was announced stays until they may. Where another host prunes, set prune = \"elsewhere\" for store {name}"
                )))
            }
            deleted => in_store(self.store(), deleted),
        }
    }

    /// Deletes the objects that `due` names and no record needs, those included that came since.
    fn objects(&self, due: &[Tombstone], gone: &HashSet<ObjectId>, deleted: &mut Deleted) -> Result<()> {
        let needed = self.needed_now(due, gone)?;
        crash::point("prune: records listed again");
        let sizes: HashMap<ObjectId, u64> = self.looked.data.iter().map(|d| (d.id, d.size)).collect();
        let announced: BTreeSet<(ObjectKind, ObjectId)> =
            due.iter().flat_map(|t| &t.objects).copied().collect();
        for (kind, id) in announced {
            let Some(size) = sizes.get(&id) else { continue };
            if needed.contains(&id) {
                deleted.objects_kept += 1;
                continue;
            }
            self.delete(&Key::data(kind, id))?;
            deleted.objects += 1;
            deleted.bytes = deleted.bytes.saturating_add(*size);
            crash::point("prune: object deleted");
        }
        Ok(())
    }

    /// What every record needs that the store shows now, `gone` aside. A record that came since the first look is read; one that vanished
    /// stops everything, and so does a tombstone that did: without it nobody was warned.
    fn needed_now(&self, due: &[Tombstone], gone: &HashSet<ObjectId>) -> Result<HashSet<ObjectId>> {
        let store = self.store();
        let listed = in_store(store, store.list(Prefix::Tombstones))?;
        let there: HashSet<Key> = listed.into_iter().map(|l| l.key).collect();
        if let Some(t) = due.iter().find(|t| !there.contains(&Key::Tombstone(t.id.clone()))) {
            return Err(changed(store, &format!("tombstone {} is not there any more", t.id)));
        }
        let listed: BTreeSet<SnapshotId> = in_store(store, store.list(Prefix::Records))?
            .into_iter()
            .filter_map(|l| if let Key::Record(id) = l.key { Some(id) } else { None })
            .collect();
        let mut needed = self.looked.held.clone();
        let mut known: HashSet<&SnapshotId> = HashSet::new();
        for (record, hash) in records_in(self.marks.vault(), self.view) {
            known.insert(&record.snapshot);
            if gone.contains(&hash) {
                continue;
            }
            if !listed.contains(&record.snapshot) {
                let why = format!("snapshot {} was there and is not listed any more", record.snapshot);
                return Err(changed(store, &why));
            }
            needed.extend(record.objects.iter().map(|object| object.id));
        }
        for id in listed.iter().filter(|id| !known.contains(id)) {
            needed.extend(self.named_by(id)?);
        }
        Ok(needed)
    }

    /// What a record names that came since the first look, or that is passed over: all of it, whoever signed it, readable or not.
    fn named_by(&self, id: &SnapshotId) -> Result<HashSet<ObjectId>> {
        let store = self.store();
        let key = Key::Record(id.clone());
        match store.get(&key, DOCUMENT_BYTES_MAX) {
            Ok(bytes) => Ok(names_in(&bytes)),
            // Listed, and gone: another prune.
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(HashSet::new()),
            Err(e) => Err(store_error(e, store)),
        }
    }
}
