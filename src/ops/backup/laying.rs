//! Content that is all new, laid into members whose lengths are known before it is read: one member, or parts of at most an archive's size.

use crate::archive::pax::{Member, MemberKind, Sparse};
use crate::model::{Entry, Extent};
use crate::ops::backup::blocks::Sink;
use crate::ops::backup::content::{cut_into_parts, member, member_path, part, part_line, part_path};
use crate::ops::backup::packer::{LocalExtent, Packer};
use crate::ops::error::{Class, OpError, Result};
use std::collections::VecDeque;

/// Ranges of the file that go into one member, in order.
type Pairs = Vec<(u64, u64)>;

/// A member that is being written.
struct Open {
    /// What of the file is still to come.
    left: VecDeque<(u64, u64)>,
    archive: usize,
    /// Where in the tar stream its next byte goes.
    at: u64,
}

/// Is told the content in order, and writes it into the members that were planned.
pub(super) struct Laying<'p, 'a> {
    packer: &'p mut Packer<'a>,
    entry: &'p Entry,
    size: u64,
    ranges: &'p [(u64, u64)],
    /// Parts that are not begun; none where the file lies whole.
    parts: VecDeque<Pairs>,
    whole: bool,
    open: Option<Open>,
    extents: Vec<LocalExtent>,
    firsts: Vec<u64>,
}

impl<'p, 'a> Laying<'p, 'a> {
    /// For `size` bytes of `entry`, of which `ranges` hold data. Begins the member that says everything but the content.
    pub(super) fn begin(
        packer: &'p mut Packer<'a>,
        entry: &'p Entry,
        size: u64,
        ranges: &'p [(u64, u64)],
    ) -> Result<Self> {
        let bytes: u64 = ranges.iter().map(|r| r.1).sum();
        let whole = bytes <= packer.archive_size;
        let parts = if whole { Vec::new() } else { cut_into_parts(ranges, packer.archive_size) };
        let (extents, firsts) = (Vec::new(), Vec::new());
        let mut laying =
            Self { packer, entry, size, ranges, parts: parts.into(), whole, open: None, extents, firsts };
        laying.own()?;
        Ok(laying)
    }

    fn own(&mut self) -> Result<()> {
        let path = member_path(self.packer.component(), &self.entry.path);
        if !self.whole {
            self.packer.begin(&member(self.entry, MemberKind::File, &path))?;
            return self.packer.end(false);
        }
        let dense = self.ranges == [(0, self.size)] || self.size == 0;
        let sparse = (!dense).then_some(Sparse { real_size: self.size, ranges: self.ranges });
        let size = self.ranges.iter().map(|r| r.1).sum();
        let whole = Member { size, sparse, ..member(self.entry, MemberKind::File, &path) };
        let (archive, at) = self.packer.begin(&whole)?;
        self.open = Some(Open { left: self.ranges.iter().copied().collect(), archive, at });
        Ok(())
    }

    fn begin_part(&mut self) -> Result<()> {
        let mut pairs = self.parts.pop_front().ok_or_else(unplanned)?;
        let first = pairs.first().map_or(0, |p| p.0);
        let rest = pairs.clone();
        if self.parts.is_empty() && pairs.last().is_some_and(|p| p.0 + p.1 < self.size) {
            pairs.push((self.size, 0)); // where a sparse tail ends
        }
        let line = part_line(&pairs)?;
        let path = part_path(self.packer.component(), &self.entry.path, first);
        let size = line.len() as u64 + rest.iter().map(|p| p.1).sum::<u64>();
        let (archive, begun) = self.packer.begin(&Member { size, ..part(self.entry, &path) })?;
        self.packer.plain(&line)?;
        self.open = Some(Open { left: rest.into(), archive, at: begun + line.len() as u64 });
        self.firsts.push(first);
        Ok(())
    }

    fn write(&mut self, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.open.is_none() {
                self.begin_part()?;
            }
            let Some(Open { left, archive, at }) = &mut self.open else { return Err(unplanned()) };
            let planned = left.front_mut().filter(|planned| planned.0 == offset).ok_or_else(unplanned)?;
            let length = usize::try_from(planned.1).unwrap_or(usize::MAX).min(bytes.len());
            let (these, rest) = bytes.split_at(length);
            self.packer.data(these)?;
            let length = length as u64;
            let next = LocalExtent { offset, archive: *archive, tar_offset: *at, length };
            match self.extents.last_mut().filter(|last| follows(last, &next)) {
                Some(last) => last.length += length,
                None => self.extents.push(next),
            }
            *planned = (planned.0 + length, planned.1 - length);
            (*at, offset, bytes) = (*at + length, offset + length, rest);
            if planned.1 == 0 {
                left.pop_front();
            }
            if left.is_empty() && !self.whole {
                self.open = None;
                self.packer.end(false)?;
            }
        }
        Ok(())
    }

    /// Ends the member that is open: at its announced length, whatever came, or the archive is lost for all others. Gives where the content went and the offsets of its parts.
    pub(super) fn finish(mut self) -> Result<(Vec<LocalExtent>, Vec<u64>)> {
        if let Some(open) = self.open.take() {
            self.packer.end(!open.left.is_empty())?;
        }
        Ok((self.extents, self.firsts))
    }
}

fn follows(last: &LocalExtent, next: &LocalExtent) -> bool {
    let end = (last.archive, last.offset + last.length, last.tar_offset + last.length);
    end == (next.archive, next.offset, next.tar_offset)
}

fn unplanned() -> OpError {
    OpError::new(Class::Failed, "internal: content came that was not announced")
}

impl Sink for Laying<'_, '_> {
    type Error = OpError;

    fn kept(&mut self, _: Extent) -> Result<()> {
        Err(unplanned())
    }

    fn fresh(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.write(offset, bytes)
    }
}
