//! A store that does on command what real ones do by chance.

use crate::model::ObjectId;
use crate::store::testing::memory::slice;
use crate::store::{Key, Listed, Prefix, Put, Store, StoreError, StoreErrorKind};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The calls of [`Store`] that do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the calls")]
pub enum Verb {
    PutFile,
    Replace,
    PutBytes,
    Get,
    GetRange,
    ReadBack,
    Head,
    List,
    Delete,
}

/// A failure to come.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Which calls count; `None`: all.
    pub verb: Option<Verb>,
    /// The how-manieth of them fails, from 1, counted from now.
    pub nth: u64,
    /// With what.
    pub kind: StoreErrorKind,
    /// True: the call is done and its reply is lost. False: it is not done.
    pub after: bool,
    /// True: all later ones fail, too.
    pub lasting: bool,
}

/// What reads of an object give instead of its bytes. `head` and listings do not see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// One bit of the byte at this offset is wrong.
    Flip(u64),
    /// Only so many bytes are left.
    Truncate(u64),
    /// The bytes of another object.
    Swap(Key),
    /// A read error of the medium.
    Unreadable,
}

/// Called before each call, with its verb and its key or folder.
pub type Hook = Arc<dyn Fn(Verb, &str) + Send + Sync>;

#[derive(Default)]
struct Plan {
    calls: Vec<(Verb, String)>,
    faults: Vec<Fault>,
    damage: HashMap<Key, Damage>,
    hidden: HashSet<Key>,
    unlisted: HashSet<Key>,
    ahead: Option<jiff::SignedDuration>,
    hook: Option<Hook>,
    ranged: u64,
}

/// Wraps a store: records every call, and fails, lies or forgets as it is told.
pub struct FaultStore {
    inner: Arc<dyn Store>,
    plan: Mutex<Plan>,
}

impl FaultStore {
    /// Wraps `inner`; without orders it does what that does.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, plan: Mutex::default() }
    }

    /// The calls up to now, each with its key or folder.
    pub fn calls(&self) -> Vec<(Verb, String)> {
        self.plan().calls.clone()
    }

    /// How many calls of `verb` there were.
    pub fn count(&self, verb: Verb) -> usize {
        self.plan().calls.iter().filter(|(called, _)| *called == verb).count()
    }

    /// Bytes that reads of ranges gave.
    pub fn ranged(&self) -> u64 {
        self.plan().ranged
    }

    /// Forgets the calls up to now and all orders.
    pub fn reset(&self) {
        *self.plan() = Plan::default();
    }

    /// Orders a failure.
    pub fn fail(&self, fault: Fault) {
        self.plan().faults.push(fault);
    }

    /// Orders that the `nth` call of `verb` from now fails before it is done.
    pub fn fail_nth(&self, verb: Verb, nth: u64, kind: StoreErrorKind) {
        self.fail(Fault { verb: Some(verb), nth, kind, after: false, lasting: false });
    }

    /// From now on every call fails: the store is away.
    pub fn fail_all(&self, kind: StoreErrorKind) {
        self.fail(Fault { verb: None, nth: 1, kind, after: false, lasting: true });
    }

    /// Lets reads of `key` give something else.
    pub fn damage(&self, key: &Key, damage: Damage) {
        self.plan().damage.insert(key.clone(), damage);
    }

    /// Leaves `key` out of `head` and listings, while reads still find it.
    pub fn hide(&self, key: &Key) {
        self.plan().hidden.insert(key.clone());
    }

    /// Leaves `key` out of listings, while everything else finds it.
    pub fn hide_from_listings(&self, key: &Key) {
        self.plan().unlisted.insert(key.clone());
    }

    /// The store's clock is so far ahead.
    pub fn set_clock_ahead(&self, ahead: Option<jiff::SignedDuration>) {
        self.plan().ahead = ahead;
    }

    /// Shows `key` again.
    pub fn unhide(&self, key: &Key) {
        self.plan().hidden.remove(key);
    }

    /// Calls `hook` before each call; the hook may use the wrapped store.
    pub fn on_call(&self, hook: Hook) {
        self.plan().hook = Some(hook);
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a call and does it, unless a fault is due.
    fn call<T>(
        &self,
        verb: Verb,
        subject: &str,
        action: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (hook, due) = {
            let mut plan = self.plan();
            plan.calls.push((verb, subject.to_owned()));
            (plan.hook.clone(), due(&mut plan.faults, verb))
        };
        if let Some(hook) = hook {
            hook(verb, subject);
        }
        let Some(fault) = due else { return action() };
        if fault.after {
            // The reply is lost, whatever it was.
            let _ = action();
        }
        Err(StoreError {
            kind: fault.kind,
            store: self.inner.name().to_owned(),
            verb: "do as ordered with",
            subject: subject.to_owned(),
            source: "a fault was ordered".into(),
        })
    }

    /// The damaged bytes of `key`, when damage was ordered.
    fn damaged(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        let damage = self.plan().damage.get(key).cloned();
        let Some(damage) = damage else {
            return Ok(None);
        };
        if damage == Damage::Unreadable {
            return Err(StoreError {
                kind: StoreErrorKind::Other,
                ..self.corrupt(key, "input/output error")
            });
        }
        let source = if let Damage::Swap(other) = &damage { other } else { key };
        let mut bytes = self.inner.get(source, u64::MAX)?;
        match damage {
            Damage::Flip(offset) => {
                let byte = usize::try_from(offset).ok().and_then(|offset| bytes.get_mut(offset));
                if let Some(byte) = byte {
                    *byte ^= 1;
                }
            }
            Damage::Truncate(length) => {
                bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            }
            Damage::Swap(_) | Damage::Unreadable => {}
        }
        Ok(Some(bytes))
    }

    fn corrupt(&self, key: &Key, why: &str) -> StoreError {
        StoreError {
            kind: StoreErrorKind::Corrupt,
            store: self.inner.name().to_owned(),
            verb: "read",
            subject: key.to_string(),
            source: why.into(),
        }
    }
}

