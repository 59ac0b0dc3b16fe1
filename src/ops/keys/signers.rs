//! Signers: believed here, introduced to everybody, retired, exchanged.

use super::{KeyFile, KeyPlan, free_beside};
use crate::config::edit::{self, At, quoted};
use crate::keys::{Signer, TrustedKey};
use crate::model::mark::{KeyAction, Role, Statement};
use crate::model::trust_rules::is_only_verifier_or_pruner;
use crate::model::{HostId, ObjectId, SignerId};
use crate::ops::config_edit::Change;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::session::Session;
use crate::ops::vault::Vault;
use std::path::PathBuf;

const AT: At<'static> = At::Table("signing");

/// A key that is to be trusted.
#[derive(Debug, Clone)]
pub struct NewSigner {
    /// `ssh-ed25519 AAAA…`.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub roles: Vec<Role>,
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Host => "host",
        Role::Verify => "verify",
        Role::Prune => "prune",
    }
}

fn parse(text: &str) -> Result<TrustedKey> {
    TrustedKey::parse(text).doing(Class::Usage, || "the key cannot be used".into()).map_err(|e| {
        e.hint("give the public half, the line in the .pub file: \"ssh-ed25519 AAAA…\"; its private half stays where it is")
    })
}

/// The entry of `trusted` as one element and as a table of its own.
fn entry(new: &NewSigner) -> (String, String) {
    let roles: Vec<String> = new.roles.iter().map(|role| quoted(word(*role))).collect();
    let (key, name, roles) = (quoted(&new.key), quoted(&new.name), roles.join(", "));
    let inline = format!("{{ key = {key}, name = {name}, roles = [{roles}] }}");
    (inline, format!("[[signing.trusted]]\nkey = {key}\nname = {name}\nroles = [{roles}]\n"))
}

/// Lets this machine believe a key: in its configuration, with these roles. Other machines have configurations of their own.
pub fn trust(session: &Session, new: &NewSigner) -> Result<KeyPlan> {
    let config = session.config()?;
    let key = parse(&new.key)?;
    if let Some(known) = session.trust.get(&key.id) {
        let roles: Vec<&str> = known.roles.iter().map(|role| word(*role)).collect();
        let what =
            format!("that key is trusted already, as {:?} with roles {}", known.name, roles.join(", "));
        return Err(OpError::new(Class::Usage, what)
            .hint("to give it other roles change its entry in [signing] trusted"));
    }
    let name = if new.name.is_empty() { key.name.clone() } else { new.name.clone() };
    if name.is_empty() {
        return Err(OpError::new(Class::Usage, "the key needs a name, which messages call it by")
            .hint("add --name NAME"));
    }
    let mut means =
        vec![format!("this machine believes key {} from now on, for what it signed before, too", key.id)];
    for role in &new.roles {
        means.push(match role {
            Role::Host => format!(
                "host: snapshots of the host {} are listed as trusted and can be chosen",
                HostId::from(key.id)
            ),
            Role::Verify => "verify: its verdicts make snapshots of other hosts good".into(),
            Role::Prune => {
                "prune: it may delete, end milestones and retire keys; give it to as few as possible".into()
            }
        });
    }
    means.push("other machines are told in their own configurations".into());
    let (inline, table) = entry(&NewSigner { key: key.key, name, roles: new.roles.clone() });
    let mut plan = KeyPlan::new(means);
    plan.change = Some(Change::of(config, |text| edit::push(text, AT, "trusted", &inline, &table))?);
    Ok(plan)
}

/// Lets this host say, to everybody who trusts it, that a key is one of its own.
pub fn introduce(session: &Session, key: &str) -> Result<KeyPlan> {
    let key = parse(key)?;
    let vault = session.read_vault()?;
    let signer = session.signer()?;
    let host = vault.host_of(&signer.id());
    if vault.history.keys().is_of(&key.id, &host) {
        return Err(OpError::new(Class::Usage, format!("key {} is one of this host already", key.id))
            .hint("`backstay keys list` shows all"));
    }
    if vault.entries.iter().any(|entry| entry.signer() == key.id) {
        let what = format!("key {} has signed something already, in a history of its own", key.id);
        return Err(OpError::new(Class::Usage, what)
            .hint("a key goes on in this host's history only from its first entry on: make a new one"));
    }
    if is_only_verifier_or_pruner(&session.trust.signers(), &key.id) {
        let what = format!("key {} is trusted to verify or prune, and can be no host's key besides", key.id);
        return Err(OpError::new(Class::Usage, what).hint("make a key of its own for each of the two"));
    }
    let mut plan = KeyPlan::new(vec![
        format!("whoever trusts this host also believes snapshots of it that key {} signs", key.id),
        "it gets the role host for this one host, and no other role".into(),
        "only a machine that has its private half can use it; `backstay keys signer retire` ends it".into(),
    ]);
    plan.before.push((signer, introduction(&key.key, host)));
    Ok(plan)
}

fn introduction(key: &str, host: HostId) -> Statement {
    Statement::Key { action: KeyAction::Introduce, key: key.to_owned(), host, last: None }
}

