//! Keys that a reader trusts, as its configuration or its recovery kit names them.

use crate::keys::error::KeyError;
use crate::model::chain::{TrustedSigner, signer_of_text};
use crate::model::mark::Role;
use crate::model::{HostId, SignerId};
use std::collections::BTreeSet;

/// A key that is trusted, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// `ssh-ed25519 AAAA…`, without a comment.
    pub key: String,
    /// Its signer id.
    pub id: SignerId,
    /// What people call it; may be empty.
    pub name: String,
    /// What it may do.
    pub roles: BTreeSet<Role>,
    /// The host that it also signs for, when that is not the host called after the key itself.
    pub host: Option<HostId>,
}

impl TrustedKey {
    /// Parses `ssh-ed25519 AAAA… [comment]`; the comment becomes the name. It has no roles yet.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let bad = || KeyError::BadPublicKey { text: shown_start(text) };
        let mut words = text.trim().splitn(3, [' ', '\t']);
        let (Some("ssh-ed25519"), Some(data)) = (words.next(), words.next()) else {
            return Err(bad());
        };
        let key = format!("ssh-ed25519 {data}");
        let id = signer_of_text(&key).ok_or_else(bad)?;
        let name = words.next().unwrap_or_default().trim().to_owned();
        Ok(Self { key, id, name, roles: BTreeSet::new(), host: None })
    }

    /// The same with these roles.
    #[must_use]
    pub fn with_roles(mut self, roles: impl IntoIterator<Item = Role>) -> Self {
        self.roles.extend(roles);
        self
    }
}

/// The beginning of a text that is no public key; nothing when it might be a private one.
fn shown_start(text: &str) -> String {
    let start = text.trim().chars().take(40).collect::<String>();
    if start.starts_with("ssh-") || start.chars().count() < 20 { start } else { "…".into() }
}

/// All trusted keys, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustList {
    keys: Vec<TrustedKey>,
}

impl TrustList {
    /// Adds a key; one that is there already gets the new roles in addition.
    pub fn add(&mut self, key: TrustedKey) {
        match self.keys.iter_mut().find(|known| known.id == key.id) {
            Some(known) => {
                known.roles.extend(key.roles);
                known.host = known.host.or(key.host);
            }
            None => self.keys.push(key),
        }
    }

    /// The keys, in the order in which they were added.
    pub fn keys(&self) -> &[TrustedKey] {
        &self.keys
    }

    /// The key with this id.
    pub fn get(&self, id: &SignerId) -> Option<&TrustedKey> {
        self.keys.iter().find(|key| key.id == *id)
    }

    /// What the rules of the chain need of it.
    pub fn signers(&self) -> Vec<TrustedSigner> {
        let plain = |key: &TrustedKey| TrustedSigner { id: key.id, roles: key.roles.clone(), host: key.host };
        self.keys.iter().map(plain).collect()
    }
}

impl FromIterator<TrustedKey> for TrustList {
    fn from_iter<I: IntoIterator<Item = TrustedKey>>(keys: I) -> Self {
        let mut list = Self::default();
        keys.into_iter().for_each(|key| list.add(key));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Signer;

    #[test]
    fn keys_are_read_with_and_without_a_comment_and_nothing_else_is() {
        let signer = Signer::generate().unwrap();
        let text = signer.public_text();
        let key = TrustedKey::parse(&format!("  {text}\tweb 1 \n")).unwrap();
        assert_eq!((key.key.as_str(), key.id, key.name.as_str()), (text, signer.id(), "web 1"));
        assert_eq!(TrustedKey::parse(text).unwrap().name, "");
        let longer = format!("{text}AAAA");
        let pem = signer.reveal().unwrap();
        for wrong in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            &text[..60],
            &longer,
            &text.replace("ssh-", "sshd-"),
            &pem,
        ] {
            let error = TrustedKey::parse(wrong).unwrap_err().to_string();
            assert!(!error.contains("OPENSSH"), "{error}");
        }
    }

    #[test]
    fn a_key_named_twice_has_all_its_roles_once() {
        let key = TrustedKey::parse(Signer::generate().unwrap().public_text()).unwrap();
        let list: TrustList = [key.clone().with_roles([Role::Host]), key.clone().with_roles([Role::Prune])]
            .into_iter()
            .collect();
        assert_eq!(list.keys().len(), 1);
        assert_eq!(list.get(&key.id).unwrap().roles, [Role::Host, Role::Prune].into());
        assert_eq!(list.signers()[0].roles.len(), 2);
    }
}