/// Counts a call and gives the fault that is due at it.
fn due(faults: &mut Vec<Fault>, verb: Verb) -> Option<Fault> {
    let mut found = None;
    faults.retain_mut(|fault| {
        if fault.verb.is_some_and(|only| only != verb) {
            return true;
        }
        if fault.nth > 1 {
            fault.nth -= 1;
            return true;
        }
        found = found.or(Some(*fault));
        fault.lasting
    });
    found
}

impl Store for FaultStore {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn spool_dir(&self) -> Option<PathBuf> {
        self.inner.spool_dir()
    }

    fn put_file(&self, key: &Key, path: &Path, size: u64, sha256: &ObjectId) -> Result<Put, StoreError> {
        let put = || self.inner.put_file(key, path, size, sha256);
        self.call(Verb::PutFile, &key.to_string(), put)
    }

    fn replace(&self, key: &Key, path: &Path, size: u64, sha256: &ObjectId) -> Result<(), StoreError> {
        self.call(Verb::Replace, &key.to_string(), || {
            self.inner.replace(key, path, size, sha256)?;
            self.plan().damage.remove(key);
            Ok(())
        })
    }

    fn put_bytes(&self, key: &Key, bytes: &[u8]) -> Result<Put, StoreError> {
        self.call(Verb::PutBytes, &key.to_string(), || self.inner.put_bytes(key, bytes))
    }

    fn get(&self, key: &Key, max_bytes: u64) -> Result<Vec<u8>, StoreError> {
        self.call(Verb::Get, &key.to_string(), || match self.damaged(key)? {
            None => self.inner.get(key, max_bytes),
            Some(bytes) if bytes.len() as u64 > max_bytes => Err(self.corrupt(key, "it is too large")),
            Some(bytes) => Ok(bytes),
        })
    }

    fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Vec<u8>, StoreError> {
        let got = self.call(Verb::GetRange, &key.to_string(), || match self.damaged(key)? {
            None => self.inner.get_range(key, offset, length),
            Some(bytes) => slice(&bytes, offset, length).ok_or_else(|| self.corrupt(key, "it ends before")),
        });
        self.plan().ranged += got.as_ref().map_or(0, |bytes| bytes.len() as u64);
        got
    }

    fn read_back(&self, key: &Key, seen: &mut dyn FnMut(u64)) -> Result<(u64, ObjectId), StoreError> {
        self.call(Verb::ReadBack, &key.to_string(), || match self.damaged(key)? {
            None => self.inner.read_back(key, seen),
            Some(bytes) => {
                seen(bytes.len() as u64);
                Ok((bytes.len() as u64, ObjectId::of(&bytes)))
            }
        })
    }

