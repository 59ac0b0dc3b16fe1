//! A bucket in memory, with the meaning that S3 gives to requests.

use super::http::{Answer, Head};
use super::script::{Manner, Op};
use data_encoding::{BASE64, HEXLOWER};
use ring::digest::{SHA256, digest};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a version holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    Bytes(Vec<u8>),
    /// A mark that says deleted.
    Gone,
    /// It was removed for good: its number is nobody's.
    Removed,
}

/// With the time at which it was put.
type Version = (Held, jiff::Timestamp);

#[derive(Debug, Default, Clone)]
pub(crate) struct Bucket {
    /// By key: the bytes, and when they were put (a number that grows).
    pub objects: BTreeMap<String, (Vec<u8>, u64)>,
    pub uploads: BTreeMap<String, Upload>,
    /// By key, oldest first: all that was ever put, and when. The id of a version is its place.
    versions: BTreeMap<String, Vec<Version>>,
    counter: u64,
}

impl Bucket {
    /// Each object and its bytes.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.objects.iter().map(|(key, (bytes, _))| (key.as_str(), bytes.as_slice()))
    }
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Upload {
    pub key: String,
    pub parts: BTreeMap<u32, Vec<u8>>,
}

/// What a request asks for, and of which key.
pub(crate) fn op_of(head: &Head) -> (Op, String) {
    let path = head.path.trim_start_matches('/');
    // The bucket stands in the host name, or in the path.
    let in_host = head.header("host").is_some_and(|host| host.starts_with("bucket."));
    let key = if in_host { path } else { path.split_once('/').map_or("", |(_, key)| key) }.to_owned();
    let has = |name: &str| head.query.contains_key(name);
    let op = match (head.method.as_str(), key.is_empty()) {
        ("GET", true) if has("list-type") => Op::List,
        ("GET", true) if has("uploads") => Op::Uploads,
        ("GET", true) if has("versions") => Op::Versions,
        ("POST", true) if has("delete") => Op::Delete,
        (_, true) => Op::Bucket,
        ("PUT", _) if has("uploadId") => Op::Part,
        ("PUT", _) => Op::Put,
        ("POST", _) if has("uploads") => Op::Begin,
        ("POST", _) => Op::Complete,
        ("HEAD", _) => Op::Head,
        ("DELETE", _) if has("uploadId") => Op::Abort,
        ("DELETE", _) => Op::Delete,
        _ if head.headers.contains_key("range") => Op::Range,
        _ => Op::Get,
    };
    (op, key)
}

impl Bucket {
    /// Does what a request asks, and answers.
    pub(crate) fn perform(&mut self, op: Op, key: &str, head: &Head, body: &[u8], manner: &Manner) -> Answer {
        match op {
            Op::Put => self.put(key, head, body, manner),
            Op::Get | Op::Range => self.get(key, head, manner),
            Op::Head => self.head(key, manner),
            Op::List => self.list(head, manner),
            Op::Delete if head.query.contains_key("versionId") => self.remove_version(key, head, manner),
            Op::Delete => self.delete(key, body),
            Op::Begin => self.begin(key),
            Op::Part => self.part(head, body, manner),
            Op::Complete => self.complete(key, head, body, manner),
            Op::Abort => {
                self.uploads.remove(head.query.get("uploadId").map_or("", String::as_str));
                Answer::new(204)
            }
            Op::Uploads => self.list_uploads(),
            Op::Versions if manner.versioned => self.list_versions(head, manner),
            Op::Versions => Answer::error(501, "NotImplemented"),
            Op::Bucket if head.query.contains_key("versioning") => {
                let said =
                    if manner.versioned || manner.says_versioned { "<Status>Enabled</Status>" } else { "" };
                Answer::xml(200, format!("<VersioningConfiguration>{said}</VersioningConfiguration>"))
            }
            Op::Bucket if head.query.contains_key("object-lock") && manner.says_locked => {
                let said = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>";
                Answer::xml(200, format!("<ObjectLockConfiguration>{said}</ObjectLockConfiguration>"))
            }
            Op::Bucket if head.query.contains_key("object-lock") => {
                Answer::error(404, "ObjectLockConfigurationNotFoundError")
            }
            Op::Bucket => Answer::new(200),
        }
    }

    fn etag(answer: Answer, manner: &Manner) -> Answer {
        match manner.etag {
            Some(etag) => answer.with("ETag", etag),
            None => answer,
        }
    }

