//! Tombstones: what this pruner has announced, and what others have.

use crate::durable::random_bytes;
use crate::keys::Signer;
use crate::keys::signed::{OpenError, open_document, seal_document};
use crate::model::document::{DOCUMENT_BYTES_MAX, namespace};
use crate::model::mark::Tombstone;
use crate::model::{SnapshotId, Timestamp, VaultId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::prune::plan::Announced;
use crate::ops::session::in_store;
use crate::ops::vault::{View, too_new};
use crate::store::{Key, Prefix, Store, StoreErrorKind};
use jiff::SignedDuration;

/// A tombstone of this pruner in a store.
pub(super) struct Own {
    pub(super) tombstone: Tombstone,
    /// When the store says that it was put.
    pub(super) put: Option<Timestamp>,
}

impl Own {
    /// True when its grace is over, by its own word and by the store's.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let Tombstone { created, not_before, .. } = &self.tombstone;
        let grace = not_before.duration_since(*created);
        now >= *not_before && self.put.is_none_or(|put| now.duration_since(put) >= grace - SKEW)
    }
}

/// Clocks of a store and of this machine differ by a little.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// All tombstones of a store.
#[derive(Default)]
pub(super) struct Tombstones {
    pub(super) own: Vec<Own>,
    /// Keys of those that are not this pruner's. Nothing is done about them: their owner may be in the middle of something.
    pub(super) others: Vec<String>,
}

impl Tombstones {
    /// What this pruner announced.
    pub(super) fn waiting(&self) -> Vec<&Tombstone> {
        self.own.iter().map(|own| &own.tombstone).collect()
    }
}

/// Reads the tombstones of the store of `view`.
pub(super) fn read(view: &View, signer: &Signer) -> Result<Tombstones> {
    let store = &*view.store;
    let mut found = Tombstones::default();
    for listed in in_store(store, store.list(Prefix::Tombstones))? {
        let bytes = match store.get(&listed.key, DOCUMENT_BYTES_MAX) {
            // Its owner took it away between the two looks.
            Err(e) if e.kind == StoreErrorKind::NotFound => continue,
            other => in_store(store, other)?,
        };
        let opened = open_document::<Tombstone>(&bytes, "tombstone", namespace::TOMBSTONE);
        match opened {
            Ok(signed) if is_own(&signed.value, view, signer, &listed.key) => {
                found.own.push(Own { tombstone: signed.value, put: listed.modified });
            }
            Err(OpenError::TooNew(_)) => return Err(too_new(&listed.key.to_string())),
            _ => found.others.push(listed.key.to_string()),
        }
    }
    Ok(found)
}

fn is_own(tombstone: &Tombstone, view: &View, signer: &Signer, key: &Key) -> bool {
    tombstone.signer == signer.id()
        && tombstone.vault == view.info.vault
        && tombstone.instance == view.info.instance
        && Key::Tombstone(tombstone.id.clone()) == *key
}

/// Signs and puts a tombstone for what `announced` names.
pub(super) fn put(
    view: &View,
    signer: &Signer,
    announced: &Announced,
    now: Timestamp,
    grace: SignedDuration,
) -> Result<Tombstone> {
    let random = random_bytes().doing(Class::Failed, || "no random numbers are to be had".into())?;
    let tombstone = Tombstone {
        format: crate::model::manifest::FORMAT,
        needs: Vec::new(),
        doc: "tombstone".into(),
        vault: view.info.vault.clone(),
        instance: view.info.instance.clone(),
        id: SnapshotId::new(now, random),
        signer: signer.id(),
        created: now,
        not_before: now.saturating_add(grace).unwrap_or(Timestamp::MAX),
        snapshots: announced.snapshots.iter().map(|g| (g.snapshot.clone(), g.record)).collect(),
        objects: announced.objects.clone(),
    };
    let (bytes, _) = seal_document(&tombstone, signer, namespace::TOMBSTONE)
        .doing(Class::Failed, || "cannot sign a tombstone".into())?;
    check_length(bytes.len() as u64, DOCUMENT_BYTES_MAX)?;
    let store = &*view.store;
    let key = Key::Tombstone(tombstone.id.clone());
    in_store(store, store.put_bytes(&key, &bytes))?;
    crate::durable::crash::point("prune: tombstone put");
    compare_clocks(store, &key, Timestamp::now())?;
    Ok(tombstone)
}

/// One that is longer than what is read again would stop every backup and every prune in that store, this pruner's own among them.
fn check_length(bytes: u64, most: u64) -> Result<()> {
    if bytes <= most {
        return Ok(());
    }
    let what = format!(
        "what would be announced comes to a tombstone of {bytes} bytes, and above {most} nobody reads one: nothing was announced"
    );
    Err(OpError::new(Class::Failed, what)
        .hint("keep more in [retention] for now, so that less goes at once, and lower it step by step"))
}

/// What the store says about the time of something that was put just now: also a directory on another machine has a clock.
fn compare_clocks(store: &dyn Store, key: &Key, now: Timestamp) -> Result<()> {
    let listed = in_store(store, store.list(Prefix::Tombstones))?;
    let Some(listed) = listed.into_iter().find(|l| l.key == *key) else {
        let why = format!("{key} was put and is not listed");
        return Err(crate::ops::prune::look::changed(store, &why));
    };
    let off = listed.modified.map(|put| put.duration_since(now)).filter(|off| off.abs() > SKEW);
    match off {
        None => Ok(()),
        Some(off) => {
            in_store(store, store.delete(key))?;
            let what = format!(
                "the clock of store {:?} and this machine's differ by {} seconds",
                store.name(),
                off.abs().as_secs()
            );
            Err(OpError::new(Class::Failed, what)
                .hint("set the clocks right, then run it again; nothing was deleted"))
        }
    }
}

/// The instance and time of the last prune that counts in a store, for `status`.
pub fn last_pruned(vault: &crate::ops::vault::Vault, instance: &VaultId) -> Option<Timestamp> {
    use crate::model::mark::{Role, Statement};
    let keys = vault.history.keys();
    let of = |e: &&crate::model::chain::ChainEntry| {
        let mark = e.as_mark().map(|m| &m.statement);
        keys.has_role(e, Role::Prune)
            && matches!(mark, Some(Statement::Prune { instance: of, .. }) if of == instance)
    };
    vault.entries.iter().filter(of).map(crate::model::chain::ChainEntry::time).max()
}

/// Records that some tombstone in the store of `view` names, whoever signed it. One that cannot be read names none.
pub(in crate::ops) fn announced_in(view: &View) -> Result<std::collections::HashSet<crate::model::ObjectId>> {
    let store = &*view.store;
    let mut announced = std::collections::HashSet::new();
    for listed in in_store(store, store.list(Prefix::Tombstones))? {
        let Ok(bytes) = store.get(&listed.key, DOCUMENT_BYTES_MAX) else { continue };
        let line = crate::model::document::split(&bytes).map_or(&bytes[..], |(line, _)| line);
        if let Ok(tombstone) = crate::model::document::parse::<Tombstone>(line, "tombstone") {
            announced.extend(tombstone.snapshots.into_iter().map(|row| row.1));
        }
    }
    Ok(announced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_that_nobody_would_read_again_is_not_put() {
        assert!(check_length(DOCUMENT_BYTES_MAX, DOCUMENT_BYTES_MAX).is_ok());
        let error = check_length(101, 100).unwrap_err();
        assert!(error.to_string().contains("101 bytes") && error.class == Class::Failed, "{error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("[retention]")));
    }
}
