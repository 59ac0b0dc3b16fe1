//! A whole archive, read from its first byte to its last and held against everything the format says.

use crate::archive::about::{ABOUT_BYTES_MAX, ABOUT_PATH, About};
use crate::archive::error::{ArchiveError, Damage, fill, from_read};
use crate::archive::frames::{self, Unpacker};
use crate::archive::pax::{MemberKind, TarMember, TarReader};
use crate::archive::payload::{Batch, Opener, PREFIX_MAX, SEALED_CHUNK};
use crate::keys::Identities;
use crate::model::ObjectId;
use crate::model::document::DocumentError;
use crate::model::manifest::{ArchiveInfo, Frame};
use ring::digest::{Context, SHA256};
use std::io::{self, Read};

const SUBJECT: &str = "the archive";

/// What a whole archive turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveSummary {
    /// Whose it is.
    pub about: About,
    /// Number of members, the first (which says what it is) included.
    pub members: u64,
    /// Length of the tar stream.
    pub tar_len: u64,
    /// Name, size and all frames, as read: what manifests say of the archive must agree.
    pub info: ArchiveInfo,
}

/// Reads `object` to its end: age to its last chunk, every frame, the seek table against the frames, tar strictly to its end, every
/// member within the component. The caller compares the summary's SHA-256 with the object's name. Memory is bounded to about 16 MiB.
pub fn check_archive(object: impl Read, identities: &Identities) -> Result<ArchiveSummary, ArchiveError> {
    let mut object = Hashed { inner: object, hash: Context::new(&SHA256), size: 0 };
    let chunks = ChunkReader::open(&mut object, identities)?;
    let payload = chunks.opener.payload_offset();
    let mut tar = TarReader::new(FrameReader::new(chunks)?, SUBJECT);
    let about = first_member(&mut tar, SUBJECT)?;
    let mut members = 1;
    while let Some(member) = tar.next_member()? {
        belongs(&member, &about).map_err(|e| e.of(SUBJECT))?;
        members += 1;
    }
    let tar_len = tar.offset();
    let frames = tar.into_inner().frames;
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(object.hash.finish().as_ref());
    let info = ArchiveInfo { sha256: ObjectId(sha256), size: object.size, payload, tar: tar_len, frames };
    Ok(ArchiveSummary { about, members, tar_len, info })
}

/// Reads the first member, which says whose the archive is.
pub(super) fn first_member<R: Read>(tar: &mut TarReader<R>, subject: &str) -> Result<About, ArchiveError> {
    let damaged = |what: String| Damage::from(what).of(subject);
    let member = tar.next_member()?.ok_or_else(|| damaged("it has no members".into()))?;
    let described = member.path == ABOUT_PATH && member.kind == MemberKind::File && member.sparse.is_none();
    if !described || member.size > ABOUT_BYTES_MAX {
        return Err(damaged("its first member is not .backstay/archive.json".into()));
    }
    let mut content = vec![0; member.size as usize];
    tar.read_data(&mut content)?;
    About::decode(&content).map_err(|e| match e {
        DocumentError::TooNew(what) => ArchiveError::TooNew { subject: subject.to_owned(), what },
        DocumentError::Malformed(what) => damaged(format!(".backstay/archive.json: {what}")),
    })
}

/// Checks that a member lies below its component, or is a part of one of the component's files.
fn belongs(member: &TarMember, about: &About) -> Result<(), Damage> {
    let below = |path: &[u8]| {
        let rest = path.strip_prefix(about.component.as_str().as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    };
    let own = member.path.strip_prefix(b".backstay/parts/").unwrap_or(&member.path);
    let link = member.target.as_deref().filter(|_| member.kind == MemberKind::HardLink);
    match below(own) && link.is_none_or(below) {
        true => Ok(()),
        false => Err("a member lies outside of the archive's component".into()),
    }
}

/// Hashes and counts what is read.
struct Hashed<R> {
    inner: R,
    hash: Context,
    size: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let given = self.inner.read(buffer)?;
        self.hash.update(&buffer[..given]);
        self.size += given as u64;
        Ok(given)
    }
}

