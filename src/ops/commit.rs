//! Committing: the order of steps that makes a snapshot exist, and not a moment earlier.
//!
//! Objects are there → no tombstone names one → the signed record is kept here → it is put → tombstones and objects are looked at again. What
//! was signed under a number is never signed again with other content: after a crash the same bytes are put first.

use crate::catalog::{Head, State};
use crate::durable::crash;
use crate::keys::Signer;
use crate::keys::signed::{open_document, seal_document};
use crate::model::chain::ChainEntry;
use crate::model::document::{DOCUMENT_BYTES_MAX, namespace};
use crate::model::mark::{Mark, Statement, Target, Tombstone};
use crate::model::{HostId, ObjectId, ObjectRef, Record, SignerId, Timestamp, VaultId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::many::try_each;
use crate::ops::session::in_store;
use crate::store::{Key, Prefix, Store, StoreErrorKind};
use std::collections::{BTreeMap, HashSet};

/// The program's name and version, as documents carry it.
pub const AGENT: &str = concat!("backstay ", env!("CARGO_PKG_VERSION"));

/// Above this many objects one listing is asked instead of one HEAD each.
const HEADS_MAX: usize = 1000;

/// What is needed to add to this host's chain in a store.
pub struct Chain<'a> {
    /// Where.
    pub store: &'a dyn Store,
    /// What remembers.
    pub state: &'a State,
    /// Who signs.
    pub signer: &'a Signer,
    /// For which host.
    pub host: HostId,
    /// In which vault.
    pub vault: VaultId,
    /// This store.
    pub instance: VaultId,
    /// The next number and the hash of the entry before it.
    pub next: (u64, Option<ObjectId>),
    /// Whether the configuration names several stores: then what is signed is kept here until each of them has it.
    pub several: bool,
    /// What was signed in this run and put, lowest number first.
    pub signed: Vec<Signed>,
}

/// An entry that this run signed and put.
pub struct Signed {
    /// The entry.
    pub entry: ChainEntry,
    /// The whole document.
    pub bytes: Vec<u8>,
}

