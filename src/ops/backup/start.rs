//! What a run begins with: the components that are meant, an empty spool, and the place where this host's chain goes on.

use crate::config::Component;
use crate::durable::{Dir, DurableError, create_dirs};
use crate::keys::Signer;
use crate::model::Timestamp;
use crate::ops::commit::Chain;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::session::Session;
use crate::ops::vault::Vault;
use std::path::PathBuf;

/// The components that are asked for.
pub(in crate::ops) fn chosen<'c>(all: &'c [Component], only: &[String]) -> Result<Vec<&'c Component>> {
    if let Some(unknown) = only.iter().find(|name| !all.iter().any(|c| c.name.as_str() == **name)) {
        let names: Vec<&str> = all.iter().map(|c| c.name.as_str()).collect();
        return Err(OpError::new(
            Class::NotFound,
            format!("there is no component {unknown:?} in the configuration"),
        )
        .hint(format!("there are: {}", names.join(", "))));
    }
    let wanted = |c: &&Component| only.is_empty() || only.iter().any(|name| *name == c.name.as_str());
    let components: Vec<&Component> = all.iter().filter(wanted).collect();
    if components.is_empty() {
        return Err(OpError::new(
            Class::Config,
            "the configuration has no component, so there is nothing to back up",
        )
        .hint("add a [[component]] to backstay.toml"));
    }
    Ok(components)
}

/// The directory where archives are prepared, without what killed runs left there.
pub(crate) fn prepare_spool(session: &Session) -> Result<PathBuf> {
    let spool = match session.store.spool_dir() {
        Some(dir) => dir,
        None => session.state()?.spool_dir(),
    };
    let sweep = || -> std::result::Result<(), DurableError> {
        create_dirs(&spool, 0o700)?;
        // The lock is held: whatever lies here belongs to no living run of this host.
        crate::durable::sweep(&Dir::open(&spool)?, Timestamp::MAX, &|_| true)?;
        Ok(())
    };
    sweep().doing(Class::Store, || format!("cannot prepare the spool directory {}", spool.display()))?;
    let state = session.state()?;
    state
        .sweep(Timestamp::MAX)
        .doing(Class::Failed, || format!("cannot clear the state directory {}", state.dir().display()))?;
    Ok(spool)
}

/// Where this host's chain goes on: after the higher of what the store shows and what was seen before.
pub(crate) fn open_chain<'a>(session: &'a Session, signer: &'a Signer, vault: &Vault) -> Result<Chain<'a>> {
    let id = signer.id();
    let host = vault.host_of(&id);
    let state = session.state()?;
    let view = vault.views.iter().find(|v| v.store.name() == session.store.name());
    let mut chain = Chain {
        store: &*session.store,
        state,
        signer,
        host,
        vault: vault.info.vault.clone(),
        instance: view.map_or(&vault.info, |v| &v.info).instance.clone(),
        next: vault.history.next(&id),
        several: session.stores.len() > 1,
        signed: Vec::new(),
    };
    // Also what was signed and is in no store that is here: its number is taken.
    let heads =
        state.heads().doing(Class::Damage, || "cannot read what was seen of the vault before".into())?;
    if let Some(head) = heads.get(&id) {
        chain.follow(head.number, head.hash);
    }
    for kept in state.kept_documents().doing(Class::Failed, || "cannot read what was signed before".into())? {
        let entry = crate::ops::vault::parse_entry(&kept.key, &kept.bytes, &vault.info.vault).ok().flatten();
        if let Some(entry) = entry.filter(|e| e.signer() == id) {
            chain.follow(entry.number(), entry.hash);
        }
    }
    Ok(chain)
}
