//! What a store in a bucket is made from.

use crate::bridge::{RealTimer, Timer};
use crate::store::s3::Credentials;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Which checksums go with what is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// `x-amz-checksum-sha256` where the probe has shown that the server takes it. With keys that may not probe it goes along until it is refused.
    #[default]
    Auto,
    /// Always, also with parts; a server that refuses it is an error.
    Sha256,
    /// Never. The signature still covers the SHA-256 of every body.
    None,
}

/// Encryption by the server, on top of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sse {
    /// `AES256`
    Aes256,
    /// `aws:kms`, with a key's id or the account's own key.
    Kms(Option<String>),
}

/// An archive is sealed at 32 MiB, and what comes last into it can be as much again.
const WHOLE_MAX: u64 = 72 << 20;

/// A bucket and a prefix in it, with everything resolved: nothing here is read from files or the environment any more.
#[derive(Clone)]
pub struct S3Spec {
    /// The store's name in the configuration.
    pub name: String,
    /// The bucket.
    pub bucket: String,
    /// What every key begins with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The server, `https://host[:port]`; without one, Amazon's of the region.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket stands in the path, not in the host name.
    pub path_style: bool,
    /// A file with certificates (PEM) that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// `x-amz-storage-class` of everything put.
    pub storage_class: Option<String>,
    /// Encryption by the server.
    pub sse: Option<Sse>,
    /// Checksums with what is put.
    pub checksum: Checksum,
    /// Bytes a second sent at most.
    pub limit_upload: Option<u64>,
    /// Bytes a second received at most.
    pub limit_download: Option<u64>,
    /// Objects up to so many bytes may go in one request; larger ones go in parts.
    pub whole_max: u64,
    /// Plain HTTP is allowed beyond this machine.
    pub allow_http: bool,
    /// The store is read as it stood at that time, from the versions that the bucket keeps; it is then never written.
    pub as_of: Option<crate::model::Timestamp>,
    /// The directory of this machine's state: what the server can do, and uploads under way, are remembered there.
    pub state_dir: PathBuf,
    /// Who signs.
    pub credentials: Arc<dyn Credentials>,
    /// Asked every 100 ms while something is waited for; true ends the wait with [`crate::store::StoreErrorKind::Interrupted`].
    pub interrupted: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Time; tests bring their own.
    pub timer: Arc<dyn Timer>,
}

impl S3Spec {
    /// A bucket of Amazon's in `us-east-1`, everything else as when nothing is configured.
    pub fn new(
        name: &str,
        bucket: &str,
        state_dir: impl Into<PathBuf>,
        credentials: Arc<dyn Credentials>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            bucket: bucket.to_owned(),
            prefix: String::new(),
            endpoint: None,
            region: "us-east-1".to_owned(),
            path_style: false,
            ca_file: None,
            storage_class: None,
            sse: None,
            checksum: Checksum::Auto,
            limit_upload: None,
            limit_download: None,
            whole_max: WHOLE_MAX,
            allow_http: false,
            as_of: None,
            state_dir: state_dir.into(),
            credentials,
            interrupted: Arc::new(|| false),
            timer: Arc::new(RealTimer::default()),
        }
    }

    /// Where it is, for people: `s3://bucket/prefix`, and the endpoint when it is not Amazon's.
    pub fn location(&self) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        let place = format!("s3://{}{slash}{}", self.bucket, self.prefix);
        match &self.endpoint {
            Some(endpoint) => format!("{place} at {endpoint}"),
            None => place,
        }
    }
}

impl fmt::Debug for S3Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Spec")
            .field("name", &self.name)
            .field("location", &self.location())
            .finish_non_exhaustive()
    }
}
