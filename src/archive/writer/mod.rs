//! Writing an archive: tar members in, a sealed object out.

mod output;
mod pipeline;

use crate::archive::about::{ABOUT_PATH, About};
use crate::archive::error::ArchiveError;
use crate::archive::frames::CONTENT_MAX;
use crate::archive::pax::{self, BLOCK, Member, MemberKind};
use crate::archive::pool::Pool;
use crate::keys::RecipientSet;
use crate::model::ObjectId;
use crate::model::manifest::ArchiveInfo;
use crate::model::path::escape;
use pipeline::Pipeline;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A frame with at least this much in it is ended before a member that would not fit in whole, so that small files lie in one frame.
const EARLY_CUT: usize = 1 << 20;
const ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// A finished archive in a local file, fsynced by [`ArchiveWriter::finish`]. The file is the caller's from now on; the folder was not fsynced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedArchive {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its bytes: its name in a store.
    pub id: ObjectId,
    /// Its size in bytes.
    pub size: u64,
    /// What readers must know of it, with all its frames.
    pub info: ArchiveInfo,
    /// BLAKE3 of what is sealed in it, where that was asked for: the same for the same members packed in the same way.
    pub inside: Option<blake3::Hash>,
}

/// A member of which data is still to come.
struct OpenMember {
    path: Vec<u8>,
    size: u64,
    left: u64,
}

/// Packs members into one archive; compression and sealing run on a pool.
///
/// Members are given by [`begin`](Self::begin), [`data`](Self::data) and [`end`](Self::end), in the order in which they are to lie.
/// Memory is bounded: about 10 MiB for every thread of the pool and 20 more. Dropped without [`finish`](Self::finish) it removes its file.
/// It must not be used by a job of the same pool.
pub struct ArchiveWriter {
    pipeline: Pipeline,
    member: Option<OpenMember>,
    header: Vec<u8>,
}

impl ArchiveWriter {
    /// Begins an archive in a new file in `dir` (mode 0600, a name that nobody can guess, ending in `.partial`), compressed at zstd's
    /// `level`. Its first member says what it is.
    pub fn create(
        dir: &Path,
        about: &About,
        recipients: &RecipientSet,
        pool: &Arc<Pool>,
        level: i32,
    ) -> Result<Self, ArchiveError> {
        let pipeline = Pipeline::create(dir, recipients, pool, level)?;
        let mut writer = Self { pipeline, member: None, header: Vec::new() };
        let line =
            about.encode().map_err(|_| ArchiveError::Misuse("an archive's own line cannot be written"))?;
        writer.begin(&Member {
            path: ABOUT_PATH,
            kind: MemberKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            user: None,
            group: None,
            mtime: (0, 0),
            size: line.len() as u64,
            target: None,
            dev: None,
            xattrs: &BTreeMap::new(),
            sparse: None,
        })?;
        writer.data(&line)?;
        writer.end()?;
        Ok(writer)
    }

    /// Also hashes what is sealed, for [`SealedArchive::inside`]. To be called before any member is begun.
    #[must_use]
    pub fn hashing_inside(mut self) -> Self {
        self.pipeline.hash_inside();
        self
    }

    /// What comes is packed with this level of zstd, or the higher one that its frame has already.
    pub fn set_level(&mut self, level: i32) {
        self.pipeline.set_level(level);
    }

    /// Length of the tar stream so far, without the blocks that will end it.
    pub fn tar_len(&self) -> u64 {
        self.pipeline.tar_len()
    }

    /// About how large the object would be if it ended here: what is not compressed yet is reckoned at the ratio of what is.
    pub fn packed_len(&self) -> u64 {
        self.pipeline.packed_len()
    }

    /// Begins a member; gives the tar offset at which its data will begin (of a sparse file behind its map). An
    /// [`ArchiveError::Unstorable`] member leaves the archive as it was.
    pub fn begin(&mut self, member: &Member<'_>) -> Result<u64, ArchiveError> {
        if self.member.is_some() {
            return Err(ArchiveError::Misuse("a tar member was begun before the last was ended"));
        }
        self.header.clear();
        pax::encode(member, &mut self.header)?;
        let buffered = self.pipeline.buffered();
        let whole = (self.header.len() + pax::padding(member.size)) as u64;
        let fits = whole.saturating_add(member.size) <= (CONTENT_MAX - buffered) as u64;
        if buffered >= EARLY_CUT && !fits {
            self.pipeline.cut()?;
        }
        self.pipeline.push(&self.header)?;
        let (path, size) = (member.path.to_vec(), member.size);
        self.member = Some(OpenMember { path, size, left: size });
        Ok(self.tar_len())
    }

    /// Adds data of the member. More than was announced is an [`ArchiveError::Length`], and nothing of it is taken.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let member = self.member.as_mut().ok_or(NO_MEMBER)?;
        match member.left.checked_sub(bytes.len() as u64) {
            Some(left) => member.left = left,
            None => return Err(member.wrong_length(bytes.len() as u64)),
        }
        self.pipeline.push(bytes)
    }

    /// Ends the member. With less data than was announced this is an [`ArchiveError::Length`]; the member stays open for more of it, or for
    /// [`pad_rest`](Self::pad_rest).
    pub fn end(&mut self) -> Result<(), ArchiveError> {
        let member = self.member.as_ref().ok_or(NO_MEMBER)?;
        if member.left > 0 {
            return Err(member.wrong_length(0));
        }
        let padding = pax::padding(member.size);
        self.pipeline.push(&ZEROS[..padding])?;
        self.member = None;
        Ok(())
    }

    /// Fills the member up with zeros: for a file that shrank while it was read. It is still to be ended.
    pub fn pad_rest(&mut self) -> Result<(), ArchiveError> {
        let member = self.member.as_mut().ok_or(NO_MEMBER)?;
        let mut left = std::mem::take(&mut member.left);
        while left > 0 {
            let now = left.min(ZEROS.len() as u64);
            self.pipeline.push(&ZEROS[..now as usize])?;
            left -= now;
        }
        Ok(())
    }

    /// Ends the archive: the tar stream's end, the seek table, the last age chunk, fsync.
    pub fn finish(self) -> Result<SealedArchive, ArchiveError> {
        self.end_archive(true)
    }

    /// The same without fsync: for a file that is sent elsewhere and then removed, and means nothing after a crash.
    pub fn finish_passing(self) -> Result<SealedArchive, ArchiveError> {
        self.end_archive(false)
    }

    fn end_archive(mut self, durable: bool) -> Result<SealedArchive, ArchiveError> {
        if self.member.is_some() {
            return Err(ArchiveError::Misuse("an archive was finished within a tar member"));
        }
        self.pipeline.push(&ZEROS[..2 * BLOCK])?;
        self.pipeline.finish(durable)
    }
}

const NO_MEMBER: ArchiveError = ArchiveError::Misuse("data came for no tar member");

impl OpenMember {
    fn wrong_length(&self, more: u64) -> ArchiveError {
        let given = (self.size - self.left).saturating_add(more);
        ArchiveError::Length { path: escape(&self.path), announced: self.size, given }
    }
}

#[cfg(test)]
mod tests;
