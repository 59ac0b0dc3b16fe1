//! The fields of a kit's block: from a kit, and back.

use crate::keys::identity::SecretIdentity;
use crate::keys::kit::{Kit, KitError, KitStore, StoreAt};
use crate::keys::kit_block::Field;
use crate::keys::naming::NamingKey;
use crate::keys::signer::Signer;
use crate::keys::trust::TrustedKey;
use crate::model::chain::Heads;
use crate::model::mark::Role;
use crate::model::{HostId, ObjectId, VaultId};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::str::FromStr;
use zeroize::Zeroizing;

const PEM_BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const PEM_END: &str = "-----END OPENSSH PRIVATE KEY-----";

/// The fields of the block, in the order in which they are printed.
pub(super) fn fields(kit: &Kit) -> Vec<(&'static str, Zeroizing<String>)> {
    let mut fields = Fields(Vec::new());
    fields.put("kit", &"1");
    fields.put("printed", &kit.printed);
    fields.put("project", &kit.project);
    fields.put("hostname", &kit.hostname);
    fields.put("host", &kit.host);
    fields.put("vault", &kit.vault);
    kit.stores.iter().for_each(|store| fields.put_store(store));
    kit.identities.iter().for_each(|identity| fields.0.push(("identity", identity.reveal())));
    kit.recipients.iter().for_each(|recipient| fields.put("recipient", recipient));
    if let Some(pem) = kit.signing_key.as_ref().and_then(|key| key.reveal().ok()) {
        let body = pem.lines().filter(|line| !line.starts_with("-----"));
        let body = body.fold(Zeroizing::new(String::with_capacity(pem.len())), |mut all, line| {
            all.push_str(line);
            all
        });
        fields.0.push(("signing-key", body));
    }
    kit.trusted.keys().iter().for_each(|key| fields.put_trusted(key));
    fields.0.extend(kit.naming_key.as_ref().map(|key| ("naming-key", key.reveal())));
    kit.recover_py.iter().for_each(|hash| fields.put("recover.py", hash));
    kit.recover_md.iter().for_each(|hash| fields.put("RECOVER.md", hash));
    for (signer, (number, hash)) in &kit.heads {
        fields.put("head", &format!("{signer}:{number}:{hash}"));
    }
    fields.0
}

struct Fields(Vec<(&'static str, Zeroizing<String>)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: &impl ToString) {
        self.0.push((name, Zeroizing::new(value.to_string())));
    }

    fn put_store(&mut self, store: &KitStore) {
        self.put("store", &store.name);
        match &store.at {
            StoreAt::Path(path) => self.put("store-path", path),
            StoreAt::Url(url) => self.put("store-url", url),
        }
        for (name, value) in &store.settings {
            self.put("store-set", &format!("{name}={value}"));
        }
    }

    fn put_trusted(&mut self, key: &TrustedKey) {
        self.put("trusted", &key.key.trim_start_matches("ssh-ed25519 "));
        self.put("trusted-name", &key.name);
        self.put(
            "trusted-roles",
            &key.roles.iter().map(|role| role_text(*role)).collect::<Vec<_>>().join(","),
        );
        key.host.iter().for_each(|host| self.put("trusted-host", host));
    }
}

fn role_text(role: Role) -> &'static str {
    match role {
        Role::Host => "host",
        Role::Verify => "verify",
        Role::Prune => "prune",
    }
}

fn role_of(text: &str) -> Option<Role> {
    [Role::Host, Role::Verify, Role::Prune].into_iter().find(|role| role_text(*role) == text)
}

/// A kit while its fields are read.
#[derive(Default)]
pub(super) struct Parts {
    printed: Option<Timestamp>,
    project: Option<String>,
    hostname: Option<String>,
    host: Option<HostId>,
    vault: Option<VaultId>,
    stores: Vec<(KitStore, bool)>,
    identities: Vec<SecretIdentity>,
    recipients: Vec<String>,
    signing_key: Option<Signer>,
    trusted: Vec<TrustedKey>,
    naming_key: Option<NamingKey>,
    recover_py: Vec<ObjectId>,
    recover_md: Vec<ObjectId>,
    heads: Heads,
}

fn parsed<T: FromStr>(field: &Field, what: &'static str) -> Result<T, KitError> {
    field.value.parse().map_err(|_| KitError::Bad { line: field.line, what })
}

