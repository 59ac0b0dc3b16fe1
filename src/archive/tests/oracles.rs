//! What we write, other programs read; each sees what we see.

use super::members::{Zoo, append, end, file, member, read_all, sparse_content};
use super::tools::Tool;
use crate::archive::pax::{BLOCK, MemberKind, TarReader, encode, padding};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

#[test]
fn our_own_reader_gives_back_every_field() {
    let zoo = Zoo::new();
    let tar = zoo.tar(|_| true);
    let read = read_all(&tar).unwrap();
    let written = zoo.members();
    assert_eq!(read.len(), written.len());
    for ((got, data), (want, content)) in read.iter().zip(&written) {
        assert_eq!((&got.path[..], got.kind, got.mode), (want.path, want.kind, want.mode));
        assert_eq!((got.uid, got.gid, got.mtime), (want.uid, want.gid, want.mtime), "{want:?}");
        assert_eq!((got.user.as_deref(), got.group.as_deref()), (want.user, want.group));
        assert_eq!((got.target.as_deref(), got.dev, got.size), (want.target, want.dev, want.size));
        let said: BTreeMap<_, _> = want.xattrs.iter().filter(|(k, _)| !k.contains('=')).collect();
        assert_eq!(got.xattrs.iter().collect::<BTreeMap<_, _>>(), said);
        assert_eq!(
            got.sparse.as_ref().map(|s| (s.0, &s.1[..])),
            want.sparse.map(|s| (s.real_size, s.ranges))
        );
        assert!(data == content);
        let at = got.data_offset as usize;
        assert!(&tar[at..at + content.len()] == content, "the data lies where the reader says");
    }
}

#[test]
fn what_ustar_can_say_takes_one_block() {
    let mut out = Vec::new();
    encode(&file(b"backend/some/where/main.py", 5), &mut out).unwrap();
    assert_eq!(out.len(), BLOCK);
    let path = format!("{}/{}", "d".repeat(150), "f".repeat(100));
    out.clear();
    encode(&file(path.as_bytes(), 5), &mut out).unwrap();
    assert_eq!(out.len(), BLOCK, "prefix and name");
    let mut out = Vec::new();
    append(&mut out, &file(path.as_bytes(), 0), b"");
    assert_eq!(read_all(&end(out)).unwrap()[0].0.path, path.as_bytes());
}

#[test]
fn paths_of_every_length_come_back() {
    let mut out = Vec::new();
    let mut paths = Vec::new();
    for length in (1..300).chain([4000, 65_535]) {
        for parts in [7, 60, 99, 101] {
            let path: Vec<u8> = (0..length)
                .map(|i| if i % parts == parts - 1 && i + 1 < length { b'/' } else { b'x' })
                .collect();
            append(&mut out, &file(&path, 0), b"");
            append(&mut out, &member(&path, MemberKind::Dir), b"");
            paths.push(path);
        }
    }
    let tar = end(out);
    let read = read_all(&tar).unwrap();
    assert!(read.iter().map(|(m, _)| &m.path).eq(paths.iter().flat_map(|p| [p, p])));
    let mut theirs = tar::Archive::new(&tar[..]);
    let theirs: Vec<_> = theirs.entries().unwrap().map(|e| e.unwrap().path_bytes().into_owned()).collect();
    let slashed = paths.iter().flat_map(|p| [p.clone(), [&p[..], b"/"].concat()]);
    assert!(theirs.into_iter().eq(slashed));
}

#[test]
fn the_tar_crate_sees_the_same_members() {
    let zoo = Zoo::new();
    let tar = zoo.tar(|m| m.sparse.is_none());
    let mut archive = tar::Archive::new(&tar[..]);
    let ours = read_all(&tar).unwrap();
    let mut count = 0;
    for (entry, (member, data)) in archive.entries().unwrap().zip(&ours) {
        let mut entry = entry.unwrap();
        let path = entry.path_bytes().into_owned();
        assert_eq!(path.strip_suffix(b"/").unwrap_or(&path), member.path);
        assert_eq!(entry.link_name_bytes().as_deref(), member.target.as_deref());
        assert_eq!(entry.header().mode().unwrap(), member.mode);
        assert_eq!(entry.raw_file_position(), member.data_offset);
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert!(&content == data);
        count += 1;
    }
    assert_eq!(count, ours.len());
}

