//! Which keys there are.

use crate::keys::TrustedKey;
use crate::model::id::RecipientId;
use crate::model::mark::{KeyAction, Role, Statement};
use crate::model::record::SnapshotKind;
use crate::model::{HostId, SignerId};
use crate::ops::error::Result;
use crate::ops::session::Session;
use serde::Serialize;

/// A recipient.
#[derive(Debug, Clone, Serialize)]
pub struct RecipientRow {
    /// `age1…`.
    pub recipient: String,
    /// Its identity is on this machine; null when that is protected by a passphrase and nobody gave it.
    pub identity_here: Option<bool>,
    /// The newest snapshot of this host is sealed to it; null when there is none.
    pub opens_newest: Option<bool>,
}

/// A signing key.
#[derive(Debug, Clone, Serialize)]
pub struct SignerRow {
    /// Its id.
    pub id: String,
    /// `ssh-ed25519 AAAA…`, where the configuration or a mark has it.
    pub key: Option<String>,
    /// What people call it.
    pub name: Option<String>,
    /// Roles that the configuration gives it.
    pub roles: Vec<Role>,
    /// This host signs with it.
    pub own: bool,
    /// It is a key of this host.
    pub of_this_host: bool,
    /// The configuration does not name it; a mark introduced it.
    pub introduced: bool,
    /// It was retired; entries above this number do not count.
    pub retired_after: Option<u64>,
}

/// All keys of a project.
#[derive(Debug, Clone, Serialize)]
pub struct KeysReport {
    /// Who can open what is made from now on.
    pub recipients: Vec<RecipientRow>,
    /// Who is believed.
    pub signers: Vec<SignerRow>,
}

/// Lists recipients and signers.
pub fn list(session: &Session) -> Result<KeysReport> {
    let config = session.config()?;
    let vault = session.read_vault()?;
    let host = session.host.map(|own| vault.host_of(&SignerId(own.0)));
    let public = session.identities().ok().map(|all| all.public());
    let newest = host.and_then(|host| {
        let mut newest_first = vault.history.snapshots(&host).iter().rev();
        newest_first.find(|s| s.is_usable() && s.record.kind == SnapshotKind::Normal)
    });
    let recipient = |text: &String| RecipientRow {
        recipient: text.clone(),
        identity_here: public.as_ref().map(|public| public.contains(text)),
        opens_newest: newest
            .map(|s| s.record.recipients.iter().flatten().any(|id| *id == RecipientId::of_text(text))),
    };
    let keys = vault.history.keys();
    let mut ids: Vec<SignerId> = session.trust.keys().iter().map(|k| k.id).collect();
    ids.extend(keys.signers().filter(|id| session.trust.get(id).is_none()));
    let introduced: Vec<(SignerId, String)> = vault.entries.iter().filter_map(introduction).collect();
    let signer = |id: SignerId| {
        let named: Option<&TrustedKey> = session.trust.get(&id);
        let by_mark = introduced.iter().find(|(of, _)| *of == id).map(|(_, key)| key.clone());
        SignerRow {
            id: id.to_string(),
            key: named.map(|k| k.key.clone()).or(by_mark),
            name: named.map(|k| k.name.clone()),
            roles: named.map(|k| k.roles.iter().copied().collect()).unwrap_or_default(),
            own: session.host == Some(HostId::from(id)),
            of_this_host: host.is_some_and(|host| keys.is_of(&id, &host)),
            introduced: named.is_none(),
            retired_after: keys.retired(&id).map(|(number, _)| number),
        }
    };
    Ok(KeysReport {
        recipients: config.encryption.recipients.iter().map(recipient).collect(),
        signers: ids.into_iter().map(signer).collect(),
    })
}

fn introduction(entry: &crate::model::chain::ChainEntry) -> Option<(SignerId, String)> {
    match entry.as_mark().map(|mark| &mark.statement)? {
        Statement::Key { action: KeyAction::Introduce, key, .. } => {
            Some((crate::model::chain::signer_of_text(key)?, key.clone()))
        }
        _ => None,
    }
}
