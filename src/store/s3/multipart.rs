//! Large objects in parts, four at a time. What was sent is remembered on this machine, so that a run that was interrupted sends no part twice.
//!
//! Nobody but us can complete an upload, so nothing is there before it is whole; and before it is completed the SHA-256 of all that was
//! read is compared with the object's name.

use crate::model::ObjectId;
use crate::store::remote::{There, not_its_name, other_size, taken};
use crate::store::s3::S3Store;
use crate::store::s3::capabilities::Capabilities;
use crate::store::s3::client::{Call, Client, Reply};
use crate::store::s3::failure::{Again, Failure};
use crate::store::s3::put::{FIRST_WAIT, TRIES, comes_and_goes};
use crate::store::s3::transport::Body;
use crate::store::s3::uploads::{Part, Upload};
use crate::store::s3::xml::escape;
use crate::store::{Key, Put, StoreErrorKind};
use bytes::Bytes;
use data_encoding::BASE64;
use http::Method;
use ring::digest::{Context, SHA256};
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Bytes of a part, and of the largest object that goes in one request.
pub(super) const PART: u64 = 16 << 20;
const MAX_PARTS: u64 = 10_000;
/// Parts under way at once, of all objects that are put: what is lost of them when the line breaks.
const IN_FLIGHT: u32 = 4;
/// A part is read to be hashed in steps of this many bytes, and once more as it is sent: four of them in memory would take 64 MiB.
const STEP: u64 = 1 << 20;
/// Several objects are put at a time. Each with parts of its own would have several times as many under way.
static ROOM: Semaphore = Semaphore::const_new(IN_FLIGHT as usize);
/// A server that puts a large object together may take longer than anyone waits for its answer: it is looked for again.
const SLOW_COMPLETE: Duration = Duration::from_secs(3);

/// A part that was sent, or why not.
type Sent = Result<(u32, Part), Failure>;

/// Bytes of each part of an object of `size` bytes but the last.
fn part_size(size: u64) -> u64 {
    size.div_ceil(MAX_PARTS).next_multiple_of(1 << 20).max(PART)
}

/// For how many of [`IN_FLIGHT`] a part of this size counts.
fn weight(part_size: u64) -> u32 {
    u32::try_from(part_size.div_ceil(PART)).unwrap_or(IN_FLIGHT).clamp(1, IN_FLIGHT)
}

/// What is put.
struct Object<'a> {
    key: &'a Key,
    file: &'a Arc<File>,
    size: u64,
    sha256: &'a ObjectId,
    /// It is put over whatever is there.
    over: bool,
}

impl S3Store {
    pub(super) async fn put_in_parts(
        &self,
        key: &Key,
        file: &Arc<File>,
        size: u64,
        sha256: &ObjectId,
        over: bool,
    ) -> Result<Put, Failure> {
        let known = self.capabilities_now().await?;
        if !known.multipart {
            let text = format!("it has {size} bytes, and this server takes no uploads in parts of {PART}");
            return Err(Failure::new(StoreErrorKind::Other, text));
        }
        if !over && self.size_of(key).await?.is_some() {
            match self.compare(key, size, sha256).await? {
                There::Same => return Ok(Put::AlreadyThere),
                There::Other => return Err(taken()),
                There::Nothing => {}
            }
        }
        let object = Object { key, file, size, sha256, over };
        let checks = known.sends_checksum(self.spec.checksum, known.checksum_part);
        let refused = match self.upload(&object, &known, checks).await {
            Err(e) if checks && self.may_do_without_checksums(&known, &e) => e,
            other => return other,
        };
        match self.upload(&object, &known, false).await {
            // It was not the checksums.
            Err(e) if e.may_be_a_header() => Err(refused),
            Err(e) => Err(e),
            Ok(put) => {
                self.do_without_checksums().await;
                Ok(put)
            }
        }
    }

