//! Puts in one request, and deleting. What a put came to is certain before it is said: where the server's answer leaves it open, what is there is read.

use crate::model::ObjectId;
use crate::store::remote::{There, open_spooled, read_spooled, remove_spooled, taken};
use crate::store::s3::S3Store;
use crate::store::s3::capabilities::{Capabilities, Compared};
use crate::store::s3::client::{Call, Reply};
use crate::store::s3::failure::Failure;
use crate::store::s3::multipart::PART;
use crate::store::s3::spec::{Checksum, Sse};
use crate::store::s3::transport::Body;
use crate::store::{Key, Put, StoreErrorKind};
use http::Method;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often a put is tried when something is in its way that is gone when looked at.
pub(super) const TRIES: u32 = 4;
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Bytes a second below which a line is slow.
const SLOW: u64 = 1 << 20;

impl S3Store {
    pub(super) async fn put_file_now(
        &self,
        key: &Key,
        path: &Path,
        size: u64,
        sha256: &ObjectId,
        over: bool,
    ) -> Result<Put, Failure> {
        let file = Arc::new(open_spooled(path, size)?);
        self.sweep_remembered().await;
        let put = if !over && size <= self.whole_max() && self.capabilities_now().await?.proves_put() {
            // Not hashed again: the server compares what it gets with the name. Before anything is put over another it is.
            self.put_whole(key, Body::File { file, from: 0, size }, *sha256, over).await?
        } else if size <= PART {
            let bytes = read_spooled(&file, size, sha256)?;
            self.put_whole(key, Body::Bytes(bytes), *sha256, over).await?
        } else {
            self.put_in_parts(key, &file, size, sha256, over).await?
        };
        remove_spooled(path)?;
        Ok(put)
    }

    /// Objects up to so many bytes go in one request, when the server compares what it gets: one hash serves name, checksum and signature.
    /// On a line that is kept slow, parts: what was sent of a large request is lost when it breaks.
    fn whole_max(&self) -> u64 {
        match self.spec.limit_upload {
            Some(rate) if rate < SLOW => PART,
            _ => self.spec.whole_max.max(PART),
        }
    }

    /// Puts `body` in one request; `over` puts it over whatever is there.
    pub(super) async fn put_whole(
        &self,
        key: &Key,
        body: Body,
        sha256: ObjectId,
        over: bool,
    ) -> Result<Put, Failure> {
        let known = self.capabilities_now().await?;
        let size = body.len();
        if !over && !known.create_only && self.size_of(key).await?.is_some() {
            match self.compare(key, size, &sha256).await? {
                There::Same => return Ok(Put::AlreadyThere),
                There::Other => return Err(taken()),
                There::Nothing => {}
            }
        }
        let mut call = self.putting(Call::new(Method::PUT, &self.path(key))).sending(body, sha256);
        if !over && known.create_only {
            call = call.header("if-none-match", "*");
        }
        for tried in 0..TRIES {
            let failure = match self.run_put(&call, &known).await {
                Ok(reply) if reply.headers.contains_key("etag") => {
                    self.note_put(key);
                    return Ok(if known.proves_put() { Put::Proved } else { Put::Created });
                }
                Ok(_) => Failure::broken("the server did not say that it stored it"),
                Err(failure) => failure,
            };
            if !failure.uncertain && !failure.is_in_the_way() {
                return Err(failure);
            }
            match self.compare(key, size, &sha256).await? {
                There::Same => {
                    self.note_put(key);
                    return Ok(Put::AlreadyThere);
                }
                There::Other if over => return Err(failure),
                There::Other => return Err(taken()),
                // Someone else's put is under way, or came and went.
                There::Nothing if failure.is_in_the_way() => {
                    self.client.transport().timer().pause(FIRST_WAIT * (1 << tried)).await;
                }
                There::Nothing => return Err(failure),
            }
        }
        Err(comes_and_goes())
    }

    /// Sends a put, with a checksum where one goes along.
    async fn run_put(&self, plain: &Call, known: &Capabilities) -> Result<Reply, Failure> {
        if !known.sends_checksum(self.spec.checksum, known.checksum_put) {
            return self.client.run(plain).await;
        }
        let refused = match self.client.run(&plain.clone().checksummed()).await {
            Err(e) if self.may_do_without_checksums(known, &e) => e,
            other => return other,
        };
        match self.client.run(plain).await {
            // It was not the checksum.
            Err(e) if e.may_be_a_header() => Err(refused),
            Err(e) => Err(e),
            Ok(reply) => {
                self.do_without_checksums().await;
                Ok(reply)
            }
        }
    }

    /// Whether what failed is to be tried without checksums: only where it was left open and could not be tried out whether the server takes them.
    pub(super) fn may_do_without_checksums(&self, known: &Capabilities, failure: &Failure) -> bool {
        self.spec.checksum == Checksum::Auto && known.probed_at.is_none() && failure.may_be_a_header()
    }

    /// Notes, for the life of this store object, that the server took without a checksum what it had refused with one.
    pub(super) async fn do_without_checksums(&self) {
        if let Some(known) = &mut *self.capabilities.lock().await {
            (known.checksum_put, known.checksum_part) = (Compared::Refused, Compared::Refused);
        }
    }

    /// Reads what lies under `key`.
    pub(super) async fn compare(&self, key: &Key, size: u64, sha256: &ObjectId) -> Result<There, Failure> {
        There::of(self.hash_of(key, &mut |_| {}).await, size, sha256)
    }

    /// What goes with every object that is put, also when it goes in parts.
    pub(super) fn putting(&self, call: Call) -> Call {
        let mut call = call.header("content-type", "application/octet-stream");
        if let Some(class) = &self.spec.storage_class {
            call = call.header("x-amz-storage-class", class);
        }
        match &self.spec.sse {
            None => call,
            Some(Sse::Aes256) => call.header("x-amz-server-side-encryption", "AES256"),
            Some(Sse::Kms(id)) => {
                let call = call.header("x-amz-server-side-encryption", "aws:kms");
                match id {
                    Some(id) => call.header("x-amz-server-side-encryption-aws-kms-key-id", id),
                    None => call,
                }
            }
        }
    }

    /// What the server can do, probed when it is not known yet.
    pub(super) async fn capabilities_now(&self) -> Result<Capabilities, Failure> {
        let mut known = self.capabilities.lock().await;
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let found = match super::capabilities::load(&self.spec) {
            Some(remembered) => remembered,
            None => self.probe_for_writing().await?,
        };
        *known = Some(found.clone());
        Ok(found)
    }

    pub(super) async fn replace_now(
        &self,
        key: &Key,
        path: &Path,
        size: u64,
        sha256: &ObjectId,
    ) -> Result<(), Failure> {
        self.put_file_now(key, path, size, sha256, true).await?;
        self.compare(key, size, sha256).await?.replaced()
    }

    pub(super) async fn delete_now(&self, key: &Key) -> Result<(), Failure> {
        self.fresh().remove(key);
        match self.client.run(&Call::new(Method::DELETE, &self.path(key))).await {
            Err(e) if e.is_absent() => Ok(()),
            other => other.map(drop),
        }
    }
}

pub(super) fn comes_and_goes() -> Failure {
    let text = "an object of that name comes and goes; is another program at work in the store?";
    Failure::new(StoreErrorKind::Other, text)
}
