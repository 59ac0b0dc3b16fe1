//! One component's archives: members go in, full archives are handed over to be sealed and put while the next is filled.

use crate::archive::pax::Member;
use crate::archive::{About, ArchiveError, ArchiveWriter, Pool};
use crate::config::Packing;
use crate::keys::RecipientSet;
use crate::model::entry::MAP_RANGE;
use crate::model::manifest::ArchiveInfo;
use crate::model::{Extent, ObjectId, Progress};
use crate::ops::backup::uploads::{Uploads, cannot_pack};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::interrupt::Interrupt;
use crossbeam_channel::Receiver;
use std::path::Path;
use std::sync::Arc;

/// A stretch of a file, in an archive that has no name yet: `archive` counts this component's archives of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LocalExtent {
    pub(super) offset: u64,
    pub(super) archive: usize,
    pub(super) tar_offset: u64,
    pub(super) length: u64,
}

/// What packers of one run share.
#[derive(Clone)]
pub(super) struct PackRun<'a> {
    /// Where finished objects go.
    pub(super) uploads: &'a Uploads,
    /// Where archives are prepared: with a folder as store, in that folder.
    pub(super) spool: &'a Path,
    /// Where what is not sealed yet is kept for a while: always on this machine. Whoever can read the store must not be able to read it.
    pub(super) scratch: &'a Path,
    pub(super) recipients: &'a RecipientSet,
    pub(super) pool: &'a Arc<Pool>,
    pub(super) level: i32,
    pub(super) progress: &'a dyn Progress,
    pub(super) interrupt: &'a Interrupt,
}

/// zstd's level for changed blocks where all else is packed with `usual`. They are few beside what was read to find them, and stay for as long as anything refers
/// to them: one level above the default takes a sixth more time for them and makes them four hundredths smaller (docs/performance.md). Who chose another level
/// gets that.
pub(super) fn level_of_changes(usual: i32) -> i32 {
    if usual == Packing::default().level { usual + 1 } else { usual }
}

/// Packs one component.
pub(super) struct Packer<'a> {
    pub(super) run: PackRun<'a>,
    level: i32,
    about: About,
    /// An archive is sealed once it is this long; a larger file is laid over several.
    pub(super) archive_size: u64,
    current: Option<ArchiveWriter>,
    /// Where the names of those that are full will be heard.
    sealed: Vec<Receiver<ArchiveInfo>>,
}

/// Bounds of what one archive is to hold; see the design.
const ARCHIVE_SIZE_MIN: u64 = 32 << 20;
const ARCHIVE_SIZE_MAX: u64 = 1 << 30;

/// The size at which the archives of a component are sealed: what is configured, else a 256th of it, so that packing and uploading overlap and lists stay short.
pub(super) fn archive_size(configured: Option<u64>, component_bytes: u64) -> u64 {
    configured.unwrap_or_else(|| (component_bytes / 256).clamp(smallest(), ARCHIVE_SIZE_MAX))
}

/// In debug builds a test may set another lower bound, in bytes, so that its component need not have gigabytes.
fn smallest() -> u64 {
    #[cfg(debug_assertions)]
    if let Some(bytes) = std::env::var("BACKSTAY_TEST_ARCHIVE_MIN").ok().and_then(|n| n.parse().ok()) {
        return bytes;
    }
    ARCHIVE_SIZE_MIN
}

/// What counts as a whole archive when small ones are folded. Where archives are larger than they must be, one of this size is worth its request all the same.
pub(super) fn whole_archive(configured: Option<u64>) -> u64 {
    configured.unwrap_or(ARCHIVE_SIZE_MIN).min(ARCHIVE_SIZE_MIN)
}

impl<'a> Packer<'a> {
    pub(super) fn new(run: PackRun<'a>, about: About, archive_size: u64) -> Self {
        let level = run.level;
        Self { run, level, about, archive_size, current: None, sealed: Vec::new() }
    }

    /// What comes is packed with this level of zstd, or the higher one that its frame has already.
    pub(super) fn set_level(&mut self, level: i32) {
        self.level = level;
        if let Some(writer) = &mut self.current {
            writer.set_level(level);
        }
    }

    /// The component's name.
    pub(super) fn component(&self) -> &str {
        self.about.component.as_str()
    }

    fn failed(&self, error: ArchiveError) -> OpError {
        cannot_pack(self.component(), error)
    }

