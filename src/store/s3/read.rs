//! Reading: whole objects, ranges and sizes. A body that breaks off is taken up where it broke.

use crate::model::ObjectId;
use crate::store::s3::S3Store;
use crate::store::s3::client::{Call, Patience};
use crate::store::s3::failure::Failure;
use crate::store::s3::transport::Answer;
use crate::store::{Key, StoreErrorKind, Version};
use http::Method;
use ring::digest::{Context, SHA256};
use std::time::Duration;

/// After so many bytes, what breaks next is a new trouble and not the old one.
const PROGRESS: u64 = 1 << 20;
/// For so long after a put, "not found" may be an old answer.
const FRESH: Duration = Duration::from_secs(60);
const FRESH_TRIES: u32 = 6;
const FIRST_LOOK: Duration = Duration::from_millis(250);
/// Room is made for no more than this before bytes come: lengths are from manifests, and what they ask for need not exist.
const MAX_RESERVE: u64 = 16 << 20;

type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Failure>;

/// How far a read has come.
struct Reading {
    offset: u64,
    /// Bytes wanted; `None` for all there are.
    length: Option<u64>,
    done: u64,
    /// The object's whole size, once the server has said it.
    size: Option<u64>,
    /// The version that is read; `None` for the present one.
    version: Option<String>,
}

impl S3Store {
    /// The object's size, `None` when the server says that it is not there.
    pub(super) async fn size_of(&self, key: &Key) -> Result<Option<u64>, Failure> {
        if self.picked.is_some() {
            return match self.version_to_read(key) {
                Ok(version) => Ok(version.map(|version| version.size)),
                Err(e) if e.is_absent() => Ok(None),
                Err(e) => Err(e),
            };
        }
        let call = Call::new(Method::HEAD, &self.path(key));
        let mut looks = 0;
        let reply = loop {
            match self.client.run(&call).await {
                Ok(reply) => break reply,
                Err(e) if e.is_absent() && self.may_be_late(key, &mut looks).await => {}
                Err(e) if e.is_absent() => return Ok(None),
                Err(e) => return Err(e),
            }
        };
        let size = reply.header("content-length").and_then(|text| text.parse().ok());
        size.map(Some).ok_or_else(|| Failure::broken("the server does not say how long it is"))
    }

    /// Notes that `key` was put just now.
    pub(super) fn note_put(&self, key: &Key) {
        let now = self.client.transport().timer().now();
        let mut fresh = self.fresh();
        fresh.retain(|_, put| now.saturating_sub(*put) < FRESH);
        fresh.insert(key.clone(), now);
    }

    /// Waits and says true when `key` was put so lately that an answer without it may be an old one.
    pub(super) async fn may_be_late(&self, key: &Key, looks: &mut u32) -> bool {
        if *looks == FRESH_TRIES || !self.fresh().contains_key(key) {
            return false;
        }
        self.client.transport().timer().pause(FIRST_LOOK * (1 << *looks)).await;
        *looks += 1;
        true
    }

    pub(super) async fn bytes_of(&self, key: &Key, max: u64) -> Result<Vec<u8>, Failure> {
        let first = self.bytes_once(key, max).await?;
        match key {
            // The way here may have done it: damage is believed only when it comes twice.
            Key::Archive(id) | Key::Manifest(id) if ObjectId::of(&first) != *id => {
                self.bytes_once(key, max).await
            }
            _ => Ok(first),
        }
    }

    async fn bytes_once(&self, key: &Key, max: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let mut take = |piece: &[u8]| {
            if (bytes.len() + piece.len()) as u64 > max {
                let text = format!("it has more than the {max} bytes that were expected");
                return Err(Failure::new(StoreErrorKind::Corrupt, text));
            }
            bytes.extend_from_slice(piece);
            Ok(())
        };
        self.read(key, 0, None, &mut take).await?;
        Ok(bytes)
    }