const PYTHON: &str = r#"
import sys, io, tarfile, hashlib
sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
tar = tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()), mode="r:", encoding="utf-8")
for m in tar:
    data = tar.extractfile(m).read() if m.isreg() else b""
    x = ",".join(k + "=" + v.encode("utf-8", "surrogateescape").hex()
        for k, v in sorted(m.pax_headers.items()) if k.startswith("SCHILY.xattr."))
    row = [m.name.encode("utf-8", "surrogateescape").hex(), m.type.decode(), oct(m.mode), m.uid, m.gid, m.uname, m.gname,
        "%.3f" % m.mtime, m.size, m.linkname.encode("utf-8", "surrogateescape").hex(), m.devmajor, m.devminor, x,
        hashlib.sha256(data).hexdigest()]
    print("|".join(str(field) for field in row))
"#;

#[test]
fn python_sees_the_same_members() {
    let Some(python) = Tool::find("python3") else {
        return;
    };
    let zoo = Zoo::new();
    let rows = python.pipe(&["-c".as_ref(), PYTHON.as_ref()], &zoo.tar(|_| true));
    let rows = String::from_utf8(rows).unwrap();
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let mut expected = String::new();
    for (m, data) in zoo.members() {
        let kind = match m.kind {
            MemberKind::File => '0',
            MemberKind::HardLink => '1',
            MemberKind::Symlink => '2',
            MemberKind::Char => '3',
            MemberKind::Block => '4',
            MemberKind::Dir => '5',
            MemberKind::Fifo => '6',
        };
        let content = match m.sparse {
            Some(s) if s.ranges.is_empty() => vec![0; s.real_size as usize],
            Some(_) => sparse_content(),
            None => data,
        };
        let (major, minor) = m.dev.unwrap_or_default();
        let xattrs: Vec<_> = m.xattrs.iter().filter(|(k, _)| !k.contains('=')).collect();
        let xattrs: Vec<_> = xattrs.iter().map(|(k, v)| format!("SCHILY.xattr.{k}={}", hex(v))).collect();
        let mtime = m.mtime.0 as f64 + f64::from(m.mtime.1) / 1e9;
        expected += &format!(
            "{}|{kind}|0o{:o}|{}|{}|{}|{}|{mtime:.3}|{}|{}|{major}|{minor}|{}|{}\n",
            hex(m.path),
            m.mode,
            m.uid,
            m.gid,
            m.user.unwrap_or_default(),
            m.group.unwrap_or_default(),
            content.len(),
            hex(m.target.unwrap_or_default()),
            xattrs.join(","),
            crate::model::ObjectId::of(&content),
        );
    }
    assert_eq!(rows, expected);
}

/// What a program unpacked, compared with what was packed.
fn compare(dir: &Path, zoo: &Zoo, negative_fractions: bool) {
    for (m, data) in zoo.members().iter().filter(|(m, _)| m.dev.is_none()) {
        let path = dir.join(std::ffi::OsStr::from_bytes(m.path));
        let meta = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let fits = match m.kind {
            MemberKind::Dir => meta.is_dir(),
            MemberKind::Symlink => fs::read_link(&path).unwrap().as_os_str().as_bytes() == m.target.unwrap(),
            MemberKind::Fifo => meta.file_type().is_fifo(),
            MemberKind::HardLink => meta.nlink() > 1,
            _ => meta.is_file(),
        };
        assert!(fits, "{m:?}");
        let exact = negative_fractions || m.mtime.0 >= 0 || m.mtime.1 == 0;
        if matches!(m.kind, MemberKind::File | MemberKind::Symlink) && exact {
            assert_eq!((meta.mtime(), meta.mtime_nsec()), (m.mtime.0, i64::from(m.mtime.1)), "{m:?}");
        }
        if m.kind == MemberKind::File {
            let content = fs::read(&path).unwrap();
            let expected = match m.sparse {
                Some(s) if s.ranges.is_empty() => vec![0; s.real_size as usize],
                Some(_) => sparse_content(),
                None => data.clone(),
            };
            assert!(content == expected, "{m:?}");
        }
        if m.sparse.is_some() {
            assert!(meta.blocks() * 512 < meta.len() / 2, "holes stay holes: {m:?}");
        }
    }
}

