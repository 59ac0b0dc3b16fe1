//! Single frames of an archive by range reads.
//!
//! Bytes that come out were authenticated by age under a key that any recipient's sender could make: whoever did not compare the SHA-256 of
//! the whole archive must compare the content hash of each file before using them.

use crate::archive::about::About;
use crate::archive::check::first_member;
use crate::archive::error::{ArchiveError, Damage, from_read};
use crate::archive::frames::{self, Unpacker};
use crate::archive::pax::TarReader;
use crate::archive::payload::{CHUNK, Opener, PREFIX_MAX, SEALED_CHUNK, TAG};
use crate::keys::Identities;
use crate::model::manifest::{ArchiveInfo, FRAME_TAR_MAX, Frame};
use std::error::Error;
use std::sync::Arc;

/// Where an object's bytes come from, a range at a time.
pub trait RangeRead: Send + Sync {
    /// Exactly `length` bytes from `offset`.
    fn read_range(&self, offset: u64, length: u64) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>>;
}

/// Reads frames of one archive; may be used from several threads at a time.
pub struct ArchiveReader {
    source: Arc<dyn RangeRead>,
    info: ArchiveInfo,
    subject: String,
    opener: Opener,
    /// The first chunks, sealed, which came with the header; empty when they could not be had.
    head: Vec<u8>,
    /// Number of age chunks.
    chunks: u64,
    /// Length of the age plaintext.
    plain: u64,
}

/// The first block of the first frame, which holds the first member, ends within this many chunks: a block has at most 128 KiB.
const ABOUT_CHUNKS: u64 = 3;

/// Frames that lie in neighbouring chunks, and these chunks (the second number excluded).
struct Run<'a> {
    frames: &'a [Frame],
    chunks: (u64, u64),
}

impl ArchiveReader {
    /// Reads the archive's age header, with its first chunks, and opens it. `info` is what a manifest says of the archive.
    pub fn open(
        source: Arc<dyn RangeRead>,
        info: ArchiveInfo,
        identities: &Identities,
    ) -> Result<Self, ArchiveError> {
        let subject = format!("archive {}", info.sha256);
        let damaged = |what: &'static str| Damage::from(what).of(&subject);
        if info.payload > PREFIX_MAX as u64 || info.payload >= info.size {
            return Err(damaged("its listing gives it an impossible size or age header"));
        }
        let sealed = info.size - info.payload;
        let chunks = sealed.div_ceil(SEALED_CHUNK as u64);
        let plain = sealed.saturating_sub(chunks * TAG as u64);
        // One trip for both: whoever opens an archive asks next whose it is.
        let first = info.payload + (ABOUT_CHUNKS * SEALED_CHUNK as u64).min(sealed);
        let mut prefix = match ranged(&*source, 0, first, &subject) {
            Ok(bytes) => bytes,
            // What is damaged or cut off behind the header costs what lies there, and no more.
            Err(_) => ranged(&*source, 0, info.payload, &subject)?,
        };
        let head = prefix.split_off(info.payload as usize);
        let opener = Opener::new(&prefix, identities).map_err(|e| e.of(&subject))?;
        if opener.payload_offset() != info.payload {
            return Err(damaged("its age header is not as long as listed"));
        }
        Ok(Self { source, info, subject, opener, head, chunks, plain })
    }

    /// What the archive was opened with.
    pub fn info(&self) -> &ArchiveInfo {
        &self.info
    }

    /// Whose archive it says it is: its first member.
    pub fn about(&self) -> Result<About, ArchiveError> {
        let plain = self.read_chunks((0, self.chunks.min(ABOUT_CHUNKS)))?;
        let failed = |e| from_read(e, &self.subject);
        let mut content = zstd::stream::read::Decoder::with_buffer(&plain[..]).map_err(failed)?;
        content.window_log_max(frames::WINDOW_LOG_MAX).map_err(failed)?;
        first_member(&mut TarReader::new(content, &self.subject), &self.subject)
    }

    /// The content of `frames`, which are sorted and apart. Neighbours are read in one range, so the caller bounds memory by how many it
    /// asks for at a time: about their compressed and decompressed lengths together.
    pub fn read_frames(&self, frames: &[Frame]) -> Result<Vec<Vec<u8>>, ArchiveError> {
        self.read_frames_with(frames, &mut Vec::new)
    }

