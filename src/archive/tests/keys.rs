//! Keys and bytes for tests.

use crate::archive::{About, Pool};
use crate::keys::{Identities, RecipientSet};
use age::secrecy::ExposeSecret;
use std::sync::Arc;

/// Fresh identities and their recipients.
pub(crate) struct Keys {
    pub(crate) raw: Vec<age::x25519::Identity>,
    pub(crate) recipients: RecipientSet,
    pub(crate) identities: Identities,
}

impl Keys {
    pub(crate) fn new(count: usize) -> Self {
        let raw: Vec<_> = (0..count).map(|_| age::x25519::Identity::generate()).collect();
        let texts: Vec<_> = raw.iter().map(|i| i.to_public().to_string()).collect();
        let recipients = RecipientSet::parse(&texts).unwrap();
        let boxed = raw.iter().map(|i| Box::new(i.clone()) as Box<dyn age::Identity + Send + Sync>);
        Self { recipients, identities: Identities::new(boxed.collect()), raw }
    }

    pub(crate) fn secret_text(&self, number: usize) -> String {
        self.raw[number].to_string().expose_secret().to_owned()
    }
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Bytes that compress well.
pub(crate) fn text(length: usize) -> Vec<u8> {
    let lines = (0..).flat_map(|n: u64| format!("line {n}: the quick brown fox\n").into_bytes());
    lines.take(length).collect()
}

pub(crate) fn about() -> About {
    About {
        vault: crate::model::VaultId::from_random([3; 17]),
        host: crate::model::HostId([5; 16]),
        component: "backend".parse().unwrap(),
        delta: false,
    }
}

pub(crate) fn pool() -> Arc<Pool> {
    Arc::new(Pool::new(2))
}
