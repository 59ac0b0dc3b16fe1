//! zstd frames of at most 4 MiB of content, each independent, and the seek table of the zstd seekable format.
//!
//! A frame must never leave [`Packer`] without having been decompressed to what went in (libraries and memory have failed others here), and
//! [`Unpacker`] must never make more room for a frame than it declares, nor more than 4 MiB.

use crate::archive::error::{ArchiveError, Damage};
use crate::model::manifest::{FRAME_TAR_MAX, Frame};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

/// A frame holds at most this many bytes of content.
pub const CONTENT_MAX: usize = FRAME_TAR_MAX as usize;
/// Largest window a reader accepts.
const WINDOW_MAX: u64 = 1 << WINDOW_LOG_MAX;
/// The same as a power of two: 8 MiB.
pub const WINDOW_LOG_MAX: u32 = 23;
const FRAME_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// A skippable frame begins with this; only the seek table may be one.
pub const TABLE_MAGIC: [u8; 4] = 0x184D_2A5E_u32.to_le_bytes();
const TABLE_END: [u8; 4] = 0x8F92_EAB1_u32.to_le_bytes();
/// Magic and length before a seek table, count, descriptor and magic at its end.
const TABLE_FIXED: usize = 8 + 9;
/// A frame header is at most this long.
pub const HEADER_MAX: usize = 18;

/// What level 3 is made of here: a window as long as a frame, which finds what zstd's own 2 MiB misses, and in return a table half as large, which stays in a processor's
/// second cache. Frames come out as small as zstd's own level 3 makes them, and sooner (docs/performance.md has the figures).
const TUNED_LEVEL: i32 = 3;
const TUNED: [zstd_safe::CParameter; 3] = [
    zstd_safe::CParameter::WindowLog(CONTENT_MAX.ilog2()),
    zstd_safe::CParameter::HashLog(16),
    zstd_safe::CParameter::ChainLog(16),
];

/// The most bytes that a frame can take up.
pub fn packed_max() -> usize {
    zstd_safe::compress_bound(CONTENT_MAX)
}

/// Compresses blocks into frames and proves each; keeps its memory between them.
pub struct Packer {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    again: Vec<u8>,
}

impl Packer {
    /// For zstd's compression level `level`.
    pub fn new(level: i32) -> Result<Self, ArchiveError> {
        let make = || -> std::io::Result<Self> {
            let mut compressor = Compressor::new(level)?;
            compressor.set_parameter(zstd_safe::CParameter::ChecksumFlag(true))?;
            compressor.set_parameter(zstd_safe::CParameter::ContentSizeFlag(true))?;
            if level == TUNED_LEVEL {
                for parameter in TUNED {
                    compressor.set_parameter(parameter)?;
                }
            }
            let decompressor = Decompressor::new()?;
            Ok(Self { compressor, decompressor, again: Vec::new() })
        };
        make().map_err(|e| frame_error(format!("zstd cannot be set up: {e}")))
    }

    /// Replaces what is in `out` by the frame of `content` (at most [`CONTENT_MAX`] bytes).
    pub fn pack(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<(), ArchiveError> {
        if content.len() > CONTENT_MAX {
            return Err(ArchiveError::Misuse("a frame would hold more than 4 MiB"));
        }
        out.clear();
        out.reserve(zstd_safe::compress_bound(content.len()));
        let packed = self.compressor.compress_to_buffer(content, out);
        packed.map_err(|e| frame_error(format!("zstd failed: {e}")))?;
        self.again.clear();
        self.again.reserve(content.len());
        let unpacked = self.decompressor.decompress_to_buffer(out, &mut self.again);
        unpacked.map_err(|e| frame_error(format!("it does not decompress: {e}")))?;
        if self.again != content {
            return Err(frame_error("it decompresses to other bytes".into()));
        }
        Ok(())
    }
}

fn frame_error(what: String) -> ArchiveError {
    ArchiveError::Frame { subject: "an object".into(), what }
}

/// Decompresses frames; keeps its memory between them.
pub struct Unpacker {
    decompressor: Decompressor<'static>,
}

impl Unpacker {
    /// A new one.
    pub fn new() -> Result<Self, ArchiveError> {
        let decompressor = Decompressor::new();
        let decompressor = decompressor.map_err(|e| frame_error(format!("zstd cannot be set up: {e}")))?;
        Ok(Self { decompressor })
    }

