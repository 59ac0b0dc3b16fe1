//! The recovery kit: made from what this host has, for the day it has nothing.

use crate::config::{Config, Place, Trusted};
use crate::keys::identity::load_identity_file_asking;
use crate::keys::kit::{Kit, KitStore, StoreAt};
use crate::keys::{Ask, NamingKey, SecretIdentity, Signer, TrustList, TrustedKey};
use crate::model::chain::Heads;
use crate::model::{HostId, ObjectId, SignerId, VaultId};
use crate::ops::assets::{RECOVER_MD, RECOVER_PY};
use crate::ops::error::{Class, Doing, Result};
use crate::ops::init::naming_path;
use crate::ops::recover_files::Lying;
use crate::ops::session::{Session, identity_error};
use crate::ops::vault::Vault;
use std::collections::BTreeMap;
use std::path::Path;

/// Where the identity of a kit comes from.
pub enum IdentityFrom<'a> {
    /// This one; it is on no disk.
    Hand(SecretIdentity),
    /// The configuration's file, if there is one.
    File(Option<&'a Path>),
}

/// What a kit is put together from.
pub struct Parts<'a> {
    /// The project's name.
    pub project: &'a str,
    /// The vault.
    pub vault: VaultId,
    /// The host.
    pub host: HostId,
    /// Where the signing key is; the naming key lies beside it.
    pub key_file: &'a Path,
    /// The identity.
    pub identity: IdentityFrom<'a>,
    /// Whom objects are sealed to.
    pub recipients: &'a [String],
    /// Names and places of stores.
    pub stores: Vec<(String, Place)>,
    /// Trusted keys.
    pub trusted: &'a [Trusted],
    /// The instructions as they lie in the stores; where none is known, they are taken to be this version's.
    pub instructions: Lying,
    /// The newest entries known.
    pub heads: Heads,
    /// The present moment.
    pub now: jiff::Timestamp,
    /// Gives the passphrase of the identity file.
    pub ask: &'a Ask,
}

/// The trusted keys of a configuration.
pub fn trust_of(trusted: &[Trusted]) -> Result<TrustList> {
    let mut list = TrustList::default();
    for t in trusted {
        let key = TrustedKey::parse(&t.key)
            .doing(Class::Config, || format!("trusted key {:?} cannot be used", t.name))?;
        let key = TrustedKey { name: t.name.clone(), ..key };
        list.add(key.with_roles(t.roles.iter().copied()));
    }
    Ok(list)
}

/// Puts a kit together.
pub fn assemble(parts: Parts<'_>) -> Result<Kit> {
    let identities = match parts.identity {
        IdentityFrom::Hand(identity) => vec![identity],
        IdentityFrom::File(None) => Vec::new(),
        IdentityFrom::File(Some(file)) => {
            load_identity_file_asking(file, parts.ask).map_err(|e| identity_error(file, false, e))?
        }
    };
    let signer =
        Signer::load(parts.key_file).doing(Class::Config, || "cannot load this host's signing key".into())?;
    let naming = NamingKey::load(&naming_path(parts.key_file))
        .doing(Class::Config, || "cannot load the naming key".into())?;
    Ok(Kit {
        printed: parts.now,
        project: parts.project.to_owned(),
        hostname: crate::platform::hostname(),
        host: parts.host,
        vault: parts.vault,
        stores: parts.stores.into_iter().map(kit_store).collect(),
        identities,
        recipients: parts.recipients.to_vec(),
        signing_key: Some(signer),
        trusted: trust_of(parts.trusted)?,
        naming_key: Some(naming),
        recover_py: or_ours(parts.instructions.recover_py, RECOVER_PY),
        recover_md: or_ours(parts.instructions.recover_md, RECOVER_MD),
        heads: parts.heads,
    })
}

fn or_ours(lying: Vec<ObjectId>, ours: &[u8]) -> Vec<ObjectId> {
    if lying.is_empty() { vec![ObjectId::of(ours)] } else { lying }
}

/// What the stores that are here say: the newest entries, and the instructions that lie in them.
pub(super) fn of_stores(parts: &mut Parts<'_>, session: &Session, vault: &Vault) {
    let trusted = |signer: &SignerId| vault.history.keys().is_trusted(signer);
    // Whoever reads a vault may need one store of it alone.
    let here: Vec<_> = session.stores.iter().filter_map(|slot| session.store_of(slot).ok()).collect();
    parts.instructions = Lying::in_stores(here.iter().map(|store| &**store), &trusted);
    parts.heads = vault.history.heads.clone();
}

/// A store as a kit names it.
fn kit_store((name, place): (String, Place)) -> KitStore {
    match place {
        Place::Path(path) => {
            KitStore { name, at: StoreAt::Path(path.display().to_string()), settings: BTreeMap::new() }
        }
        Place::Url(place) => KitStore { name, at: StoreAt::Url(place.url()), settings: place.kit_settings() },
    }
}

/// The stores of a configuration as a kit names them.
pub fn stores_of(config: &Config) -> Vec<KitStore> {
    config.stores.iter().map(|s| kit_store((s.name.clone(), s.place.clone()))).collect()
}

/// The parts that a configuration gives.
pub fn parts_of<'a>(
    config: &'a Config,
    vault: VaultId,
    host: HostId,
    now: jiff::Timestamp,
    ask: &'a Ask,
) -> Parts<'a> {
    let file = config.encryption.identity_file.as_deref().filter(|file| file.exists());
    Parts {
        project: &config.project.name,
        vault,
        host,
        key_file: &config.signing.key_file,
        identity: IdentityFrom::File(file),
        recipients: &config.encryption.recipients,
        stores: config.stores.iter().map(|s| (s.name.clone(), s.place.clone())).collect(),
        trusted: &config.signing.trusted,
        instructions: Lying::default(),
        heads: Heads::new(),
        now,
        ask,
    }
}

/// Puts together the kit of this project, with the newest entry known.
pub fn make(session: &Session) -> Result<Kit> {
    let config = session.config()?;
    let writer = session.writer()?;
    let vault = session.read_vault()?;
    let host = vault.host_of(&writer.signer.id());
    let ask = session.asker();
    let mut parts = parts_of(config, vault.info.vault.clone(), host, session.around.clock.now(), &*ask);
    of_stores(&mut parts, session, &vault);
    assemble(parts)
}