impl Chain<'_> {
    fn advance(&mut self, hash: ObjectId) -> Result<()> {
        let id = self.signer.id();
        let head = Head { number: self.next.0, hash };
        self.state
            .raise_heads(&[(id, head)])
            .doing(Class::Failed, || "cannot remember what was committed".into())?;
        self.next = (self.next.0 + 1, Some(hash));
        crash::point("commit: head remembered");
        Ok(())
    }

    /// Remembers that this store holds everything up to here: one that shows less later was rolled back.
    pub fn remember_store(&self) -> Result<()> {
        let (number, hash) = (self.next.0.saturating_sub(1), self.next.1);
        let Some(hash) = hash else { return Ok(()) };
        self.state
            .raise_heads_in(&self.instance, &[(self.signer.id(), Head { number, hash })])
            .doing(Class::Failed, || "cannot remember what this store holds".into())
    }

    /// Commits a record; on any doubt the snapshot is void and this fails.
    pub fn commit(&mut self, record: &Record) -> Result<ObjectId> {
        let key = Key::Record(record.snapshot.clone());
        // Whoever reads it asks the same, and what is signed is there for good.
        record.check().map_err(|why| unreadable_error(&why, record))?;
        crash::point("commit: begun");
        self.look(&record.objects)?.map_err(|why| void_error(&why, record))?;
        crash::point("commit: objects proved");
        let (bytes, hash) = seal_document(record, self.signer, namespace::RECORD)
            .doing(Class::Failed, || "cannot sign the record".into())?;
        self.put_entry(&key, &bytes)?;
        crash::point("commit: record put");
        let looked = match self.look(&record.objects) {
            // Another store may take it; the next run looks again here.
            Err(e) if self.several => return Err(e),
            looked => looked.unwrap_or_else(|e| Err(e.to_string())),
        };
        if let Err(why) = looked {
            self.advance(hash)?;
            self.void(record, hash, &why)?;
            return Err(void_error(&why, record));
        }
        crash::point("commit: proved again");
        self.advance(hash)?;
        self.settled()?;
        self.signed.push(Signed { entry: ChainEntry::record(record.clone(), hash), bytes });
        Ok(hash)
    }

    /// Adds a mark.
    pub fn mark(&mut self, statement: Statement, time: Timestamp) -> Result<ObjectId> {
        let (mark, bytes, hash) = self.sealed_mark(statement, time)?;
        self.put_entry(&Key::Mark(mark.signer, mark.number), &bytes)?;
        self.advance(hash)?;
        self.settled()?;
        self.signed.push(Signed { entry: ChainEntry::mark(mark, hash), bytes });
        Ok(hash)
    }

    /// Signs a mark and keeps it for all stores, without putting it anywhere: for several stores, which then get it in order. Its number is
    /// taken by being kept; as seen it counts only when a store has it, else the stores would seem to be rolled back.
    pub(crate) fn keep_mark(&mut self, statement: Statement, time: Timestamp) -> Result<ObjectId> {
        let (mark, bytes, hash) = self.sealed_mark(statement, time)?;
        self.keep(&Key::Mark(mark.signer, mark.number), &bytes)?;
        self.follow(mark.number, hash);
        self.signed.push(Signed { entry: ChainEntry::mark(mark, hash), bytes });
        Ok(hash)
    }

    fn sealed_mark(&self, statement: Statement, time: Timestamp) -> Result<(Mark, Vec<u8>, ObjectId)> {
        let mark = Mark {
            format: crate::model::manifest::FORMAT,
            needs: Vec::new(),
            doc: "mark".into(),
            vault: self.vault.clone(),
            host: self.host,
            signer: self.signer.id(),
            number: self.next.0,
            previous: self.next.1,
            time,
            agent: AGENT.into(),
            statement,
        };
        let (bytes, hash) = seal_document(&mark, self.signer, namespace::MARK)
            .doing(Class::Failed, || "cannot sign a mark".into())?;
        Ok((mark, bytes, hash))
    }

    /// Keeps a signed entry here, then puts it.
    fn put_entry(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        self.keep(key, bytes)?;
        let keep = || "cannot keep the signed entry before it is put".into();
        self.state.set_pending(key, bytes).doing(Class::Failed, keep).map_err(|e| {
            let dir = self.state.dir().display();
            e.hint(format!("is there room in {dir}? nothing was committed, and the next run needs no help"))
        })?;
        crash::point("commit: entry kept");
        in_store(self.store, self.store.put_bytes(key, bytes))?;
        crash::point("commit: entry put");
        Ok(())
    }

    /// Keeps what takes the next number until every store has it.
    fn keep(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        if !self.several {
            return Ok(());
        }
        let keep = || "cannot keep the signed entry until every store has it".into();
        self.state.keep_document(&self.signer.id(), self.next.0, key, bytes).doing(Class::Failed, keep)?;
        crash::point("commit: entry kept for all stores");
        Ok(())
    }

    fn settled(&self) -> Result<()> {
        self.state.clear_pending().doing(Class::Failed, || "cannot clear what was pending".into())?;
        crash::point("commit: settled");
        Ok(())
    }

    fn void(&mut self, record: &Record, hash: ObjectId, why: &str) -> Result<()> {
        crash::point("commit: to be voided");
        let target = Target { snapshot: record.snapshot.clone(), record: hash };
        // Everywhere: no other store was given it before this one had it for good.
        let statement = Statement::Void { target, instance: None, reason: why.to_owned() };
        let (mark, bytes, hash) = self.sealed_mark(statement, record.finished)?;
        let key = Key::Mark(mark.signer, mark.number);
        self.keep(&key, &bytes)?;
        let keep = || "cannot keep the mark that voids a snapshot".into();
        let record_key = Key::Record(record.snapshot.clone());
        self.state.swap_pending(&record_key, &key, &bytes).doing(Class::Failed, keep)?;
        in_store(self.store, self.store.put_bytes(&key, &bytes))?;
        self.advance(hash)?;
        self.settled()
    }

    fn look(&self, objects: &[ObjectRef]) -> Result<std::result::Result<(), String>> {
        prove_in(self.store, &self.instance, objects)
    }

    fn prove(&self, objects: &[ObjectRef]) -> std::result::Result<(), String> {
        self.look(objects).unwrap_or_else(|e| Err(e.to_string()))
    }

    /// The sizes of those of `objects` that are there.
    pub(crate) fn sizes(&self, objects: &[ObjectRef]) -> Result<BTreeMap<Key, u64>> {
        sizes(self.store, objects)
    }

    /// Every object that some tombstone of this store names, whoever signed it. One that cannot be read stops the commit.
    pub(crate) fn doomed(&self) -> Result<HashSet<ObjectId>> {
        doomed(self.store, &self.instance)
    }

    /// Ends what an earlier run signed and did not see through: puts the same bytes, and voids the snapshot when its objects are
    /// not all there. Must run before anything else is signed.
    pub fn finish_pending(&mut self) -> Result<Option<String>> {
        let pending = self
            .state
            .pending()
            .doing(Class::Failed, || "cannot read what an earlier run left to do".into())?;
        let Some(pending) = pending else {
            return Ok(None);
        };
        if self.several {
            self.take_over(&pending)?;
            self.settled()?;
            return Ok(None);
        }
        let told = match &pending.key {
            Key::Record(_) => self.finish_record(&pending.key, &pending.bytes)?,
            _ => self.finish_mark(&pending.key, &pending.bytes)?,
        };
        self.settled()?;
        Ok(told)
    }

    /// True when the entry was added by this run; false when it was there already, or belongs to another chain.
    fn put_again(
        &mut self,
        key: &Key,
        bytes: &[u8],
        number: u64,
        previous: Option<ObjectId>,
        hash: ObjectId,
    ) -> Result<bool> {
        let there = in_store(self.store, self.store.head(key))?.is_some();
        if !there && (number, previous) != self.next {
            // The chain went on without it (another machine with this key?): it must not be put any more.
            return Ok(false);
        }
        in_store(self.store, self.store.put_bytes(key, bytes))?;
        if (number, previous) == self.next {
            self.advance(hash)?;
        }
        Ok(true)
    }

    /// With several stores an entry that an earlier run signed is kept until each has it; which of them has it already is seen by reading.
    fn take_over(&mut self, pending: &crate::catalog::Pending) -> Result<()> {
        let entry = crate::ops::vault::parse_entry(&pending.key, &pending.bytes, &self.vault)
            .doing(Class::Failed, || "what an earlier run signed cannot be read".into())?;
        let Some(entry) = entry.filter(|e| e.signer() == self.signer.id()) else {
            return Ok(());
        };
        let keep = || "cannot keep what an earlier run signed".into();
        let (id, number) = (entry.signer(), entry.number());
        self.state.keep_document(&id, number, &pending.key, &pending.bytes).doing(Class::Failed, keep)?;
        let head = Head { number, hash: entry.hash };
        self.state
            .raise_heads(&[(id, head)])
            .doing(Class::Failed, || "cannot remember what was committed".into())?;
        self.follow(number, entry.hash);
        Ok(())
    }

    /// Goes on after the entry `number`, when that is not behind already.
    pub fn follow(&mut self, number: u64, hash: ObjectId) {
        if number >= self.next.0 {
            self.next = (number + 1, Some(hash));
        }
    }

    fn finish_record(&mut self, key: &Key, bytes: &[u8]) -> Result<Option<String>> {
        let signed = open_document::<Record>(bytes, "record", namespace::RECORD)
            .doing(Class::Failed, || "what an earlier run signed cannot be read".into())?;
        let record = signed.value;
        if record.signer != self.signer.id() || record.vault != self.vault {
            return Ok(None);
        }
        if !self.put_again(key, bytes, record.number, record.previous, signed.hash)? {
            return Ok(None);
        }
        match self.prove(&record.objects) {
            Ok(()) => {
                Ok(Some(format!("snapshot {} of an interrupted run is now committed", record.snapshot)))
            }
            Err(why) => {
                self.void(&record, signed.hash, &why)?;
                Ok(Some(format!("snapshot {} of an interrupted run is void: {why}", record.snapshot)))
            }
        }
    }

    fn finish_mark(&mut self, key: &Key, bytes: &[u8]) -> Result<Option<String>> {
        let signed = open_document::<Mark>(bytes, "mark", namespace::MARK)
            .doing(Class::Failed, || "what an earlier run signed cannot be read".into())?;
        let mark = signed.value;
        if mark.signer == self.signer.id() && mark.vault == self.vault {
            self.put_again(key, bytes, mark.number, mark.previous, signed.hash)?;
        }
        Ok(None)
    }

    /// Who signs here.
    pub fn signer_id(&self) -> SignerId {
        self.signer.id()
    }
}

