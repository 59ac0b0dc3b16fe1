//! For tests: keys that never change.
//!
//! This module must never be used by a command.

use crate::store::s3::Credentials;
use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Keys for tests; counts how often a refresh was asked for.
#[derive(Debug)]
pub struct StaticKeys {
    keys: Arc<AwsCredential>,
    refreshed: AtomicU64,
}

impl StaticKeys {
    /// Keys that never change.
    pub fn new(key_id: &str, secret_key: &str) -> Self {
        let keys =
            AwsCredential { key_id: key_id.to_owned(), secret_key: secret_key.to_owned(), token: None };
        Self { keys: Arc::new(keys), refreshed: AtomicU64::new(0) }
    }

    /// How often a refresh was asked for.
    pub fn refreshed(&self) -> u64 {
        self.refreshed.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl CredentialProvider for StaticKeys {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        Ok(Arc::clone(&self.keys))
    }
}

impl Credentials for StaticKeys {
    fn refresh(&self) {
        self.refreshed.fetch_add(1, Ordering::SeqCst);
    }

    fn source(&self) -> String {
        "the keys of a test".to_owned()
    }
}

/// Keys that the servers of tests accept.
pub fn keys() -> Arc<StaticKeys> {
    Arc::new(StaticKeys::new("test-key-id", "test-secret-key"))
}