/// The age plaintext of an object.
struct ChunkReader<R> {
    input: R,
    opener: Opener,
    /// Number of the next chunk.
    next: u64,
    /// Bytes read from the input and not opened yet. Which chunk is the last is known only at the input's end.
    ahead: Vec<u8>,
    plain: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> ChunkReader<R> {
    fn open(mut input: R, identities: &Identities) -> Result<Self, ArchiveError> {
        let mut ahead = vec![0; PREFIX_MAX];
        let given = fill(&mut input, &mut ahead).map_err(|e| from_read(e, SUBJECT))?;
        ahead.truncate(given);
        let opener = Opener::new(&ahead, identities).map_err(|e| e.of(SUBJECT))?;
        ahead.drain(..opener.payload_offset() as usize);
        Ok(Self { input, opener, next: 0, ahead, plain: Vec::new(), at: 0, ended: false })
    }

    fn more(&mut self) -> io::Result<()> {
        let whole = Batch::CHUNKS * SEALED_CHUNK;
        let kept = self.ahead.len();
        // One byte more tells whether these chunks are the last.
        self.ahead.resize(whole + 1, 0);
        let given = kept + fill(&mut self.input, &mut self.ahead[kept..])?;
        self.ended = given <= whole;
        let now = given.min(whole);
        let carry = self.ahead[now..given].to_vec();
        self.ahead.truncate(now);
        std::mem::swap(&mut self.plain, &mut self.ahead);
        self.ahead.clear();
        self.ahead.extend_from_slice(&carry);
        let opened = self.opener.open_chunks(self.next, self.ended, &mut self.plain);
        opened.map_err(|e| io::Error::other(e.of(SUBJECT)))?;
        self.next += Batch::CHUNKS as u64;
        self.at = 0;
        Ok(())
    }
}

impl<R: Read> Read for ChunkReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() && !self.ended {
            self.more()?;
        }
        let now = buffer.len().min(self.plain.len() - self.at);
        buffer[..now].copy_from_slice(&self.plain[self.at..self.at + now]);
        self.at += now;
        Ok(now)
    }
}

/// The content of the frames in an age plaintext. At its end the seek table has been compared with them.
struct FrameReader<R> {
    input: R,
    unpacker: Unpacker,
    frames: Vec<Frame>,
    /// Offsets in the age plaintext and in the content.
    plain: u64,
    tar: u64,
    frame: Vec<u8>,
    content: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> FrameReader<R> {
    fn new(input: R) -> Result<Self, ArchiveError> {
        Ok(Self {
            input,
            unpacker: Unpacker::new()?,
            frames: Vec::new(),
            plain: 0,
            tar: 0,
            frame: Vec::new(),
            content: Vec::new(),
            at: 0,
            ended: false,
        })
    }

    /// Appends `length` bytes to `frame`; gives them.
    fn take(&mut self, length: usize) -> io::Result<&[u8]> {
        let start = self.frame.len();
        self.frame.resize(start + length, 0);
        let given = fill(&mut self.input, &mut self.frame[start..])?;
        self.plain += given as u64;
        if given < length {
            return Err(damaged("a zstd frame is cut off, or the seek table is missing"));
        }
        Ok(&self.frame[start..])
    }

    fn more(&mut self) -> io::Result<()> {
        let offset = self.plain;
        self.frame.clear();
        if self.take(4)? == frames::TABLE_MAGIC {
            return self.seek_table();
        }
        // The shortest header that says how long the header is, then the rest of it.
        self.take(2)?;
        let mut header = frames::parse_header(&self.frame);
        while header.is_err() && self.frame.len() < frames::HEADER_MAX {
            self.take(1)?;
            header = frames::parse_header(&self.frame);
        }
        let header = header.map_err(damaged)?;
        if header.length != self.frame.len() {
            return Err(damaged("a zstd frame has a malformed header"));
        }
        self.blocks()?;
        self.content = self.unpacker.unpack(&self.frame).map_err(damaged)?;
        self.at = 0;
        let (length, tar_length) = (self.plain - offset, self.content.len() as u64);
        self.frames.push(Frame { tar_offset: self.tar, offset, length, tar_length });
        self.tar += tar_length;
        Ok(())
    }

    /// Reads the blocks of a frame and its checksum.
    fn blocks(&mut self) -> io::Result<()> {
        loop {
            let raw = self.take(3)?;
            let block = frames::parse_block_header([raw[0], raw[1], raw[2]]).map_err(damaged)?;
            if self.frame.len() + block.length > frames::packed_max() {
                return Err(damaged("a zstd frame is longer than 4 MiB can become"));
            }
            self.take(block.length)?;
            if block.last {
                return self.take(4).map(|_| ());
            }
        }
    }

    /// Reads the seek table, whose magic was read, and what must be the end.
    fn seek_table(&mut self) -> io::Result<()> {
        let expected = frames::seek_table_len(self.frames.len());
        let expected = expected.ok_or_else(|| damaged("it has too many frames"))?;
        self.take(expected - 4)?;
        let rows = frames::parse_seek_table(&self.frame).map_err(damaged)?;
        let row = |f: &Frame| (f.length as u32, f.tar_length as u32);
        if !rows.iter().copied().eq(self.frames.iter().map(row)) {
            return Err(damaged("the seek table and the frames disagree"));
        }
        if fill(&mut self.input, &mut [0])? != 0 {
            return Err(damaged("something follows the seek table"));
        }
        self.ended = true;
        Ok(())
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.content.len() && !self.ended {
            self.content.clear();
            self.at = 0;
            self.more()?;
        }
        let now = buffer.len().min(self.content.len() - self.at);
        buffer[..now].copy_from_slice(&self.content[self.at..self.at + now]);
        self.at += now;
        Ok(now)
    }
}

fn damaged(what: impl Into<Damage>) -> io::Error {
    io::Error::other(what.into().of(SUBJECT))
}