    pub(crate) fn insert(&mut self, key: &str, bytes: &[u8]) {
        self.counter += 1;
        self.objects.insert(key.to_owned(), (bytes.to_vec(), self.counter));
        self.remember(key, Held::Bytes(bytes.to_vec()));
    }

    fn remember(&mut self, key: &str, held: Held) {
        self.versions.entry(key.to_owned()).or_default().push((held, jiff::Timestamp::now()));
    }

    /// Removes one version for good; the one before it is then the present one.
    fn remove_version(&mut self, key: &str, head: &Head, manner: &Manner) -> Answer {
        if manner.holds_versions {
            return Answer::error(403, "AccessDenied");
        }
        let place = place_of(head.query.get("versionId").map_or("", String::as_str));
        let versions = self.versions.entry(key.to_owned()).or_default();
        if let Some(version) = place.and_then(|place| versions.get_mut(place)) {
            version.0 = Held::Removed;
        }
        match versions.iter().map(|version| &version.0).rfind(|held| **held != Held::Removed) {
            Some(Held::Bytes(bytes)) => {
                self.counter += 1;
                self.objects.insert(key.to_owned(), (bytes.clone(), self.counter));
            }
            _ => drop(self.objects.remove(key)),
        }
        Answer::new(204)
    }

    pub(crate) fn forget(&mut self, key: &str) {
        if self.objects.remove(key).is_some() {
            self.remember(key, Held::Gone);
        }
    }

