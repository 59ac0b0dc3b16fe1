//! Recipients: added, removed, exchanged.

use super::{KeyFile, KeyPlan, free_beside, identity_text};
use crate::config::edit::{self, At, quoted};
use crate::keys::identity::{generate, load_identity_file_asking};
use crate::keys::passphrase::is_locked;
use crate::keys::{Passphrase, RecipientSet, SecretIdentity};
use crate::ops::config_edit::Change;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::kit::{IdentityFrom, assemble, of_stores, parts_of};
use crate::ops::kit_place::refuse_in_store;
use crate::ops::session::{Session, identity_error};
use std::path::{Path, PathBuf};

const AT: At<'static> = At::Table("encryption");
const NEXT: &str =
    "the next snapshot is packed anew, whole, for the new set of recipients; it refers to nothing older";
const KIT: &str = "then make a new kit (`backstay kit -o FILE`) and prove it (`backstay kit verify FILE`); keep the old kit as long as older snapshots matter";

/// Adds a recipient.
pub fn add(session: &Session, recipient: &str) -> Result<KeyPlan> {
    let config = session.config()?;
    RecipientSet::parse(&[recipient])
        .doing(Class::Usage, || "the recipient cannot be used".into())
        .map_err(|e| e.hint("a recipient is the line that begins with age1, as `age-keygen` prints it"))?;
    if config.encryption.recipients.iter().any(|r| r == recipient) {
        return Err(OpError::new(Class::Usage, format!("{recipient} is a recipient already"))
            .hint("`backstay keys list` shows all"));
    }
    let mut plan = KeyPlan::new(vec![
        "snapshots from the next one on open with the new identity, too".into(),
        "older snapshots do not: they open with the identities that they were sealed to, and with no other"
            .into(),
        NEXT.into(),
        KIT.into(),
    ]);
    plan.change =
        Some(Change::of(config, |text| edit::push(text, AT, "recipients", &quoted(recipient), ""))?);
    Ok(plan)
}

/// Takes a recipient away, but never the last.
pub fn remove(session: &Session, recipient: &str) -> Result<KeyPlan> {
    let config = session.config()?;
    if !config.encryption.recipients.iter().any(|r| r == recipient) {
        return Err(OpError::new(Class::NotFound, format!("{recipient:?} is no recipient of this project"))
            .hint("`backstay keys list` shows all"));
    }
    if config.encryption.recipients.len() == 1 {
        return Err(OpError::new(
            Class::Usage,
            "it is the only recipient, and without one nothing can be stored",
        )
        .hint("`backstay keys rotate` exchanges it; or add another first: `backstay keys add RECIPIENT`"));
    }
    let left: Vec<&String> = config.encryption.recipients.iter().filter(|r| *r != recipient).collect();
    let here = session.identities().map(|all| all.public()).unwrap_or_default();
    let mut means = vec![
        "snapshots from the next one on do not open with that identity any more".to_owned(),
        "older snapshots still do, for whoever has it and can read a store: this takes nothing back"
            .to_owned(),
        NEXT.to_owned(),
        KIT.to_owned(),
    ];
    if !left.iter().any(|r| here.contains(r)) {
        means.insert(0, "NO IDENTITY ON THIS MACHINE opens what is made from then on: be sure that somebody holds one of the rest".into());
    }
    let mut plan = KeyPlan::new(means);
    plan.change = Some(Change::of(config, |text| {
        edit::take(text, AT, "recipients", &|value| value.as_str() == Some(recipient)).map(|taken| taken.0)
    })?);
    Ok(plan)
}

