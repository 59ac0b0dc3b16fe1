//! A store's own file, `backstay.json`, that cannot be read any more. No other store has it, but this machine remembers what it said.
//!
//! Where another disk was mounted there may be rubbish of the same name: it is written anew only where the newest entry lies that this very
//! store was seen to hold. One that is missing is never made here: then there is no store, or not this one.

use crate::durable::crash;
use crate::model::document::{DOCUMENT_BYTES_MAX, line_of};
use crate::model::{ObjectId, SignerId, VaultId};
use crate::ops::carry::spool_of;
use crate::ops::commit::AGENT;
use crate::ops::error::{Class, Doing, Result};
use crate::ops::many::each;
use crate::ops::replace::replace;
use crate::ops::session::{Session, in_store};
use crate::ops::union::heads_in;
use crate::ops::vault::{StoreInfo, parse_entry, store_info};
use crate::store::{Key, Prefix, Store};
use std::collections::BTreeSet;

/// Mends the file in every store of the configuration for which `wanted` says yes; gives the names of those in which it was.
pub(super) fn mend(session: &Session, wanted: impl Fn(&str) -> bool) -> Result<BTreeSet<String>> {
    let state = session.state()?;
    let cannot = || "cannot read which stores were seen".into();
    let Some(vault) = state.vault().doing(Class::Damage, cannot)? else { return Ok(BTreeSet::new()) };
    let mut mended = BTreeSet::new();
    for slot in session.stores.iter().filter(|slot| wanted(&slot.name)) {
        let Ok(store) = session.store_of(slot) else { continue };
        if !store_info(&*store).is_err_and(|e| e.class == Class::Damage && !e.is_too_new()) {
            continue;
        }
        let Some(instance) = state.instance_of(&slot.name).doing(Class::Damage, cannot)? else { continue };
        if !is_that_store(session, &*store, &vault, &instance)? {
            continue;
        }
        let info = StoreInfo {
            format: crate::model::manifest::FORMAT,
            needs: Vec::new(),
            doc: "store".into(),
            vault: vault.clone(),
            instance,
            // When it was made nobody knows any more, and nothing goes by it.
            created: session.around.clock.now(),
            agent: AGENT.into(),
        };
        let line = line_of(&info).doing(Class::Failed, || format!("cannot write {}", Key::Store))?;
        replace(&spool_of(session, &*store)?, &*store, &Key::Store, &line)?;
        crash::point("sync: own file mended");
        session.note(&format!("store {}: {} could not be read and was written anew", slot.name, Key::Store));
        mended.insert(slot.name.clone());
    }
    Ok(mended)
}

/// True when the newest entry of some signer lies there that the store with that instance was seen to hold.
fn is_that_store(session: &Session, store: &dyn Store, vault: &VaultId, instance: &VaultId) -> Result<bool> {
    let heads = heads_in(session.state()?, instance)?;
    let held: BTreeSet<(SignerId, u64, ObjectId)> =
        heads.into_iter().map(|(signer, (number, hash))| (signer, number, hash)).collect();
    for prefix in [Prefix::Marks, Prefix::Records] {
        let listed = in_store(store, store.list(prefix))?;
        let keys: Vec<Key> = listed.into_iter().map(|listed| listed.key).collect();
        let found = each(&keys, |key| {
            let bytes = store.get(key, DOCUMENT_BYTES_MAX).ok()?;
            let entry = parse_entry(key, &bytes, vault).ok().flatten()?;
            held.contains(&(entry.signer(), entry.number(), entry.hash)).then_some(())
        });
        if found.into_iter().flatten().next().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
