//! The header bytes of a member.

use super::member::{MemberKind, TARGET_MAX, path_fault, ranges_fault, sparse_path};
use super::records::{self, BINARY, REAL_SIZE, XATTR};
use super::{BLOCK, MAP_BYTES_MAX, Member, PAX_BYTES_MAX, USTAR_SIZE_MAX, padding};
use crate::archive::error::ArchiveError;
use crate::model::path::escape;
use std::borrow::Cow;
use tar::{EntryType, Header};

/// What uid, gid and device fields of a ustar header can say.
const USTAR_NUMBER_MAX: u32 = 0o777_7777;

/// Adds everything that stands before the data of `member` to `out`: a pax header where ustar cannot say it all exactly, the ustar block,
/// the map of a sparse file. `member.size` bytes and their [`padding`] must follow. After an error `out` is as it was.
pub fn encode(member: &Member<'_>, out: &mut Vec<u8>) -> Result<(), ArchiveError> {
    let unstorable =
        |what: &str| ArchiveError::Unstorable { path: escape(member.path), what: what.to_owned() };
    if let Some(fault) = fault(member) {
        return Err(unstorable(fault));
    }
    let map = member.sparse.map(|sparse| sparse_map(sparse.real_size, sparse.ranges));
    let map = map.unwrap_or_default();
    if map.len() > MAP_BYTES_MAX {
        return Err(unstorable("its sparse map is too long"));
    }
    let stored = member.size.checked_add(map.len() as u64);
    let stored = stored.filter(|size| size.checked_add(BLOCK as u64).is_some());
    let stored = stored.ok_or_else(|| unstorable("its size is impossible"))?;
    let path = tar_path(member);
    let pax = pax_records(member, &path, stored);
    if pax.len() > PAX_BYTES_MAX {
        return Err(unstorable("its names and attributes take up more than 1 MiB"));
    }
    let start = out.len();
    let written = push_headers(member, &path, stored, &pax, out);
    if let Err(e) = written {
        out.truncate(start);
        return Err(unstorable(&e.to_string()));
    }
    out.extend_from_slice(&map);
    Ok(())
}

/// Why `member` makes no sense.
fn fault(member: &Member<'_>) -> Option<&'static str> {
    use MemberKind::{Block, Char, File, HardLink, Symlink};
    let is_link = matches!(member.kind, Symlink | HardLink);
    let names = [member.user, member.group];
    if let Some(fault) = path_fault(member.path) {
        return Some(fault);
    }
    if is_link != member.target.is_some() || matches!(member.kind, Char | Block) != member.dev.is_some() {
        return Some("links, and only they, have a target; devices, and only they, have numbers");
    }
    if member.kind != File && (member.size != 0 || member.sparse.is_some()) {
        return Some("only files have data");
    }
    if member.mode > 0o7777 || member.mtime.1 > 999_999_999 {
        return Some("its mode or time is impossible");
    }
    if member.dev.is_some_and(|(major, minor)| major.max(minor) > USTAR_NUMBER_MAX) {
        return Some("its device numbers are too large");
    }
    if names.iter().flatten().any(|name| name.contains('\0')) {
        return Some("its owner's name holds a NUL byte");
    }
    let target = member.target.unwrap_or(b"x");
    if target.is_empty() || target.contains(&0) || target.len() > TARGET_MAX {
        return Some("its target is empty, too long or holds a NUL byte");
    }
    if member.kind == HardLink && path_fault(target).is_some() {
        return Some("its target is not a member's path");
    }
    let sparse = member.sparse?;
    ranges_fault(sparse.ranges, sparse.real_size, member.size)
}

/// The path as it stands in the header.
fn tar_path<'a>(member: &Member<'a>) -> Cow<'a, [u8]> {
    match member.kind {
        MemberKind::Dir => Cow::Owned([member.path, b"/"].concat()),
        _ if member.sparse.is_some() => Cow::Owned(sparse_path(member.path)),
        _ => Cow::Borrowed(member.path),
    }
}

/// The pax records that `member` needs; empty when ustar says it all. Python takes the last of `path` and `GNU.sparse.name`, so the
/// order of these matters.
fn pax_records(member: &Member<'_>, path: &[u8], stored: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let target = member.target.unwrap_or_default();
    // Only names: values of attributes are bytes for every tar program anyway, and GNU tar warns about each hdrcharset.
    if [path, target].iter().any(|text| std::str::from_utf8(text).is_err()) {
        records::push(&mut out, "hdrcharset", BINARY);
    }
    if split_path(path).is_none() {
        records::push(&mut out, "path", path);
    }
    if ustar_text(target, 100).is_none() {
        records::push(&mut out, "linkpath", target);
    }
    if stored > USTAR_SIZE_MAX {
        records::push(&mut out, "size", stored.to_string().as_bytes());
    }
    for (key, id) in [("uid", member.uid), ("gid", member.gid)] {
        if id > USTAR_NUMBER_MAX {
            records::push(&mut out, key, id.to_string().as_bytes());
        }
    }
    for (key, name) in [("uname", member.user), ("gname", member.group)] {
        if let Some(name) = name.filter(|name| ustar_text(name.as_bytes(), 31).is_none()) {
            records::push(&mut out, key, name.as_bytes());
        }
    }
    if ustar_time(member.mtime).is_none() {
        records::push(&mut out, "mtime", records::time_text(member.mtime).as_bytes());
    }
    if let Some(sparse) = member.sparse {
        records::push(&mut out, "GNU.sparse.major", b"1");
        records::push(&mut out, "GNU.sparse.minor", b"0");
        records::push(&mut out, "GNU.sparse.name", member.path);
        records::push(&mut out, REAL_SIZE, sparse.real_size.to_string().as_bytes());
    }
    for (name, value) in member.xattrs {
        if !name.is_empty() && !name.contains(['=', '\0']) {
            records::push(&mut out, &format!("{XATTR}{name}"), value);
        }
    }
    out
}

