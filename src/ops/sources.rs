//! Where a snapshot's objects are read from: the store it was chosen in, and, for what is missing or damaged there, the others.
//!
//! What another store gives is proved as strictly as what the first one gives; that it was needed is said, once for each object.

use crate::model::{ObjectId, VaultId};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::session::Session;
use crate::ops::stores::{Away, StoreSlot};
use crate::ops::union::store_problem;
use crate::ops::vault::{EntryName, Vault, store_info};
use crate::ops::versions::{OlderVersions, hidden};
use crate::store::{Key, Listed, Prefix, Put, Store, StoreError, StoreErrorKind};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The stores that a snapshot's objects may be read from, as one store that is only read.
pub struct Sources {
    session: Session,
    first: Arc<dyn Store>,
    /// The vault that the others must be of.
    vault: Option<VaultId>,
    others: OnceLock<Others>,
    /// Why the first store did not answer, when it did not: that says nothing about its objects.
    silent: Mutex<Option<Away>>,
    /// Stores that could not be asked for an object which nobody gave whole.
    unasked: Mutex<BTreeSet<String>>,
}

/// What is asked after the first store.
#[derive(Default)]
struct Others {
    /// In this order.
    all: Vec<Arc<dyn Store>>,
    /// Those among them that are older versions.
    older: Vec<Arc<OlderVersions>>,
    /// Stores of the session that cannot be read, by name.
    away: Vec<String>,
}

impl Sources {
    /// The stores of `session`: first one that `vault` was read from and that has `entry`.
    pub fn of(session: &Session, vault: &Vault, entry: &EntryName) -> Self {
        let has = vault.views.iter().find(|v| v.present.contains(entry)).or(vault.views.first());
        let first = has.map_or_else(|| Arc::clone(&session.store), |v| Arc::clone(&v.store));
        let vault = Some(vault.info.vault.clone());
        Self { vault, others: OnceLock::new(), ..Self::alone(session, &first) }
    }

    /// `store` and no other: what it cannot give is to be known.
    pub fn alone(session: &Session, store: &Arc<dyn Store>) -> Self {
        let others = OnceLock::from(Others::default());
        Self {
            session: session.clone(),
            first: Arc::clone(store),
            vault: None,
            others,
            silent: Mutex::default(),
            unasked: Mutex::default(),
        }
    }

    /// Fails when the store that is asked first did not answer a read of a range since this was made, and no other gave the bytes.
    pub fn answered(&self) -> Result<()> {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.as_ref().map_or(Ok(()), |away| Err(away.error()))
    }

    /// What is to be said of an error of reading these. An index or a listing that is damaged here may be whole in a store that could not be asked:
    /// whoever goes on without it must not do so for a store that is away for an hour.
    pub fn judged(&self, error: OpError) -> OpError {
        let unasked = self.unasked.lock().unwrap_or_else(PoisonError::into_inner);
        if !error.is_damaged_listing() || unasked.is_empty() {
            return error;
        }
        if let Err(interrupted) = self.session.around.interrupt.check() {
            return interrupted;
        }
        let names = unasked.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        error.in_doubt().hint(format!(
            "it may be whole in {names}, which could not be read: bring that here and try again; `--store NAME` takes the store of that name for the only one"
        ))
    }

    /// Notes that nobody gave an object whole while the stores in `failed` did not answer.
    fn note_unasked(&self, failed: impl Iterator<Item = String>) {
        let mut unasked = self.unasked.lock().unwrap_or_else(PoisonError::into_inner);
        unasked.extend(failed.chain(self.others().away.iter().cloned()));
    }

    fn note_silence(&self, error: &StoreError) {
        use StoreErrorKind::{Denied, Interrupted, Missing, Unreachable};
        // One object that is refused, in an archive that has to be asked for first, say, is no store that is silent.
        let this_one_only = || self.first.head(&Key::Store).is_ok_and(|size| size.is_some());
        if matches!(error.kind, Missing | Denied | Unreachable | Interrupted)
            && !(error.kind == Denied && this_one_only())
        {
            let what = format!("store {:?} does not answer", self.first.name());
            let why = format!("{error}: {}", error.source);
            let error = OpError::new(Class::Store, what).because(why).hint("try again when it does");
            let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
            silent.get_or_insert(Away::from(&error));
        }
    }

    /// The store that is asked first.
    pub fn first(&self) -> &Arc<dyn Store> {
        &self.first
    }

    /// The other stores that are here, and what any keeps of older versions; opened when they are first needed.
    fn others(&self) -> &Others {
        self.others.get_or_init(|| {
            let beside = |slot: &&StoreSlot| slot.name != self.first.name();
            let open = |slot: &StoreSlot| self.session.store_of(slot).ok();
            let same =
                |store: &Arc<dyn Store>| store_info(&**store).is_ok_and(|i| Some(i.vault) == self.vault);
            let (mut others, mut away) = (Vec::new(), Vec::new());
            for slot in self.session.stores.iter().filter(beside) {
                match open(slot).filter(same) {
                    Some(store) => others.push(store),
                    None => away.push(slot.name.clone()),
                }
            }
            // What was overwritten or deleted may be kept; whole copies elsewhere come first, because they cost one read.
            let kept = std::iter::once(&self.first).chain(&others);
            let older: Vec<_> = kept.map(|store| Arc::new(OlderVersions::of(store))).collect();
            let versions = older.iter().map(|older| -> Arc<dyn Store> { Arc::<OlderVersions>::clone(older) });
            Others { all: others.into_iter().chain(versions).collect(), older, away }
        })
    }