    /// The same into buffers that `spare` gives; what they hold is of no matter.
    pub fn read_frames_with(
        &self,
        frames: &[Frame],
        spare: &mut dyn FnMut() -> Vec<u8>,
    ) -> Result<Vec<Vec<u8>>, ArchiveError> {
        let mut unpacker = Unpacker::new()?;
        let mut contents = Vec::with_capacity(frames.len());
        for run in self.runs(frames).map_err(|e| e.of(&self.subject))? {
            let plain = self.read_chunks(run.chunks)?;
            let start = run.chunks.0 * CHUNK as u64;
            for frame in run.frames {
                let content = unpack(&mut unpacker, &plain, frame, start, spare());
                contents.push(content.map_err(|e| e.of(&self.subject))?);
            }
        }
        Ok(contents)
    }

    /// Checks `frames` and puts those together whose chunks touch.
    fn runs<'a>(&self, frames: &'a [Frame]) -> Result<Vec<Run<'a>>, Damage> {
        let mut runs: Vec<Run<'a>> = Vec::new();
        let (mut begin, mut end) = (0, 0);
        for (at, frame) in frames.iter().enumerate() {
            let frame_end = frame.offset.checked_add(frame.length).filter(|end| *end <= self.plain);
            let frame_end = frame_end.ok_or("a listed frame lies outside of it")?;
            let sane = frame.length > 0 && frame.length <= frames::packed_max() as u64;
            if !sane || frame.offset < end || frame.tar_length == 0 || frame.tar_length > FRAME_TAR_MAX {
                return Err("its listed frames are impossible or out of order".into());
            }
            end = frame_end;
            let chunks = (frame.offset / CHUNK as u64, frame_end.div_ceil(CHUNK as u64));
            match runs.last_mut() {
                Some(run) if chunks.0 <= run.chunks.1 => run.chunks.1 = chunks.1,
                _ => {
                    begin = at;
                    runs.push(Run { frames: &[], chunks });
                }
            }
            if let Some(run) = runs.last_mut() {
                run.frames = &frames[begin..=at];
            }
        }
        Ok(runs)
    }

    fn read_chunks(&self, (first, end): (u64, u64)) -> Result<Vec<u8>, ArchiveError> {
        let offset = self.info.payload + first * SEALED_CHUNK as u64;
        let until = (self.info.payload + end * SEALED_CHUNK as u64).min(self.info.size);
        let here = (first == 0).then(|| self.head.get(..(until - offset) as usize)).flatten();
        let mut bytes = match here {
            Some(head) => head.to_vec(),
            None => ranged(&*self.source, offset, until - offset, &self.subject)?,
        };
        let opened = self.opener.open_chunks(first, end == self.chunks, &mut bytes);
        opened.map_err(|e| e.of(&self.subject))?;
        Ok(bytes)
    }
}

fn ranged(source: &dyn RangeRead, offset: u64, length: u64, subject: &str) -> Result<Vec<u8>, ArchiveError> {
    let failed = |source| ArchiveError::Source { subject: subject.to_owned(), source };
    let bytes = source.read_range(offset, length).map_err(failed)?;
    if bytes.len() as u64 != length {
        let what = format!("{} bytes came where {length} lie from byte {offset} on", bytes.len());
        return Err(Damage::from(what).of(subject));
    }
    Ok(bytes)
}

/// The content of `frame` in `plain`, which begins at `start` of the age plaintext.
fn unpack(
    unpacker: &mut Unpacker,
    plain: &[u8],
    frame: &Frame,
    start: u64,
    room: Vec<u8>,
) -> Result<Vec<u8>, Damage> {
    let at = (frame.offset - start) as usize;
    let packed = plain.get(at..at + frame.length as usize);
    let content = unpacker.unpack_into(packed.ok_or("a listed frame lies outside of it")?, room)?;
    if content.len() as u64 != frame.tar_length {
        return Err(format!("the frame at {} is not as long as listed", frame.offset).into());
    }
    Ok(content)
}