    /// Begins a member; gives the archive's place in the run and the tar offset of the member's data.
    pub(super) fn begin(&mut self, member: &Member<'_>) -> Result<(usize, u64)> {
        self.run.interrupt.check()?;
        if self.current.as_ref().is_some_and(|w| w.packed_len() >= self.archive_size) {
            self.seal()?;
        }
        if self.current.is_none() {
            let run = &self.run;
            let writer = ArchiveWriter::create(run.spool, &self.about, run.recipients, run.pool, self.level);
            let writer = writer.map_err(|e| self.failed(e))?;
            self.current = Some(if run.uploads.keeps() { writer.hashing_inside() } else { writer });
        }
        let archive = self.sealed.len();
        let begun = match &mut self.current {
            Some(writer) => writer.begin(member),
            None => return Err(OpError::new(Class::Failed, "internal: no archive is open")),
        };
        Ok((archive, begun.map_err(|e| self.failed(e))?))
    }

    fn with_writer(
        &mut self,
        act: impl FnOnce(&mut ArchiveWriter) -> std::result::Result<(), ArchiveError>,
    ) -> Result<()> {
        let Some(writer) = &mut self.current else {
            return Err(OpError::new(Class::Failed, "internal: no member is begun"));
        };
        let done = act(writer);
        done.map_err(|e| self.failed(e))
    }

    /// Bytes of the member that was begun.
    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.run.interrupt.check()?;
        self.run.progress.advance(bytes.len() as u64);
        self.with_writer(|w| w.data(bytes))
    }

    /// Bytes that belong to the member, but are no content.
    pub(super) fn plain(&mut self, bytes: &[u8]) -> Result<()> {
        self.with_writer(|w| w.data(bytes))
    }

    /// Ends the member; what is missing of it is filled with zeros, which no extent will cover.
    pub(super) fn end(&mut self, short: bool) -> Result<()> {
        if short {
            self.with_writer(ArchiveWriter::pad_rest)?;
        }
        self.with_writer(ArchiveWriter::end)
    }

    /// Lets the archive be ended and put, while the next is filled.
    fn seal(&mut self) -> Result<()> {
        let Some(writer) = self.current.take() else {
            return Ok(());
        };
        self.sealed.push(self.run.uploads.archive(self.about.component.as_str(), writer)?);
        Ok(())
    }

    /// Ends what is open and gives all archives in order, some of which may still be on their way.
    pub(super) fn finish(mut self) -> Result<Vec<ArchiveInfo>> {
        self.seal()?;
        self.sealed.iter().map(|sealed| self.run.uploads.info(sealed)).collect()
    }
}

/// Extents with their archives' names, cut at multiples of [`MAP_RANGE`] of the file.
pub(super) fn resolve(local: &[LocalExtent], names: &[ObjectId]) -> Result<Vec<Extent>> {
    let mut extents = Vec::with_capacity(local.len());
    for stretch in local {
        let archive = names.get(stretch.archive).copied();
        let archive =
            archive.ok_or_else(|| OpError::new(Class::Failed, "internal: an extent in no archive"))?;
        let (mut offset, mut tar_offset, mut left) = (stretch.offset, stretch.tar_offset, stretch.length);
        while left > 0 {
            let length = left.min(MAP_RANGE - offset % MAP_RANGE);
            extents.push(Extent { offset, archive, tar_offset, length });
            (offset, tar_offset, left) = (offset + length, tar_offset + length, left - length);
        }
    }
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_cut_at_multiples_of_256_mib_of_the_file() {
        let archive = ObjectId::of(b"a");
        let local =
            LocalExtent { offset: MAP_RANGE - 10, archive: 0, tar_offset: 512, length: MAP_RANGE + 20 };
        let extents = resolve(&[local], &[archive]).unwrap();
        let rows: Vec<_> = extents.iter().map(|e| (e.offset, e.tar_offset, e.length)).collect();
        assert_eq!(
            rows,
            [(MAP_RANGE - 10, 512, 10), (MAP_RANGE, 522, MAP_RANGE), (2 * MAP_RANGE, 522 + MAP_RANGE, 10)]
        );
        assert!(resolve(&[local], &[]).is_err());
    }

    #[test]
    fn archives_are_a_256th_of_the_component_within_bounds() {
        assert_eq!(archive_size(None, 0), 32 << 20);
        assert_eq!(archive_size(None, 16 << 30), 64 << 20);
        assert_eq!(archive_size(None, 1 << 50), 1 << 30);
        assert_eq!(archive_size(Some(5 << 20), 16 << 30), 5 << 20);
    }

    #[test]
    fn large_archives_need_not_be_half_full_to_stay() {
        assert_eq!(whole_archive(None), 32 << 20);
        assert_eq!(whole_archive(Some(1 << 20)), 1 << 20);
        assert_eq!(whole_archive(Some(4 << 30)), 32 << 20);
    }
}