    /// The content of `frame`, which must be exactly one frame as format 1 wants it.
    pub fn unpack(&mut self, frame: &[u8]) -> Result<Vec<u8>, Damage> {
        self.unpack_into(frame, Vec::new())
    }

    /// The same in an old buffer: new memory for each frame costs as much as a tenth of the work.
    pub fn unpack_into(&mut self, frame: &[u8], mut out: Vec<u8>) -> Result<Vec<u8>, Damage> {
        let content = parse_header(frame)?.content;
        let length = zstd_safe::find_frame_compressed_size(frame);
        if length.is_ok_and(|length| length != frame.len()) || length.is_err() {
            return Err("a zstd frame is cut off or has another length".into());
        }
        out.clear();
        out.reserve_exact(content);
        let unpacked = self.decompressor.decompress_to_buffer(frame, &mut out);
        let unpacked = unpacked.map_err(|e| format!("a zstd frame does not decompress: {e}"))?;
        if unpacked != content {
            return Err("a zstd frame is not as long as it says".into());
        }
        Ok(out)
    }
}

/// What the header of a frame says, after all checks of format 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Length of the content in bytes, 1 to [`CONTENT_MAX`].
    pub content: usize,
    /// Length of the header itself.
    pub length: usize,
}

/// Reads the header of the frame that `bytes` begins with (RFC 8878, 3.1.1.1).
pub fn parse_header(bytes: &[u8]) -> Result<FrameHeader, Damage> {
    let cut = || Damage::from("a zstd frame is cut off");
    if !bytes.starts_with(&FRAME_MAGIC) {
        return Err("there is something that is not a zstd frame".into());
    }
    let descriptor = *bytes.get(4).ok_or_else(cut)?;
    let single_segment = descriptor & 0x20 != 0;
    if descriptor & 0x08 != 0 || descriptor & 0x04 == 0 || descriptor & 0x03 != 0 {
        return Err("a zstd frame has no checksum, or needs a dictionary".into());
    }
    let window_length = usize::from(!single_segment);
    let size_length = match descriptor >> 6 {
        0 => usize::from(single_segment),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let length = 5 + window_length + size_length;
    let field = bytes.get(5 + window_length..length).ok_or_else(cut)?;
    let mut raw = [0; 8];
    raw[..size_length].copy_from_slice(field);
    let content = u64::from_le_bytes(raw) + if size_length == 2 { 256 } else { 0 };
    let window = if single_segment { content } else { window_size(bytes[5]) };
    if size_length == 0 || content == 0 || content > FRAME_TAR_MAX || window > WINDOW_MAX {
        return Err("a zstd frame says nothing of its content's size, or is too large".into());
    }
    Ok(FrameHeader { content: content as usize, length })
}

fn window_size(descriptor: u8) -> u64 {
    let base = 1_u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

/// What a block header of a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// No block follows.
    pub last: bool,
    /// Bytes of the block after its header.
    pub length: usize,
}

/// Reads a block header (RFC 8878, 3.1.1.2).
pub fn parse_block_header(raw: [u8; 3]) -> Result<BlockHeader, Damage> {
    let value = u32::from_le_bytes([raw[0], raw[1], raw[2], 0]);
    let length = match (value >> 1) & 3 {
        0 | 2 => (value >> 3) as usize,
        1 => 1,
        _ => return Err("a zstd frame has a block of an unknown kind".into()),
    };
    Ok(BlockHeader { last: value & 1 != 0, length })
}

/// Length of a seek table of `frames` frames, its skippable frame's header included; `None` when there are too many.
pub fn seek_table_len(frames: usize) -> Option<usize> {
    let length = frames.checked_mul(8)?.checked_add(TABLE_FIXED)?;
    u32::try_from(length).ok().map(|_| length)
}

/// The seek table of `frames`: one skippable frame.
pub fn encode_seek_table(frames: &[Frame]) -> Result<Vec<u8>, ArchiveError> {
    let too_large = ArchiveError::Misuse("an archive has too many frames for a seek table");
    let length = seek_table_len(frames.len()).ok_or(too_large)?;
    let mut table = Vec::with_capacity(length);
    table.extend_from_slice(&TABLE_MAGIC);
    table.extend_from_slice(&((length - 8) as u32).to_le_bytes());
    for frame in frames {
        table.extend_from_slice(&(frame.length as u32).to_le_bytes());
        table.extend_from_slice(&(frame.tar_length as u32).to_le_bytes());
    }
    table.extend_from_slice(&(frames.len() as u32).to_le_bytes());
    table.push(0);
    table.extend_from_slice(&TABLE_END);
    Ok(table)
}

/// Reads a seek table: compressed and decompressed size of every frame.
pub fn parse_seek_table(table: &[u8]) -> Result<Vec<(u32, u32)>, Damage> {
    let bad = || Damage::from("the seek table is malformed");
    let rest = table.strip_prefix(&TABLE_MAGIC).ok_or_else(bad)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
    let rest = rest.strip_suffix(&TABLE_END).ok_or_else(bad)?;
    let rows = rest.strip_suffix(&[0]).ok_or_else(bad)?;
    let (rows, count) = rows.split_last_chunk::<4>().ok_or_else(bad)?;
    let counted = u32::from_le_bytes(*count) as usize;
    if u32::from_le_bytes(*length) as usize + 8 != table.len() || rows.len() != counted * 8 {
        return Err(bad());
    }
    let number = |raw: &[u8]| u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
    Ok(rows.chunks_exact(8).map(|row| (number(&row[..4]), number(&row[4..]))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::keys::{bytes, text};
    use crate::archive::tests::tools::Tool;

    fn pack(content: &[u8]) -> Vec<u8> {
        let mut out = vec![9; 3];
        Packer::new(3).unwrap().pack(content, &mut out).unwrap();
        out
    }

    #[test]
    fn frames_round_trip_at_every_kind_of_size() {
        let mut unpacker = Unpacker::new().unwrap();
        for length in [1, 255, 256, 257, 65_535, 65_536, 65_792, 1 << 20, CONTENT_MAX - 1, CONTENT_MAX] {
            for content in [text(length), bytes(1, length), vec![0; length]] {
                let frame = pack(&content);
                assert_eq!(parse_header(&frame).unwrap().content, length);
                assert!(unpacker.unpack(&frame).unwrap() == content, "{length}");
            }
        }
        let mut out = Vec::new();
        assert!(Packer::new(3).unwrap().pack(&vec![0; CONTENT_MAX + 1], &mut out).is_err());
    }

    #[test]
    fn stock_zstd_reads_frames_and_a_seek_table() {
        let Some(zstd) = Tool::find("zstd") else {
            return;
        };
        let parts = [text(100_000), bytes(2, 70_000), text(5)];
        let mut stream = Vec::new();
        let mut frames = Vec::new();
        for part in &parts {
            let frame = pack(part);
            let (offset, length) = (stream.len() as u64, frame.len() as u64);
            frames.push(Frame { tar_offset: 0, offset, length, tar_length: part.len() as u64 });
            stream.extend_from_slice(&frame);
        }
        let table = encode_seek_table(&frames).unwrap();
        let rows = parse_seek_table(&table).unwrap();
        assert_eq!(rows[2], (frames[2].length as u32, 5));
        stream.extend_from_slice(&table);
        assert!(zstd.pipe(&["-dc".as_ref()], &stream) == parts.concat());
    }

    #[test]
    fn cuts_flips_and_neighbours_are_refused() {
        let mut unpacker = Unpacker::new().unwrap();
        let frame = pack(&text(3000));
        for cut in 0..frame.len() {
            assert!(unpacker.unpack(&frame[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..frame.len() {
            let mut flipped = frame.clone();
            flipped[at] ^= 0x04;
            // Some bits of a frame mean nothing; under age they cannot change either.
            let unpacked = unpacker.unpack(&flipped);
            assert!(unpacked.is_err() || unpacked.unwrap() == text(3000), "flip at {at}");
        }
        assert!(unpacker.unpack(&[frame.clone(), frame.clone()].concat()).is_err());
        let table = encode_seek_table(&[]).unwrap();
        assert!(unpacker.unpack(&[frame, table].concat()).is_err());
    }

    #[test]
    fn frames_without_size_or_checksum_and_large_ones_are_refused() {
        let content = vec![7; CONTENT_MAX + 1];
        let mut unpacker = Unpacker::new().unwrap();
        let mut plain = Compressor::new(3).unwrap();
        assert!(unpacker.unpack(&plain.compress(b"no checksum").unwrap()).is_err());
        plain.set_parameter(zstd_safe::CParameter::ChecksumFlag(true)).unwrap();
        assert!(unpacker.unpack(&plain.compress(&content).unwrap()).is_err(), "a bomb");
        plain.set_parameter(zstd_safe::CParameter::ContentSizeFlag(false)).unwrap();
        assert!(unpacker.unpack(&plain.compress(b"no size").unwrap()).is_err());
    }

    #[test]
    fn a_frame_that_lies_about_its_size_gets_no_more_room() {
        let mut frame = pack(&vec![0; CONTENT_MAX]);
        let header = parse_header(&frame).unwrap();
        assert_eq!(header.content, CONTENT_MAX);
        // The size stands last in the header, in four bytes.
        frame[header.length - 4..header.length].copy_from_slice(&100_000_u32.to_le_bytes());
        assert_eq!(parse_header(&frame).unwrap().content, 100_000);
        assert!(Unpacker::new().unwrap().unpack(&frame).is_err());
        // Also where an old buffer has the room.
        assert!(Unpacker::new().unwrap().unpack_into(&frame, Vec::with_capacity(CONTENT_MAX)).is_err());
    }

    #[test]
    fn old_buffers_give_what_new_ones_give() {
        let mut unpacker = Unpacker::new().unwrap();
        let mut room = vec![9; 3];
        for length in [CONTENT_MAX, 1, 70_000, 300] {
            let content = text(length);
            room = unpacker.unpack_into(&pack(&content), room).unwrap();
            assert!(room == content, "{length}");
        }
    }

    #[test]
    fn windows_over_8_mib_are_refused() {
        let header = |window: u8| [&FRAME_MAGIC[..], &[0x44, window, 0, 1]].concat();
        assert_eq!(parse_header(&header(13 << 3)).unwrap().content, 512, "8 MiB");
        assert!(parse_header(&header((13 << 3) + 1)).is_err());
        assert!(parse_header(&header(0xff)).is_err());
    }

    #[test]
    fn malformed_seek_tables_are_refused() {
        let frame = Frame { tar_offset: 0, offset: 0, length: 3, tar_length: 9 };
        let table = encode_seek_table(&[frame, frame]).unwrap();
        assert_eq!(parse_seek_table(&table).unwrap(), [(3, 9), (3, 9)]);
        for cut in 0..table.len() {
            assert!(parse_seek_table(&table[..cut]).is_err());
        }
        for at in (0..8).chain(24..table.len()) {
            let mut flipped = table.clone();
            flipped[at] ^= 1;
            assert!(parse_seek_table(&flipped).is_err(), "flip at {at}");
        }
    }
}
