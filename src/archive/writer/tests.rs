use super::*;
use crate::archive::pool::Pool;
use crate::archive::tests::keys::{Keys, about, bytes, pool, text};
use crate::archive::tests::members::{file, member, read_all};
use crate::archive::{Sparse, check_archive};
use crate::keys::RecipientSet;
use std::fs;

fn create(dir: &Path, recipients: &RecipientSet) -> ArchiveWriter {
    ArchiveWriter::create(dir, &about(), recipients, &pool(), 3).unwrap()
}

fn add(writer: &mut ArchiveWriter, path: &str, content: &[u8]) -> u64 {
    let offset = writer.begin(&file(path.as_bytes(), content.len())).unwrap();
    writer.data(content).unwrap();
    writer.end().unwrap();
    offset
}

fn tar_of(keys: &Keys, sealed: &SealedArchive) -> Vec<u8> {
    let object = fs::read(&sealed.path).unwrap();
    zstd::stream::decode_all(&age::decrypt(&keys.raw[0], &object).unwrap()[..]).unwrap()
}

#[test]
fn what_was_written_lies_where_the_writer_said() {
    let keys = Keys::new(1);
    let dir = tempfile::tempdir().unwrap();
    for threads in [1, 3] {
        let pool = Arc::new(Pool::new(threads));
        let mut writer = ArchiveWriter::create(dir.path(), &about(), &keys.recipients, &pool, 3).unwrap();
        let contents =
            [vec![], text(1), bytes(1, 5 << 20), text(511), text(512), text(20 << 20), bytes(4, 3)];
        let offsets: Vec<u64> =
            contents.iter().enumerate().map(|(i, c)| add(&mut writer, &format!("backend/{i}"), c)).collect();
        let before_end = writer.tar_len();
        let sealed = writer.finish().unwrap();
        assert_eq!(sealed.info.tar, before_end + 1024);
        let tar = tar_of(&keys, &sealed);
        for (offset, content) in offsets.iter().zip(&contents) {
            assert!(&tar[*offset as usize..*offset as usize + content.len()] == content);
        }
        let object = fs::read(&sealed.path).unwrap();
        assert_eq!((sealed.id, sealed.size), (ObjectId::of(&object), object.len() as u64));
        assert_eq!((sealed.info.sha256, sealed.info.size), (sealed.id, sealed.size));
        assert_eq!(check_archive(&object[..], &keys.identities).unwrap().info, sealed.info);
    }
}

#[test]
fn an_archive_with_no_members_but_its_own_line_is_whole() {
    let keys = Keys::new(1);
    let dir = tempfile::tempdir().unwrap();
    let sealed = create(dir.path(), &keys.recipients).finish().unwrap();
    let members = read_all(&tar_of(&keys, &sealed)).unwrap();
    assert_eq!(members.len(), 1);
    let line = std::str::from_utf8(&members[0].1).unwrap();
    assert!(line.starts_with(r#"{"format":1,"needs":[],"type":"archive","vault":""#), "{line}");
    assert!(line.ends_with("}\n"));
}

#[test]
fn frames_end_at_4_mib_and_before_a_member_that_would_not_fit() {
    let keys = Keys::new(1);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), &keys.recipients);
    add(&mut writer, "backend/0", &text(600_000));
    add(&mut writer, "backend/1", &text(9 << 20));
    let third = add(&mut writer, "backend/2", &text(3_000_000)) - 512;
    let fourth = add(&mut writer, "backend/3", &text(2_000_000)) - 512;
    let fifth = add(&mut writer, "backend/4", &text(1_000_000));
    let frames = writer.finish().unwrap().info.frames;
    let starts: Vec<u64> = frames.iter().map(|f| f.tar_offset).collect();
    assert_eq!(starts[..3], [0, 4 << 20, 8 << 20], "less than 1 MiB is not cut early");
    assert!(starts.contains(&third) && starts.contains(&fourth), "{starts:?} {third} {fourth}");
    assert!(!starts.contains(&(fifth - 512)), "what fits stays");
    let mut end = 0;
    for frame in &frames {
        assert_eq!(frame.tar_offset, end);
        assert!(frame.tar_length <= 4 << 20);
        end += frame.tar_length;
    }
}

