//! The key files of the new machine: a signing key of its own, and what the kit has.

use super::Looked;
use crate::keys::identity::load_identity_file;
use crate::keys::{NamingKey, SecretIdentity, Signer};
use crate::model::index::Index;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::init::{key_folder, naming_path};
use std::path::{Path, PathBuf};

/// The key files of a project.
pub(super) struct Keys {
    pub(super) dir: PathBuf,
    pub(super) signer: Signer,
    pub(super) key_file: PathBuf,
    /// Only when the old machine could open its snapshots, and the kit has what opens them.
    pub(super) identity_file: Option<PathBuf>,
}

/// Makes them, or takes those that an interrupted run made for the same configuration.
pub(super) fn make(looked: &Looked, index: &Index, config: &Path, had_identity: bool) -> Result<Keys> {
    // What a kit says becomes no path as it is.
    let project = crate::config::slug(&looked.kit.project).unwrap_or_else(|| "project".into());
    let dir = key_folder(&looked.options.keys_root, config, &project)?;
    let key_file = dir.join("signing_key");
    let signer = signer(&key_file)?;
    naming(looked, index, &key_file)?;
    let identity_file = dir.join("identity.txt");
    let wanted = had_identity && !looked.kit.identities.is_empty();
    if wanted {
        identities(&looked.kit.identities, &identity_file, looked.session.around.clock.now())?;
    }
    Ok(Keys { dir, signer, key_file, identity_file: wanted.then_some(identity_file) })
}

fn signer(path: &Path) -> Result<Signer> {
    let cannot = || format!("cannot make the signing key {}", path.display());
    if path.exists() {
        return Signer::load(path).doing(Class::Config, cannot);
    }
    let signer = Signer::generate().doing(Class::Failed, cannot)?;
    signer.write(path).doing(Class::Failed, cannot)?;
    Ok(signer)
}

/// The one that component numbers were made with: else every component would begin a new history.
fn naming(looked: &Looked, index: &Index, key_file: &Path) -> Result<()> {
    let path = naming_path(key_file);
    if path.exists() {
        return Ok(());
    }
    let cannot = || format!("cannot write the naming key {}", path.display());
    let of_index = NamingKey::parse(&index.header.naming_key);
    let key = of_index.or_else(|| looked.kit.naming_key.clone());
    let key =
        key.ok_or_else(|| OpError::new(Class::Damage, "neither kit nor snapshot has the naming key"))?;
    key.write(&path).doing(Class::Failed, cannot)
}

fn identities(kit: &[SecretIdentity], path: &Path, now: crate::model::Timestamp) -> Result<()> {
    let cannot = || format!("cannot write the identity {}", path.display());
    if path.exists() {
        let there = load_identity_file(path).doing(Class::Config, cannot)?;
        let has = |identity: &SecretIdentity| there.iter().any(|t| t.recipient() == identity.recipient());
        if kit.iter().all(has) {
            return Ok(());
        }
        let what = format!("{} is there already, and holds other identities than the kit", path.display());
        return Err(OpError::new(Class::Config, what).hint("move it away, then run the recovery again"));
    }
    crate::keys::identity::write_all(kit, path, now).doing(Class::Failed, cannot)
}
