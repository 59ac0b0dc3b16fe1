//! Frames of archives: each snapshot names those that it uses, and what one does not name another may need.

use crate::catalog::known::KnownArchive;
use crate::catalog::known::body::{get_archive, sum};
use crate::model::ObjectId;
use crate::model::manifest::Frame;
use rusqlite::{OptionalExtension as _, Statement, params};

/// What finds an archive's row.
pub(super) const FIND: &str = "SELECT body, sum FROM archives WHERE component = ?1 AND id = ?2";

/// `archive` with the frames, too, that its row names, which other generations share: made again from the listings of one snapshot, it knows no others.
pub(super) fn with_those_of_its_row(
    find: &mut Statement<'_>,
    component: i64,
    archive: &KnownArchive,
) -> rusqlite::Result<KnownArchive> {
    let id = &archive.info.sha256;
    let columns = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?));
    let row = find.query_row(params![component, &id.0[..]], columns).optional()?;
    let earlier = row.and_then(|(body, proof)| proved(component, id, &body, &proof));
    Ok(earlier.and_then(|earlier| joined(archive, earlier)).unwrap_or_else(|| archive.clone()))
}

fn proved(component: i64, id: &ObjectId, body: &[u8], proof: &[u8]) -> Option<KnownArchive> {
    if proof != sum(1, component, &id.0, [body, b""]) {
        return None;
    }
    get_archive(*id, body)
}

/// The frames of both; `None` where they contradict each other: then what was read last counts.
fn joined(archive: &KnownArchive, earlier: KnownArchive) -> Option<KnownArchive> {
    let mut joined = archive.clone();
    joined.info.frames.extend(earlier.info.frames);
    joined.info.frames.sort_unstable_by_key(|f| (f.tar_offset, f.offset));
    joined.info.frames.dedup();
    let end = |frame: &Frame| frame.tar_offset.saturating_add(frame.tar_length);
    let apart = joined.info.frames.windows(2).all(|w| end(&w[0]) <= w[1].tar_offset);
    apart.then_some(joined)
}
