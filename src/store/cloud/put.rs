//! Puts. What a put came to is certain before it is said: where the service's answer leaves it open, what is there is read.

use super::CloudStore;
use super::fault::failure;
use crate::model::ObjectId;
use crate::store::buffers::Buffer;
use crate::store::remote::{
    There, not_its_name, open_spooled, other_size, read_spooled, remove_spooled, spooled, taken,
};
use crate::store::s3::failure::Failure;
use crate::store::{Key, Put, StoreErrorKind};
use bytes::Bytes;
use object_store::path::Path as Place;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use ring::digest::{Context, SHA256};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Bytes of a part, and of the largest object that goes in one request. Azure takes 50,000 parts, Google 10,000: 160 GB.
const PART: u64 = 16 << 20;
const MAX_PARTS: u64 = 10_000;

impl CloudStore {
    pub(super) async fn put_file_now(
        &self,
        key: &Key,
        path: &Path,
        size: u64,
        sha256: &ObjectId,
        over: bool,
    ) -> Result<Put, Failure> {
        let mut file = open_spooled(path, size)?;
        let put = if size <= PART {
            let bytes = read_spooled(&file, size, sha256)?;
            self.put_whole(key, bytes, *sha256, over).await?
        } else {
            self.put_in_parts(key, &mut file, size, sha256, over).await?
        };
        remove_spooled(path)?;
        Ok(put)
    }

    pub(super) async fn put_whole(
        &self,
        key: &Key,
        body: Bytes,
        sha256: ObjectId,
        over: bool,
    ) -> Result<Put, Failure> {
        let size = body.len() as u64;
        let mode = if over { PutMode::Overwrite } else { PutMode::Create };
        let put = self.remote.put_opts(&self.place(key)?, PutPayload::from(body), mode.into()).await;
        let Err(failed) = put.map_err(failure) else { return Ok(Put::Created) };
        if failed.kind != StoreErrorKind::Exists && !failed.uncertain {
            return Err(failed);
        }
        match self.compare(key, size, &sha256).await? {
            There::Same => Ok(Put::AlreadyThere),
            There::Other if over => Err(failed),
            There::Other => Err(taken()),
            There::Nothing => Err(failed),
        }
    }

    /// Nobody sees an upload before it is completed, and before that the SHA-256 of all that was read is compared with the name. It cannot be
    /// told to refuse what is there: that is looked for before, and a name of an archive belongs to its bytes alone.
    async fn put_in_parts(
        &self,
        key: &Key,
        file: &mut File,
        size: u64,
        sha256: &ObjectId,
        over: bool,
    ) -> Result<Put, Failure> {
        let place = self.place(key)?;
        if !over && self.size_of(key).await?.is_some() {
            match self.compare(key, size, sha256).await? {
                There::Same => return Ok(Put::AlreadyThere),
                There::Other => return Err(taken()),
                There::Nothing => {}
            }
        }
        let mut upload = self.remote.put_multipart(&place).await.map_err(failure)?;
        let sent = self.send_parts(&mut *upload, file, size, sha256).await;
        let failed = match sent {
            Ok(()) => match upload.complete().await.map_err(failure) {
                Ok(_) => return self.completed(&place, size).await,
                Err(failed) => failed,
            },
            Err(failed) => {
                let _gone_by_itself_one_day = upload.abort().await;
                return Err(failed);
            }
        };
        match self.compare(key, size, sha256).await? {
            There::Same => Ok(Put::AlreadyThere),
            _ => Err(failed),
        }
    }

    async fn send_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        file: &mut File,
        size: u64,
        sha256: &ObjectId,
    ) -> Result<(), Failure> {
        let part = size.div_ceil(MAX_PARTS).next_multiple_of(1 << 20).max(PART);
        let mut whole = Context::new(&SHA256);
        let mut left = size;
        while left > 0 {
            let length = part.min(left);
            let mut bytes = Buffer::of(usize::try_from(length).unwrap_or(0));
            file.read_exact(&mut bytes).map_err(spooled)?;
            whole.update(&bytes);
            upload.put_part(PutPayload::from(Bytes::from_owner(bytes))).await.map_err(failure)?;
            left -= length;
        }
        if ObjectId::of_all(whole) != *sha256 {
            return Err(not_its_name());
        }
        Ok(())
    }

    async fn completed(&self, place: &Place, size: u64) -> Result<Put, Failure> {
        let there = self.remote.head(place).await.map_err(failure)?.size;
        if there == size {
            return Ok(Put::Created);
        }
        Err(other_size(there, size))
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

    /// Reads what lies under `key`.
    pub(super) async fn compare(&self, key: &Key, size: u64, sha256: &ObjectId) -> Result<There, Failure> {
        There::of(self.hash_of(key, &mut |_| {}).await, size, sha256)
    }
}
