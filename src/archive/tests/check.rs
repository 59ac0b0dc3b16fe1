//! Whole archives under a check that must notice everything.

use super::keys::{Keys, about, bytes, pool, text};
use super::members::{Zoo, append, end, file};
use super::tools::Tool;
use crate::archive::about::ABOUT_PATH;
use crate::archive::frames::{Packer, encode_seek_table};
use crate::archive::payload::{open_all, seal_all};
use crate::archive::{ArchiveError, ArchiveWriter, check_archive};
use crate::model::manifest::Frame;

fn zoo_archive(keys: &Keys) -> (Vec<u8>, crate::archive::SealedArchive) {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ArchiveWriter::create(dir.path(), &about(), &keys.recipients, &pool(), 3).unwrap();
    for (member, data) in Zoo::new().members() {
        writer.begin(&member).unwrap();
        writer.data(&data).unwrap();
        writer.end().unwrap();
    }
    let sealed = writer.finish().unwrap();
    (std::fs::read(&sealed.path).unwrap(), sealed)
}

/// Seals any frames with a right seek table.
fn seal(keys: &Keys, contents: &[&[u8]]) -> Vec<u8> {
    let (mut plain, mut frames) = (Vec::new(), Vec::new());
    for content in contents {
        let mut frame = Vec::new();
        Packer::new(3).unwrap().pack(content, &mut frame).unwrap();
        let tar_length = content.len() as u64;
        frames.push(Frame { tar_offset: 0, offset: 0, length: frame.len() as u64, tar_length });
        plain.extend_from_slice(&frame);
    }
    plain.extend_from_slice(&encode_seek_table(&frames).unwrap());
    seal_all(&plain, &keys.recipients).unwrap()
}

fn tar_with(about_line: &[u8], path: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    append(&mut tar, &file(ABOUT_PATH, about_line.len()), about_line);
    append(&mut tar, &file(path, 5), b"small");
    end(tar)
}

#[test]
fn a_whole_archive_passes_and_its_summary_is_what_the_writer_said() {
    let keys = Keys::new(1);
    let (object, sealed) = zoo_archive(&keys);
    let summary = check_archive(&object[..], &keys.identities).unwrap();
    assert_eq!(summary.info, sealed.info);
    assert_eq!(summary.about, about());
    assert_eq!(summary.members, Zoo::new().members().len() as u64 + 1);
    assert_eq!(summary.tar_len, sealed.info.tar);
}

#[test]
fn every_cut_and_a_flip_anywhere_is_noticed() {
    let keys = Keys::new(1);
    let (object, _) = zoo_archive(&keys);
    for cut in 0..object.len() {
        assert!(check_archive(&object[..cut], &keys.identities).is_err(), "cut at {cut}");
    }
    for at in 0..object.len() {
        let mut flipped = object.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(check_archive(&flipped[..], &keys.identities).is_err(), "flip at {at}");
    }
    let longer = [&object[..], b"x"].concat();
    assert!(check_archive(&longer[..], &keys.identities).is_err());
}

#[test]
fn a_stranger_hears_that_no_identity_opens_it() {
    let (object, _) = zoo_archive(&Keys::new(1));
    let opened = check_archive(&object[..], &Keys::new(1).identities);
    assert!(matches!(opened, Err(ArchiveError::NoIdentity { .. })));
}

#[test]
fn damage_under_a_good_seal_is_noticed() {
    let keys = Keys::new(1);
    let good = tar_with(&about().encode().unwrap(), b"backend/a");
    let whole = seal(&keys, &[&good]);
    assert_eq!(check_archive(&whole[..], &keys.identities).unwrap().members, 2);
    let (first, second) = good.split_at(700);
    assert!(check_archive(&seal(&keys, &[first, second])[..], &keys.identities).is_ok());
    let plain = open_all(&whole, &keys.identities).unwrap();
    let sealed = |plain: &[u8]| seal_all(plain, &keys.recipients).unwrap();
    let table = 8 + 8 + 9;
    let without_table = &plain[..plain.len() - table];
    let mut other_table = plain.clone();
    let at = plain.len() - table + 8;
    other_table[at] ^= 1;
    let bad = [
        sealed(b""),
        sealed(without_table),
        sealed(&other_table),
        sealed(&[&plain[..], b"x"].concat()),
        sealed(&[&plain[..], &plain].concat()),
        sealed(&plain[plain.len() - table..]),
        seal(&keys, &[]),
        seal(&keys, &[&good, &good]),
        seal(&keys, &[&good, &[0; 512]]),
        seal(&keys, &[&good[..good.len() - 512]]),
    ];
    for object in bad {
        let checked = check_archive(&object[..], &keys.identities);
        assert!(matches!(checked, Err(ArchiveError::Damaged { .. })), "{checked:?}");
    }
}