fn push_headers(
    member: &Member<'_>,
    path: &[u8],
    stored: u64,
    pax: &[u8],
    out: &mut Vec<u8>,
) -> std::io::Result<()> {
    if !pax.is_empty() {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(pax.len() as u64);
        put(&mut header.as_mut_bytes()[..100], b"PaxHeaders/member");
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(pax);
        out.resize(out.len() + padding(pax.len() as u64), 0);
    }
    out.extend_from_slice(ustar(member, path, stored)?.as_bytes());
    Ok(())
}

/// The ustar block. What it cannot say is in the pax header; then it has a harmless value, so that a program that does not read
/// pax makes nothing that belongs to root.
fn ustar(member: &Member<'_>, path: &[u8], stored: u64) -> std::io::Result<Header> {
    let mut header = Header::new_ustar();
    let (prefix, name) = match split_path(path) {
        Some((prefix, name)) => (prefix, Cow::Borrowed(name)),
        None => (&b""[..], Cow::Owned(stand_in(path))),
    };
    header.set_entry_type(match member.kind {
        MemberKind::File => EntryType::Regular,
        MemberKind::Dir => EntryType::Directory,
        MemberKind::Symlink => EntryType::Symlink,
        MemberKind::HardLink => EntryType::Link,
        MemberKind::Fifo => EntryType::Fifo,
        MemberKind::Char => EntryType::Char,
        MemberKind::Block => EntryType::Block,
    });
    header.set_mode(member.mode);
    header.set_uid(member.uid.min(USTAR_NUMBER_MAX).into());
    header.set_gid(member.gid.min(USTAR_NUMBER_MAX).into());
    header.set_size(if stored > USTAR_SIZE_MAX { 0 } else { stored });
    header.set_mtime(member.mtime.0.clamp(0, USTAR_SIZE_MAX as i64) as u64);
    if let Some((major, minor)) = member.dev {
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
    }
    let target = member.target.unwrap_or_default();
    let owner = |name: Option<&str>| {
        let name = name.unwrap_or_default().as_bytes();
        ustar_text(name, 31).unwrap_or_default().to_vec()
    };
    let (user, group) = (owner(member.user), owner(member.group));
    let bytes = header.as_mut_bytes();
    put(&mut bytes[..100], &name);
    put(&mut bytes[345..500], prefix);
    put(&mut bytes[157..257], &ustar_text(target, 100).map_or_else(|| stand_in(target), <[u8]>::to_vec));
    put(&mut bytes[265..297], &user);
    put(&mut bytes[297..329], &group);
    header.set_cksum();
    Ok(header)
}

fn put(field: &mut [u8], value: &[u8]) {
    field[..value.len()].copy_from_slice(value);
}

/// `text` if a ustar field of `length` bytes can hold it: ASCII, since pax says that other text is in no known encoding there.
fn ustar_text(text: &[u8], length: usize) -> Option<&[u8]> {
    (text.is_ascii() && text.len() <= length).then_some(text)
}

/// `path` as prefix and name fields.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(name) = ustar_text(path, 100) {
        return Some((b"", name));
    }
    if path.len() > 256 {
        return None;
    }
    let inner = &path[..path.len() - 1];
    let slash = (0..inner.len()).find(|&at| path[at] == b'/' && path.len() - at - 1 <= 100)?;
    let prefix = ustar_text(&path[..slash], 155).filter(|prefix| !prefix.is_empty())?;
    Some((prefix, ustar_text(&path[slash + 1..], 100)?))
}

/// A name for the ustar field where pax has the true one: never with a slash, so never a directory to anyone.
fn stand_in(path: &[u8]) -> Vec<u8> {
    let inner = path.strip_suffix(b"/").unwrap_or(path);
    let name = inner.rsplit(|&b| b == b'/').next().unwrap_or(inner);
    let plain = |b: &u8| if b.is_ascii_graphic() { *b } else { b'_' };
    name.iter().take(90).map(plain).collect()
}

/// `mtime` if ustar can say it.
fn ustar_time((seconds, nanos): (i64, u32)) -> Option<u64> {
    u64::try_from(seconds).ok().filter(|s| nanos == 0 && *s <= USTAR_SIZE_MAX)
}

/// The map of GNU sparse format 1.0, padded to whole blocks. Where the file ends with a hole, an empty stretch at its end tells
/// GNU tar how long it is.
fn sparse_map(real_size: u64, ranges: &[(u64, u64)]) -> Vec<u8> {
    let end = ranges.last().map_or(0, |(offset, length)| offset + length);
    let tail = (end < real_size || ranges.is_empty()).then_some((real_size, 0));
    let count = ranges.len() + usize::from(tail.is_some());
    let mut map = format!("{count}\n").into_bytes();
    for (offset, length) in ranges.iter().copied().chain(tail) {
        map.extend_from_slice(format!("{offset}\n{length}\n").as_bytes());
    }
    map.resize(map.len() + padding(map.len() as u64), 0);
    map
}
