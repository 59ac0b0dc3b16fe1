//! What an examination of a bucket asks beside a probe: whether older versions really stay, what lies there that is not ours, what unfinished uploads cost.
//!
//! A setting says what a bucket is told to do; only trying says what it does. Like the probe this touches throw-away objects with random names alone.

use crate::durable::random_bytes;
use crate::model::Timestamp;
use crate::store::s3::S3Store;
use crate::store::s3::client::Call;
use crate::store::s3::failure::Failure;
use crate::store::s3::list::{Orphan, PROBES};
use crate::store::s3::xml::Element;
use crate::store::{Store, StoreError, StoreErrorKind};
use data_encoding::HEXLOWER;
use http::Method;

/// What became of an object that was overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The server gives versions numbers: it says that it keeps them.
    pub told: bool,
    /// The bytes before are still there. `None`: these keys may not look, or not overwrite.
    pub kept: Option<bool>,
    /// These keys could remove the bytes before for good; `None` where there are none, or where that could not be tried.
    pub removable: Option<bool>,
    /// So many versions of the throw-away object could not be removed.
    pub left: u64,
}

/// An upload in parts that was begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    /// Its name below the store's prefix.
    pub name: String,
    /// When it was begun, as the server says.
    pub begun: Option<Timestamp>,
    /// Bytes of its parts; `None` where the server does not tell.
    pub bytes: Option<u64>,
}

/// Objects below the prefix that are not of the format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strangers {
    /// How many.
    pub objects: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The first few names.
    pub names: Vec<String>,
}

const FIRST: &[u8] = b"backstay looks whether this bucket keeps versions: 1\n";
const SECOND: &[u8] = b"backstay looks whether this bucket keeps versions: 2\n";
/// So many names are told.
const NAMES: usize = 5;
/// A bucket with more pages than this is not looked through to its end.
const PAGES_MAX: usize = 10_000;

impl S3Store {
    /// Overwrites a throw-away object and looks whether its first bytes can still be had, and be removed.
    pub fn try_versions(&self) -> Result<Versions, StoreError> {
        self.wait(async { self.try_versions_now().await })
            .map_err(|e| self.error("look for versions in", &self.location(), e))
    }

    async fn try_versions_now(&self) -> Result<Versions, Failure> {
        let random = random_bytes::<12>()
            .map_err(|e| Failure::new(StoreErrorKind::Other, "no randomness").because(e))?;
        let key = self.path(&format!("{PROBES}{}-v", HEXLOWER.encode(&random)));
        let mut ids = Vec::new();
        let tried = self.overwrite_and_look(&key, &mut ids).await;
        let left = self.clear(&key, &ids).await?;
        Ok(Versions { left, ..tried? })
    }

    /// The ids of the versions that came to be are added to `ids`.
    async fn overwrite_and_look(&self, key: &str, ids: &mut Vec<String>) -> Result<Versions, Failure> {
        let mut found = Versions { told: false, kept: None, removable: None, left: 0 };
        let known = self.capabilities_now().await?;
        for body in [FIRST, SECOND] {
            match self.client.run(&self.probe_put(key, body, &known)).await {
                Ok(reply) => {
                    let id = reply.header("x-amz-version-id").filter(|id| !id.is_empty() && *id != "null");
                    ids.extend(id.map(str::to_owned));
                }
                Err(e) if e.kind == StoreErrorKind::Unreachable => return Err(e),
                // It may not be overwritten, or not be written at all: the probe says which.
                Err(_) => return Ok(found),
            }
        }
        let [older, newer] = &ids[..] else {
            found.kept = Some(false);
            return Ok(found);
        };
        found.told = older != newer;
        found.kept = self.has_version(key, older).await?;
        if found.kept != Some(false) {
            let removed = self.remove_version(key, older).await?;
            // What the server answered to that counts for less than what is still there.
            let there = self.has_version(key, older).await?;
            found.removable = Some(there.map_or(removed, |there| !there));
        }
        Ok(found)
    }

