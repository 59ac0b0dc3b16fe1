//! The part of a row that is decoded only when it is used.

use crate::catalog::known::stretch::{Row, get_ident, put_ident_or_none};
use crate::catalog::known::wire::{Source, put, put_bytes};
use crate::model::entry::{FLAG_CRASH_CONSISTENT, FLAG_DATABASE, FLAG_UNSTEADY, Why};
use crate::model::record::CheckResult;
use crate::model::{ContentHash, Entry, Extent, MapRef, ObjectId};
use std::collections::BTreeMap;

const WHYS: [Why; 7] =
    [Why::Unreadable, Why::Component, Why::Store, Why::State, Why::Sidecar, Why::Mount, Why::Vanished];
const CHECKS: [CheckResult; 4] =
    [CheckResult::None, CheckResult::Passed, CheckResult::Deferred, CheckResult::Failed];
const FLAGS: [&str; 3] = [FLAG_UNSTEADY, FLAG_CRASH_CONSISTENT, FLAG_DATABASE];

fn put_or_none(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.push(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        put_bytes(out, bytes);
    }
}

pub(super) fn put_rest(out: &mut Vec<u8>, row: &Row, archives: &[ObjectId]) {
    let entry = &row.entry;
    put_or_none(out, entry.hash.as_ref().map(|h| &h.0[..]));
    put_or_none(out, entry.target.as_deref());
    let why = entry.why.and_then(|why| WHYS.iter().position(|w| *w == why));
    out.push(why.map_or(0, |place| place as u8 + 1));
    out.push(u8::from(entry.dev.is_some()));
    if let Some((major, minor)) = entry.dev {
        put(out, u64::from(major));
        put(out, u64::from(minor));
    }
    put(out, entry.xattrs.len() as u64);
    for (name, value) in &entry.xattrs {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value);
    }
    put(out, entry.flags.len() as u64);
    for flag in &entry.flags {
        put_bytes(out, flag.as_bytes());
    }
    put(out, entry.extents.len() as u64);
    let mut end = 0;
    for extent in &entry.extents {
        // Each begins where the one before ended, mostly.
        put(out, extent.offset.wrapping_sub(end));
        put(out, archives.binary_search(&extent.archive).map_or(u64::MAX, |place| place as u64));
        put(out, extent.tar_offset);
        put(out, extent.length);
        end = extent.offset + extent.length;
    }
    put(out, entry.maps.len() as u64);
    for map in &entry.maps {
        put(out, map.offset);
        out.extend_from_slice(&map.object.0);
        put(out, map.size);
    }
    for ident in &row.beside {
        put_ident_or_none(out, ident.as_ref());
    }
    out.push(CHECKS.iter().position(|c| *c == row.check).unwrap_or(0) as u8);
    put(out, row.blocks.len() as u64);
    for id in &row.blocks {
        out.extend_from_slice(&id.0);
    }
}

fn get_or_none<'a>(source: &mut Source<'a>) -> Option<Option<&'a [u8]>> {
    match source.take(1)? {
        [0] => Some(None),
        [1] => Some(Some(source.bytes()?)),
        _ => None,
    }
}

/// The hash, which comes first.
pub(super) fn get_hash(source: &mut Source<'_>) -> Option<Option<ContentHash>> {
    Some(match get_or_none(source)? {
        Some(bytes) => Some(ContentHash(bytes.try_into().ok()?)),
        None => None,
    })
}

fn present(source: &mut Source<'_>) -> Option<bool> {
    match source.take(1)? {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

/// Fills `row` in; `None` where the bytes make no sense.
pub(super) fn get_rest(source: &mut Source<'_>, row: &mut Row, archives: &[(ObjectId, u64)]) -> Option<()> {
    let entry = &mut row.entry;
    entry.hash = get_hash(source)?;
    entry.target = get_or_none(source)?.map(Box::from);
    entry.why = match source.take(1)? {
        [0] => None,
        [place] => Some(*WHYS.get(usize::from(*place) - 1)?),
        _ => return None,
    };
    if present(source)? {
        entry.dev = Some((source.small()?, source.small()?));
    }
    entry.xattrs = get_xattrs(source)?.into();
    for _ in 0..source.count(1)? {
        let flag = std::str::from_utf8(source.bytes()?).ok()?;
        let known = FLAGS.iter().find(|known| **known == flag);
        entry.flags.push((*known?).to_owned());
    }
    get_extents(source, entry, archives)?;
    for _ in 0..source.count(34)? {
        let (offset, object, size) = (source.number()?, ObjectId(source.array()?), source.number()?);
        entry.maps.push(MapRef { offset, object, size });
    }
    for ident in &mut row.beside {
        *ident = if present(source)? { Some(get_ident(source)?) } else { None };
    }
    let [check] = source.array()?;
    row.check = *CHECKS.get(usize::from(check))?;
    for _ in 0..source.count(32)? {
        row.blocks.push(ObjectId(source.array()?));
    }
    Some(())
}

fn get_xattrs(source: &mut Source<'_>) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut xattrs = BTreeMap::new();
    for _ in 0..source.count(2)? {
        let name = std::str::from_utf8(source.bytes()?).ok()?.to_owned();
        xattrs.insert(name, source.bytes()?.to_vec());
    }
    Some(xattrs)
}

fn get_extents(source: &mut Source<'_>, entry: &mut Entry, archives: &[(ObjectId, u64)]) -> Option<()> {
    let count = source.count(4)?;
    entry.extents.reserve_exact(count);
    let mut end = 0_u64;
    for _ in 0..count {
        let offset = end.checked_add(source.number()?)?;
        let archive = archives.get(usize::try_from(source.number()?).ok()?)?.0;
        let (tar_offset, length) = (source.number()?, source.number()?);
        entry.extents.push(Extent { offset, archive, tar_offset, length });
        end = offset.checked_add(length).filter(|end| *end <= entry.size)?;
        tar_offset.checked_add(length)?;
    }
    Some(())
}