#[test]
fn a_member_gets_exactly_the_bytes_that_were_announced() {
    let keys = Keys::new(1);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), &keys.recipients);
    writer.begin(&file(b"backend/shrank", 100_000)).unwrap();
    writer.data(&[1; 10]).unwrap();
    assert!(matches!(writer.end(), Err(ArchiveError::Length { announced: 100_000, given: 10, .. })));
    assert!(matches!(writer.data(&[1; 99_991]), Err(ArchiveError::Length { given: 100_001, .. })));
    writer.pad_rest().unwrap();
    writer.end().unwrap();
    assert!(matches!(writer.data(b"x"), Err(ArchiveError::Misuse(_))));
    assert!(matches!(writer.end(), Err(ArchiveError::Misuse(_))));
    let members = read_all(&tar_of(&keys, &writer.finish().unwrap())).unwrap();
    assert!(members[1].1[..10] == [1; 10] && members[1].1[10..] == [0; 99_990]);
}

#[test]
fn an_archive_cannot_be_finished_or_go_on_within_a_member() {
    let keys = Keys::new(1);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), &keys.recipients);
    writer.begin(&file(b"backend/a", 5)).unwrap();
    assert!(matches!(writer.begin(&file(b"backend/b", 5)), Err(ArchiveError::Misuse(_))));
    assert!(writer.finish().is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing stays behind");
}

#[test]
fn an_unstorable_member_leaves_the_archive_as_it_was() {
    let keys = Keys::new(1);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), &keys.recipients);
    let before = writer.tar_len();
    assert!(matches!(writer.begin(&file(b"../x", 5)), Err(ArchiveError::Unstorable { .. })));
    assert_eq!(writer.tar_len(), before);
    add(&mut writer, "backend/a", b"a");
    assert_eq!(read_all(&tar_of(&keys, &writer.finish().unwrap())).unwrap().len(), 2);
}

#[test]
fn the_offset_of_a_sparse_file_is_that_of_its_data() {
    let keys = Keys::new(1);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), &keys.recipients);
    let ranges: Vec<(u64, u64)> = (0..100).map(|n| (n * 1_000_000, 512)).collect();
    let sparse = Some(Sparse { real_size: 1 << 40, ranges: &ranges });
    let offset = writer.begin(&Member { sparse, ..file(b"backend/s", 51_200) }).unwrap();
    writer.data(&[b'd'; 51_200]).unwrap();
    writer.end().unwrap();
    writer.begin(&member(b"backend/link", MemberKind::Symlink)).unwrap();
    writer.end().unwrap();
    let tar = tar_of(&keys, &writer.finish().unwrap());
    assert!(tar[offset as usize..offset as usize + 51_200] == [b'd'; 51_200]);
    assert_eq!(read_all(&tar).unwrap()[1].0.data_offset, offset);
}

#[test]
fn a_dropped_archive_leaves_no_file_and_a_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let keys = Keys::new(1);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), &keys.recipients);
    let path = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    assert!(path.to_str().unwrap().ends_with(".partial"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    add(&mut writer, "backend/a", &bytes(1, 30 << 20));
    drop(writer);
    assert!(!path.exists());
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let keys = Keys::new(1);
    let missing = Path::new("/nonexistent/folder");
    let made = ArchiveWriter::create(missing, &about(), &keys.recipients, &pool(), 3);
    assert!(made.err().unwrap().to_string().contains("/nonexistent/folder"));
}

#[test]
fn the_reckoned_size_is_near_the_true_one() {
    let keys = Keys::new(1);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), &keys.recipients);
    add(&mut writer, "backend/a", &bytes(1, 50 << 20));
    let reckoned = writer.packed_len();
    let size = writer.finish().unwrap().size;
    assert!(reckoned.abs_diff(size) < size / 50, "{reckoned} {size}");
}