    /// Whether a version of the throw-away object can be read with its first bytes; `None` when these keys may not read it.
    async fn has_version(&self, key: &str, id: &str) -> Result<Option<bool>, Failure> {
        match self.client.attempt(&Call::new(Method::GET, key).query("versionId", id)).await {
            Ok(mut answer) => Ok(Some(answer.all(1 << 10).await? == FIRST)),
            Err(e) if e.kind == StoreErrorKind::Unreachable => Err(e),
            Err(e) if e.kind == StoreErrorKind::Denied => Ok(None),
            Err(_) => Ok(Some(false)),
        }
    }

    async fn remove_version(&self, key: &str, id: &str) -> Result<bool, Failure> {
        let call = Call::new(Method::DELETE, key).query("versionId", id);
        match self.client.run(&call).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind == StoreErrorKind::Unreachable => Err(e),
            Err(e) => Ok(e.is_absent()),
        }
    }

    /// Removes all that can be removed of the throw-away object, and says how much stays.
    async fn clear(&self, key: &str, ids: &[String]) -> Result<u64, Failure> {
        let mut left = 0;
        for id in ids {
            left += u64::from(!self.remove_version(key, id).await?);
        }
        if ids.is_empty() || left > 0 {
            // At least it is in no listing any more, if these keys may do so much.
            let gone = self.client.run(&Call::new(Method::DELETE, key)).await;
            if ids.is_empty() {
                left += u64::from(gone.is_err_and(|e| !e.is_absent()));
            }
        }
        Ok(left)
    }

    /// Uploads below this store's prefix that were begun and not ended, and what they cost.
    pub fn open_uploads(&self) -> Result<Vec<OpenUpload>, StoreError> {
        self.wait(async {
            let mut found = Vec::new();
            for orphan in self.uploads_below().await? {
                let bytes = self.bytes_of_parts(&orphan).await;
                found.push(OpenUpload { name: orphan.name, begun: orphan.begun, bytes });
            }
            Ok(found)
        })
        .map_err(|e| self.error("list uploads of", &self.location(), e))
    }

    async fn bytes_of_parts(&self, orphan: &Orphan) -> Option<u64> {
        let (mut bytes, mut marker) = (0, 0_u32);
        loop {
            let call =
                Call::new(Method::GET, &self.path(&orphan.name)).query("uploadId", orphan.upload_id.as_str());
            let call = call.query("part-number-marker", marker.to_string()).expects("ListPartsResult");
            let page = self.client.run(&call).await.ok()?.xml;
            let before = marker;
            for part in page.all("Part") {
                bytes += part.text_of("Size")?.parse::<u64>().ok()?;
                marker = marker.max(part.text_of("PartNumber")?.parse().ok()?);
            }
            let more = page.text_of("IsTruncated").is_some_and(|text| text.eq_ignore_ascii_case("true"));
            if !more || marker == before {
                return Some(bytes);
            }
        }
    }

    /// Objects below this store's prefix that are none of the format's.
    pub fn strangers(&self) -> Result<Strangers, StoreError> {
        self.wait(async { self.strangers_now().await }).map_err(|e| self.error("list", &self.location(), e))
    }

    async fn strangers_now(&self) -> Result<Strangers, Failure> {
        let top = self.path(&"");
        let (mut found, mut token) = (Strangers::default(), None::<String>);
        for _ in 0..PAGES_MAX {
            let call = Call::new(Method::GET, "").query("list-type", "2").query("prefix", top.as_str());
            let mut call = call.query("max-keys", "1000").expects("ListBucketResult");
            if let Some(token) = &token {
                call = call.query("continuation-token", token.as_str());
            }
            let page = self.client.run(&call).await?.xml;
            page.all("Contents").for_each(|item| self.count_stranger(item, &mut found));
            let next = page.text_of("NextContinuationToken").filter(|next| !next.is_empty());
            match next {
                Some(next) if Some(next) != token.as_deref() => token = Some(next.to_owned()),
                _ => return Ok(found),
            }
        }
        Ok(found)
    }

    fn count_stranger(&self, item: &Element, found: &mut Strangers) {
        let Some(name) = item.text_of("Key") else { return };
        // Servers that keep folders as objects list these, too.
        if self.key_of(name).is_some() || name.ends_with('/') {
            return;
        }
        found.objects += 1;
        found.bytes += item.text_of("Size").and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        if found.names.len() < NAMES {
            found.names.push(name.to_owned());
        }
    }
}
