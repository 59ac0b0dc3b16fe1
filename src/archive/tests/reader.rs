//! Frames by range reads.

use super::keys::{Keys, about, bytes, pool, text};
use super::members::file;
use crate::archive::{ArchiveError, ArchiveReader, ArchiveWriter, RangeRead, SealedArchive};
use crate::model::manifest::{ArchiveInfo, Frame};
use std::error::Error;
use std::sync::{Arc, Mutex};

/// An object in memory that remembers what was asked for.
struct Memory {
    object: Vec<u8>,
    asked: Mutex<Vec<(u64, u64)>>,
}

impl RangeRead for Memory {
    fn read_range(&self, offset: u64, length: u64) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        self.asked.lock().unwrap().push((offset, length));
        let range = offset as usize..(offset + length) as usize;
        Ok(self.object.get(range).ok_or("outside of the object")?.to_vec())
    }
}

struct Fixture {
    keys: Keys,
    sealed: SealedArchive,
    tar: Vec<u8>,
    source: Arc<Memory>,
}

fn fixture() -> Fixture {
    let keys = Keys::new(1);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ArchiveWriter::create(dir.path(), &about(), &keys.recipients, &pool(), 3).unwrap();
    let contents = [bytes(1, 9 << 20), text(3 << 20), bytes(3, 3 << 20), text(6 << 20), bytes(2, 100_000)];
    for (number, content) in contents.iter().enumerate() {
        writer.begin(&file(format!("backend/{number}").as_bytes(), content.len())).unwrap();
        writer.data(content).unwrap();
        writer.end().unwrap();
    }
    let sealed = writer.finish().unwrap();
    let object = std::fs::read(&sealed.path).unwrap();
    let plain = age::decrypt(&keys.raw[0], &object).unwrap();
    let tar = zstd::stream::decode_all(&plain[..]).unwrap();
    let source = Arc::new(Memory { object, asked: Mutex::default() });
    Fixture { keys, sealed, tar, source }
}

impl Fixture {
    fn open(&self, info: ArchiveInfo) -> Result<ArchiveReader, ArchiveError> {
        ArchiveReader::open(self.source.clone(), info, &self.keys.identities)
    }

    fn asked(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.source.asked.lock().unwrap())
    }
}

#[test]
fn every_frame_and_every_selection_of_frames_is_what_the_tar_holds() {
    let f = fixture();
    let frames = f.sealed.info.frames.clone();
    assert!(frames.len() >= 6);
    let reader = f.open(f.sealed.info.clone()).unwrap();
    let tar =
        |frame: &Frame| &f.tar[frame.tar_offset as usize..(frame.tar_offset + frame.tar_length) as usize];
    for bits in 0..1_u32 << frames.len() {
        // All single frames and pairs, then every 13th selection.
        if bits.count_ones() > 2 && !bits.is_multiple_of(13) {
            continue;
        }
        let chosen: Vec<Frame> =
            frames.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, f)| *f).collect();
        let contents = reader.read_frames(&chosen).unwrap();
        assert!(contents.iter().map(|c| &c[..]).eq(chosen.iter().map(tar)), "{bits:b}");
    }
}

#[test]
fn neighbours_come_in_one_read_of_whole_chunks() {
    let f = fixture();
    let reader = f.open(f.sealed.info.clone()).unwrap();
    let info = &f.sealed.info;
    // The first three chunks come with the header, and are not asked for again.
    assert_eq!(f.asked(), [(0, info.payload + (3 * 65_552).min(info.size - info.payload))]);
    let beyond_head = |frame: &Frame| usize::from((frame.offset + frame.length).div_ceil(65_536) > 3);
    reader.read_frames(&info.frames[..3]).unwrap();
    let asked = f.asked();
    assert_eq!(asked.len(), beyond_head(&info.frames[2]));
    for (from, length) in asked {
        assert_eq!((from, length % 65_552), (info.payload, 0));
    }
    reader.read_frames(&[info.frames[0], info.frames[2]]).unwrap();
    assert_eq!(f.asked().len(), 1 + beyond_head(&info.frames[0]));
    reader.read_frames(&[]).unwrap();
    assert!(f.asked().is_empty());
}

#[test]
fn several_threads_share_a_reader() {
    let f = fixture();
    let reader = Arc::new(f.open(f.sealed.info.clone()).unwrap());
    let pool = pool();
    let tickets = f.sealed.info.frames.iter().map(|frame| {
        let (reader, frame) = (reader.clone(), *frame);
        pool.submit(move || reader.read_frames(&[frame]).unwrap().remove(0))
    });
    let joined: Vec<u8> = tickets.collect::<Vec<_>>().into_iter().flat_map(|t| t.wait().unwrap()).collect();
    assert!(joined == f.tar);
}

#[test]
fn archives_that_are_not_as_long_as_listed_are_refused() {
    let f = fixture();
    let info = &f.sealed.info;
    let listed = |payload, size| ArchiveInfo { payload, size, ..info.clone() };
    let opened = [
        listed(info.payload - 1, info.size),
        listed(info.payload + 1, info.size),
        listed(info.size, info.size),
        listed(1 << 40, 1 << 41),
    ];
    for info in opened {
        assert!(matches!(f.open(info), Err(ArchiveError::Damaged { .. })));
    }
    let last = *info.frames.last().unwrap();
    let shorter = f.open(listed(info.payload, info.size - 1)).unwrap();
    let read = shorter.read_frames(&[last]);
    assert!(read.is_err(), "the last chunk's place follows from the size");
}

#[test]
fn listed_frames_that_do_not_fit_the_archive_are_refused() {
    let f = fixture();
    let info = &f.sealed.info;
    let reader = f.open(info.clone()).unwrap();
    let (a, b) = (info.frames[0], info.frames[1]);
    let tar_length = |tar_length| vec![Frame { tar_length, ..a }];
    let length = |length| vec![Frame { length, ..a }];
    let offset = |offset| vec![Frame { offset, ..a }];
    let bad = [
        vec![b, a],
        vec![a, a],
        tar_length(a.tar_length - 1),
        tar_length(5 << 20),
        length(a.length - 1),
        length(a.length + 1),
        length(0),
        length(1 << 30),
        offset(1),
        offset(info.size),
        offset(u64::MAX),
    ];
    for frames in bad {
        let read = reader.read_frames(&frames);
        assert!(matches!(read, Err(ArchiveError::Damaged { .. })), "{frames:?}");
    }
}

#[test]
fn changed_bytes_and_a_failing_source_are_told_apart() {
    let mut f = fixture();
    let reader = f.open(f.sealed.info.clone()).unwrap();
    let missing = ArchiveInfo { size: f.sealed.info.size + 1_000_000, ..f.sealed.info.clone() };
    let beyond = Frame { offset: f.sealed.info.size, length: 9, ..f.sealed.info.frames[0] };
    assert!(matches!(f.open(missing).unwrap().read_frames(&[beyond]), Err(ArchiveError::Source { .. })));
    drop(reader);
    Arc::get_mut(&mut f.source).unwrap().object[5_000_000] ^= 1;
    let reader = f.open(f.sealed.info.clone()).unwrap();
    let read = reader.read_frames(&f.sealed.info.frames);
    assert!(matches!(read, Err(ArchiveError::Damaged { .. })));
}
