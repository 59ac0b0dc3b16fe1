//! A bucket of an S3 server as a store, below a prefix.

pub mod credentials;

use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

/// Where keys come from. Asked before every request, so it caches.
pub trait Credentials: CredentialProvider<Credential = AwsCredential> {
    /// Forgets what is cached: the server refused it. The next request gets fresh ones.
    fn refresh(&self);

    /// In words where the keys come from, for errors; never a key.
    fn source(&self) -> String;
}
