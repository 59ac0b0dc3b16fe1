//! What a server can do, as a probe found it, and its memory on this machine.

use crate::durable;
use crate::model::Timestamp;
use crate::store::StoreErrorKind;
use crate::store::s3::failure::Failure;
use crate::store::s3::spec::{Checksum, S3Spec};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a server does with a SHA-256 that is sent along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compared {
    /// It refuses bytes that do not have it.
    Enforced,
    /// It takes it and does not compare.
    Ignored,
    /// It refuses requests that carry one.
    Refused,
    /// It was not tried: none are to be sent, or these keys may not probe.
    Untried,
}

impl Compared {
    /// The server took a request that carried one.
    pub(super) fn taken(self) -> bool {
        matches!(self, Self::Enforced | Self::Ignored)
    }
}

/// What a server can do. Found by trying, with throw-away objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// `If-None-Match: *` keeps a put from overwriting.
    pub create_only: bool,
    /// `x-amz-checksum-sha256` on a put.
    pub checksum_put: Compared,
    /// The same on a part.
    pub checksum_part: Compared,
    /// The signed SHA-256 of a put's body is compared.
    pub payload_put: bool,
    /// The same for a part.
    pub payload_part: bool,
    /// Uploads in parts work.
    pub multipart: bool,
    /// A range is answered with that range.
    pub ranges: bool,
    /// A put without conditions overwrites. With versions or a lock, older bytes stay all the same.
    pub overwrite_possible: bool,
    /// These keys may delete.
    pub delete_allowed: bool,
    /// These keys may end an upload in parts; `None` when that was not tried.
    #[serde(default)]
    pub abort_allowed: Option<bool>,
    /// The bucket keeps versions; `None` when that is not to be had.
    pub versioning: Option<bool>,
    /// The bucket has object lock; `None` when that is not to be had.
    pub object_lock: Option<bool>,
    /// When this was found; `None` when nothing could be tried.
    pub probed_at: Option<Timestamp>,
}

impl Capabilities {
    /// The least that every server can do: what counts until a probe has shown more.
    pub(super) fn least() -> Self {
        Self {
            create_only: false,
            checksum_put: Compared::Untried,
            checksum_part: Compared::Untried,
            payload_put: false,
            payload_part: false,
            multipart: true,
            ranges: false,
            overwrite_possible: true,
            delete_allowed: false,
            abort_allowed: None,
            versioning: None,
            object_lock: None,
            probed_at: None,
        }
    }

    /// True when a put that succeeded was compared by the server.
    pub fn proves_put(&self) -> bool {
        self.payload_put || self.checksum_put == Compared::Enforced
    }

    /// True when every part that was taken was compared by the server.
    pub fn proves_parts(&self) -> bool {
        self.payload_part || self.checksum_part == Compared::Enforced
    }

    /// True when checksums go along: as `setting` says, and where it leaves that open, where they are compared or at least taken.
    pub(super) fn sends_checksum(&self, setting: Checksum, compared: Compared) -> bool {
        match (setting, compared) {
            (Checksum::None, _) | (Checksum::Auto, Compared::Refused) => false,
            (Checksum::Sha256, _) | (Checksum::Auto, Compared::Enforced | Compared::Ignored) => true,
            // Nothing could be tried with these keys. A bucket with a lock takes no object without one; a server that does not know the header passes
            // it over.
            (Checksum::Auto, Compared::Untried) => self.probed_at.is_none(),
        }
    }
}

/// What is kept in `<state>/stores/<name>.json`.
#[derive(Serialize, Deserialize)]
struct Remembered {
    /// Of which place this is true.
    place: String,
    capabilities: Capabilities,
}

fn file(spec: &S3Spec) -> PathBuf {
    spec.state_dir.join("stores").join(format!("{}.json", spec.name))
}

fn place(spec: &S3Spec) -> String {
    let checksum = match spec.checksum {
        Checksum::Auto => "auto",
        Checksum::Sha256 => "sha256",
        Checksum::None => "none",
    };
    format!("{} checksum {checksum}", spec.location())
}

/// What the last probe of this very place found.
pub(super) fn load(spec: &S3Spec) -> Option<Capabilities> {
    let bytes = std::fs::read(file(spec)).ok()?;
    let remembered: Remembered = serde_json::from_slice(&bytes).ok()?;
    (remembered.place == place(spec)).then_some(remembered.capabilities)
}

/// Remembers what a probe found, durably.
pub(super) fn save(spec: &S3Spec, capabilities: &Capabilities) -> Result<(), Failure> {
    let fail = |e| {
        Failure::new(StoreErrorKind::Other, "what the server can do cannot be remembered on this machine")
            .because(e)
    };
    durable::create_dirs(&spec.state_dir.join("stores"), 0o700).map_err(fail)?;
    let remembered = Remembered { place: place(spec), capabilities: capabilities.clone() };
    durable::replace(&file(spec), &serde_json::to_vec_pretty(&remembered).unwrap_or_default()).map_err(fail)
}