impl Parts {
    /// Takes what one field says. Fields that are not known are passed over.
    pub(super) fn take(&mut self, field: &Field) -> Result<(), KitError> {
        let value = field.value.as_str();
        let bad = |what| KitError::Bad { line: field.line, what };
        match field.name.as_str() {
            "printed" => self.printed = Some(parsed(field, "a time")?),
            "project" => self.project = Some(value.to_owned()),
            "hostname" => self.hostname = Some(value.to_owned()),
            "host" => self.host = Some(parsed(field, "a host id")?),
            "vault" => self.vault = Some(parsed(field, "a vault id")?),
            "recipient" => self.recipients.push(value.to_owned()),
            "recover.py" => self.recover_py.push(parsed(field, "a hash")?),
            "RECOVER.md" => self.recover_md.push(parsed(field, "a hash")?),
            "identity" => {
                self.identities.push(SecretIdentity::parse(value).ok_or_else(|| bad("an identity"))?);
            }
            "signing-key" => {
                self.signing_key = Some(signing_key(value).ok_or_else(|| bad("a signing key"))?);
            }
            "naming-key" => {
                self.naming_key = Some(NamingKey::parse(value).ok_or_else(|| bad("a naming key"))?);
            }
            "head" => self.take_head(value).ok_or_else(|| bad("the head of a history"))?,
            name if name.starts_with("store") => {
                self.take_store(name, value).ok_or_else(|| bad("a store"))?;
            }
            name if name.starts_with("trusted") => {
                self.take_trusted(name, value).ok_or_else(|| bad("a trusted key"))?;
            }
            // A later program may say more.
            _ => {}
        }
        Ok(())
    }

    fn take_head(&mut self, value: &str) -> Option<()> {
        let mut parts = value.split(':');
        let (signer, number, hash) = (parts.next()?, parts.next()?, parts.next()?);
        self.heads.insert(signer.parse().ok()?, (number.parse().ok()?, hash.parse().ok()?));
        Some(())
    }

    fn take_store(&mut self, name: &str, value: &str) -> Option<()> {
        if name == "store" {
            let at = StoreAt::Path(String::new());
            self.stores.push((KitStore { name: value.to_owned(), at, settings: BTreeMap::new() }, false));
            return Some(());
        }
        let (store, placed) = self.stores.last_mut()?;
        match name {
            "store-path" => (store.at, *placed) = (StoreAt::Path(value.to_owned()), true),
            "store-url" => (store.at, *placed) = (StoreAt::Url(value.to_owned()), true),
            "store-set" => {
                let (name, value) = value.split_once('=')?;
                store.settings.insert(name.to_owned(), value.to_owned());
            }
            _ => {}
        }
        Some(())
    }

    fn take_trusted(&mut self, name: &str, value: &str) -> Option<()> {
        if name == "trusted" {
            self.trusted.push(TrustedKey::parse(&format!("ssh-ed25519 {value}")).ok()?);
            return Some(());
        }
        let key = self.trusted.last_mut()?;
        match name {
            "trusted-name" => value.clone_into(&mut key.name),
            "trusted-host" => key.host = Some(value.parse().ok()?),
            "trusted-roles" => {
                let roles = value.split(',').filter(|role| !role.is_empty());
                key.roles = roles.map(role_of).collect::<Option<_>>()?;
            }
            _ => {}
        }
        Some(())
    }

    /// The whole kit.
    pub(super) fn finish(self) -> Result<Kit, KitError> {
        let missing = |what| KitError::Missing { what };
        if self.stores.iter().any(|(_, placed)| !placed) {
            return Err(missing("where a store is"));
        }
        Ok(Kit {
            printed: self.printed.ok_or_else(|| missing("when it was made"))?,
            project: self.project.ok_or_else(|| missing("which project it is of"))?,
            hostname: self.hostname.ok_or_else(|| missing("which machine it is of"))?,
            host: self.host.ok_or_else(|| missing("which host it is of"))?,
            vault: self.vault.ok_or_else(|| missing("which vault it opens"))?,
            stores: self.stores.into_iter().map(|(store, _)| store).collect(),
            identities: self.identities,
            recipients: self.recipients,
            signing_key: self.signing_key,
            trusted: self.trusted.into_iter().collect(),
            naming_key: self.naming_key,
            recover_py: self.recover_py,
            recover_md: self.recover_md,
            heads: self.heads,
        })
    }
}

/// A signing key from the text between the first and last line of its file.
fn signing_key(body: &str) -> Option<Signer> {
    let mut pem = Zeroizing::new(String::with_capacity(body.len() * 2 + 128));
    pem.push_str(PEM_BEGIN);
    for (i, c) in body.chars().enumerate() {
        if i % 70 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem.push('\n');
    pem.push_str(PEM_END);
    pem.push('\n');
    Signer::parse(&pem).ok()
}
