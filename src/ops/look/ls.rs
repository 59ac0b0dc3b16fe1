//! Listing directories of a snapshot.

use crate::model::index::{Index, IndexComponent, SegmentRef};
use crate::model::{ContentHash, Entry, Kind, RelPath, SnapshotId};
use crate::ops::error::Result;
use crate::ops::holding::named_by;
use crate::ops::many::try_each;
use crate::ops::objects::SnapshotReader;
use crate::ops::restore::{Opened, SEGMENTS_AT_ONCE, open, touched};
use crate::ops::select::{self, Selection};
use crate::ops::session::Session;
use crate::ops::shape;
use serde::Serialize;

/// One line of `ls`.
#[derive(Debug, Clone, Serialize)]
pub struct LsRow {
    /// `component/path`, control characters escaped.
    pub path: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Permission bits.
    pub mode: String,
    /// Owner's name or number.
    pub user: String,
    /// Group's name or number.
    pub group: String,
    /// Bytes.
    pub size: u64,
    /// Modification time, seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Where a link points.
    pub target: Option<String>,
    /// Hash of the covered bytes.
    pub hash: Option<ContentHash>,
    /// Flags.
    pub flags: Vec<String>,
    /// Why it was left out, if it was.
    pub why: Option<crate::model::entry::Why>,
}

/// A listing.
#[derive(Debug, Clone, Serialize)]
pub struct LsReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What is there.
    pub entries: Vec<LsRow>,
}

/// Lists a directory of a snapshot; all components when no path is given; everything below with `recursive`.
pub fn ls(
    session: &Session,
    selector: &str,
    path: Option<&str>,
    recursive: bool,
    untrusted: bool,
) -> Result<LsReport> {
    let names = path.map(|path| named_by(session, &[path.to_owned()])).unwrap_or_default();
    let opened = open(session, selector, &names, untrusted)?;
    let snapshot = opened.record.snapshot.clone();
    let entries = match path {
        None if !recursive => opened.index.components.iter().map(component_as_dir).collect(),
        None => {
            let all = select::paths(session, &opened.index, &[])?;
            let mut rows = Vec::new();
            for selection in &all {
                rows.extend(rows_of(&opened, selection, None, true)?);
            }
            rows
        }
        Some(arg) => {
            let (component, path) = select::path(session, &opened.index, arg)?;
            let selection = Selection { component, paths: path.clone().into_iter().collect() };
            rows_of(&opened, &selection, path, recursive)?
        }
    };
    Ok(LsReport { snapshot, entries })
}

fn component_as_dir(c: &IndexComponent) -> LsRow {
    LsRow {
        path: format!("{}/", c.name),
        kind: Kind::Dir,
        mode: String::new(),
        user: String::new(),
        group: String::new(),
        size: c.size,
        mtime: (c.instant.as_second(), 0),
        target: None,
        hash: None,
        flags: Vec::new(),
        why: None,
    }
}

fn rows_of(
    opened: &Opened,
    selection: &Selection,
    path: Option<RelPath>,
    recursive: bool,
) -> Result<Vec<LsRow>> {
    let entries = entries_of(&opened.reader(), &opened.index, selection)?;
    let top = path.unwrap_or_else(RelPath::root);
    let is_dir = entries.iter().any(|e| e.path == top && e.kind == Kind::Dir) || top.is_root();
    let shown = |e: &&Entry| match (recursive, is_dir) {
        (true, _) => e.path.is_within(&top),
        (false, true) => e.path.parent().as_ref() == Some(&top),
        (false, false) => e.path == top,
    };
    Ok(entries.iter().filter(shown).map(|e| ls_row(&selection.component, e)).collect())
}

/// Entries of the segments that may hold what is wanted, without their content.
fn entries_of(reader: &SnapshotReader<'_>, index: &Index, selection: &Selection) -> Result<Vec<Entry>> {
    let component = select::component(index, &selection.component)?;
    let mut entries = Vec::new();
    let touched: Vec<&SegmentRef> = touched(component, selection).collect();
    for some in touched.chunks(SEGMENTS_AT_ONCE) {
        for segment in try_each(some, |reference| selection.read(reader, component, reference))? {
            entries.extend(segment.entries);
        }
    }
    shape::check(component, &entries)?;
    selection.check_found(&entries)?;
    Ok(entries)
}

fn ls_row(component: &str, e: &Entry) -> LsRow {
    let path = if e.path.is_root() { format!("{component}/") } else { format!("{component}/{}", e.path) };
    LsRow {
        path,
        kind: e.kind,
        mode: format!("{:04o}", e.mode),
        user: e.user.as_deref().map_or_else(|| e.uid.to_string(), str::to_owned),
        group: e.group.as_deref().map_or_else(|| e.gid.to_string(), str::to_owned),
        size: e.size,
        mtime: e.mtime,
        target: e.target.as_deref().map(crate::model::path::escape),
        hash: e.hash,
        flags: e.flags.to_vec(),
        why: e.why,
    }
}
