//! Committing: the order of steps that makes a snapshot exist, and not a moment earlier.
//!
//! Objects are there → no tombstone names one → the signed record is kept here → it is put → tombstones and objects are looked at again. What
//! was signed under a number is never signed again with other content: after a crash the same bytes are put first.

use crate::catalog::{Head, State};
use crate::durable::crash;
use crate::keys::Signer;
use crate::keys::signed::{open_document, seal_document};
use crate::model::document::{DOCUMENT_BYTES_MAX, namespace};
use crate::model::mark::{Mark, Statement, Target, Tombstone};
use crate::model::{HostId, ObjectId, ObjectRef, Record, SignerId, Timestamp, VaultId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::session::in_store;
use crate::store::{Key, Prefix, Store};
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

    /// Commits a record; on any doubt the snapshot is void and this fails.
    pub fn commit(&mut self, record: &Record) -> Result<ObjectId> {
        let key = Key::Record(record.snapshot.clone());
        crash::point("commit: begun");
        self.prove(&record.objects).map_err(|why| void_error(&why, record))?;
        crash::point("commit: objects proved");
        let (bytes, hash) = seal_document(record, self.signer, namespace::RECORD)
            .doing(Class::Failed, || "cannot sign the record".into())?;
        self.put_entry(&key, &bytes)?;
        crash::point("commit: record put");
        if let Err(why) = self.prove(&record.objects) {
            self.advance(hash)?;
            self.void(record, hash, &why)?;
            return Err(void_error(&why, record));
        }
        crash::point("commit: proved again");
        self.advance(hash)?;
        self.settled()?;
        Ok(hash)
    }

    /// Adds a mark.
    pub fn mark(&mut self, statement: Statement, time: Timestamp) -> Result<ObjectId> {
        let (key, bytes, hash) = self.sealed_mark(statement, time)?;
        self.put_entry(&key, &bytes)?;
        self.advance(hash)?;
        self.settled()?;
        Ok(hash)
    }

    fn sealed_mark(&self, statement: Statement, time: Timestamp) -> Result<(Key, Vec<u8>, ObjectId)> {
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
        Ok((Key::Mark(mark.signer, mark.number), bytes, hash))
    }

    /// Keeps a signed entry here, then puts it.
    fn put_entry(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        let keep = || "cannot keep the signed entry before it is put".into();
        self.state.set_pending(key, bytes).doing(Class::Failed, keep)?;
        crash::point("commit: entry kept");
        in_store(self.store, self.store.put_bytes(key, bytes))?;
        crash::point("commit: entry put");
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
        let instance = Some(self.instance.clone());
        let statement = Statement::Void { target, instance, reason: why.to_owned() };
        let (key, bytes, hash) = self.sealed_mark(statement, record.finished)?;
        let keep = || "cannot keep the mark that voids a snapshot".into();
        let record_key = Key::Record(record.snapshot.clone());
        self.state.swap_pending(&record_key, &key, &bytes).doing(Class::Failed, keep)?;
        in_store(self.store, self.store.put_bytes(&key, &bytes))?;
        self.advance(hash)?;
        self.settled()
    }

    /// Proves that every object is there with its size and that no tombstone names one. Gives the reason when not.
    fn prove(&self, objects: &[ObjectRef]) -> std::result::Result<(), String> {
        let doomed = self.doomed().map_err(|e| e.to_string())?;
        if let Some(object) = objects.iter().find(|o| doomed.contains(&o.id)) {
            return Err(format!("a prune is about to delete {}", Key::data(object.kind, object.id)));
        }
        let sizes = self.sizes(objects)?;
        for object in objects {
            let key = Key::data(object.kind, object.id);
            match sizes.get(&key) {
                Some(size) if *size == object.size => {}
                Some(size) => {
                    return Err(format!("{key} has {size} bytes instead of {}", object.size));
                }
                None => return Err(format!("{key} is missing")),
            }
        }
        Ok(())
    }

    /// The sizes of those of `objects` that are there.
    pub(crate) fn sizes(&self, objects: &[ObjectRef]) -> std::result::Result<BTreeMap<Key, u64>, String> {
        let mut sizes = BTreeMap::new();
        if objects.len() > HEADS_MAX {
            for prefix in [Prefix::Archives, Prefix::Manifests] {
                let listed = self.store.list(prefix).map_err(|e| e.to_string())?;
                sizes.extend(listed.into_iter().map(|o| (o.key, o.size)));
            }
        } else {
            for object in objects {
                let key = Key::data(object.kind, object.id);
                if let Some(size) = self.store.head(&key).map_err(|e| e.to_string())? {
                    sizes.insert(key, size);
                }
            }
        }
        Ok(sizes)
    }

    /// Every object that some tombstone names, whoever signed it. One that cannot be read stops the commit.
    pub(crate) fn doomed(&self) -> Result<HashSet<ObjectId>> {
        let mut doomed = HashSet::new();
        for listed in in_store(self.store, self.store.list(Prefix::Tombstones))? {
            let bytes = in_store(self.store, self.store.get(&listed.key, DOCUMENT_BYTES_MAX))?;
            let line = crate::model::document::split(&bytes).map_or(&bytes[..], |(line, _)| line);
            let tombstone: Tombstone = crate::model::document::parse(line, "tombstone")
                .doing(Class::Damage, || {
                    format!("{} cannot be read, so nothing can be committed", listed.key)
                })?;
            if tombstone.instance == self.instance {
                doomed.extend(tombstone.objects.into_iter().map(|o| o.1));
            }
        }
        Ok(doomed)
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

fn void_error(why: &str, record: &Record) -> OpError {
    let what = format!("snapshot {} could not be committed", record.snapshot);
    OpError::new(Class::Failed, what)
        .because(why.to_owned())
        .hint("nothing that was there before is lost; run `backstay backup` again")
}