    /// All versions, the newest of each key first; a page ends between any two of them.
    fn list_versions(&self, head: &Head, manner: &Manner) -> Answer {
        let of = |name: &str| head.query.get(name).cloned().unwrap_or_default();
        let prefix = of("prefix");
        let mut rows = Vec::new();
        for (key, versions) in self.versions.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            let kept = versions.iter().enumerate().rev().filter(|(_, version)| version.0 != Held::Removed);
            for (nth, (place, (held, time))) in kept.enumerate() {
                rows.push((key, place, held, time, nth == 0));
            }
        }
        let marks = (of("key-marker"), of("version-id-marker"));
        let begun = rows.iter().position(|row| *row.0 == marks.0 && format!("v{}", row.1) == marks.1);
        let rest = &rows[begun.map_or(0, |place| place + 1)..];
        let page = &rest[..rest.len().min(manner.page)];
        let mut xml = format!("<ListVersionsResult><IsTruncated>{}</IsTruncated>", page.len() < rest.len());
        if let Some(last) = page.last().filter(|_| page.len() < rest.len()) {
            let _ = write!(
                xml,
                "<NextKeyMarker>{}</NextKeyMarker><NextVersionIdMarker>v{}</NextVersionIdMarker>",
                last.0, last.1
            );
        }
        for (key, place, held, time, latest) in page {
            let (name, size) = match held {
                Held::Bytes(bytes) => ("Version", format!("<Size>{}</Size>", bytes.len())),
                Held::Gone | Held::Removed => ("DeleteMarker", String::new()),
            };
            let _ = write!(
                xml,
                "<{name}><Key>{key}</Key><VersionId>v{place}</VersionId><IsLatest>{latest}</IsLatest><LastModified>{time}</LastModified>{size}</{name}>"
            );
        }
        Answer::xml(200, xml + "</ListVersionsResult>")
    }

    /// The bytes that a request means: of the version that it names, else the present ones.
    fn meant(&self, key: &str, head: &Head) -> Option<&[u8]> {
        let Some(version) = head.query.get("versionId") else {
            return self.objects.get(key).map(|(bytes, _)| &bytes[..]);
        };
        match &self.versions.get(key)?.get(place_of(version)?)?.0 {
            Held::Bytes(bytes) => Some(bytes),
            Held::Gone | Held::Removed => None,
        }
    }

    fn put(&mut self, key: &str, head: &Head, body: &[u8], manner: &Manner) -> Answer {
        if let Some(refused) = check_body(head, body, manner) {
            return refused;
        }
        if only_new(head) && !manner.overwrites && self.objects.contains_key(key) {
            return Answer::error(412, "PreconditionFailed");
        }
        self.insert(key, body);
        let answer = echo_checksum(Self::etag(Answer::new(200), manner), head);
        match self.versions.get(key).filter(|_| manner.versioned) {
            Some(versions) => answer.with("x-amz-version-id", format!("v{}", versions.len() - 1)),
            None => answer,
        }
    }

    fn get(&self, key: &str, head: &Head, manner: &Manner) -> Answer {
        let Some(bytes) = self.meant(key, head) else {
            return Answer::error(404, "NoSuchKey");
        };
        let modified = "Wed, 25 Nov 2026 00:00:00 GMT";
        let whole = || {
            let answer = Answer { body: bytes.to_vec(), ..Answer::new(200) };
            Self::etag(answer, manner)
                .with("Last-Modified", modified)
                .with("Content-Type", "application/octet-stream")
        };
        let Some(range) = head.header("range").and_then(|r| r.strip_prefix("bytes=")) else {
            return whole();
        };
        if manner.whole_for_ranges {
            return whole();
        }
        let size = bytes.len();
        let (from, to) = range.split_once('-').unwrap_or((range, ""));
        let from: usize = from.parse().unwrap_or(0);
        let to: usize = to.parse::<usize>().map_or(size, |to| (to + 1).min(size));
        if from >= size || from >= to {
            return Answer::error(416, "InvalidRange").with("Content-Range", format!("bytes */{size}"));
        }
        let answer = Answer { body: bytes[from..to].to_vec(), ..Answer::new(206) };
        Self::etag(answer, manner)
            .with("Last-Modified", modified)
            .with("Content-Range", format!("bytes {from}-{}/{size}", to - 1))
    }

    fn head(&self, key: &str, manner: &Manner) -> Answer {
        let Some((bytes, _)) = self.objects.get(key) else {
            return Answer { says_length: Some(0), ..Answer::new(404) };
        };
        let answer = Answer { says_length: Some(bytes.len() as u64), ..Answer::new(200) };
        Self::etag(answer, manner).with("Last-Modified", "Wed, 25 Nov 2026 00:00:00 GMT")
    }

    fn list(&self, head: &Head, manner: &Manner) -> Answer {
        let of = |name: &str| head.query.get(name).cloned().unwrap_or_default();
        let (prefix, after) = (of("prefix"), of("start-after").max(of("continuation-token")));
        let asked = of("max-keys").parse().unwrap_or(1000).min(manner.page);
        let mut keys = self.objects.keys().filter(|key| key.starts_with(&prefix) && **key > after);
        let page: Vec<String> = keys.by_ref().take(asked).cloned().collect();
        let next = keys.next().is_some().then(|| page.last().cloned().unwrap_or_default());
        self.written(&prefix, &page, next.as_deref(), manner.versioned)
    }

    /// A page of a listing, as it is written.
    pub(crate) fn listing(&self, prefix: &str, keys: &[String], next: Option<&str>) -> Answer {
        self.written(prefix, keys, next, false)
    }

    /// `dated`: each object has the time at which it was put, as in the listing of versions; otherwise all have one.
    fn written(&self, prefix: &str, keys: &[String], next: Option<&str>, dated: bool) -> Answer {
        let mut xml = format!(
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><Prefix>{prefix}</Prefix><KeyCount>{}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>{}</IsTruncated>",
            keys.len(),
            next.is_some()
        );
        if let Some(next) = next {
            let _ = write!(xml, "<NextContinuationToken>{next}</NextContinuationToken>");
        }
        for key in keys {
            let size = self.objects.get(key).map_or(0, |(bytes, _)| bytes.len());
            let put = self.versions.get(key).and_then(|versions| versions.last()).filter(|_| dated);
            let time = put.map_or("2026-11-25T00:00:00.000Z".to_owned(), |(_, time)| time.to_string());
            let _ = write!(
                xml,
                "<Contents><Key>{key}</Key><LastModified>{time}</LastModified><ETag>&quot;x&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            );
        }
        Answer::xml(200, xml + "</ListBucketResult>")
    }

    /// The key that was put last below `prefix`.
    pub(crate) fn newest(&self, prefix: &str) -> Option<String> {
        let below = self.objects.iter().filter(|(key, _)| key.starts_with(prefix));
        below.max_by_key(|(_, (_, when))| *when).map(|(key, _)| key.clone())
    }

    fn delete(&mut self, key: &str, body: &[u8]) -> Answer {
        if !key.is_empty() {
            self.forget(key);
            return Answer::new(204);
        }
        for key in between(&String::from_utf8_lossy(body), "<Key>", "</Key>") {
            self.forget(&key);
        }
        Answer::xml(200, "<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"></DeleteResult>")
    }

    fn begin(&mut self, key: &str) -> Answer {
        self.counter += 1;
        let id = format!("upload-{}", self.counter);
        self.uploads.insert(id.clone(), Upload { key: key.to_owned(), parts: BTreeMap::new() });
        Answer::xml(
            200,
            format!(
                "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            ),
        )
    }

    fn part(&mut self, head: &Head, body: &[u8], manner: &Manner) -> Answer {
        if let Some(refused) = check_body(head, body, manner) {
            return refused;
        }
        let id = head.query.get("uploadId").cloned().unwrap_or_default();
        let number = head.query.get("partNumber").and_then(|n| n.parse().ok()).unwrap_or(0);
        let Some(upload) = self.uploads.get_mut(&id) else {
            return Answer::error(404, "NoSuchUpload");
        };
        upload.parts.insert(number, body.to_vec());
        echo_checksum(Answer::new(200).with("ETag", format!("\"part-{number}\"")), head)
    }

    fn complete(&mut self, key: &str, head: &Head, body: &[u8], manner: &Manner) -> Answer {
        let id = head.query.get("uploadId").cloned().unwrap_or_default();
        let Some(upload) = self.uploads.get(&id) else {
            return Answer::error(404, "NoSuchUpload");
        };
        if only_new(head) && !manner.overwrites && self.objects.contains_key(key) {
            return Answer::error(412, "PreconditionFailed");
        }
        let asked = between(&String::from_utf8_lossy(body), "<PartNumber>", "</PartNumber>");
        let mut whole = Vec::new();
        for number in asked {
            match number.trim().parse().ok().and_then(|number: u32| upload.parts.get(&number)) {
                Some(part) => whole.extend_from_slice(part),
                None => return Answer::error(400, "InvalidPart"),
            }
        }
        self.uploads.remove(&id);
        self.insert(key, &whole);
        Answer::xml(
            200,
            format!(
                "<CompleteMultipartUploadResult><Location>x</Location><Bucket>b</Bucket><Key>{key}</Key><ETag>&quot;x-1&quot;</ETag></CompleteMultipartUploadResult>"
            ),
        )
    }

    fn list_uploads(&self) -> Answer {
        let mut xml = String::from("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>");
        for (id, upload) in &self.uploads {
            let _ = write!(
                xml,
                "<Upload><Key>{}</Key><UploadId>{id}</UploadId><Initiated>2026-11-01T00:00:00.000Z</Initiated></Upload>",
                upload.key
            );
        }
        Answer::xml(200, xml + "</ListMultipartUploadsResult>")
    }
}

/// Nothing may be there yet: in the words of S3, or in Google's for the same protocol.
pub(crate) fn only_new(head: &Head) -> bool {
    head.header("if-none-match") == Some("*") || head.header("x-goog-if-generation-match") == Some("0")
}

/// Compares the hashes that come with a body, as S3 does.
fn check_body(head: &Head, body: &[u8], manner: &Manner) -> Option<Answer> {
    let hash = digest(&SHA256, body);
    if let Some(said) = head.header("x-amz-content-sha256").filter(|said| said.len() == 64)
        && !manner.ignores_signed
        && said != HEXLOWER.encode(hash.as_ref())
    {
        return Some(Answer::error(400, "XAmzContentSHA256Mismatch"));
    }
    if manner.needs_checksums
        && ["x-amz-checksum-sha256", "content-md5"].iter().all(|h| head.header(h).is_none())
    {
        return Some(Answer::error(400, "InvalidRequest"));
    }
    let said = head.header("x-amz-checksum-sha256")?;
    if manner.refuses_checksums {
        return Some(Answer::error(400, "InvalidArgument"));
    }
    (!manner.ignores_checksums && said != BASE64.encode(hash.as_ref()))
        .then(|| Answer::error(400, "BadDigest"))
}

fn echo_checksum(answer: Answer, head: &Head) -> Answer {
    match head.header("x-amz-checksum-sha256") {
        Some(said) => answer.with("x-amz-checksum-sha256", said),
        None => answer,
    }
}

/// The place of the version that is called so.
fn place_of(version: &str) -> Option<usize> {
    version.strip_prefix('v')?.parse().ok()
}

fn between(text: &str, open: &str, close: &str) -> Vec<String> {
    text.split(open).skip(1).filter_map(|rest| Some(rest.split_once(close)?.0.to_owned())).collect()
}
