//! Four programs' listings of a tar file, brought into one form.

use super::project::expect_code;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

/// What a listing says of a member. Hard links have no size of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) kind: String,
    pub(crate) size: u64,
    /// Seconds and nanoseconds, both rounded down.
    pub(crate) mtime: (i64, i64),
    /// Where a link leads.
    pub(crate) target: Vec<u8>,
}

impl Member {
    fn new(kind: &str, size: u64, mtime: (i64, i64), target: Vec<u8>) -> Self {
        let size = if kind == "file" { size } else { 0 };
        let target = if kind.ends_with("link") { target } else { Vec::new() };
        Self { kind: kind.to_owned(), size, mtime, target }
    }
}

type Members = BTreeMap<Vec<u8>, Member>;

fn insert(members: &mut Members, name: &[u8], member: Member) {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    members.insert(name.to_vec(), member);
}

#[track_caller]
fn output_of(command: &mut Command) -> Vec<u8> {
    let output = command.env("TZ", "UTC").output().unwrap();
    expect_code(output, 0).stdout
}

pub(crate) fn by_python(tar: &Path) -> Members {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/list_tar.py");
    let listing = output_of(Command::new("python3").arg("-B").arg(script).arg(tar));
    let mut members = Members::new();
    for line in String::from_utf8(listing).unwrap().lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let hex = |n: usize| data_encoding::HEXLOWER.decode(row[n].as_str().unwrap().as_bytes()).unwrap();
        let mtime = (row[3].as_i64().unwrap(), row[4].as_i64().unwrap());
        let member = Member::new(row[1].as_str().unwrap(), row[2].as_u64().unwrap(), mtime, hex(5));
        insert(&mut members, &hex(0), member);
    }
    members
}