/// Makes a new identity in the place of this machine's. `replace` names which recipient it takes the place of, where that is not clear. With an
/// offline identity the new one goes into `kit`, and nowhere else.
pub fn rotate(
    session: &Session,
    replace: Option<&str>,
    kit: Option<&Path>,
    passphrase: &dyn Fn() -> Result<Passphrase>,
) -> Result<KeyPlan> {
    let config = session.config()?;
    let file = config.encryption.identity_file.clone().filter(|file| file.exists());
    let old = match &file {
        Some(file) => {
            load_identity_file_asking(file, &*session.asker()).map_err(|e| identity_error(file, false, e))?
        }
        None => Vec::new(),
    };
    let replaced = which(&config.encryption.recipients, &old, replace)?;
    let (identity, recipient) = generate();
    let mut plan = KeyPlan::new(vec![
        "snapshots from the next one on open with the new identity".into(),
        "older snapshots open with the old one alone: it is kept with the new one, and is needed as long as they matter".into(),
        NEXT.into(),
        KIT.into(),
    ]);
    let new_file = match &file {
        Some(file) => Some(beside(session, file, &identity, old, passphrase, &mut plan)?),
        None => {
            plan.kit = Some(offline_kit(session, kit, identity, (&replaced, &recipient))?);
            plan.means[1] =
                "older snapshots open with the old identity alone: KEEP THE OLD KIT as long as they matter"
                    .into();
            None
        }
    };
    plan.change = Some(Change::of(config, |text| {
        let text = edit::take(text, AT, "recipients", &|value| value.as_str() == Some(&replaced))?.0;
        let text = edit::push(&text, AT, "recipients", &quoted(&recipient), "")?;
        match &new_file {
            Some(path) => edit::set(&text, AT, "identity_file", &quoted(&path.display().to_string())),
            None => Ok(text),
        }
    })?);
    Ok(plan)
}

fn which(recipients: &[String], old: &[SecretIdentity], replace: Option<&str>) -> Result<String> {
    let own: Vec<&String> =
        recipients.iter().filter(|r| old.iter().any(|identity| identity.recipient() == **r)).collect();
    match (replace, &own[..], recipients) {
        (Some(named), ..) if recipients.iter().any(|r| r == named) => Ok(named.to_owned()),
        (Some(named), ..) => {
            Err(OpError::new(Class::NotFound, format!("{named:?} is no recipient of this project"))
                .hint("`backstay keys list` shows all"))
        }
        (None, [one], _) => Ok((*one).clone()),
        (None, [], [one]) => Ok(one.clone()),
        _ => Err(OpError::new(
            Class::Usage,
            "it is not clear which recipient the new identity takes the place of",
        )
        .hint("name it: backstay keys rotate --replace RECIPIENT")),
    }
}

/// A new identity file with the new identity first and all the old ones after it: older snapshots still open here.
fn beside(
    session: &Session,
    file: &Path,
    identity: &SecretIdentity,
    old: Vec<SecretIdentity>,
    passphrase: &dyn Fn() -> Result<Passphrase>,
    plan: &mut KeyPlan,
) -> Result<PathBuf> {
    let bytes = std::fs::read(file).doing(Class::NoIdentity, || format!("cannot read {}", file.display()))?;
    let passphrase = if is_locked(&bytes) { Some(passphrase()?) } else { None };
    let all: Vec<SecretIdentity> = std::iter::once(identity.clone()).chain(old).collect();
    let new = free_beside(file);
    let text = identity_text(&all, passphrase.as_ref(), session.around.clock.now())?;
    plan.files.push(KeyFile::Text(new.clone(), text));
    plan.means.push(format!(
        "{} stays as it is; it may go once the new file was copied to wherever that one was kept",
        file.display()
    ));
    Ok(new)
}

/// A kit with the new identity, which is on no disk but the kit's.
fn offline_kit(
    session: &Session,
    kit: Option<&Path>,
    identity: SecretIdentity,
    (replaced, recipient): (&str, &str),
) -> Result<(PathBuf, Box<crate::keys::Kit>)> {
    let Some(path) = kit else {
        return Err(OpError::new(Class::Usage, "the identity is not on this machine, so the new one goes into a new kit alone")
            .hint("name the file for it: backstay keys rotate --kit FILE; or give a recipient whose identity you hold: `backstay keys add RECIPIENT`"));
    };
    if path.symlink_metadata().is_ok() {
        return Err(OpError::new(Class::Usage, format!("{} is there already", path.display()))
            .hint("name a new file; keep the old kit as long as older snapshots matter"));
    }
    let config = session.config()?;
    refuse_in_store(path, config.stores.iter().map(|store| (&*store.name, &store.place)))?;
    let vault = session.read_vault()?;
    let host = vault.host_of(&session.signer()?.id());
    let ask = session.asker();
    let mut parts = parts_of(config, vault.info.vault.clone(), host, session.around.clock.now(), &*ask);
    parts.identity = IdentityFrom::Hand(identity);
    of_stores(&mut parts, session, &vault);
    let others = config.encryption.recipients.iter().filter(|r| *r != replaced).cloned();
    let recipients: Vec<String> = others.chain([recipient.to_owned()]).collect();
    parts.recipients = &recipients;
    Ok((path.to_owned(), Box::new(assemble(parts)?)))
}
