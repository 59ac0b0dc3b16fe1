//! tar bytes → frames (compressed and checked on the pool) → age chunks (sealed on the pool) → file.
//!
//! Both kinds of work are queued in order and taken back in order; each queue has a limit, and over it the caller waits for the oldest. The
//! caller's thread hashes and writes. After an error nothing more is taken: a stream with a hole must never be finished.

use super::SealedArchive;
use super::output::Output;
use crate::archive::error::ArchiveError;
use crate::archive::frames::{self, CONTENT_MAX};
use crate::archive::payload::{Batch, Sealer};
use crate::archive::pool::{Pool, Ticket};
use crate::archive::workshop::{Block, Workshop};
use crate::keys::RecipientSet;
use crate::model::manifest::{ArchiveInfo, Frame};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

/// However many threads there are, no more frames are worked on than by this many: memory is bounded before speed.
const THREADS_MAX: usize = 8;

type Sealed = Result<Vec<u8>, ArchiveError>;

pub(super) struct Pipeline {
    output: Output,
    pool: Arc<Pool>,
    /// How many frames, and batches of chunks, may be under way.
    limit: usize,
    /// Buffers and contexts, shared by the archives of a pool.
    workshop: Arc<Workshop>,
    level: i32,
    /// The highest level that was asked for since the frame being filled was begun: that is what it gets, with all that shares it.
    level_of_block: i32,
    /// Its content is that of the frame being filled.
    block: Block,
    packing: VecDeque<Ticket<Result<Block, ArchiveError>>>,
    frames: Vec<Frame>,
    /// Tar bytes in blocks handed to the pool.
    cut: u64,
    /// Tar bytes in `frames`.
    framed: u64,
    /// Length of the age plaintext so far.
    plain: u64,
    /// Of that plaintext, where it is asked for.
    inside: Option<blake3::Hasher>,
    sealer: Sealer,
    batch: Batch,
    sealing: VecDeque<Ticket<Sealed>>,
    failed: bool,
}

impl Pipeline {
    pub(super) fn create(
        dir: &Path,
        recipients: &RecipientSet,
        pool: &Arc<Pool>,
        level: i32,
    ) -> Result<Self, ArchiveError> {
        let sealer = Sealer::new(recipients)?;
        let mut output = Output::create(dir)?;
        output.write(sealer.header())?;
        Ok(Self {
            output,
            pool: pool.clone(),
            limit: pool.threads().min(THREADS_MAX) + 2,
            workshop: Arc::clone(&pool.workshop),
            level,
            level_of_block: level,
            block: pool.workshop.block(),
            packing: VecDeque::new(),
            frames: Vec::new(),
            cut: 0,
            framed: 0,
            plain: 0,
            inside: None,
            sealer,
            batch: Batch::default(),
            sealing: VecDeque::new(),
            failed: false,
        })
    }

    /// Nothing was sealed yet: the first frame is cut when more members come.
    pub(super) fn hash_inside(&mut self) {
        self.inside = Some(blake3::Hasher::new());
    }

    pub(super) fn tar_len(&self) -> u64 {
        self.cut + self.block.content.len() as u64
    }

    /// Bytes in the frame being filled; always less than [`CONTENT_MAX`].
    pub(super) fn buffered(&self) -> usize {
        self.block.content.len()
    }

    pub(super) fn set_level(&mut self, level: i32) {
        self.level = level;
        let begun = !self.block.content.is_empty();
        self.level_of_block = if begun { self.level_of_block.max(level) } else { level };
    }

    pub(super) fn packed_len(&self) -> u64 {
        let pending = self.tar_len() - self.framed;
        let known =
            (self.framed > 0).then(|| u128::from(pending) * u128::from(self.plain) / u128::from(self.framed));
        let guess = known.and_then(|n| u64::try_from(n).ok()).unwrap_or(pending);
        self.sealer.header().len() as u64 + self.plain + guess
    }

