//! Signed documents, and the files with which people help themselves, that are damaged in one store and whole in another.
//!
//! Only what was read twice and cannot be used is replaced, and only by bytes that were proved here: a document that a later program wrote
//! is not damaged and stays.

use crate::durable::crash;
use crate::model::SignerId;
use crate::model::document::DOCUMENT_BYTES_MAX;
use crate::ops::carry::spool_of;
use crate::ops::catchup::{CatchUp, Stop};
use crate::ops::error::Result;
use crate::ops::recover_files::{self, Pair};
use crate::ops::replace::replace;
use crate::ops::session::{Session, in_store};
use crate::ops::union::Standing;
use crate::ops::vault::{BadDocument, Vault, View, key_of, parse_entry};
use crate::store::Key;
use std::path::PathBuf;

/// One store whose documents are mended.
pub(super) struct Documents<'a> {
    pub(super) session: &'a Session,
    pub(super) vault: &'a Vault,
    pub(super) standing: &'a Standing,
    pub(super) view: usize,
}

impl Documents<'_> {
    /// Replaces what is damaged and another store has whole; gives the keys.
    pub(super) fn mend(&self, catch_up: &mut CatchUp<'_, '_>) -> std::result::Result<Vec<String>, Stop> {
        let mut mended = Vec::new();
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
        let whole = |bytes: &[u8]| {
            let entry = parse_entry(key, bytes, vault).ok().flatten();
            entry.is_some_and(|entry| entry.hash == known.hash)
        };
        match store.get(key, DOCUMENT_BYTES_MAX) {
            // The first look was wrong.
            Ok(bytes) if whole(&bytes) => return Ok(Some((known.number(), known.signer()))),
            Ok(_) => {}
            Err(e) if e.kind == crate::store::StoreErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind == crate::store::StoreErrorKind::Corrupt => {}
            Err(e) => return in_store(store, Err(e)),
        }
        let good = self.others().filter_map(|v| v.store.get(key, DOCUMENT_BYTES_MAX).ok()).find(|b| whole(b));
        let Some(good) = good else {
            return Ok(None);
        };
        self.session.note(&format!("store {}: {}: {}; it is replaced", store.name(), bad.key, bad.why));
        replace(&self.spool()?, &*self.here().store, key, &good)?;
        crash::point("sync: document mended");
        Ok(Some((known.number(), known.signer())))
    }

    fn spool(&self) -> Result<PathBuf> {
        spool_of(self.session, &*self.here().store)
    }

    /// Instructions that are missing or not what was signed: a file and its signature come from one store, in which they fit.
    fn instructions(&self) -> Result<Vec<String>> {
        let mut mended = Vec::new();
        for keys in &recover_files::PAIRS {
            let there = recover_files::read_pair(&*self.here().store, keys)?;
            let bad = recover_files::faults(self.vault, keys, &there);
            if bad.is_empty() {
                continue;
            }
            match self.whole(keys, &there) {
                Some(good) => mended.extend(self.put_pair(keys, &there, &good)?),
                None => bad.iter().for_each(|bad| self.not_mended(bad)),
            }
        }
        Ok(mended)
    }

    fn not_mended(&self, bad: &BadDocument) {
        let (store, key, why) = (self.here().store.name(), &bad.key, &bad.why);
        self.session.note(&format!(
            "store {store}: {key}: {why}, and no other store has it whole; `backstay init` puts what is missing"
        ));
    }

    /// A pair that fits in another store; best one that has the half which is here.
    fn whole(&self, keys: &Pair<Key>, there: &Pair<Option<Vec<u8>>>) -> Option<Pair<Option<Vec<u8>>>> {
        let read = |view: &View| recover_files::read_pair(&*view.store, keys).ok();
        let fits = |pair: &Pair<Option<Vec<u8>>>| recover_files::faults(self.vault, keys, pair).is_empty();
        let mut whole: Vec<_> = self.others().filter_map(read).filter(fits).collect();
        let same = |a: &Option<Vec<u8>>, b: &Option<Vec<u8>>| a.is_some() && a == b;
        let shares = |pair: &Pair<Option<Vec<u8>>>| {
            same(&there.file, &pair.file) || same(&there.signature, &pair.signature)
        };
        let at = whole.iter().position(shares).unwrap_or(0);
        (at < whole.len()).then(|| whole.swap_remove(at))
    }

    /// Puts what differs from `good`; gives the keys, once what lies there was read again and fits.
    fn put_pair(
        &self,
        keys: &Pair<Key>,
        there: &Pair<Option<Vec<u8>>>,
        good: &Pair<Option<Vec<u8>>>,
    ) -> Result<Vec<String>> {
        let to = &*self.here().store;
        let mut put = Vec::new();
        let halves =
            [(&keys.file, &there.file, &good.file), (&keys.signature, &there.signature, &good.signature)];
        for (key, old, new) in halves {
            let Some(bytes) = new.as_deref().filter(|new| Some(*new) != old.as_deref()) else { continue };
            match old {
                None => drop(in_store(to, to.put_bytes(key, bytes))?),
                Some(_) => replace(&self.spool()?, to, key, bytes)?,
            }
            crash::point("sync: instructions mended");
            put.push(key.to_string());
        }
        let left = recover_files::faults(self.vault, keys, &recover_files::read_pair(to, keys)?);
        left.iter().for_each(|bad| self.not_mended(bad));
        Ok(if left.is_empty() { put } else { Vec::new() })
    }
}