#[test]
fn an_archive_that_is_not_what_it_says_or_too_new_is_refused() {
    let keys = Keys::new(1);
    let line = String::from_utf8(about().encode().unwrap()).unwrap();
    let check = |line: &str, path: &[u8]| {
        check_archive(&seal(&keys, &[&tar_with(line.as_bytes(), path)])[..], &keys.identities)
    };
    assert!(check(&line, b"backend").is_ok());
    assert!(check(&line, b".backstay/parts/backend/a/00000000000000000000").is_ok());
    for path in [&b"frontend/a"[..], b"backendx", b".backstay/archive.json", b".backstay/parts/frontend/a"] {
        assert!(matches!(check(&line, path), Err(ArchiveError::Damaged { .. })));
    }
    let newer = line.replace("\"format\":1", "\"format\":2");
    assert!(matches!(check(&newer, b"backend/a"), Err(ArchiveError::TooNew { .. })));
    let needs = line.replace("\"needs\":[]", "\"needs\":[\"colour\"]");
    assert!(matches!(check(&needs, b"backend/a"), Err(ArchiveError::TooNew { .. })));
    assert!(matches!(check(line.trim_end(), b"backend/a"), Err(ArchiveError::Damaged { .. })));
    assert!(matches!(check("{}\n", b"backend/a"), Err(ArchiveError::Damaged { .. })));
}

#[test]
fn a_zstd_bomb_is_refused_before_it_is_unpacked() {
    let keys = Keys::new(1);
    let mut bomb = zstd::bulk::Compressor::new(19).unwrap();
    bomb.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true)).unwrap();
    let bomb = bomb.compress(&vec![0; 64 << 20]).unwrap();
    let checked = check_archive(&seal_all(&bomb, &keys.recipients).unwrap()[..], &keys.identities);
    assert!(matches!(checked, Err(ArchiveError::Damaged { .. })));
}

#[test]
fn a_source_that_fails_is_not_called_damage() {
    use std::io::Read;
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the cable is out"))
        }
    }
    let keys = Keys::new(1);
    let (object, _) = zoo_archive(&keys);
    for whole in [0, 100, object.len() / 2] {
        let checked = check_archive(object[..whole].chain(Failing), &keys.identities);
        assert!(matches!(checked, Err(ArchiveError::Source { .. })), "{checked:?}");
    }
}

#[test]
fn stock_tools_give_the_files_back() {
    let tools = (Tool::find("age"), Tool::find("zstd"), Tool::gnu_tar());
    let (Some(age), Some(zstd), Some(tar)) = tools else {
        return;
    };
    let keys = Keys::new(2);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ArchiveWriter::create(dir.path(), &about(), &keys.recipients, &pool(), 3).unwrap();
    let contents = [bytes(1, 9 << 20), text(3 << 20), text(10), bytes(2, 2 << 20)];
    for (number, content) in contents.iter().enumerate() {
        let path = format!("backend/{number}");
        writer.begin(&file(path.as_bytes(), content.len())).unwrap();
        for piece in content.chunks(100_000) {
            writer.data(piece).unwrap();
        }
        writer.end().unwrap();
    }
    let sealed = writer.finish().unwrap();
    let object = std::fs::read(&sealed.path).unwrap();
    let identity = dir.path().join("identity");
    std::fs::write(&identity, keys.secret_text(1)).unwrap();
    let opened = age.pipe(&["-d".as_ref(), "-i".as_ref(), identity.as_os_str()], &object);
    let stream = zstd.pipe(&["-dc".as_ref()], &opened);
    assert_eq!(stream.len() as u64, sealed.info.tar);
    tar.pipe(
        &["--no-same-owner".as_ref(), "-xf".as_ref(), "-".as_ref(), "-C".as_ref(), dir.path().as_os_str()],
        &stream,
    );
    for (number, content) in contents.iter().enumerate() {
        assert!(&std::fs::read(dir.path().join(format!("backend/{number}"))).unwrap() == content);
    }
    assert!(dir.path().join(".backstay/archive.json").is_file());
}