    /// Begins an upload or goes on with one, and ends it; with `checks` parts carry checksums.
    async fn upload(&self, object: &Object<'_>, known: &Capabilities, checks: bool) -> Result<Put, Failure> {
        let mut anew = false;
        loop {
            let (mut upload, resumed) = self.upload_for(object, checks, anew).await?;
            let outcome = match self.send_parts(&mut upload, object.file).await {
                Ok(()) => self.complete(&upload, object.key, known, object.over).await,
                Err(failure) => Err(failure),
            };
            match outcome {
                Ok(put) => {
                    upload.forget(&self.spec);
                    return Ok(put);
                }
                // Someone may have aborted what we remember, which some servers answer like a want of rights. Where a
                // new upload can begin it does; else what we remember stays.
                Err(e) if matches!(e.status, 403 | 404) && resumed => anew = true,
                Err(e) if may_go_on(&e) => return Err(e),
                Err(mut e) => {
                    upload.forget(&self.spec);
                    let _ = self.abort(&upload.path, &upload.upload_id).await;
                    if e.is_absent() {
                        // It is the upload that is not there.
                        e.kind = StoreErrorKind::Other;
                    }
                    return Err(e);
                }
            }
        }
    }

    /// The upload to go on with, and whether it is an old one.
    async fn upload_for(
        &self,
        object: &Object<'_>,
        checks: bool,
        anew: bool,
    ) -> Result<(Upload, bool), Failure> {
        let (path, size) = (self.path(object.key), object.size);
        let old = Upload::load(&self.spec, object.sha256);
        if let Some(upload) = old.as_ref().filter(|_| !anew) {
            let same = upload.path == path && upload.size == size && upload.checksum == checks;
            if same && upload.part_size == part_size(size) {
                return Ok((upload.clone(), true));
            }
        }
        let mut call = self.putting(Call::new(Method::POST, &path)).query("uploads", "");
        if checks {
            call = call.header("x-amz-checksum-algorithm", "SHA256");
        }
        let reply = self.client.run(&call.expects("InitiateMultipartUploadResult")).await?;
        let upload_id = reply.xml.text_of("UploadId").filter(|id| !id.is_empty());
        let upload_id =
            upload_id.ok_or_else(|| Failure::broken("the server gave the upload no id"))?.to_owned();
        let upload =
            Upload::new(&self.spec, path, upload_id, (size, part_size(size)), *object.sha256, checks);
        upload.save(&self.spec)?;
        if let Some(old) = old {
            let _ = self.abort(&old.path, &old.upload_id).await;
        }
        Ok((upload, false))
    }

    async fn send_parts(&self, upload: &mut Upload, file: &Arc<File>) -> Result<(), Failure> {
        let mut whole = Context::new(&SHA256);
        let mut under_way: JoinSet<Sent> = JoinSet::new();
        let weight = weight(upload.part_size);
        let at_once = usize::try_from(IN_FLIGHT / weight).unwrap_or(1);
        let mut sent = Ok(());
        for number in 1..=upload.count() {
            while sent.is_ok() && under_way.len() >= at_once {
                sent = self.take_part(under_way.join_next().await, upload);
            }
            if sent.is_err() {
                break;
            }
            // It goes with the part: parts that are under way end by themselves, so this ends.
            let room = ROOM.acquire_many(weight).await;
            let room =
                room.map_err(|e| Failure::new(StoreErrorKind::Other, "no part can be sent").because(e))?;
            let (from, size) = place_of(upload, number);
            let sha256 = hash_part(file, (from, size), &mut whole)?;
            if upload.parts.get(&number).is_some_and(|part| part.sha256 == sha256) {
                continue;
            }
            let body = Body::File { file: Arc::clone(file), from, size };
            let call = part_call(upload, number, body, sha256);
            let client = Arc::clone(&self.client);
            under_way.spawn(async move {
                let sent = send_part(&client, call, number, sha256).await;
                drop(room);
                sent
            });
        }
        // After a failure the others are waited for: what they sent is remembered.
        while let Some(done) = under_way.join_next().await {
            let taken = self.take_part(Some(done), upload);
            sent = sent.and(taken);
        }
        sent?;
        if ObjectId::of_all(whole) != upload.sha256 {
            return Err(not_its_name());
        }
        Ok(())
    }