    /// Adds tar bytes, cutting frames of exactly [`CONTENT_MAX`].
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        self.guard()?;
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(CONTENT_MAX - self.block.content.len()));
            self.block.content.extend_from_slice(now);
            bytes = rest;
            if self.block.content.len() == CONTENT_MAX {
                self.cut()?;
            }
        }
        Ok(())
    }

    /// Ends the frame being filled, if there is anything in it.
    pub(super) fn cut(&mut self) -> Result<(), ArchiveError> {
        self.guard()?;
        let cut = self.try_cut();
        self.remember(cut)
    }

    /// Brings everything into the file and ends it; `durable` makes it so.
    pub(super) fn finish(mut self, durable: bool) -> Result<SealedArchive, ArchiveError> {
        self.cut()?;
        while self.take_frame()? {}
        let table = frames::encode_seek_table(&self.frames)?;
        self.seal(&table)?;
        self.submit_batch(true)?;
        while self.take_sealed()? {}
        self.workshop.give_block(std::mem::take(&mut self.block));
        let size = self.output.size();
        let payload = self.sealer.header().len() as u64;
        let (path, id) = self.output.finish(durable)?;
        let info = ArchiveInfo { sha256: id, size, payload, tar: self.framed, frames: self.frames };
        let inside = self.inside.map(|hasher| hasher.finalize());
        Ok(SealedArchive { path, id, size, info, inside })
    }

    fn guard(&self) -> Result<(), ArchiveError> {
        match self.failed {
            true => Err(ArchiveError::Misuse("an archive was written to after an error")),
            false => Ok(()),
        }
    }

    fn remember<T>(&mut self, result: Result<T, ArchiveError>) -> Result<T, ArchiveError> {
        self.failed |= result.is_err();
        result
    }

    fn try_cut(&mut self) -> Result<(), ArchiveError> {
        if self.block.content.is_empty() {
            return Ok(());
        }
        while self.packing.len() >= self.limit && self.take_frame()? {}
        let block = std::mem::replace(&mut self.block, self.workshop.block());
        self.cut += block.content.len() as u64;
        let (workshop, level) =
            (Arc::clone(&self.workshop), std::mem::replace(&mut self.level_of_block, self.level));
        self.packing.push_back(self.pool.submit(move || workshop.pack(block, level)));
        Ok(())
    }

    /// Waits for the oldest frame and passes it on to be sealed; false when there is none.
    fn take_frame(&mut self) -> Result<bool, ArchiveError> {
        let Some(ticket) = self.packing.pop_front() else {
            return Ok(false);
        };
        let packed = ticket.wait()?.map_err(|e| self.about_this(e))?;
        let (length, tar_length) = (packed.frame.len() as u64, packed.content.len() as u64);
        self.frames.push(Frame { tar_offset: self.framed, offset: self.plain, length, tar_length });
        self.framed += tar_length;
        self.seal(&packed.frame)?;
        self.workshop.give_block(packed);
        Ok(true)
    }

    /// Adds to the age plaintext.
    fn seal(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        self.plain += bytes.len() as u64;
        if let Some(inside) = &mut self.inside {
            inside.update(bytes);
        }
        while !bytes.is_empty() {
            // Only when more comes is a full batch known not to be the last.
            if self.batch.is_full() {
                self.submit_batch(false)?;
            }
            bytes = self.batch.push(bytes);
        }
        Ok(())
    }

    fn submit_batch(&mut self, last: bool) -> Result<(), ArchiveError> {
        while self.sealing.len() >= self.limit && self.take_sealed()? {}
        let next = Batch::reuse(self.workshop.batch());
        let job = self.sealer.claim(std::mem::replace(&mut self.batch, next), last)?;
        self.sealing.push_back(self.pool.submit(move || job.seal()));
        Ok(())
    }

    /// Waits for the oldest sealed batch and writes it; false when there is none.
    fn take_sealed(&mut self) -> Result<bool, ArchiveError> {
        let Some(ticket) = self.sealing.pop_front() else {
            return Ok(false);
        };
        let sealed = ticket.wait()??;
        self.output.write(&sealed)?;
        self.workshop.give_batch(sealed);
        Ok(true)
    }

    fn about_this(&self, error: ArchiveError) -> ArchiveError {
        match error {
            ArchiveError::Frame { what, .. } => {
                ArchiveError::Frame { subject: self.output.path().display().to_string(), what }
            }
            other => other,
        }
    }
}
