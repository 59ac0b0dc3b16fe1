//! What a listing must say of archives.

use super::*;
use crate::model::{Kind, RelPath};

fn id(n: u8) -> ObjectId {
    ObjectId([n; 32])
}

/// An archive of four frames of a thousand bytes each.
fn archive() -> ArchiveInfo {
    let frame = |n: u64| Frame { tar_offset: n * 1000, offset: n * 100, length: 100, tar_length: 1000 };
    ArchiveInfo { sha256: id(1), size: 5000, payload: 200, tar: 4000, frames: (0..4).map(frame).collect() }
}

fn extent(tar_offset: u64, length: u64) -> Extent {
    Extent { offset: 0, archive: id(1), tar_offset, length }
}

fn segment(extent: Extent, frames: &[usize]) -> Result<Vec<u8>, Undescribed> {
    let whole = archive();
    let frames = frames.iter().map(|n| whole.frames[*n]).collect();
    let table = ArchiveTable::from([(id(1), ArchiveInfo { frames, ..whole })]);
    let mut entry = Entry::new(RelPath::new(b"file").unwrap(), Kind::File);
    (entry.size, entry.hash) = (extent.length, Some(crate::model::ContentHash([7; 32])));
    entry.extents.push(extent);
    let map = Map::encode(&[extent], &table);
    let segment = Segment::encode(&"app".parse().unwrap(), &[entry], &table);
    assert_eq!(map.is_ok(), segment.is_ok(), "maps are listings, too");
    segment
}

#[test]
fn a_listing_that_does_not_say_where_all_frames_lie_is_never_written() {
    let across = extent(1500, 2000);
    let lacks = Err(Undescribed::Frames(id(1)));
    for frames in [&[][..], &[0], &[1, 2], &[2, 3], &[1, 3], &[0, 1, 2]] {
        assert_eq!(segment(across, frames), lacks, "{frames:?}");
    }
    let written = segment(across, &[0, 1, 2, 3]).unwrap();
    let read = Segment::decode(&written).unwrap();
    assert_eq!(read.archives[0].frames, archive().frames[1..4], "and only those that it touches");
    assert!(segment(extent(1000, 1000), &[1]).is_ok() && segment(extent(1000, 1001), &[1]).is_err());
}

#[test]
fn an_archive_that_is_not_described_at_all_is_named() {
    let table = ArchiveTable::new();
    assert_eq!(Map::encode(&[extent(0, 1)], &table), Err(Undescribed::Archive(id(1))));
}
