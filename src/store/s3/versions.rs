//! Versions that a bucket keeps of what was overwritten or deleted in it.
//!
//! A version is chosen by the order and the times that the server gives, and proved by whoever reads it: by its name, or by its signature.

use crate::model::Timestamp;
use crate::store::s3::S3Store;
use crate::store::s3::client::Call;
use crate::store::s3::failure::Failure;
use crate::store::s3::list::{circles, is_truncated};
use crate::store::s3::xml::Element;
use crate::store::{Key, Prefix, StoreErrorKind, Version};
use http::Method;
use std::collections::{BTreeMap, HashSet};

/// One entry of a listing of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    version: Version,
    /// The object was deleted at that moment.
    gone: bool,
    latest: bool,
}

/// What is read of a store as it stood at one moment: the version of each key that was the latest then.
pub(super) type Picked = BTreeMap<Key, Version>;

impl S3Store {
    /// Every version below the name `prefix`, by key: the newest first.
    async fn versions_below(
        &self,
        prefix: &str,
        patient: bool,
    ) -> Result<BTreeMap<Key, Vec<Entry>>, Failure> {
        let mut found: BTreeMap<Key, Vec<Entry>> = BTreeMap::new();
        let mut seen = HashSet::new();
        let mut from = (String::new(), String::new());
        loop {
            let mut call = Call::new(Method::GET, "").query("versions", "").query("prefix", prefix);
            call = call.query("max-keys", "1000").expects("ListVersionsResult");
            if !from.0.is_empty() {
                call = call.query("key-marker", from.0.as_str());
            }
            if !from.1.is_empty() {
                call = call.query("version-id-marker", from.1.as_str());
            }
            // A server that does not know the question may answer anything: it is then asked once.
            let page =
                if patient { self.client.run(&call).await } else { self.client.whole(&call).await }?.xml;
            for item in page.children.iter().filter(|c| c.name == "Version" || c.name == "DeleteMarker") {
                if let Some((key, entry)) = self.version_entry(item)? {
                    found.entry(key).or_default().push(entry);
                }
            }
            if !is_truncated(&page) {
                for entries in found.values_mut() {
                    in_order(entries);
                }
                return Ok(found);
            }
            let mark = |name: &str| page.text_of(name).unwrap_or_default().to_owned();
            from = (mark("NextKeyMarker"), mark("NextVersionIdMarker"));
            if from.0.is_empty() {
                return Err(Failure::broken("the server's listing of versions ends in its middle"));
            }
            if !seen.insert(from.clone()) {
                return Err(circles());
            }
        }
    }

    /// An entry of the listing; `None` when it is no key of ours.
    fn version_entry(&self, item: &Element) -> Result<Option<(Key, Entry)>, Failure> {
        let Some(key) = item.text_of("Key").and_then(|text| self.key_of(text)) else { return Ok(None) };
        let broken =
            |what: &str| Failure::broken(format!("the server lists a version of {key} without {what}"));
        let gone = item.name == "DeleteMarker";
        let size = item.text_of("Size").and_then(|text| text.parse().ok());
        let size = size.or(gone.then_some(0)).ok_or_else(|| broken("its size"))?;
        let modified = item.text_of("LastModified").and_then(|text| text.parse().ok());
        let modified = modified.ok_or_else(|| broken("its time"))?;
        let id = item.text_of("VersionId").filter(|id| !id.is_empty()).unwrap_or("null").to_owned();
        let latest = item.text_of("IsLatest").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        Ok(Some((key, Entry { version: Version { id, size, modified }, gone, latest })))
    }

    /// The versions of `key` that hold bytes, the newest first.
    pub(super) async fn versions_of(&self, key: &Key) -> Result<Vec<Version>, Failure> {
        let mut all = match self.versions_below(&self.path(key), false).await {
            Ok(all) => all,
            // A server that knows no versions keeps none.
            Err(e) if matches!(e.status, 400 | 404 | 405 | 501) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let entries = all.remove(key).unwrap_or_default();
        Ok(entries.into_iter().filter(|entry| !entry.gone).map(|entry| entry.version).collect())
    }

    /// The store as it stood at `time`.
    pub(super) async fn pick(&self, time: Timestamp) -> Result<Picked, Failure> {
        let prefix = match self.spec.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let all = self.versions_below(&prefix, true).await.map_err(|e| match e.status {
            400 | 405 | 501 => e.and("does this server keep versions? --as-of needs them"),
            _ => e,
        })?;
        let then = |entries: Vec<Entry>| {
            let latest = entries.into_iter().find(|entry| entry.version.modified <= time)?;
            (!latest.gone).then_some(latest.version)
        };
        Ok(all.into_iter().filter_map(|(key, entries)| Some((key, then(entries)?))).collect())
    }

    /// Which version of `key` is read; `None` for the present one.
    pub(super) fn version_to_read(&self, key: &Key) -> Result<Option<&Version>, Failure> {
        let Some(picked) = &self.picked else { return Ok(None) };
        let absent = || Failure::new(StoreErrorKind::NotFound, "it was not there at that time");
        picked.get(key).map(Some).ok_or_else(absent)
    }

    /// What was below `prefix` then; `None` when the present is read.
    pub(super) fn picked_below(&self, prefix: Prefix) -> Option<Vec<crate::store::Listed>> {
        let below = |(key, _): &(&Key, &Version)| key.to_string().starts_with(&format!("{}/", prefix.dir()));
        let listed = |(key, version): (&Key, &Version)| crate::store::Listed {
            key: key.clone(),
            size: version.size,
            modified: Some(version.modified),
        };
        self.picked.as_ref().map(|picked| picked.iter().filter(below).map(listed).collect())
    }

    /// What stood at one moment is read, never changed.
    pub(super) fn refuse_past(&self) -> Result<(), Failure> {
        match self.picked {
            None => Ok(()),
            Some(_) => {
                Err(Failure::new(StoreErrorKind::Other, "a store as it stood before (--as-of) is only read"))
            }
        }
    }
}

/// The newest first. Servers list them so; the one that the server calls the latest is, and times only mend what is out of order.
fn in_order(entries: &mut [Entry]) {
    entries.sort_by_key(|entry| (!entry.latest, std::cmp::Reverse(entry.version.modified)));
}
