//! The recovery kit: made from what this host has, for the day it has nothing.

use crate::keys::kit::{Head, Kit, KitStore};
use crate::keys::trust::TrustedKey;
use crate::model::{ObjectId, VaultId};
use crate::ops::assets::{RECOVER_MD, RECOVER_PY};
use crate::ops::error::{Class, Doing, Result};
use crate::ops::session::Session;
use std::path::Path;
use zeroize::Zeroizing;

/// Puts together the kit of this project.
pub fn make(session: &Session) -> Result<Kit> {
    let config = session.config()?;
    let writer = session.writer()?;
    let vault = session.read_vault()?;
    let identities = session.identities()?;
    let signer = writer.signer.id();
    let host = vault.host_of(&signer);
    let head = vault.history.heads.get(&signer).map(|(number, hash)| Head { signer, number: *number, hash: *hash });
    let trusted: Vec<TrustedKey> = session.trust.keys().to_vec();
    Ok(Kit {
        project: config.project.name.clone(),
        hostname: crate::platform::hostname(),
        host,
        vault: vault.info.vault,
        stores: config.stores.iter().map(|s| KitStore::at(&s.name, s.path())).collect(),
        identities: identities.secret_texts(),
        recipients: writer.recipients.texts().to_vec(),
        signing_key: writer.signer.to_openssh().doing(Class::Failed, || "cannot write the signing key into the kit".into())?,
        naming_key: writer.naming.to_base64(),
        trusted,
        recover_py: ObjectId::of(RECOVER_PY),
        recover_md: ObjectId::of(RECOVER_MD),
        head,
        printed: session.around.clock.now(),
    })
}

/// Writes the kit to a file that only its owner may read; never over another file.
pub fn write(kit: &Kit, path: &Path) -> Result<()> {
    let text: Zeroizing<String> = kit.render();
    crate::durable::write_new(path, text.as_bytes(), 0o600)
        .doing(Class::Failed, || format!("cannot write the recovery kit to {}", path.display()))
}

/// Reads a kit.
pub fn load(path: &Path) -> Result<Kit> {
    let read = || std::fs::read_to_string(path).map(Zeroizing::new);
    let text = read().doing(Class::NoIdentity, || format!("cannot read the recovery kit {}", path.display()))?;
    Kit::parse(&text).doing(Class::NoIdentity, || format!("{} is not a whole recovery kit", path.display()))
}

/// The vault a kit belongs to.
pub fn vault_of(kit: &Kit) -> &VaultId {
    &kit.vault
}
