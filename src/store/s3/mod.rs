//! A bucket of an S3 server as a store, below a prefix.
//!
//! What a server can do is probed, remembered and worked round, never assumed: servers differ in whether they refuse to overwrite, compare checksums, or
//! answer ranges. "Already exists" and every outcome that is not certain are settled by reading what is there and comparing SHA-256.
//! This module must never trust an ETag, a listing or a time; never put a secret, a key or a signed header into an error or a file; and
//! never follow a server to another host.

pub mod credentials;
mod spec;

pub use spec::{Checksum, S3Spec, Sse};

use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

/// Where keys come from. Asked before every request, so it caches.
pub trait Credentials: CredentialProvider<Credential = AwsCredential> {
    /// Forgets what is cached: the server refused it. The next request gets fresh ones.
    fn refresh(&self);

    /// In words where the keys come from, for errors; never a key.
    fn source(&self) -> String;
}