fn unreadable_error(why: &str, record: &Record) -> OpError {
    let what = format!("snapshot {} is not committed: nobody would read its record", record.snapshot);
    OpError::new(Class::Failed, what).because(why.to_owned()).hint(
        "nothing that was there before is lost; exclude what is so large, or make two components of one",
    )
}

fn void_error(why: &str, record: &Record) -> OpError {
    let what = format!("snapshot {} could not be committed", record.snapshot);
    OpError::new(Class::Failed, what)
        .because(why.to_owned())
        .hint("nothing that was there before is lost; run `backstay backup` again")
}

/// Proves that every object is in the store with its size and that no tombstone there names one. The inner error is why not; the outer one
/// is the store's, and says nothing about the objects.
pub fn prove_in(
    store: &dyn Store,
    instance: &VaultId,
    objects: &[ObjectRef],
) -> Result<std::result::Result<(), String>> {
    let doomed = doomed(store, instance)?;
    if let Some(object) = objects.iter().find(|o| doomed.contains(&o.id)) {
        return Ok(Err(format!("a prune is about to delete {}", Key::data(object.kind, object.id))));
    }
    let sizes = sizes(store, objects)?;
    for object in objects {
        let key = Key::data(object.kind, object.id);
        match sizes.get(&key) {
            Some(size) if *size == object.size => {}
            Some(size) => return Ok(Err(format!("{key} has {size} bytes instead of {}", object.size))),
            None => return Ok(Err(format!("{key} is missing"))),
        }
    }
    Ok(Ok(()))
}

