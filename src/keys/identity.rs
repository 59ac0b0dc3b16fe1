//! Recipients (public keys to encrypt to) and identities (private keys that open).

use crate::model::id::RecipientId;

/// A recipient text that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not an age recipient (age1…)")]
pub struct BadRecipient {
    text: String,
}

/// The recipients that objects are sealed to: at least one.
pub struct RecipientSet {
    recipients: Vec<age::x25519::Recipient>,
    texts: Vec<String>,
}

impl RecipientSet {
    /// Parses recipient texts (`age1…`), sorted and each once.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, BadRecipient> {
        let mut texts: Vec<String> = texts.iter().map(|t| t.as_ref().trim().to_owned()).collect();
        texts.sort();
        texts.dedup();
        let parse = |text: &String| {
            text.parse()
                .map_err(|_| BadRecipient { text: text.clone() })
        };
        let recipients = texts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if recipients.is_empty() {
            return Err(BadRecipient {
                text: String::new(),
            });
        }
        Ok(Self { recipients, texts })
    }

    /// For the age crate.
    pub fn as_dyn(&self) -> impl Iterator<Item = &dyn age::Recipient> {
        self.recipients.iter().map(|r| r as &dyn age::Recipient)
    }

    /// The texts, sorted.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The fingerprints, in the order of the texts.
    pub fn ids(&self) -> Vec<RecipientId> {
        self.texts.iter().map(|t| RecipientId::of_text(t)).collect()
    }
}

/// Private keys that open objects; never shown.
pub struct Identities {
    identities: Vec<Box<dyn age::Identity + Send + Sync>>,
}

impl Identities {
    /// From keys already in hand.
    pub fn new(identities: Vec<Box<dyn age::Identity + Send + Sync>>) -> Self {
        Self { identities }
    }

    /// For the age crate.
    pub fn as_dyn(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.identities.iter().map(|i| &**i as &dyn age::Identity)
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }
}
