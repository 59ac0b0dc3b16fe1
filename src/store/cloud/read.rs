//! Reading, a range at a time: a range that breaks off is asked for again, whole.

use super::CloudStore;
use super::fault::failure;
use crate::model::ObjectId;
use crate::store::s3::failure::Failure;
use crate::store::{Key, StoreErrorKind};
use object_store::path::Path as Place;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use ring::digest::{Context, SHA256};

/// Bytes asked for at once.
const STEP: u64 = 8 << 20;
/// Room is made for no more than this before bytes come: lengths are from manifests, and what they ask for need not exist.
const MAX_RESERVE: u64 = 16 << 20;

fn short(offset: u64, length: u64, size: u64) -> Failure {
    let text = format!("{length} bytes from {offset} were asked for, and it has {size}");
    Failure::new(StoreErrorKind::Corrupt, text)
}

impl CloudStore {
    /// The object's size, `None` when the service says that it is not there.
    pub(super) async fn size_of(&self, key: &Key) -> Result<Option<u64>, Failure> {
        match self.remote.head(&self.place(key)?).await.map_err(failure) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn size_or_none(&self, key: &Key) -> Result<u64, Failure> {
        let size = self.size_of(key).await?;
        size.ok_or_else(|| Failure::new(StoreErrorKind::NotFound, "it is not there"))
    }

    pub(super) async fn bytes_of(&self, key: &Key, max: u64) -> Result<Vec<u8>, Failure> {
        let size = self.size_or_none(key).await?;
        if size > max {
            let text = format!("it has more than the {max} bytes that were expected");
            return Err(Failure::new(StoreErrorKind::Corrupt, text));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size.min(MAX_RESERVE)).unwrap_or(0));
        self.read(key, 0, size, &mut |piece| bytes.extend_from_slice(piece)).await?;
        Ok(bytes)
    }

    pub(super) async fn range_of(&self, key: &Key, offset: u64, length: u64) -> Result<Vec<u8>, Failure> {
        if offset.checked_add(length).is_none() {
            return Err(short(offset, length, u64::MAX));
        }
        if length == 0 {
            let size = self.size_or_none(key).await?;
            return if offset <= size { Ok(Vec::new()) } else { Err(short(offset, 0, size)) };
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length.min(MAX_RESERVE)).unwrap_or(0));
        let read = self.read(key, offset, length, &mut |piece| bytes.extend_from_slice(piece)).await;
        match read {
            Ok(()) => Ok(bytes),
            Err(e) if e.kind == StoreErrorKind::NotFound => Err(e),
            // Services and libraries have many words for a range beyond the end; the size tells.
            Err(e) => match self.size_of(key).await? {
                Some(size) if offset + length > size => Err(short(offset, length, size)),
                _ => Err(e),
            },
        }
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
        let size = self.size_or_none(key).await?;
        let mut context = Context::new(&SHA256);
        let mut take = |piece: &[u8]| {
            context.update(piece);
            seen(piece.len() as u64);
        };
        self.read(key, 0, size, &mut take).await?;
        Ok((size, ObjectId::of_all(context)))
    }

    /// Gives exactly `length` bytes from `offset` to `sink`.
    async fn read(
        &self,
        key: &Key,
        offset: u64,
        length: u64,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let place = self.place(key)?;
        let mut done = 0;
        while done < length {
            let (from, count) = (offset + done, STEP.min(length - done));
            let bytes = self.piece(&place, from, count).await?;
            if bytes.len() as u64 != count {
                return Err(short(from, count, from + bytes.len() as u64));
            }
            sink(&bytes);
            done += count;
        }
        Ok(())
    }

    async fn piece(&self, place: &Place, from: u64, count: u64) -> Result<bytes::Bytes, Failure> {
        let options =
            GetOptions { range: Some(GetRange::Bounded(from..from + count)), ..GetOptions::default() };
        let answer = self.remote.get_opts(place, options).await.map_err(failure)?;
        answer.bytes().await.map_err(failure)
    }
}