/// Undoes `\ooo`, `\n` and the like.
fn unescape(text: &str) -> Vec<u8> {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|d| d.iter().all(u8::is_ascii_digit));
        match (bytes[at], octal) {
            (b'\\', Some(digits)) => {
                out.push(digits.iter().fold(0u8, |n, d| n.wrapping_mul(8) + (d - b'0')));
                at += 4;
            }
            (b'\\', None) => {
                let named = [(b'n', 10), (b't', 9), (b'r', 13), (b'a', 7), (b'b', 8), (b'f', 12), (b'v', 11)];
                let byte = bytes[at + 1];
                out.push(named.iter().find(|n| n.0 == byte).map_or(byte, |n| n.1));
                at += 2;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

pub(crate) fn by_gnu_tar(tar: &Path) -> Members {
    let options =
        ["--list", "--verbose", "--full-time", "--numeric-owner", "--quoting-style=escape", "--file"];
    let listing = output_of(Command::new("tar").env("LC_ALL", "C").args(options).arg(tar));
    let (mut members, mut width) = (Members::new(), 0);
    for line in String::from_utf8(listing).unwrap().lines() {
        let mut rest = line;
        let mut word = || {
            let (word, after) = rest.split_once(' ').unwrap();
            rest = after.trim_start_matches(' ');
            word
        };
        let (mode, _owner, size) = (word(), word(), word());
        // The column of times is as wide as the widest so far. Then one blank comes before the name, which may begin with one.
        let (day, time) = rest.split_once(' ').unwrap();
        let time = time.split(' ').next().unwrap();
        width = width.max(day.len() + 1 + time.len());
        let name = &rest[width + 1..];
        let stamp: jiff::Timestamp = format!("{day}T{time}Z").parse().unwrap();
        let nanos = stamp.as_nanosecond();
        let mtime = (
            i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap(),
            i64::try_from(nanos.rem_euclid(1_000_000_000)).unwrap(),
        );
        let (kind, separator) = match &mode[..1] {
            "-" => ("file", None),
            "d" => ("dir", None),
            "l" => ("symlink", Some(" -> ")),
            "h" => ("hardlink", Some(" link to ")),
            "p" => ("fifo", None),
            "c" => ("char", None),
            "b" => ("block", None),
            other => panic!("{other}"),
        };
        let (name, target) = separator.map_or((name, ""), |s| name.split_once(s).unwrap());
        let member = Member::new(kind, size.parse().unwrap_or(0), mtime, unescape(target));
        insert(&mut members, &unescape(name), member);
    }
    members
}

/// bsdtar writes the members of a tar file as an mtree list. That has hard links as empty files: which they are comes from its other list.
pub(crate) fn by_bsdtar(tar: &Path) -> Members {
    let wanted = "--options=mtree:!all,mtree:type,mtree:size,mtree:time,mtree:link";
    let from = [b"@", tar.as_os_str().as_bytes()].concat();
    let mut bsdtar = Command::new("bsdtar");
    bsdtar.env("LC_ALL", "C.UTF-8"); // else it complains of names
    bsdtar.args(["-cf", "-", "--format=mtree", wanted]).arg(std::ffi::OsStr::from_bytes(&from));
    let listing = String::from_utf8(output_of(&mut bsdtar)).unwrap();
    let mut members = Members::new();
    for line in listing.lines().filter(|l| !l.starts_with('#')) {
        let mut words = line.split(' ');
        let name = unescape(words.next().unwrap());
        let values: BTreeMap<&str, &str> = words.map(|w| w.split_once('=').unwrap()).collect();
        let (seconds, nanos) = values["time"].split_once('.').unwrap();
        let mtime = (seconds.parse().unwrap(), nanos.parse().unwrap());
        let kind = match values["type"] {
            "link" => "symlink",
            other => other,
        };
        let size = values.get("size").map_or(0, |s| s.parse().unwrap());
        let target = values.get("link").map_or(Vec::new(), |t| unescape(t));
        let name = name.strip_prefix(b"./").unwrap_or(&name);
        insert(&mut members, name, Member::new(kind, size, mtime, target));
    }
    hard_links_of_bsdtar(tar, &mut members);
    members
}

fn hard_links_of_bsdtar(tar: &Path, members: &mut Members) {
    let listing = output_of(Command::new("bsdtar").env("LC_ALL", "C.UTF-8").arg("-tvf").arg(tar));
    for line in String::from_utf8(listing).unwrap().lines() {
        let Some((before, target)) = line.split_once(" link to ").filter(|_| line.starts_with(['h', '-']))
        else {
            continue;
        };
        let target = unescape(target);
        // Its columns are as wide as they need to be; the name is what ends them.
        let member = members.iter_mut().find(|(name, m)| {
            m.kind == "file"
                && m.size == 0
                && before.ends_with(&format!(" {}", String::from_utf8_lossy(name)))
        });
        let Some((_, member)) = member else { panic!("{line}") };
        (member.kind, member.target) = ("hardlink".to_owned(), target);
    }
}

/// The crate knows nothing of sparse files: their name and size are taken from the records that it hands over. Nor does it know that a record
/// can hold a line break: such members are counted only.
pub(crate) fn by_tar_crate(tar: &Path) -> (Members, usize) {
    let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
    let (mut members, mut unreadable) = (Members::new(), 0);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut records = BTreeMap::new();
        let extensions: Result<Vec<_>, _> = entry.pax_extensions().unwrap().into_iter().flatten().collect();
        let Ok(extensions) = extensions else {
            unreadable += 1;
            continue;
        };
        for record in extensions {
            records.insert(record.key_bytes().to_vec(), record.value_bytes().to_vec());
        }
        let text = |key: &[u8]| records.get(key).map(|v| String::from_utf8(v.clone()).unwrap());
        let header = entry.header();
        let kind = match header.entry_type() {
            tar::EntryType::Directory => "dir",
            tar::EntryType::Symlink => "symlink",
            tar::EntryType::Link => "hardlink",
            tar::EntryType::Fifo => "fifo",
            tar::EntryType::Char => "char",
            tar::EntryType::Block => "block",
            _ => "file",
        };
        let size = text(b"GNU.sparse.realsize").map_or(entry.size(), |s| s.parse().unwrap());
        let mtime = match text(b"mtime") {
            Some(mtime) => decimal(&mtime),
            None => (i64::try_from(header.mtime().unwrap()).unwrap(), 0),
        };
        let name = records.get(&b"GNU.sparse.name"[..]).cloned();
        let name = name.unwrap_or_else(|| entry.path_bytes().into_owned());
        let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        insert(&mut members, &name, Member::new(kind, size, mtime, target));
    }
    (members, unreadable)
}

/// Seconds and nanoseconds of a decimal number, both rounded down.
fn decimal(text: &str) -> (i64, i64) {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos: i128 = format!("{fraction:0<9}").parse().unwrap();
    let whole_nanos = whole.trim_start_matches('-').parse::<i128>().unwrap() * 1_000_000_000 + nanos;
    let total = if whole.starts_with('-') { -whole_nanos } else { whole_nanos };
    (
        i64::try_from(total.div_euclid(1_000_000_000)).unwrap(),
        i64::try_from(total.rem_euclid(1_000_000_000)).unwrap(),
    )
}