#[test]
fn gnu_tar_unpacks_everything() {
    let Some(tar) = Tool::gnu_tar() else { return };
    let zoo = Zoo::new();
    let dir = tempfile::tempdir().unwrap();
    let args = ["--no-same-owner", "--xattrs", "--xattrs-include=user.*", "-xf", "-", "-C"];
    let mut args: Vec<&std::ffi::OsStr> = args.iter().map(AsRef::as_ref).collect();
    args.push(dir.path().as_os_str());
    tar.pipe(&args, &zoo.tar(|m| m.dev.is_none()));
    compare(dir.path(), &zoo, true);
    let mut value = [0; 64];
    let path = dir.path().join("backend/xattrs");
    match rustix::fs::getxattr(&path, "user.binary", &mut value) {
        Ok(length) => assert_eq!(&value[..length], b"\0\xff\n=\0"),
        Err(e) => crate::not_run(&format!("xattrs, which this file system does not keep ({e})")),
    }
}

#[test]
fn gnu_tar_lists_owners_and_devices() {
    let Some(tar) = Tool::gnu_tar() else { return };
    let zoo = Zoo::new();
    let list = tar.pipe(&["--numeric-owner".as_ref(), "-tvf".as_ref(), "-".as_ref()], &zoo.tar(|_| true));
    let list = String::from_utf8_lossy(&list);
    let line =
        |name: &str| list.lines().find(|l| l.ends_with(name)).unwrap_or_else(|| panic!("{name}: {list}"));
    assert!(line("backend/ids").contains("4294967294/2097152"));
    assert!(line("backend/char").contains("4095,1048575"));
    assert!(line("backend/block").starts_with('b'));
    assert!(line("backend/setuid").starts_with("-rwsr-sr-x"));
    assert!(line("backend/sparse").contains(&super::members::SPARSE_SIZE.to_string()));
}

#[test]
fn bsdtar_unpacks_everything() {
    let Some(tar) = Tool::find("bsdtar") else {
        return;
    };
    let zoo = Zoo::new();
    let dir = tempfile::tempdir().unwrap();
    let args = ["--no-same-owner", "-xf", "-", "-C"];
    let mut args: Vec<&std::ffi::OsStr> = args.iter().map(AsRef::as_ref).collect();
    args.push(dir.path().as_os_str());
    tar.pipe(&args, &zoo.tar(|m| m.dev.is_none()));
    // libarchive drops the sign of the fraction.
    compare(dir.path(), &zoo, false);
}

#[test]
fn a_member_of_8_gib_and_a_byte_is_read_alike_by_all() {
    let size = (8 << 30) + 1;
    let mut header = Vec::new();
    encode(&crate::archive::Member { size, ..file(b"backend/big", 0) }, &mut header).unwrap();
    let member = TarReader::new(&header[..], "a stream").next_member().unwrap().unwrap();
    assert_eq!((member.size, &member.path[..]), (size, &b"backend/big"[..]));
    let mut after = Vec::new();
    append(&mut after, &file(b"backend/after", 5), b"small");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.tar");
    let at = header.len() as u64 + size + padding(size) as u64;
    let file = fs::File::create(&path).unwrap();
    rustix::io::pwrite(&file, &header, 0).unwrap();
    rustix::io::pwrite(&file, &end(after), at).unwrap();
    let mut theirs = tar::Archive::new(fs::File::open(&path).unwrap());
    let entries: Vec<_> = theirs.entries_with_seek().unwrap().map(|e| e.unwrap().size()).collect();
    assert_eq!(entries, [size, 5]);
    for tool in [Tool::gnu_tar(), Tool::find("bsdtar")].into_iter().flatten() {
        let list = tool.pipe(&["-tvf".as_ref(), path.as_os_str()], b"");
        let list = String::from_utf8(list).unwrap();
        assert!(list.contains("8589934593") && list.contains("backend/after"), "{list}");
    }
}
