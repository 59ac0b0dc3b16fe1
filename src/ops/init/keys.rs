//! The keys of a project: those of an earlier run, or new ones.

use super::{InitOptions, InitReport, KeyPlaces, new_id};
use crate::keys::identity::{SecretIdentity, generate, load_identity_file};
use crate::keys::kit::Kit;
use crate::keys::{NamingKey, Signer};
use crate::model::{Clock, HostId, VaultId};
use crate::ops::error::{Class, Doing, OpError, Result};
use std::path::{Path, PathBuf};

/// Where this project's keys are, or are to be; makes nothing.
pub(super) fn key_places(options: &InitOptions, project: &str) -> Result<KeyPlaces> {
    let dir = find_folder(&options.keys_root, &options.config_path, project)?;
    Ok(KeyPlaces {
        identity: dir.join("identity.txt"),
        signing: dir.join("signing_key"),
        kit: options.kit.clone().unwrap_or_else(|| dir.join("recovery-kit.txt")),
        dir,
    })
}

/// A folder that an earlier run for the same configuration made, or a new one. Two projects of one name get two.
pub(crate) fn key_folder(keys_root: &Path, config_path: &Path, project: &str) -> Result<PathBuf> {
    let dir = find_folder(keys_root, config_path, project)?;
    take_folder(&dir, config_path)?;
    Ok(dir)
}

/// What says in a key folder for which configuration it was made.
const MARKER: &str = "project";

fn find_folder(keys_root: &Path, config_path: &Path, project: &str) -> Result<PathBuf> {
    let whose = config_path.as_os_str().as_encoded_bytes();
    for number in 1.. {
        let name = if number == 1 { project.to_owned() } else { format!("{project}-{number}") };
        let dir = keys_root.join(name);
        match std::fs::read(dir.join(MARKER)) {
            Ok(owner) if owner == whose => return Ok(dir),
            Ok(_) => {}
            Err(_) if dir.join("signing_key").exists() => {}
            Err(_) => return Ok(dir),
        }
    }
    Err(OpError::new(Class::Failed, "no name is free for the key folder"))
}

/// Makes the folder that was found, where it is not this configuration's already.
pub(super) fn take_folder(dir: &Path, config_path: &Path) -> Result<()> {
    let marker = dir.join(MARKER);
    if std::fs::read(&marker).is_ok() {
        return Ok(());
    }
    let cannot = || format!("cannot make the key folder {}", dir.display());
    crate::durable::create_dirs(dir, 0o700).doing(Class::Failed, cannot)?;
    let whose = config_path.as_os_str().as_encoded_bytes();
    crate::durable::write_new(&marker, whose, 0o600).doing(Class::Failed, cannot)
}

pub(super) fn make_signer(places: &KeyPlaces, report: &mut InitReport) -> Result<Signer> {
    let cannot = || format!("cannot use the signing key {}", places.signing.display());
    if places.signing.exists() {
        return Signer::load(&places.signing).doing(Class::Config, cannot);
    }
    let signer = Signer::generate().doing(Class::Failed, cannot)?;
    signer.write(&places.signing).doing(Class::Failed, cannot)?;
    report.made.push(format!("signing key {}", places.signing.display()));
    Ok(signer)
}

pub(super) fn make_naming(places: &KeyPlaces, report: &mut InitReport) -> Result<()> {
    let path = naming_path(&places.signing);
    if path.exists() {
        return Ok(());
    }
    let cannot = || format!("cannot write the naming key {}", path.display());
    NamingKey::generate().and_then(|key| key.write(&path)).doing(Class::Failed, cannot)?;
    report.made.push(format!("naming key {}", path.display()));
    Ok(())
}

/// The naming key lies beside the signing key.
pub fn naming_path(signing: &Path) -> PathBuf {
    signing.with_file_name("naming_key")
}

/// Whom a new vault is sealed to.
pub(super) struct Encryption {
    pub(super) recipients: Vec<String>,
    /// The identity, when it must not be on this machine and is nowhere yet.
    pub(super) identity: Option<SecretIdentity>,
    pub(super) vault: VaultId,
}

/// The recipients of a new project, and the identity when it must not be on this machine. `earlier`: the vault that a run before knew.
pub(super) fn make_recipients(
    options: &InitOptions,
    places: &KeyPlaces,
    (host, earlier): (HostId, Option<VaultId>),
    clock: &dyn Clock,
    report: &mut InitReport,
) -> Result<Encryption> {
    if let Some(kit) = kit_of_earlier_run(options, places, host)? {
        return Ok(Encryption { recipients: kit.recipients, identity: None, vault: kit.vault });
    }
    let sealed_to = |recipients, identity| {
        let vault = earlier.clone().map_or_else(new_id, Ok)?;
        Ok(Encryption { recipients, identity, vault })
    };
    if options.offline_identity {
        let (identity, recipient) = generate();
        return sealed_to(vec![recipient], Some(identity));
    }
    let here = recipients_here(options, places)?;
    if !here.is_empty() {
        return sealed_to(here, None);
    }
    let (identity, recipient) = generate();
    identity
        .write(&places.identity, clock.now())
        .doing(Class::Failed, || format!("cannot write the identity {}", places.identity.display()))?;
    report.made.push(format!("identity {}", places.identity.display()));
    sealed_to(vec![recipient], None)
}

/// The kit of an earlier run for this project whose configuration is not there: it names the vault, and with `--offline-identity` it holds the only
/// identity. Any other kit at its place would be passed over in silence, and open nothing.
pub(super) fn kit_of_earlier_run(
    options: &InitOptions,
    places: &KeyPlaces,
    host: HostId,
) -> Result<Option<Kit>> {
    if !places.kit.exists() {
        return Ok(None);
    }
    let taken = |why: &str| {
        let what = format!("{} is there already, and {why}", places.kit.display());
        OpError::new(Class::Config, what)
            .hint("move it away, or name another file for the new kit with --kit FILE")
    };
    let kit = match Kit::load(&places.kit) {
        Ok(kit) => kit,
        Err(e) => return Err(taken("is no kit of an earlier run").because(e)),
    };
    if kit.host != host {
        return Err(taken("is the kit of another project or machine"));
    }
    if options.offline_identity || kit.recipients == recipients_here(options, places)? {
        return Ok(Some(kit));
    }
    Err(taken("belongs to another identity")
        .hint("if a run with --offline-identity was interrupted, say that again; else move the kit away to begin anew"))
}

/// The recipients that this run would use without a kit; none when their identity is still to be made.
pub(super) fn recipients_here(options: &InitOptions, places: &KeyPlaces) -> Result<Vec<String>> {
    if !options.recipients.is_empty() || !places.identity.exists() {
        return Ok(options.recipients.clone());
    }
    let there = load_identity_file(&places.identity)
        .doing(Class::Config, || format!("cannot use the identity {}", places.identity.display()))?;
    Ok(there.iter().map(SecretIdentity::recipient).collect())
}