    /// Remembers a part that was sent.
    fn take_part(
        &self,
        done: Option<Result<Sent, tokio::task::JoinError>>,
        upload: &mut Upload,
    ) -> Result<(), Failure> {
        let Some(done) = done else { return Ok(()) };
        let broken = |e| Failure::new(StoreErrorKind::Other, "a part's task ended").because(e);
        let (number, part) = done.map_err(broken)??;
        self.client.transport().counts().parts.fetch_add(1, Ordering::Relaxed);
        upload.parts.insert(number, part);
        upload.save(&self.spec)
    }

    async fn complete(
        &self,
        upload: &Upload,
        key: &Key,
        known: &Capabilities,
        over: bool,
    ) -> Result<Put, Failure> {
        let mut uncertain = false;
        for tried in 0..TRIES {
            let failure = match self.ask_to_complete(upload, known.create_only && !over).await {
                Ok(_) => return self.completed(upload, key, known).await,
                Err(failure) => failure,
            };
            // "No such upload" after a try whose outcome is not known: that try may have completed it, or be at it still.
            uncertain |= failure.uncertain;
            if !uncertain && !failure.is_in_the_way() && failure.status != 404 {
                return Err(failure);
            }
            match self.compare(key, upload.size, &upload.sha256).await? {
                There::Same => {
                    self.note_put(key);
                    let _ = self.abort(&upload.path, &upload.upload_id).await;
                    return Ok(Put::AlreadyThere);
                }
                There::Other if !over => return Err(taken()),
                // Someone else's put is under way, or came and went.
                There::Nothing if failure.is_in_the_way() => {
                    self.client.transport().timer().pause(FIRST_WAIT * (1 << tried)).await;
                }
                There::Nothing if uncertain && failure.again == Again::Never && tried + 1 < TRIES => {
                    self.client.transport().timer().pause(SLOW_COMPLETE * (1 << tried)).await;
                }
                _ => return Err(failure),
            }
        }
        Err(comes_and_goes())
    }

    async fn completed(&self, upload: &Upload, key: &Key, known: &Capabilities) -> Result<Put, Failure> {
        self.note_put(key);
        match self.size_of(key).await? {
            Some(size) if size == upload.size => {
                Ok(if known.proves_parts() { Put::Proved } else { Put::Created })
            }
            Some(size) => Err(other_size(size, upload.size)),
            None => Err(Failure::broken("it is not there although its upload was completed")),
        }
    }

    async fn ask_to_complete(&self, upload: &Upload, create_only: bool) -> Result<Reply, Failure> {
        let mut text =
            String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for (number, part) in &upload.parts {
            let _ = write!(text, "<Part><ETag>{}</ETag>", escape(&part.etag));
            if part.checksum_said {
                let _ = write!(
                    text,
                    "<ChecksumSHA256>{}</ChecksumSHA256>",
                    BASE64.encode(part.sha256.as_bytes())
                );
            }
            let _ = write!(text, "<PartNumber>{number}</PartNumber></Part>");
        }
        text.push_str("</CompleteMultipartUpload>");
        let sha256 = ObjectId::of(text.as_bytes());
        let call = Call::new(Method::POST, &upload.path).query("uploadId", upload.upload_id.as_str());
        let call = call.header("content-type", "application/xml").body(Bytes::from(text), sha256);
        let call = call.expects("CompleteMultipartUploadResult");
        if create_only {
            match self.client.run(&call.clone().header("if-none-match", "*")).await {
                // Honoured for one request, not known here.
                Err(e) if matches!(e.status, 400 | 501) && !e.uncertain || e.status == 501 => {}
                other => return other,
            }
        }
        self.client.run(&call).await
    }