    pub(super) async fn range_of(&self, key: &Key, offset: u64, length: u64) -> Result<Vec<u8>, Failure> {
        let short = |size: u64| {
            let text = format!("{length} bytes from {offset} were asked for, and it has {size}");
            Failure::new(StoreErrorKind::Corrupt, text)
        };
        if offset.checked_add(length).is_none() {
            return Err(short(u64::MAX));
        }
        if length == 0 {
            return match self.size_of(key).await? {
                Some(size) if offset <= size => Ok(Vec::new()),
                Some(size) => Err(short(size)),
                None => Err(Failure::new(StoreErrorKind::NotFound, "it is not there")),
            };
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length.min(MAX_RESERVE)).unwrap_or(0));
        let mut take = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        self.read(key, offset, Some(length), &mut take).await?;
        Ok(bytes)
    }

    /// The same of one version.
    pub(super) async fn range_of_version(
        &self,
        key: &Key,
        version: &Version,
        offset: u64,
        length: u64,
    ) -> Result<Vec<u8>, Failure> {
        if length == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length.min(MAX_RESERVE)).unwrap_or(0));
        let mut take = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        let version = Some(version.id.clone());
        self.read_version(key, (offset, Some(length)), version, &mut take).await?;
        Ok(bytes)
    }

    pub(super) async fn hash_of(
        &self,
        key: &Key,
        seen: &mut dyn FnMut(u64),
    ) -> Result<(u64, ObjectId), Failure> {
        let first = self.hash_once(key, seen).await?;
        match key {
            // The way here may have done it: damage is said only when it comes twice.
            Key::Archive(id) | Key::Manifest(id) if first.1 != *id => self.hash_once(key, &mut |_| {}).await,
            _ => Ok(first),
        }
    }

    async fn hash_once(&self, key: &Key, seen: &mut dyn FnMut(u64)) -> Result<(u64, ObjectId), Failure> {
        let mut context = Context::new(&SHA256);
        let mut take = |piece: &[u8]| {
            context.update(piece);
            seen(piece.len() as u64);
            Ok(())
        };
        let size = self.read(key, 0, None, &mut take).await?;
        Ok((size, ObjectId::of_all(context)))
    }

    /// Reads `length` bytes (or all) from `offset` into `sink`, and says how many there were.
    async fn read(
        &self,
        key: &Key,
        offset: u64,
        length: Option<u64>,
        sink: Sink<'_>,
    ) -> Result<u64, Failure> {
        let version = self.version_to_read(key)?.map(|version| version.id.clone());
        self.read_version(key, (offset, length), version, sink).await
    }

    async fn read_version(
        &self,
        key: &Key,
        (offset, length): (u64, Option<u64>),
        version: Option<String>,
        sink: Sink<'_>,
    ) -> Result<u64, Failure> {
        let mut reading = Reading { offset, length, done: 0, size: None, version };
        let mut patience = Patience::new(&self.client);
        let mut looks = 0;
        loop {
            let before = reading.done;
            let failure = match self.read_on(key, &mut reading, sink).await {
                Ok(()) => return Ok(reading.done),
                Err(failure) => failure,
            };
            if failure.is_absent() && self.may_be_late(key, &mut looks).await {
                continue;
            }
            if reading.done - before >= PROGRESS {
                patience.renew();
            }
            patience.again(failure).await?;
        }
    }

    async fn read_on(&self, key: &Key, reading: &mut Reading, sink: Sink<'_>) -> Result<(), Failure> {
        let mut call = Call::new(Method::GET, &self.path(key));
        if let Some(version) = &reading.version {
            call = call.query("versionId", version.as_str());
        }
        let start = reading.offset + reading.done;
        match reading.length {
            Some(length) => {
                let last = reading.offset + length - 1;
                call = call.header("range", &format!("bytes={start}-{last}"));
            }
            None if start > 0 => call = call.header("range", &format!("bytes={start}-")),
            None => {}
        }
        let mut answer = self.client.attempt(&call).await.map_err(|e| beyond_end(e, start))?;
        let mut skip = reading.begin(&answer, start)?;
        while let Some(piece) = answer.next().await? {
            let from = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
            skip -= from as u64;
            let wanted = reading.length.map_or(u64::MAX, |length| length - reading.done);
            let count = usize::try_from(wanted).unwrap_or(usize::MAX).min(piece.len() - from);
            sink(&piece[from..from + count])?;
            reading.done += count as u64;
            if reading.length == Some(reading.done) {
                return Ok(());
            }
        }
        reading.ended()
    }
}

impl Reading {
    /// Looks at the head of an answer; gives how many bytes of its body come before those that are wanted.
    fn begin(&mut self, answer: &Answer, start: u64) -> Result<u64, Failure> {
        let asked = self.length.is_some() || start > 0;
        let range = answer.headers.get("content-range").and_then(|v| v.to_str().ok()).and_then(content_range);
        let (first, size) = match range {
            // Some servers say 200 and mean 206.
            Some((first, _, size)) if asked => (first, size),
            _ if answer.status == 206 => {
                return Err(Failure::broken("the server does not say which range it sent"));
            }
            // The whole object, although a part was asked for.
            _ => (0, answer.length()),
        };
        if first > start {
            return Err(Failure::broken("the server sent another range than it was asked for"));
        }
        if let (Some(before), Some(now)) = (self.size, size)
            && before != now
        {
            let text = "it changed while it was read";
            return Err(Failure::new(StoreErrorKind::Corrupt, text));
        }
        self.size = size.or(self.size);
        match (self.length, self.size) {
            (Some(length), Some(size)) if self.offset + length > size => Err(self.short(size)),
            _ => Ok(start - first),
        }
    }

    /// Judges the end of a body that ended as announced.
    fn ended(&self) -> Result<(), Failure> {
        match (self.length, self.size) {
            (None, Some(size)) if self.offset + self.done != size => {
                Err(Failure::broken(format!("the body ended after {} of {size} bytes", self.done)))
            }
            (Some(_), Some(_)) => Err(Failure::broken("the body ended before the range did")),
            (Some(_), None) => Err(self.short(self.offset + self.done)),
            (None, _) => Ok(()),
        }
    }

    fn short(&self, size: u64) -> Failure {
        let (length, offset) = (self.length.unwrap_or(0), self.offset);
        let text = format!("{length} bytes from {offset} were asked for, and it has {size}");
        Failure::new(StoreErrorKind::Corrupt, text)
    }
}

/// First and last byte, and the whole size if it is said, of `bytes 0-9/10`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, size.parse().ok()))
}

fn beyond_end(failure: Failure, start: u64) -> Failure {
    match failure.status {
        416 => Failure::new(StoreErrorKind::Corrupt, format!("it ends before byte {start}")),
        _ => failure,
    }
}
