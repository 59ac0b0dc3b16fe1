//! The key files of the new machine: a signing key of its own, and what the kit has.

use super::Looked;
use crate::keys::identity::load_identity_file_asking;
use crate::keys::{NamingKey, SecretIdentity, Signer};
use crate::model::index::Index;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::init::{key_folder, naming_path};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The key files of a project.
pub(super) struct Keys {
    pub(super) dir: PathBuf,
    pub(super) signer: Signer,
    pub(super) key_file: PathBuf,
    /// Only when the old machine could open its snapshots, and the kit has what opens them.
    pub(super) identity_file: Option<PathBuf>,
    /// A passphrase opens it: it is one that was on this machine before.
    pub(super) identity_locked: bool,
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
    let identity_locked = wanted && identities(looked, &identity_file)?;
    Ok(Keys { dir, signer, key_file, identity_file: wanted.then_some(identity_file), identity_locked })
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

/// Writes the kit's identities. Of a file that is there already it must be certain that it has them; true when a passphrase protects that.
fn identities(looked: &Looked, path: &Path) -> Result<bool> {
    let (kit, around) = (&looked.kit.identities, &looked.session.around);
    let cannot = || format!("cannot use the identity {}", path.display());
    if !path.exists() {
        crate::keys::identity::write_all(kit, path, around.clock.now()).doing(Class::Failed, cannot)?;
        return Ok(false);
    }
    let away = "move it away, then run the recovery again: the kit has what opens the snapshots";
    let asked = Arc::new(AtomicBool::new(false));
    let (ask, told) = (Arc::clone(&around.ask), Arc::clone(&asked));
    let asking = move |what: &str| {
        told.store(true, Ordering::Relaxed);
        ask(what)
    };
    let there = load_identity_file_asking(path, &asking);
    let there = there.doing(Class::Config, cannot).map_err(|e| e.hint(away))?;
    let has = |identity: &SecretIdentity| there.iter().any(|t| t.recipient() == identity.recipient());
    if !kit.iter().all(has) {
        let what = format!("{} is there already, and holds other identities than the kit", path.display());
        return Err(OpError::new(Class::Config, what).hint(away));
    }
    Ok(asked.load(Ordering::Relaxed))
}