fn sizes(store: &dyn Store, objects: &[ObjectRef]) -> Result<BTreeMap<Key, u64>> {
    let mut sizes = BTreeMap::new();
    if objects.len() > HEADS_MAX {
        for prefix in [Prefix::Archives, Prefix::Manifests] {
            let listed = in_store(store, store.list(prefix))?;
            sizes.extend(listed.into_iter().map(|o| (o.key, o.size)));
        }
    } else {
        let look = |object: &ObjectRef| {
            let key = Key::data(object.kind, object.id);
            Ok(in_store(store, store.head(&key))?.map(|size| (key, size)))
        };
        sizes.extend(try_each(objects, look)?.into_iter().flatten());
    }
    Ok(sizes)
}

/// Every object that some tombstone names, whoever signed it. One that cannot be read stops the commit.
fn doomed(store: &dyn Store, instance: &VaultId) -> Result<HashSet<ObjectId>> {
    let mut doomed = HashSet::new();
    for listed in in_store(store, store.list(Prefix::Tombstones))? {
        let bytes = match store.get(&listed.key, DOCUMENT_BYTES_MAX) {
            // Its owner took it away between the two looks: what it named is gone by now, and whoever looks for objects next sees that.
            Err(e) if e.kind == StoreErrorKind::NotFound => continue,
            got => in_store(store, got)?,
        };
        let line = crate::model::document::split(&bytes).map_or(&bytes[..], |(line, _)| line);
        let tombstone: Tombstone = crate::model::document::parse(line, "tombstone")
            .doing(Class::Damage, || format!("{} cannot be read, so nothing can be committed", listed.key))?;
        if tombstone.instance == *instance {
            doomed.extend(tombstone.objects.into_iter().map(|o| o.1));
        }
    }
    Ok(doomed)
}