    /// Nobody gave it: says so of each store whose older versions these keys may not see.
    fn tell_hidden(&self) {
        for older in self.others().older.iter().filter(|older| older.is_hidden()) {
            self.session.trouble(hidden(older.name()));
        }
    }

    /// The other stores that have the object with this size.
    pub fn elsewhere(&self, key: &Key, size: u64) -> Vec<Arc<dyn Store>> {
        let has = |store: &&Arc<dyn Store>| store.head(key).is_ok_and(|found| found == Some(size));
        let having: Vec<_> = self.others().all.iter().filter(has).cloned().collect();
        if having.is_empty() {
            self.tell_hidden();
        }
        having
    }

    /// Says that `store` gave what the first one could not.
    pub fn tell(&self, key: &Key, store: &dyn Store, why: &str) {
        if store.name() == self.first.name() {
            let what = format!("{key} {why}; an older version of it, which the bucket keeps, was read");
            let hint = "somebody overwrote or deleted it: find out who may; `backstay backup --full` stores everything anew";
            self.session.trouble(store_problem(self.first.name(), what, hint));
            return;
        }
        let what = format!("{key} {why}; it was read from store {}", store.name());
        self.session.trouble(store_problem(self.first.name(), what, "`backstay sync` mends it"));
    }

    fn refused(&self, verb: &'static str, key: &Key) -> StoreError {
        let source = "stores that are read together are not written".into();
        let store = self.first.name().to_owned();
        StoreError { kind: StoreErrorKind::Other, store, verb, subject: key.to_string(), source }
    }
}

/// Whether `bytes` are those that the name of a data object says.
fn is_whole(key: &Key, bytes: &[u8]) -> bool {
    match key {
        Key::Archive(id) | Key::Manifest(id) => ObjectId::of(bytes) == *id,
        _ => true,
    }
}

/// Whether an error leaves it open what the store has.
fn says_nothing(error: &StoreError) -> bool {
    !matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::Corrupt)
}

fn fault(error: &StoreError) -> &'static str {
    match error.kind {
        StoreErrorKind::NotFound => "is missing",
        StoreErrorKind::Corrupt => "is damaged",
        _ => "cannot be read",
    }
}

impl Store for Sources {
    fn name(&self) -> &str {
        self.first.name()
    }

    fn location(&self) -> String {
        self.first.location()
    }

    fn put_file(&self, key: &Key, _: &Path, _: u64, _: &ObjectId) -> std::result::Result<Put, StoreError> {
        Err(self.refused("write", key))
    }

    fn put_bytes(&self, key: &Key, _: &[u8]) -> std::result::Result<Put, StoreError> {
        Err(self.refused("write", key))
    }

    fn get(&self, key: &Key, max_bytes: u64) -> std::result::Result<Vec<u8>, StoreError> {
        let first = self.first.get(key, max_bytes);
        let why = match &first {
            Ok(bytes) if is_whole(key, bytes) => return first,
            Ok(_) => "is damaged",
            Err(e) => fault(e),
        };
        let others = self.others();
        // Whoever may not see older versions says nothing by that of the object itself.
        let whole_stores = others.all.len() - others.older.len();
        let mut failed = Vec::new();
        for (place, other) in others.all.iter().enumerate() {
            match other.get(key, max_bytes) {
                Ok(bytes) if is_whole(key, &bytes) => {
                    self.tell(key, &**other, why);
                    return Ok(bytes);
                }
                Err(e) if place < whole_stores && says_nothing(&e) => failed.push(other.name().to_owned()),
                _ => {}
            }
        }
        self.tell_hidden();
        self.note_unasked(failed.into_iter());
        first
    }

    /// Bytes of a part cannot be compared with the name: whoever finds them wrong asks [`Sources::elsewhere`].
    fn get_range(&self, key: &Key, offset: u64, length: u64) -> std::result::Result<Vec<u8>, StoreError> {
        let failed = match self.first.get_range(key, offset, length) {
            Ok(bytes) => return Ok(bytes),
            Err(e) => e,
        };
        for other in &self.others().all {
            if let Ok(bytes) = other.get_range(key, offset, length) {
                self.tell(key, &**other, fault(&failed));
                return Ok(bytes);
            }
        }
        self.tell_hidden();
        self.note_silence(&failed);
        Err(failed)
    }

    fn read_back(
        &self,
        key: &Key,
        seen: &mut dyn FnMut(u64),
    ) -> std::result::Result<(u64, ObjectId), StoreError> {
        self.first.read_back(key, seen)
    }

    fn head(&self, key: &Key) -> std::result::Result<Option<u64>, StoreError> {
        self.first.head(key)
    }

    fn list(&self, prefix: Prefix) -> std::result::Result<Vec<Listed>, StoreError> {
        self.first.list(prefix)
    }

    fn delete(&self, key: &Key) -> std::result::Result<(), StoreError> {
        Err(self.refused("delete", key))
    }
}
