//! What a server still has of an upload that this machine remembers.
//!
//! Asked with requests that have no body, before anything is sent: a server that refuses a part may close the connection before it has read it, and its
//! answer is then lost. What it lists only ever makes us send more, or begin anew; that the object is there is proved when it is complete.

use crate::model::ObjectId;
use crate::store::StoreErrorKind;
use crate::store::s3::S3Store;
use crate::store::s3::capabilities::Capabilities;
use crate::store::s3::client::{Call, Patience};
use crate::store::s3::failure::Failure;
use crate::store::s3::list::{circles, is_truncated};
use crate::store::s3::uploads::{Part, Upload};
use crate::store::s3::xml::Element;
use bytes::Bytes;
use data_encoding::BASE64;
use http::Method;

/// A part as a server lists it.
pub(super) struct Listed {
    number: u32,
    pub(super) size: Option<u64>,
    etag: Option<String>,
    sha256: Option<ObjectId>,
}

/// What became of an upload.
enum Remains {
    /// It is gone, or nothing of it is there: beginning anew costs no more.
    Gone,
    Parts(Vec<Listed>),
    /// The server does not know the question, or does not let us ask.
    Unknown,
}

impl S3Store {
    /// `upload`, with those of its parts that the server has, when it still lives as far as can be told.
    pub(super) async fn go_on_with(&self, mut upload: Upload) -> Result<Option<Upload>, Failure> {
        match self.remains_of(&upload).await? {
            Remains::Gone => return Ok(None),
            Remains::Unknown => {}
            Remains::Parts(listed) => reconcile(&mut upload, &listed),
        }
        Ok(Some(upload))
    }

    /// Whether `upload` is gone, of which a part could not be sent.
    pub(super) async fn is_gone(&self, upload: &Upload, known: &Capabilities) -> bool {
        match self.remains_of(upload).await {
            Ok(Remains::Gone) => true,
            Ok(Remains::Parts(_)) | Err(_) => false,
            Ok(Remains::Unknown) => self.refuses_an_empty_part(upload, known).await,
        }
    }

    async fn remains_of(&self, upload: &Upload) -> Result<Remains, Failure> {
        match self.listed_parts(&upload.path, &upload.upload_id).await {
            // Some servers say this of uploads that they never heard of.
            Ok(listed) if listed.is_empty() => Ok(Remains::Gone),
            Ok(listed) => Ok(Remains::Parts(listed)),
            // Only in these words: without them, "not found" may be about the object.
            Err(e) if e.code == "NoSuchUpload" => Ok(Remains::Gone),
            Err(e) if is_no_answer(&e) => Err(e),
            Err(_) => Ok(Remains::Unknown),
        }
    }

    /// An empty part, in the place of one that is not remembered and will be put over it.
    async fn refuses_an_empty_part(&self, upload: &Upload, known: &Capabilities) -> bool {
        let Some(number) = (1..=upload.count()).find(|number| !upload.parts.contains_key(number)) else {
            return false;
        };
        let call = self.part_call(upload, number, Bytes::new(), ObjectId::of(b""), known);
        // As for parts with something in them: a want of rights is what some servers say of uploads that are gone.
        self.client.run(&call).await.is_err_and(|e| matches!(e.status, 403 | 404))
    }

    /// The parts that the server has of an upload.
    pub(super) async fn listed_parts(&self, path: &str, upload_id: &str) -> Result<Vec<Listed>, Failure> {
        let (mut found, mut last) = (Vec::new(), 0);
        loop {
            let call = Call::new(Method::GET, path).query("uploadId", upload_id);
            let call = call.query("part-number-marker", last.to_string()).expects("ListPartsResult");
            let page = self.ask_for_parts(&call).await?;
            let before = last;
            for part in page.all("Part") {
                let part = listed(part)?;
                last = last.max(part.number);
                found.push(part);
            }
            if !is_truncated(&page) {
                return Ok(found);
            }
            if last == before {
                return Err(circles());
            }
        }
    }

    async fn ask_for_parts(&self, call: &Call) -> Result<Element, Failure> {
        let mut patience = Patience::new(&self.client);
        loop {
            match self.client.whole(call).await {
                Ok(reply) => return Ok(reply.xml),
                // A server that does not know the question may say anything: once more, for an answer that was cut short.
                Err(e) if e.status == 200 => return self.client.whole(call).await.map(|reply| reply.xml),
                Err(e) => patience.again(e).await?,
            }
        }
    }
}

/// True when nothing can be concluded, and no part could be sent either.
fn is_no_answer(failure: &Failure) -> bool {
    match failure.kind {
        StoreErrorKind::Unreachable => failure.status != 200,
        kind => kind == StoreErrorKind::Interrupted,
    }
}

fn listed(part: &Element) -> Result<Listed, Failure> {
    let number = part.text_of("PartNumber").and_then(|text| text.parse().ok());
    let number = number.ok_or_else(|| Failure::broken("the server lists a part without its number"))?;
    let sha256 = part.text_of("ChecksumSHA256").and_then(|text| BASE64.decode(text.as_bytes()).ok());
    let sha256 = sha256.and_then(|bytes| Some(ObjectId(bytes.try_into().ok()?)));
    let size = part.text_of("Size").and_then(|text| text.parse().ok());
    let etag = part.text_of("ETag").filter(|etag| !etag.is_empty()).map(str::to_owned);
    Ok(Listed { number, size, etag, sha256 })
}

/// Leaves of the parts that are remembered those that the server lists as they were sent, and adds those that it has and that nobody noted: they
/// arrived when this machine stopped. These by their SHA-256 alone, which is compared with the bytes before a part is left out.
fn reconcile(upload: &mut Upload, listed: &[Listed]) {
    let length = |number: u32| upload.length(number);
    let fits = |listed: &Listed| listed.size.is_none_or(|size| Some(size) == length(listed.number));
    let (there, sends_checksum) = (listed.iter().filter(|l| fits(l)).collect::<Vec<_>>(), upload.checksum);
    let kept = upload.parts.iter().filter(|(number, part)| {
        there.iter().any(|listed| listed.number == **number && is_same(listed, part))
    });
    let mut kept: std::collections::BTreeMap<u32, Part> =
        kept.map(|(number, part)| (*number, part.clone())).collect();
    for listed in there.iter().filter(|listed| sends_checksum && listed.size.is_some()) {
        if let (Some(sha256), Some(etag)) = (listed.sha256, &listed.etag) {
            let part = Part { etag: etag.clone(), sha256, checksum_said: true };
            kept.entry(listed.number).or_insert(part);
        }
    }
    upload.parts = kept;
}

fn is_same(listed: &Listed, part: &Part) -> bool {
    let bare = |etag: &str| etag.trim_matches('"').to_owned();
    listed.etag.as_ref().is_none_or(|etag| bare(etag) == bare(&part.etag))
        && listed.sha256.is_none_or(|sha256| sha256 == part.sha256)
}
