//! Uploads in parts that were begun in a bucket and never ended: they cost room, and are in no listing.

use crate::model::{Timestamp, path};
use crate::ops::doctor::report::{Area, Findings};
use crate::ops::doctor::{bytes, chain_text, span};
use crate::store::s3::{OpenUpload, S3Store};

const AREA: Area = Area::Store;
/// Uploads that were begun longer ago are nobody's: a writer goes on with its own for six days.
const ORPHAN_AFTER: i64 = 7 * 24 * 3600;
/// So many names are told.
const NAMES: usize = 5;

/// Looks at the store called `name`, and ends what nobody goes on with when `abort` says so.
pub(super) fn look(name: &str, store: &S3Store, now: Timestamp, abort: bool, findings: &mut Findings) {
    let open = match store.open_uploads() {
        Ok(open) => open,
        Err(e) => {
            let what = format!("unfinished uploads cannot be listed there: {}", chain_text(&e));
            return findings.note(AREA, name, what);
        }
    };
    let age = |upload: &OpenUpload| upload.begun.map(|begun| now.as_second() - begun.as_second());
    let (old, young): (Vec<_>, Vec<_>) =
        open.into_iter().partition(|upload| age(upload).is_some_and(|age| age > ORPHAN_AFTER));
    match old.iter().filter_map(age).max() {
        Some(_) if abort => end(name, store, now, &old, findings),
        Some(oldest) => findings.warning(
            AREA,
            name,
            format!(
                "{} cost room and are in no listing; the oldest is {} old: {}",
                count(&old),
                span(oldest),
                names(&old)
            ),
            "`backstay doctor --abort-uploads` ends them; a lifecycle rule of the bucket that aborts incomplete multipart uploads after 7 days does it from then on (docs/fleet.md)",
        ),
        None if young.is_empty() => {}
        None => {
            let what = format!("{} are under way, or were cut off in the last days", count(&young));
            findings.note(AREA, name, what);
        }
    }
}

fn end(name: &str, store: &S3Store, now: Timestamp, old: &[OpenUpload], findings: &mut Findings) {
    let before = Timestamp::from_second(now.as_second() - ORPHAN_AFTER).unwrap_or(Timestamp::MIN);
    match store.abort_uploads(before) {
        Ok(_) => findings.well(AREA, name, format!("{} ended: {}", count(old), names(old))),
        Err(e) => findings.warning(
            AREA,
            name,
            format!("{} could not all be ended: {}", count(old), chain_text(&e)),
            "give the keys s3:AbortMultipartUpload (docs/fleet.md), or the bucket a lifecycle rule that aborts incomplete multipart uploads after 7 days",
        ),
    }
}

/// `2 unfinished uploads of 33.5 MB`
fn count(uploads: &[OpenUpload]) -> String {
    let size: u64 = uploads.iter().filter_map(|upload| upload.bytes).sum();
    match uploads.len() {
        1 => format!("1 unfinished upload of {}", bytes(size)),
        number => format!("{number} unfinished uploads of {}", bytes(size)),
    }
}

fn names(uploads: &[OpenUpload]) -> String {
    let mut names: Vec<String> =
        uploads.iter().take(NAMES).map(|upload| path::escape(upload.name.as_bytes())).collect();
    if uploads.len() > NAMES {
        names.push("…".to_owned());
    }
    names.join(", ")
}
