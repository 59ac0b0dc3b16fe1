//! Cutting the bytes of files out of frames.

use crate::model::manifest::{ArchiveInfo, Frame};
use crate::ops::error::Result;
use crate::ops::restore::read::{Piece, Sink};

/// Walks the pieces of one archive as its frames come in.
pub(super) struct Cursor<'p> {
    pieces: &'p [Piece<'p>],
    /// All pieces before this one have been delivered to their end.
    first: usize,
}

impl<'p> Cursor<'p> {
    /// Over pieces sorted by tar offset.
    pub(super) fn over(pieces: &'p [Piece<'p>]) -> Self {
        Self { pieces, first: 0 }
    }

    fn overlapping(&mut self, start: u64, end: u64) -> impl Iterator<Item = &Piece<'p>> {
        let ended = move |p: &Piece<'_>| p.extent.tar_offset + p.extent.length <= start;
        while self.pieces.get(self.first).is_some_and(ended) {
            self.first += 1;
        }
        let rest = self.pieces.get(self.first..).unwrap_or(&[]);
        rest.iter().take_while(move |p| p.extent.tar_offset < end).filter(move |p| !ended(p))
    }

    /// Gives the sink what `batch` holds of the pieces.
    pub(super) fn deliver(
        &mut self,
        batch: &[Frame],
        contents: &[Vec<u8>],
        sink: &mut dyn Sink,
    ) -> Result<()> {
        for (frame, content) in batch.iter().zip(contents) {
            let (start, end) = (frame.tar_offset, frame.tar_offset + frame.tar_length);
            for piece in self.overlapping(start, end) {
                let from = piece.extent.tar_offset.max(start);
                let to = (piece.extent.tar_offset + piece.extent.length).min(end);
                let place = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
                let offset = piece.extent.offset + (from - piece.extent.tar_offset);
                match content.get(place(from)..place(to)) {
                    Some(bytes) => sink.bytes(piece.file, offset, bytes)?,
                    None => sink.lost(piece.file, "a frame is shorter than it should be")?,
                }
            }
        }
        Ok(())
    }

    /// Says that nothing of `batch` can be had.
    pub(super) fn lose(&mut self, batch: &[Frame], why: &str, sink: &mut dyn Sink) -> Result<()> {
        for frame in batch {
            for piece in self.overlapping(frame.tar_offset, frame.tar_offset + frame.tar_length) {
                sink.lost(piece.file, why)?;
            }
        }
        Ok(())
    }

    /// Says that pieces are lost that no listed frame covers to their end.
    pub(super) fn uncovered(&self, info: &ArchiveInfo, sink: &mut dyn Sink) -> Result<()> {
        for piece in self.pieces {
            let mut at = piece.extent.tar_offset;
            for frame in info.frames_of(at, piece.extent.length) {
                if frame.tar_offset <= at {
                    at = at.max(frame.tar_offset + frame.tar_length);
                }
            }
            if at < piece.extent.tar_offset + piece.extent.length {
                sink.lost(piece.file, "its listing does not say where all of its frames lie")?;
            }
        }
        Ok(())
    }
}
