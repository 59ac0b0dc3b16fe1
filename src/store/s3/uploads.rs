//! What this machine remembers of uploads under way: one small file each, in the state directory.

use crate::durable;
use crate::model::ObjectId;
use crate::store::StoreErrorKind;
use crate::store::s3::failure::Failure;
use crate::store::s3::spec::S3Spec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Servers are often told to drop uploads after seven days; ours end before.
const STALE: i64 = 6 * 24 * 3600;
const MAX_FILE: u64 = 4 << 20;

/// A part that the server has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    /// The server's name for the part; says nothing about its bytes.
    pub(super) etag: String,
    /// Of the part's bytes.
    pub(super) sha256: ObjectId,
    /// The server gave the checksum back, and wants to hear it again.
    pub(super) checksum_said: bool,
}

/// An upload under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Upload {
    /// Where the store is: an upload id means nothing elsewhere.
    place: String,
    /// The key in the bucket.
    pub(super) path: String,
    pub(super) upload_id: String,
    pub(super) size: u64,
    pub(super) part_size: u64,
    /// Of the whole object.
    pub(super) sha256: ObjectId,
    /// Parts go with checksums.
    pub(super) checksum: bool,
    /// Seconds since 1970.
    begun: i64,
    pub(super) parts: BTreeMap<u32, Part>,
}

fn folder(spec: &S3Spec) -> PathBuf {
    spec.state_dir.join("uploads").join(&spec.name)
}

impl Upload {
    pub(super) fn new(
        spec: &S3Spec,
        path: String,
        upload_id: String,
        (size, part_size): (u64, u64),
        sha256: ObjectId,
        checksum: bool,
    ) -> Self {
        let (place, begun, parts) = (spec.location(), spec.timer.unix(), BTreeMap::new());
        Self { place, path, upload_id, size, part_size, sha256, checksum, begun, parts }
    }

    /// How many parts there are in all.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.size.div_ceil(self.part_size)).unwrap_or(u32::MAX)
    }

    fn file(&self, spec: &S3Spec) -> PathBuf {
        folder(spec).join(format!("{}.json", self.sha256))
    }

    /// What is remembered of an upload of this object. A file that cannot be read is none.
    pub(super) fn load(spec: &S3Spec, sha256: &ObjectId) -> Option<Self> {
        let upload = Self::read(&folder(spec).join(format!("{sha256}.json")))?;
        let fits = upload.place == spec.location() && upload.sha256 == *sha256 && upload.part_size > 0;
        let young = spec.timer.unix().saturating_sub(upload.begun) < STALE;
        let counted = upload.parts.keys().all(|number| (1..=upload.count()).contains(number));
        (fits && young && counted).then_some(upload)
    }

    fn read(path: &std::path::Path) -> Option<Self> {
        let size = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file)?.len();
        let bytes = std::fs::read(path).ok().filter(|_| size <= MAX_FILE)?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Remembers it, durably.
    pub(super) fn save(&self, spec: &S3Spec) -> Result<(), Failure> {
        let fail = |e| {
            Failure::new(StoreErrorKind::Other, "the upload cannot be remembered on this machine").because(e)
        };
        durable::create_dirs(&folder(spec), 0o700).map_err(fail)?;
        let text = serde_json::to_vec(self).unwrap_or_default();
        durable::replace(&self.file(spec), &text).map_err(fail)
    }

    /// Forgets it. A file that stays is found stale one day.
    pub(super) fn forget(&self, spec: &S3Spec) {
        let _ = durable::remove(&self.file(spec));
    }

    /// Removes what a killed run left half written. The project's lock is held by whoever puts.
    pub(super) fn sweep(spec: &S3Spec) {
        let swept = durable::Dir::open(&folder(spec))
            .and_then(|dir| durable::sweep(&dir, jiff::Timestamp::MAX, &durable::is_temp_name));
        // Next time, else: it costs a few bytes.
        drop(swept);
    }

    /// Uploads to this place that were begun too long ago to be gone on with.
    pub(super) fn stale(spec: &S3Spec, now: i64) -> Vec<Self> {
        let Ok(listing) = std::fs::read_dir(folder(spec)) else { return Vec::new() };
        let uploads = listing.flatten().filter_map(|entry| Self::read(&entry.path()));
        uploads.filter(|u| u.place == spec.location() && now.saturating_sub(u.begun) >= STALE).collect()
    }
}