    fn head(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        self.call(Verb::Head, &key.to_string(), || {
            let hidden = self.plan().hidden.contains(key);
            if hidden { Ok(None) } else { self.inner.head(key) }
        })
    }

    fn list(&self, prefix: Prefix) -> Result<Vec<Listed>, StoreError> {
        self.call(Verb::List, prefix.dir(), || {
            let mut listed = self.inner.list(prefix)?;
            let plan = self.plan();
            listed.retain(|o| !plan.hidden.contains(&o.key) && !plan.unlisted.contains(&o.key));
            Ok(listed)
        })
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.call(Verb::Delete, &key.to_string(), || self.inner.delete(key))
    }

    fn clock_ahead(&self) -> Option<jiff::SignedDuration> {
        self.plan().ahead.or_else(|| self.inner.clock_ahead())
    }

    fn keeps_versions(&self) -> Option<bool> {
        self.inner.keeps_versions()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::MemoryStore;

    const KEY: Key = Key::RecoverMd;

    fn store() -> (FaultStore, Arc<MemoryStore>) {
        let inner = Arc::new(MemoryStore::new("m"));
        (FaultStore::new(inner.clone()), inner)
    }

    #[test]
    fn only_the_call_that_was_meant_fails_and_a_lost_reply_has_done_its_work() {
        let (faulty, inner) = store();
        faulty.fail_nth(Verb::PutBytes, 2, StoreErrorKind::Full);
        faulty.put_bytes(&KEY, b"1").unwrap();
        assert_eq!(faulty.head(&KEY).unwrap(), Some(1));
        let error = faulty.put_bytes(&Key::RecoverPy, b"2").unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Full);
        assert_eq!(inner.head(&Key::RecoverPy).unwrap(), None);
        let kind = StoreErrorKind::Unreachable;
        faulty.fail(Fault { verb: Some(Verb::PutBytes), nth: 1, kind, after: true, lasting: false });
        assert_eq!(faulty.put_bytes(&Key::RecoverPy, b"2").unwrap_err().kind, kind);
        assert_eq!(faulty.put_bytes(&Key::RecoverPy, b"2").unwrap(), Put::AlreadyThere);
        assert_eq!(faulty.count(Verb::PutBytes), 4);
        faulty.fail_all(StoreErrorKind::Missing);
        assert!(faulty.get(&KEY, 9).is_err() && faulty.list(Prefix::Marks).is_err());
    }

    #[test]
    fn damage_shows_in_every_way_of_reading_and_not_in_head() {
        let (faulty, inner) = store();
        inner.put_bytes(&KEY, b"abcd").unwrap();
        inner.put_bytes(&Key::RecoverPy, b"wxyz").unwrap();
        faulty.damage(&KEY, Damage::Flip(1));
        assert_eq!(faulty.get(&KEY, 9).unwrap(), b"accd");
        assert_eq!(faulty.read_back(&KEY, &mut |_| {}).unwrap().1, ObjectId::of(b"accd"));
        faulty.damage(&KEY, Damage::Truncate(3));
        assert_eq!(faulty.get_range(&KEY, 2, 2).unwrap_err().kind, StoreErrorKind::Corrupt);
        assert_eq!(faulty.head(&KEY).unwrap(), Some(4));
        faulty.damage(&KEY, Damage::Swap(Key::RecoverPy));
        assert_eq!(faulty.get_range(&KEY, 1, 2).unwrap(), b"xy");
    }

    #[test]
    fn hidden_objects_are_neither_found_nor_listed_and_hooks_may_use_the_store() {
        let (faulty, inner) = store();
        let key = Key::Record("20261123T080000Z-abcdefgh".parse().unwrap());
        let from_hook = inner.clone();
        let target = key.clone();
        faulty.on_call(Arc::new(move |verb, subject| {
            if verb == Verb::Head && subject == target.to_string() {
                from_hook.force(&target, b"put by the hook");
            }
        }));
        assert_eq!(faulty.head(&key).unwrap(), Some(15));
        faulty.hide(&key);
        assert_eq!(faulty.head(&key).unwrap(), None);
        assert_eq!(faulty.list(Prefix::Records).unwrap(), []);
        faulty.unhide(&key);
        assert_eq!(faulty.list(Prefix::Records).unwrap().len(), 1);
    }
}
