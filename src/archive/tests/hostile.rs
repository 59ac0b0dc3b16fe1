//! Streams that somebody made to be misunderstood. Each must be refused.

use super::members::{append, end, file, member, read_all};
use crate::archive::pax::{BLOCK, Member, MemberKind, Sparse, encode};

/// A header block as any program could make it.
fn header(path: &[u8], kind: u8, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path);
    header.as_mut_bytes()[156] = kind;
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest + 1..).find(|n| *n == rest + n.to_string().len()).unwrap();
    format!("{length} {key}={value}\n").into_bytes()
}

/// A pax header of `records` before a file header.
fn with_pax(records: &[u8], rest: &[u8]) -> Vec<u8> {
    let head = header(b"PaxHeaders/x", b'x', records.len() as u64);
    [head, padded(records.to_vec()), rest.to_vec()].concat()
}

#[track_caller]
fn refused(stream: Vec<u8>, why: &str) {
    let error = read_all(&end(stream)).expect_err(why);
    assert!(error.to_string().contains(why), "{error} (expected: {why})");
}

fn changed(at: usize, to: &[u8]) -> Vec<u8> {
    let mut block = header(b"backend/a", b'0', 0);
    block[at..at + to.len()].copy_from_slice(to);
    let mut fixed = tar::Header::from_byte_slice(&block).clone();
    fixed.set_cksum();
    fixed.as_bytes().to_vec()
}

#[test]
fn a_sound_stream_is_read() {
    assert_eq!(read_all(&end(header(b"backend/a", b'0', 0))).unwrap().len(), 1);
    assert_eq!(read_all(&end(with_pax(&record("uid", "7"), &header(b"a", b'0', 0)))).unwrap()[0].0.uid, 7);
    assert_eq!(read_all(&end(vec![])).unwrap().len(), 0);
}

#[test]
fn a1_paths_that_lead_out_are_refused() {
    for path in ["../x", "/etc/passwd", "a/../../x", "a//b", "./a", "a/.", "", ".."] {
        refused(header(path.as_bytes(), b'0', 0), "a member is refused");
        if !path.is_empty() {
            refused(with_pax(&record("path", path), &header(b"a", b'0', 0)), "a member is refused");
        }
        let dir = format!("{path}/");
        refused(header(dir.as_bytes(), b'5', 0), "a member is refused");
        assert!(encode(&file(path.as_bytes(), 0), &mut Vec::new()).is_err(), "{path}");
    }
    refused(with_pax(&record("path", "a\0b"), &header(b"a", b'0', 0)), "NUL");
    refused(header(b"a\0b", b'0', 0), "behind a NUL");
    refused(header(b"a/", b'0', 0), "a member is refused");
    refused(header(b"a", b'5', 0), "does not end with a slash");
    let deep = "a/".repeat(40_000) + "a";
    refused(with_pax(&record("path", &deep), &header(b"a", b'0', 0)), "too long");
}

#[test]
fn a4_hard_links_lead_to_paths_inside_and_nothing_else_has_a_target() {
    for target in ["", "/etc/passwd", "../x", "a/../b"] {
        let mut link = tar::Header::from_byte_slice(&header(b"backend/l", b'1', 0)).clone();
        link.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        link.set_cksum();
        refused(link.as_bytes().to_vec(), "target");
    }
    refused(header(b"l", b'2', 0), "target");
    refused(changed(157, b"x"), "target");
}

#[test]
fn a5_sizes_that_disagree_are_refused() {
    let smuggled = header(b"backend/smuggled", b'0', 0);
    for (pax, ustar) in [("512", 0), ("0", 512), ("1024", 512), ("512", 1024)] {
        let inner = [header(b"a", b'0', ustar), smuggled.clone(), smuggled.clone()].concat();
        refused(with_pax(&record("size", pax), &inner), "disagree");
    }
    for size in ["18446744073709551615", "18446744073709551616", "-1", "1e3", "+5", "05"] {
        let stream = with_pax(&record("size", size), &header(b"a", b'0', 0));
        assert!(read_all(&end(stream)).is_err(), "{size}");
    }
    for kind in *b"123456" {
        let path = if kind == b'5' { &b"a/"[..] } else { b"a" };
        let mut block = tar::Header::from_byte_slice(&header(path, kind, 512)).clone();
        block.as_mut_bytes()[157..158].copy_from_slice(if kind <= b'2' { b"t" } else { b"\0" });
        block.set_cksum();
        refused([block.as_bytes().to_vec(), smuggled.clone()].concat(), "has data");
    }
}