/// Ends a key: what it signed up to `last` (or its newest entry) still counts, nothing after.
pub fn retire(session: &Session, named: &str, last: Option<u64>) -> Result<KeyPlan> {
    let vault = session.read_vault()?;
    let (id, key) = find(session, &vault, named)?;
    let signer = session.signer()?;
    if id == signer.id() {
        return Err(OpError::new(Class::Usage, "this host signs with that key")
            .hint("`backstay keys signer rotate` makes a new one and retires it"));
    }
    let keys = vault.history.keys();
    if let Some((number, _)) = keys.retired(&id) {
        return Err(OpError::new(
            Class::Usage,
            format!("key {id} was retired already, after entry {number}"),
        )
        .hint("`backstay keys list` shows all"));
    }
    let host = host_of(&vault, &id);
    if !keys.may_sign_for(&signer.id(), &host) && !keys.may(&signer.id(), Role::Prune) {
        return Err(OpError::new(Class::Config, format!("this host may not retire a key of host {host}"))
            .hint("that takes a key of the same host, or one with the role prune"));
    }
    let last = last_entry(&vault, &id, last)?;
    let mut plan = KeyPlan::new(vec![
        format!(
            "entries of key {id} up to number {} still count; whatever it signs after that is untrusted, whatever time it claims",
            last.0
        ),
        "snapshots that it made before stay good, and can be restored".into(),
        "the host that used it makes no trusted snapshots any more until it has another key".into(),
    ]);
    let statement = Statement::Key { action: KeyAction::Retire, key, host, last: Some(last) };
    plan.before.push((signer, statement));
    Ok(plan)
}

/// The key that `named` means: an id or its beginning, a name in the configuration, or the key itself.
fn find(session: &Session, vault: &Vault, named: &str) -> Result<(SignerId, String)> {
    let report = super::list(session)?;
    let of_text = TrustedKey::parse(named).ok().map(|key| key.id.to_string());
    let fits = |row: &&super::SignerRow| {
        row.name.as_deref() == Some(named)
            || of_text.as_ref() == Some(&row.id)
            || (named.len() >= 4 && row.id.starts_with(named))
    };
    let found: Vec<&super::SignerRow> = report.signers.iter().filter(fits).collect();
    match found[..] {
        [row] => {
            let id = vault.history.keys().signers().find(|id| id.to_string() == row.id).copied();
            match (id, row.key.clone()) {
                (Some(id), Some(key)) => Ok((id, key)),
                _ => Err(OpError::new(
                    Class::NotFound,
                    format!("the public half of key {} is nowhere to be had", row.id),
                )),
            }
        }
        [] => Err(OpError::new(Class::NotFound, format!("no trusted key is called {named:?}"))
            .hint("`backstay keys list` shows all, with their ids")),
        _ => Err(OpError::new(Class::Usage, format!("{named:?} means more than one key"))
            .hint("give more of the id; `backstay keys list` shows them")),
    }
}

/// The host that a key is one of.
fn host_of(vault: &Vault, id: &SignerId) -> HostId {
    vault.host_of(id)
}

pub(super) fn last_entry(vault: &Vault, id: &SignerId, wanted: Option<u64>) -> Result<(u64, ObjectId)> {
    let entries = vault.entries.iter().filter(|e| e.signer() == *id);
    let found = match wanted {
        Some(number) => entries.filter(|e| e.number() == number).map(|e| (e.number(), e.hash)).next(),
        None => vault.history.heads.get(id).copied().or_else(|| entries.map(|e| (e.number(), e.hash)).max()),
    };
    found.ok_or_else(|| {
        let which = wanted.map_or_else(|| "an entry".to_owned(), |number| format!("entry {number}"));
        OpError::new(Class::NotFound, format!("key {id} has not signed {which} in the stores that are here"))
            .hint("a key that never signed anything is ended by taking it out of every configuration")
    })
}

/// Makes a new signing key for this host: introduced by the old one, which is then retired.
pub fn rotate(session: &Session) -> Result<KeyPlan> {
    let config = session.config()?;
    let old = session.signer()?;
    let vault = session.read_vault()?;
    let host = vault.host_of(&old.id());
    let begun = begun(session, &vault, &host);
    let (path, new) = match &begun {
        Some((path, new)) => (path.clone(), new.clone()),
        None => {
            let new = Signer::generate().doing(Class::Failed, || "cannot make a signing key".into())?;
            (free_beside(&config.signing.key_file), new)
        }
    };
    let known = session.trust.get(&old.id());
    let roles = known.map(|key| key.roles.iter().copied().collect()).unwrap_or_default();
    let name = known.map(|key| key.name.clone()).unwrap_or_default();
    let (inline, table) = entry(&NewSigner { key: new.public_text().to_owned(), name, roles });
    let mut plan = KeyPlan::new(vec![
        format!("this host signs with key {} from now on; whoever trusts it learns that from a mark of the old key", new.id()),
        "roles beside host (verify, prune) come from configurations: other machines that give them to the old key must give them to the new one".into(),
        format!("the old key {} is retired: what it signed still counts, nothing that it signs from now on", old.id()),
        "make a new kit (`backstay kit -o FILE`): the old one's signing key introduces nobody any more".into(),
    ]);
    plan.change = Some(Change::of(config, |text| {
        let text = edit::push(text, AT, "trusted", &inline, &table)?;
        edit::set(&text, AT, "key_file", &quoted(&path.display().to_string()))
    })?);
    if !vault.history.keys().is_of(&new.id(), &host) {
        plan.before.push((old.clone(), introduction(new.public_text(), host)));
    }
    plan.retire = Some((old, new.clone(), host));
    if begun.is_none() {
        plan.files.push(KeyFile::Signer(path, Box::new(new)));
    }
    Ok(plan)
}

/// The key that an interrupted exchange made beside the present one, and perhaps introduced: it is taken up.
fn begun(session: &Session, vault: &Vault, host: &HostId) -> Option<(PathBuf, Signer)> {
    let present = &session.config.as_ref()?.signing.key_file;
    let mut names = (2..100).map(|n| super::numbered(present, n));
    names.find_map(|path| {
        let key = Signer::load(&path).ok()?;
        let keys = vault.history.keys();
        let unused = session.trust.get(&key.id()).is_none() && keys.retired(&key.id()).is_none();
        let known = keys.is_of(&key.id(), host) || !keys.is_trusted(&key.id());
        (unused && known).then_some((path, key))
    })
}
