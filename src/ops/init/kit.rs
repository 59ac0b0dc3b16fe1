//! The kit of a project: written once, never over anything.

use super::{InitOptions, InitReport, means};
use crate::config::Config;
use crate::keys::kit::{Kit, KitError};
use crate::keys::{Signer, passphrase};
use crate::model::{Clock, SignerId, VaultId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::kit::{Parts, assemble, parts_of, trust_of};
use crate::ops::kit_place::refuse_in_store;
use crate::ops::recover_files::Lying;
use crate::ops::stores::open_configured;
use std::path::Path;

/// Writes a kit to a file that is not there yet.
pub(super) fn write_kit(parts: Parts<'_>, path: &Path, report: &mut InitReport) -> Result<()> {
    let kit = assemble(parts)?;
    kit.write(path)
        .doing(Class::Failed, || format!("cannot write the recovery kit to {}", path.display()))?;
    report.made.push(format!("recovery kit {}", path.display()));
    Ok(())
}

/// Writes the kit when it is not there yet and can be made here.
pub(super) fn complete_kit(
    options: &InitOptions,
    config: &Config,
    (vault, signer): (VaultId, &Signer),
    report: &mut InitReport,
    clock: &dyn Clock,
) -> Result<()> {
    let beside = config.signing.key_file.with_file_name("recovery-kit.txt");
    let path = options.kit.clone().unwrap_or(beside);
    let identity_here = config.encryption.identity_file.as_ref().is_some_and(|f| f.exists());
    if path.symlink_metadata().is_err() {
        // Nobody is asked for a passphrase here: whoever has one makes the kit when he likes.
        if config.encryption.identity_file.as_deref().is_some_and(is_protected) {
            let note = "a passphrase protects the identity, so no recovery kit was written here";
            report.notes.push(note.to_owned());
            return Ok(());
        }
        refuse_in_store(&path, config.stores.iter().map(|store| (&*store.name, &store.place)))?;
        report.kit = Some(path.display().to_string());
        report.kit_opens = identity_here;
        let mut parts = parts_of(config, vault, signer.id().into(), clock.now(), &|_| None);
        parts.instructions = lying(options, config, signer)?;
        return write_kit(parts, &path, report);
    }
    let kit = match Kit::load(&path) {
        Err(KitError::Locked(_)) => {
            let what = "is a recovery kit that a passphrase protects; `backstay kit verify` says whether it opens these backups";
            report.notes.push(format!("{} {what}", path.display()));
            return Ok(());
        }
        loaded => loaded
            .doing(Class::Config, || format!("{} is there, but is no recovery kit", path.display()))
            .map_err(|e| {
                e.hint("move it away, or name another file with --kit; nothing is ever written over it")
            })?,
    };
    report.kit = Some(path.display().to_string());
    if kit.vault != vault {
        let what = format!("{} is the recovery kit of another project", path.display());
        return Err(OpError::new(Class::Config, what).hint("name another file with --kit"));
    }
    let recipients = &config.encryption.recipients;
    report.kit_opens = kit.identities.iter().any(|identity| recipients.contains(&identity.recipient()));
    report.identity_only_in_kit = report.kit_opens && !identity_here;
    Ok(())
}

/// The instructions in the stores, some of which may be of an older version.
fn lying(options: &InitOptions, config: &Config, signer: &Signer) -> Result<Lying> {
    let (means, trust) = (means(options, config, Some(signer)), trust_of(&config.signing.trusted)?);
    let stores: Vec<_> =
        config.stores.iter().filter_map(|store| open_configured(store, &means).ok()).collect();
    let trusted = |id: &SignerId| trust.get(id).is_some();
    Ok(Lying::in_stores(stores.iter().map(|store| &**store), &trusted))
}

fn is_protected(file: &Path) -> bool {
    std::fs::read(file).is_ok_and(|bytes| passphrase::is_locked(&zeroize::Zeroizing::new(bytes)))
}
