//! Signed documents, and the files with which people help themselves, that are damaged in one store and whole in another.
//!
//! Only what was read twice and cannot be used is replaced, and only by bytes that were proved here: a document that a later program wrote
//! is not damaged and stays. In a store that keeps versions the proved bytes may be its own older ones.

use crate::durable::crash;
use crate::model::document::DOCUMENT_BYTES_MAX;
use crate::model::{ObjectId, SignerId};
use crate::ops::carry::spool_of;
use crate::ops::catchup::{CatchUp, Stop};
use crate::ops::error::Result;
use crate::ops::originals::{is_it, older_original, original};
use crate::ops::recover_files;
use crate::ops::replace::replace;
use crate::ops::session::{Session, in_store};
use crate::ops::union::Standing;
use crate::ops::vault::{BadDocument, Vault, View, key_of, name_of};
use crate::store::{Key, StoreErrorKind};
use std::path::PathBuf;

/// One store whose documents are mended.
pub(super) struct Documents<'a> {
    pub(super) session: &'a Session,
    pub(super) vault: &'a Vault,
    pub(super) standing: &'a Standing,
    pub(super) view: usize,
}

impl Documents<'_> {
    /// Replaces what is damaged and another store, or an older version, has whole; gives the keys.
    pub(super) fn mend(&self, catch_up: &mut CatchUp<'_, '_>) -> std::result::Result<Vec<String>, Stop> {
        let mut mended = self.overwritten()?;
        for bad in self.standing.bad.iter().filter(|bad| !bad.too_new) {
            if let Some(key) = Key::parse(&bad.key)
                && let Some((number, signer)) = self.entry(bad, &key)?
            {
                if self.vault.history.keys().is_of(&signer, &self.host(&signer)) {
                    catch_up.ledger.put(number, self.view);
                }
                mended.push(bad.key.clone());
            }
        }
        mended.extend(self.instructions()?);
        Ok(mended)
    }

    /// Puts older versions back in the place of what somebody wrote over them; gives the keys. Whoever signed them: every reading passes over the
    /// newer version and says so, and the older one is what was read.
    pub(super) fn overwritten(&self) -> Result<Vec<String>> {
        let (vault, here) = (&self.vault.info.vault, self.here());
        let store = &*here.store;
        let mut mended = Vec::new();
        for bad in &self.standing.older {
            let Some(key) = Key::parse(&bad.key) else { continue };
            let mut read = self.vault.entries.iter().filter(|e| here.present.contains(&name_of(e)));
            let Some(known) = read.find(|e| key_of(e) == key) else { continue };
            if self.is_whole(&key, &known.hash)? {
                continue;
            }
            let Some(good) = older_original(store, &key, &known.hash, vault) else { continue };
            self.put_back(bad, &key, &good)?;
            mended.push(bad.key.clone());
        }
        Ok(mended)
    }

    /// Whether the document lies there as it should, or is there no more: then there is nothing to replace.
    fn is_whole(&self, key: &Key, hash: &ObjectId) -> Result<bool> {
        let store = &*self.here().store;
        match store.get(key, DOCUMENT_BYTES_MAX) {
            Ok(bytes) => Ok(is_it(key, &bytes, hash, &self.vault.info.vault)),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(true),
            Err(e) if e.kind == StoreErrorKind::Corrupt => Ok(false),
            Err(e) => in_store(store, Err(e)),
        }
    }

    fn put_back(&self, bad: &BadDocument, key: &Key, good: &[u8]) -> Result<()> {
        let store = &*self.here().store;
        self.session.note(&format!("store {}: {}: {}; it is replaced", store.name(), bad.key, bad.why));
        replace(&self.spool()?, store, key, good)?;
        crash::point("sync: document mended");
        Ok(())
    }

    fn host(&self, signer: &SignerId) -> crate::model::HostId {
        self.vault.host_of(signer)
    }

    fn here(&self) -> &View {
        &self.vault.views[self.view]
    }

    fn others(&self) -> impl Iterator<Item = &View> {
        self.vault.views.iter().enumerate().filter(|(view, _)| *view != self.view).map(|(_, view)| view)
    }

    /// Mends a record or mark; gives its number and signer.
    fn entry(&self, bad: &BadDocument, key: &Key) -> Result<Option<(u64, SignerId)>> {
        let vault = &self.vault.info.vault;
        let known = self.vault.entries.iter().find(|e| key_of(e) == *key);
        let Some(known) = known.filter(|e| self.vault.history.keys().counts(e)) else {
            return Ok(None);
        };
        let store = &*self.here().store;
        let whole = |bytes: &[u8]| is_it(key, bytes, &known.hash, vault);
        match store.get(key, DOCUMENT_BYTES_MAX) {
            // The first look was wrong.
            Ok(bytes) if whole(&bytes) => return Ok(Some((known.number(), known.signer()))),
            Ok(_) => {}
            Err(e) if e.kind == StoreErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind == StoreErrorKind::Corrupt => {}
            Err(e) => return in_store(store, Err(e)),
        }
        let Some(good) = self.others().find_map(|v| original(&*v.store, key, &known.hash, vault)) else {
            return Ok(None);
        };
        self.put_back(bad, key, &good)?;
        Ok(Some((known.number(), known.signer())))
    }

    fn spool(&self) -> Result<PathBuf> {
        spool_of(self.session, &*self.here().store)
    }

    /// The instructions and their signatures go together: from a store in which all four are whole.
    fn instructions(&self) -> Result<Vec<String>> {
        let to = &self.here().store;
        let bad = recover_files::check(&**to, self.vault)?;
        let missing =
            |b: &BadDocument| Key::parse(&b.key).is_none_or(|key| matches!(to.head(&key), Ok(None)));
        // What is only missing is put where all that is missing is.
        if bad.iter().all(missing) {
            return Ok(Vec::new());
        }
        let whole = |v: &&View| recover_files::check(&*v.store, self.vault).is_ok_and(|bad| bad.is_empty());
        let Some(from) = self.others().find(whole) else {
            return Ok(Vec::new());
        };
        let mut mended = Vec::new();
        for key in [Key::RecoverMd, Key::RecoverMdSig, Key::RecoverPy, Key::RecoverPySig] {
            let good = in_store(&*from.store, from.store.get(&key, recover_files::BYTES_MAX))?;
            if to.get(&key, recover_files::BYTES_MAX).is_ok_and(|there| there == good) {
                continue;
            }
            replace(&self.spool()?, &**to, &key, &good)?;
            crash::point("sync: instructions mended");
            mended.push(key.to_string());
        }
        Ok(mended)
    }
}