#[test]
fn a6_headers_that_others_interpret_are_refused() {
    for kind in [b'g', b'L', b'K', b'S', b'D', b'M', b'N', b'V', b'7', b'A', 0, b' '] {
        assert!(read_all(&end(header(b"a", kind, 0))).is_err(), "{kind}");
    }
    let file = header(b"a", b'0', 0);
    refused(with_pax(&record("comment", "x"), &file), "unknown");
    refused(with_pax(&record("SCHILY.dev", "5"), &file), "unknown");
    refused(with_pax(&record("GNU.sparse.size", "5"), &file), "unknown");
    refused(with_pax(&[record("uid", "1"), record("uid", "2")].concat(), &file), "twice");
    refused(with_pax(b"9999 path=a\n", &file), "malformed");
    refused(with_pax(&[record("path", "b"), vec![0; 3]].concat(), &file), "malformed");
    refused(with_pax(&record("uid", "4294967296"), &file), "too large");
    refused(with_pax(&record("mtime", "soon"), &file), "not a time");
    refused(with_pax(&record("uid", "1"), &with_pax(&record("gid", "1"), &file)), "kind 'x'");
    assert!(read_all(&end(with_pax(&record("uid", "1"), b""))).is_err(), "a pax header of nothing");
    assert!(read_all(&end(header(b"PaxHeaders/x", b'x', 0))).is_err(), "an empty pax header");
}

#[test]
fn a7_a_path_that_comes_twice_is_given_twice_in_order() {
    let mut out = Vec::new();
    append(&mut out, &file(b"backend/a", 3), b"old");
    append(&mut out, &file(b"backend/a", 3), b"new");
    let data: Vec<_> = read_all(&end(out)).unwrap().into_iter().map(|(_, data)| data).collect();
    assert_eq!(data, [b"old", b"new"]);
}

#[test]
fn a10_a_pax_header_or_sparse_map_beyond_its_limit_is_not_read() {
    refused(header(b"PaxHeaders/x", b'x', 1 << 30), "longer than 1 MiB");
    refused(header(b"PaxHeaders/x", b'x', (1 << 20) + 1), "longer than 1 MiB");
    let xattrs = [("user.big".to_owned(), vec![0; 2 << 20])].into();
    let big = Member { xattrs: &xattrs, ..file(b"a", 0) };
    let mut out = vec![7];
    assert!(encode(&big, &mut out).unwrap_err().to_string().contains("1 MiB"));
    assert_eq!(out, [7], "a refused member leaves nothing");
}

fn sparse(map: &str, real_size: &str, data: usize) -> Vec<u8> {
    let mut records = Vec::new();
    for (key, value) in [("major", "1"), ("minor", "0"), ("name", "backend/s"), ("realsize", real_size)] {
        records.extend(record(&format!("GNU.sparse.{key}"), value));
    }
    let map = padded(map.as_bytes().to_vec());
    let block = header(b"backend/GNUSparseFile.0/s", b'0', (map.len() + data) as u64);
    with_pax(&records, &[block, map, padded(vec![b'd'; data])].concat())
}

