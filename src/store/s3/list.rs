//! Listings. One that is cut short, runs in circles or is no listing at all is an error: whoever deletes must never take a short list for a whole one.

use crate::model::Timestamp;
use crate::store::s3::S3Store;
use crate::store::s3::client::Call;
use crate::store::s3::failure::Failure;
use crate::store::s3::xml::{Element, escape};
use crate::store::{Key, Listed, Prefix, StoreErrorKind};
use bytes::Bytes;
use http::Method;
use std::collections::{BTreeMap, HashSet};

/// An upload in parts that was begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its name below the store's prefix: a key of the format, or of a throw-away object.
    pub name: String,
    /// When it was begun, as the server says.
    pub begun: Option<Timestamp>,
    /// The server's name for it.
    pub(super) upload_id: String,
}

/// Throw-away objects lie below this.
pub(super) const PROBES: &str = ".backstay-probe/";

pub(super) fn circles() -> Failure {
    Failure::new(StoreErrorKind::Corrupt, "the server's listing runs in circles")
}

pub(super) fn is_truncated(page: &Element) -> bool {
    page.text_of("IsTruncated").is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

impl S3Store {
    pub(super) async fn keys_below(&self, prefix: Prefix) -> Result<Vec<Listed>, Failure> {
        if let Some(then) = self.picked_below(prefix) {
            return Ok(then);
        }
        let folder = self.path(&format!("{}/", prefix.dir()));
        let mut found = BTreeMap::new();
        let mut tokens = HashSet::new();
        let mut token: Option<String> = None;
        loop {
            let mut call =
                Call::new(Method::GET, "").query("list-type", "2").query("prefix", folder.as_str());
            call = call.query("max-keys", "1000").expects("ListBucketResult");
            if let Some(token) = &token {
                call = call.query("continuation-token", token.as_str());
            }
            let page = self.client.run(&call).await?.xml;
            for item in page.all("Contents") {
                if let Some(listed) = self.listed(item)? {
                    found.insert(listed.key.clone(), listed);
                }
            }
            if !is_truncated(&page) {
                return Ok(found
                    .into_values()
                    .filter(|l| l.key.to_string().starts_with(prefix.dir()))
                    .collect());
            }
            let next = page.text_of("NextContinuationToken").filter(|next| !next.is_empty());
            let next =
                next.ok_or_else(|| Failure::broken("the server's listing ends in its middle"))?.to_owned();
            if !tokens.insert(next.clone()) {
                return Err(circles());
            }
            token = Some(next);
        }
    }

    /// An entry of a listing; `None` when it is no key of ours.
    fn listed(&self, item: &Element) -> Result<Option<Listed>, Failure> {
        let Some(key) = item.text_of("Key").and_then(|text| self.key_of(text)) else { return Ok(None) };
        let size = item.text_of("Size").and_then(|text| text.parse().ok());
        let size = size.ok_or_else(|| Failure::broken(format!("the server lists {key} without its size")))?;
        let modified = item.text_of("LastModified").and_then(|text| text.parse().ok());
        Ok(Some(Listed { key, size, modified }))
    }

    /// The key that a name in the bucket stands for.
    pub(super) fn key_of(&self, name: &str) -> Option<Key> {
        Key::parse(self.below(name)?)
    }

    /// What stands in a name after the store's prefix.
    fn below<'a>(&self, name: &'a str) -> Option<&'a str> {
        match self.spec.prefix.as_str() {
            "" => Some(name),
            prefix => name.strip_prefix(prefix)?.strip_prefix('/'),
        }
    }

    pub(super) async fn uploads_below(&self) -> Result<Vec<Orphan>, Failure> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut from = (String::new(), String::new());
        loop {
            let call = Call::new(Method::GET, "").query("uploads", "").query("prefix", self.path(&""));
            let call = call.query("key-marker", from.0.as_str()).query("upload-id-marker", from.1.as_str());
            let page = self.client.run(&call.expects("ListMultipartUploadsResult")).await?.xml;
            for item in page.all("Upload") {
                let name = item.text_of("Key").and_then(|text| self.below(text)).filter(|name| is_ours(name));
                let (Some(name), Some(id)) = (name, item.text_of("UploadId")) else { continue };
                let begun = item.text_of("Initiated").and_then(|text| text.parse().ok());
                found.push(Orphan { name: name.to_owned(), begun, upload_id: id.to_owned() });
            }
            if !is_truncated(&page) {
                return Ok(found);
            }
            let mark = |name: &str| page.text_of(name).unwrap_or_default().to_owned();
            from = (mark("NextKeyMarker"), mark("NextUploadIdMarker"));
            if !seen.insert(from.clone()) {
                return Err(circles());
            }
        }
    }

    pub(super) async fn abort_older(&self, older_than: Timestamp) -> Result<u64, Failure> {
        let mut count = 0;
        for orphan in self.uploads_below().await? {
            if orphan.begun.is_some_and(|begun| begun < older_than) {
                self.abort(&self.path(&orphan.name), &orphan.upload_id).await?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Asks for one key, to see whether the bucket is there and may be read.
    pub(super) async fn look_into_bucket(&self) -> Result<(), Failure> {
        let call = Call::new(Method::GET, "").query("list-type", "2").query("prefix", self.path(&""));
        self.client
            .run(&call.query("max-keys", "1").expects("ListBucketResult"))
            .await
            .map(drop)
            .map_err(no_bucket)
    }

    pub(super) async fn make_bucket(&self) -> Result<(), Failure> {
        let mut call = Call::new(Method::PUT, "");
        // Amazon's oldest region must not be named; other servers have one region, whatever it is called.
        if self.spec.endpoint.is_none() && self.spec.region != "us-east-1" {
            let region = escape(&self.spec.region);
            let text = format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            );
            let sha256 = crate::model::ObjectId::of(text.as_bytes());
            call = call.body(Bytes::from(text), sha256);
        }
        match self.client.run(&call).await {
            Err(e) if matches!(e.code.as_str(), "BucketAlreadyOwnedByYou" | "BucketAlreadyExists") => Ok(()),
            other => other.map(drop),
        }
    }
}

/// True for a key of the format, and for a throw-away object: an upload of either is nobody else's.
fn is_ours(name: &str) -> bool {
    Key::parse(name).is_some() || name.starts_with(PROBES)
}

/// A bucket that is not found is no store, whatever word the server has for it.
fn no_bucket(mut failure: Failure) -> Failure {
    if failure.is_absent() {
        failure.kind = StoreErrorKind::Missing;
    }
    failure
}
