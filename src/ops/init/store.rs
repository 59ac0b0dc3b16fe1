//! Making a store: what it says of itself comes last, so that a store is whole or none.

use super::{InitReport, clear_unfinished, new_id};
use crate::durable::crash;
use crate::keys::Signer;
use crate::model::document::namespace;
use crate::model::{Clock, VaultId};
use crate::ops::assets::{RECOVER_MD, RECOVER_PY};
use crate::ops::commit::AGENT;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::session::in_store;
use crate::ops::vault::{StoreInfo, store_info};
use crate::store::{Key, LocalStore, Store};
use std::path::Path;

/// Makes a store where there is none; compares where there is one.
pub(super) fn make_store(
    name: &str,
    path: &Path,
    vault: &VaultId,
    signer: &Signer,
    clock: &dyn Clock,
    report: &mut InitReport,
) -> Result<()> {
    if let Ok(open) = LocalStore::open(name, path) {
        let info = store_info(&open)?;
        if info.vault == *vault {
            return Ok(());
        }
        return Err(OpError::new(
            Class::Config,
            format!("{} holds the vault of another project", path.display()),
        )
        .hint("name another folder for this project's store"));
    }
    let cannot = || format!("cannot make store {name:?} in {}", path.display());
    let store = LocalStore::create(name, path).doing(Class::Store, cannot)?.writing_as(&signer.id());
    crash::point("init: store folders there");
    for (key, signature_key, bytes) in
        [(Key::RecoverMd, Key::RecoverMdSig, RECOVER_MD), (Key::RecoverPy, Key::RecoverPySig, RECOVER_PY)]
    {
        if in_store(&store, store.head(&key))?.is_some()
            && in_store(&store, store.head(&signature_key))?.is_some()
        {
            continue; // an earlier run was cut off after these
        }
        let signature = signer.sign(namespace::RECOVER, bytes).doing(Class::Failed, cannot)?;
        in_store(&store, store.put_bytes(&key, bytes))?;
        in_store(&store, store.put_bytes(&signature_key, signature.as_bytes()))?;
        crash::point("init: instructions put");
    }
    ignore_file(path)?;
    crash::point("init: ignore file there");
    let info = StoreInfo {
        format: crate::model::manifest::FORMAT,
        needs: Vec::new(),
        doc: "store".into(),
        vault: vault.clone(),
        instance: new_id()?,
        created: clock.now(),
        agent: AGENT.into(),
    };
    let line = crate::model::document::line_of(&info).doing(Class::Failed, cannot)?;
    // Last: a store without this file is no store yet.
    in_store(&store, store.put_bytes(&Key::Store, &line))?;
    report.made.push(format!("store {}", path.display()));
    Ok(())
}

/// A store in a working tree must not be committed to git.
fn ignore_file(store: &Path) -> Result<()> {
    let path = store.join(".gitignore");
    if path.exists() {
        return Ok(());
    }
    clear_unfinished(&path)?;
    crate::durable::write_new(&path, b"# backups do not belong into git\n*\n", 0o644)
        .doing(Class::Store, || format!("cannot write {}", path.display()))
}