    /// Ends an upload and frees its parts; one that is not there is no error.
    pub(super) async fn abort(&self, path: &str, upload_id: &str) -> Result<(), Failure> {
        let call = Call::new(Method::DELETE, path).query("uploadId", upload_id);
        match self.client.run(&call).await {
            Err(e) if e.is_absent() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Ends uploads of this machine that nobody went on with. Once in the life of a store object, whatever is put first; trouble is left for the next.
    pub(super) async fn sweep_remembered(&self) {
        let sweep = async {
            Upload::sweep(&self.spec);
            for upload in Upload::stale(&self.spec, self.client.transport().timer().unix()) {
                if self.abort(&upload.path, &upload.upload_id).await.is_ok() {
                    upload.forget(&self.spec);
                }
            }
        };
        self.swept.get_or_init(|| sweep).await;
    }
}

/// True for a failure after which the same upload may be gone on with.
fn may_go_on(failure: &Failure) -> bool {
    use StoreErrorKind as Kind;
    matches!(failure.kind, Kind::Unreachable | Kind::Denied | Kind::Interrupted)
}

fn part_call(upload: &Upload, number: u32, body: Body, sha256: ObjectId) -> Call {
    let call = Call::new(Method::PUT, &upload.path).query("partNumber", number.to_string());
    let call = call.query("uploadId", upload.upload_id.as_str()).sending(body, sha256);
    if upload.checksum { call.checksummed() } else { call }
}

async fn send_part(client: &Client, call: Call, number: u32, sha256: ObjectId) -> Sent {
    let reply = client.run(&call).await?;
    let etag =
        reply.header("etag").ok_or_else(|| Failure::broken("the server did not say that it took a part"))?;
    let said = reply.header("x-amz-checksum-sha256");
    if said.is_some_and(|said| said != BASE64.encode(sha256.as_bytes())) {
        return Err(Failure::broken("the server computed another SHA-256 for a part than we did"));
    }
    Ok((number, Part { etag: etag.to_owned(), sha256, checksum_said: said.is_some() }))
}

/// Where a part begins, and how many bytes it has.
fn place_of(upload: &Upload, number: u32) -> (u64, u64) {
    let from = u64::from(number - 1) * upload.part_size;
    (from, upload.part_size.min(upload.size - from))
}

/// The hash of a part, which `whole` takes up, too.
fn hash_part(file: &File, (from, size): (u64, u64), whole: &mut Context) -> Result<ObjectId, Failure> {
    let mut part = Context::new(&SHA256);
    let mut step = vec![0; usize::try_from(STEP.min(size)).unwrap_or(0)];
    for at in (from..from + size).step_by(STEP as usize) {
        let length = usize::try_from(STEP.min(from + size - at)).unwrap_or(step.len());
        let read = file.read_exact_at(&mut step[..length], at);
        read.map_err(|e| Failure::new(StoreErrorKind::Other, "the spooled file cannot be read").because(e))?;
        part.update(&step[..length]);
        whole.update(&step[..length]);
    }
    Ok(ObjectId::of_all(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_16_mib_until_there_would_be_more_than_ten_thousand() {
        assert_eq!(part_size(PART + 1), PART);
        assert_eq!(part_size(PART * MAX_PARTS), PART);
        for size in [PART * MAX_PARTS + 1, 1 << 40, 5 << 40] {
            let part = part_size(size);
            assert!(
                part > PART && size.div_ceil(part) <= MAX_PARTS && part.is_multiple_of(1 << 20),
                "{size} {part}"
            );
        }
    }

    #[test]
    fn parts_of_all_objects_take_64_mib_together_or_are_one() {
        for size in [PART, PART + (1 << 20), 2 * PART, 3 * PART, 4 * PART, 40 * PART] {
            let together = u64::from(IN_FLIGHT / weight(size)) * size;
            assert!(together <= 4 * PART || weight(size) == IN_FLIGHT, "{size}");
            assert!(weight(size) >= 1 && weight(size) <= IN_FLIGHT);
        }
        assert_eq!(weight(PART), 1);
    }
}
