//! Whom requests are signed for: found where AWS's own tools look, kept until they run out or change.
//!
//! A secret is in memory and in the signature of a request, and nowhere else: nothing here may show one, in words, in an error or by `Debug`,
//! and what a program that was asked for credentials said is not repeated. Nothing here may wait long for a service that is not there.

mod chain;
mod error;
mod profiles;
#[cfg(test)]
mod tests;

pub use error::CredentialsError;

use crate::model::clock::{Clock, SystemClock, Timestamp};
use crate::store::s3::Credentials;
use async_trait::async_trait;
use chain::{Chain, Loaded};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Credentials that run out are fetched anew so long before.
const EARLY_SECONDS: i64 = 300;
/// After a fetch that brought nothing better, it is not tried again for so long.
const PAUSE_SECONDS: i64 = 30;

/// Reads a variable of the environment.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a store says about its credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialsSpec {
    /// This profile, and nothing else.
    pub profile: Option<String>,
    /// This file in the format of `~/.aws/credentials`, and nothing else.
    pub credentials_file: Option<PathBuf>,
    /// The region of the store, where it is named.
    pub region: Option<String>,
}

/// Credentials of AWS's chain: the environment, profiles (keys, roles, SSO, programs), web identity, containers, instances. Made once for a
/// store and shared by all its requests.
pub struct AwsChain {
    chain: Chain,
    clock: Arc<dyn Clock>,
    /// Held while credentials are fetched: the others wait and take what the first one got.
    kept: tokio::sync::Mutex<Option<Kept>>,
    /// What is kept was refused by the server.
    refused: AtomicBool,
    /// Where the last ones came from.
    source: Mutex<String>,
}

struct Kept {
    loaded: Loaded,
    /// Before this, credentials that are about to run out are used as they are.
    not_before: Timestamp,
}

impl fmt::Debug for AwsChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsChain").field("source", &self.source()).finish_non_exhaustive()
    }
}

impl AwsChain {
    /// The chain for `spec`, in the environment of this process. Nothing is read or asked yet.
    pub fn new(spec: CredentialsSpec) -> Self {
        Self::within(spec, Arc::new(|name| std::env::var(name).ok()), Arc::new(SystemClock))
    }

    /// The same in another environment, at the time that `clock` tells. Two things are out of its reach: a container's credentials, and what
    /// programs see that a profile names; both have the environment of this process.
    pub fn within(spec: CredentialsSpec, environment: Environment, clock: Arc<dyn Clock>) -> Self {
        Self {
            chain: Chain { spec, environment },
            clock,
            kept: tokio::sync::Mutex::new(None),
            refused: AtomicBool::new(false),
            source: Mutex::new("credentials that were not looked for yet".to_owned()),
        }
    }

    /// The region that the store, the environment or the profile names.
    pub fn region(&self) -> Option<String> {
        self.chain.region()
    }

    async fn credential(&self) -> Result<Arc<AwsCredential>, CredentialsError> {
        let mut kept = self.kept.lock().await;
        let now = self.clock.now();
        if self.refused.swap(false, Ordering::SeqCst) || kept.as_ref().is_some_and(|k| k.loaded.changed()) {
            *kept = None;
        }
        if let Some(kept) = kept.as_ref().filter(|kept| kept.is_fresh(now)) {
            return Ok(Arc::clone(&kept.loaded.credential));
        }
        let pause = jiff::SignedDuration::from_secs(PAUSE_SECONDS);
        let not_before = now.saturating_add(pause).unwrap_or(now);
        match self.chain.load().await {
            Ok(loaded) => {
                self.source.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&loaded.source);
                let credential = Arc::clone(&loaded.credential);
                *kept = Some(Kept { loaded, not_before });
                Ok(credential)
            }
            // Those at hand are good for some minutes more: a service that is away for a moment ends no backup.
            Err(error) => match kept.as_mut().filter(|kept| kept.is_valid(now)) {
                Some(kept) => {
                    kept.not_before = not_before;
                    Ok(Arc::clone(&kept.loaded.credential))
                }
                None => Err(error),
            },
        }
    }
}

impl Kept {
    fn is_valid(&self, now: Timestamp) -> bool {
        self.loaded.expires.is_none_or(|expires| now < expires)
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        let left = |expires: Timestamp| expires.duration_since(now).as_secs();
        self.is_valid(now)
            && (now < self.not_before || self.loaded.expires.is_none_or(|e| left(e) > EARLY_SECONDS))
    }
}

#[async_trait]
impl CredentialProvider for AwsChain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.credential()
            .await
            .map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })
    }
}

impl Credentials for AwsChain {
    fn refresh(&self) {
        self.refused.store(true, Ordering::SeqCst);
    }

    fn source(&self) -> String {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