#[test]
fn a10_sparse_maps_that_overlap_overflow_or_lie_are_refused() {
    let good = read_all(&end(sparse("2\n0\n5\n100\n0\n", "100", 5))).unwrap();
    assert_eq!(good[0].0.sparse, Some((100, vec![(0, 5)])));
    let bad = [
        ("2\n0\n512\n300\n512\n", "812", 1024),
        ("3\n512\n512\n0\n512\n2048\n0\n", "2048", 1024),
        ("2\n0\n5\n10\n5\n", "15", 10),
        ("1\n-5\n5\n", "10", 5),
        ("1\n18446744073709551615\n5\n", "10", 5),
        ("1\n18446744073709551616\n5\n", "10", 5),
        ("2\n18446744073709551615\n18446744073709551615\n0\n1\n", "1", 1),
        ("1\n0\n5\n", "10", 5),
        ("1\n0\n50\n", "10", 50),
        ("1\n0\n5\n", "5", 6),
        ("1\n0\n6\n", "6", 5),
        ("2\n0\n0\n0\n5\n", "5", 5),
        ("0\n", "0", 0),
        ("99999999\n0\n5\n", "5", 5),
        ("1\n0\n5\nx", "5", 5),
        ("x\n0\n5\n", "5", 5),
        ("", "5", 5),
        ("1", "5", 5),
    ];
    for (map, real_size, data) in bad {
        assert!(read_all(&end(sparse(map, real_size, data))).is_err(), "{map:?} {real_size} {data}");
    }
    let lone = with_pax(&record("GNU.sparse.major", "1"), &header(b"a", b'0', 0));
    refused(lone, "1.0");
    let renamed =
        String::from_utf8(sparse("1\n0\n5\n", "5", 5)).unwrap().replace("backend/s\n", "backend/t\n");
    refused(renamed.into_bytes(), "two names");
}

#[test]
fn a11_what_follows_the_end_or_interrupts_the_stream_is_refused() {
    let mut one = Vec::new();
    append(&mut one, &file(b"backend/a", 5), b"small");
    let whole = end(one.clone());
    let refused = |stream: &[u8]| assert!(read_all(stream).is_err());
    refused(&[&whole[..], &whole].concat());
    refused(&[&whole[..], &[0]].concat());
    refused(&[&whole[..], &[0; BLOCK]].concat());
    refused(&[&one[..], &[0; BLOCK], &whole].concat());
    for cut in 0..whole.len() {
        refused(&whole[..cut]);
    }
    let mut padding = whole.clone();
    padding[BLOCK + 5] = 1;
    refused(&padding);
}

#[test]
fn header_fields_that_programs_read_differently_are_refused() {
    let mut wrong = header(b"backend/a", b'0', 0);
    wrong[150] ^= 1;
    refused(wrong, "checksum");
    refused(changed(257, b"ustar  \0"), "not ustar");
    refused(changed(505, b"x"), "not ustar");
    refused(changed(124, &[0x80]), "octal");
    refused(changed(124, b"-0000000001\0"), "octal");
    refused(changed(124, b"0000000 001\0"), "octal");
    refused(changed(100, b"0100644\0"), "mode");
    refused(changed(329, b"0000001\0"), "device");
    refused(changed(265, b"\xff"), "UTF-8");
}

#[test]
fn members_that_make_no_sense_are_not_written() {
    let plain = |path| file(path, 0);
    let (dir, link) = (member(b"a", MemberKind::Dir), member(b"a", MemberKind::Symlink));
    let (hard, char) = (member(b"a", MemberKind::HardLink), member(b"a", MemberKind::Char));
    let bad = [
        Member { size: 1, ..dir },
        Member { target: None, ..link },
        Member { target: Some(b""), ..link },
        Member { target: Some(b"../b"), ..hard },
        Member { target: Some(b"b"), ..plain(b"a") },
        Member { dev: None, ..char },
        Member { dev: Some((1 << 21, 0)), ..char },
        Member { mode: 0o10000, ..plain(b"a") },
        Member { mtime: (0, 1_000_000_000), ..plain(b"a") },
        Member { user: Some("a\0b"), ..plain(b"a") },
        Member { size: u64::MAX, ..plain(b"a") },
    ];
    for member in bad {
        assert!(encode(&member, &mut Vec::new()).is_err(), "{member:?}");
    }
}

#[test]
fn sparse_maps_that_programs_read_differently_are_not_written() {
    let size = |ranges: &[(u64, u64)]| ranges.iter().map(|r| r.1 as usize).sum();
    let encoded = |ranges: &[(u64, u64)]| {
        let sparse = Some(Sparse { real_size: 4096, ranges });
        encode(&Member { sparse, ..file(b"a", size(ranges)) }, &mut Vec::new())
    };
    assert!(encoded(&[(0, 512), (1024, 5)]).is_ok());
    for ranges in [
        &[(0, 512), (300, 512)][..],
        &[(0, 5), (1024, 512)],
        &[(1024, 512), (0, 512)],
        &[(0, 0)],
        &[(4000, 512)],
        &[(u64::MAX, 1)],
    ] {
        assert!(encoded(ranges).is_err(), "{ranges:?}");
    }
}
