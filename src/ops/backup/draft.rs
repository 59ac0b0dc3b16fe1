//! Making a segment's bytes on a thread of the pool: what the snapshot lists, and what the catalog remembers of it.

use crate::archive::seal_manifest;
use crate::catalog::known::{Row, Stretch};
use crate::keys::RecipientSet;
use crate::model::manifest::{ArchiveTable, Segment};
use crate::model::{ComponentName, Entry, ObjectId};
use crate::ops::backup::manifest::{internal, undescribed};
use crate::ops::error::{Class, Doing, Result};
use std::sync::Arc;

/// What a segment is made of.
pub(super) struct Draft {
    pub(super) name: ComponentName,
    pub(super) rows: Vec<Row>,
    /// Every archive that entries without maps refer to.
    pub(super) table: Arc<ArchiveTable>,
    /// Whom it is sealed to; `None` when it is only to be remembered, because an earlier one says the same.
    pub(super) recipients: Option<Arc<RecipientSet>>,
}

/// What came of it.
pub(super) struct Drawn {
    /// Its rows for the catalog.
    pub(super) packed: Vec<u8>,
    /// As [`Stretch::archives`].
    pub(super) archives: Vec<(ObjectId, u64)>,
    /// As [`Stretch::shared`].
    pub(super) shared: bool,
    /// Sum of the sizes of its files in bytes.
    pub(super) content: u64,
    /// The object.
    pub(super) sealed: Option<(ObjectId, Vec<u8>)>,
}

impl Draft {
    /// Does all of it.
    pub(super) fn draw(self) -> Result<Drawn> {
        let packed =
            Stretch::encode(&self.rows).doing(Class::Failed, || "cannot pack rows of the catalog".into())?;
        // What is remembered is what is written, or later snapshots would refer to what is not there.
        let opened = Stretch::open(&packed).filter(|opened| holds(opened, &self.rows));
        let opened = opened.ok_or_else(|| internal("rows of the catalog do not come back as they were"))?;
        let Stretch { archives, shared, sums, .. } = opened;
        let sealed = match self.recipients {
            Some(recipients) => {
                let listed: Vec<Entry> = self.rows.into_iter().map(listed).collect();
                let content = Segment::encode(&self.name, &listed, &self.table);
                let content = content.map_err(undescribed)?;
                drop(listed);
                let sealed = seal_manifest(&content, &recipients);
                Some(sealed.doing(Class::Failed, || "cannot seal a listing".into())?)
            }
            None => None,
        };
        Ok(Drawn { packed, archives, shared, content: sums.size, sealed })
    }
}

/// The entry as a segment has it: where it has maps, those say where it lies.
fn listed(row: Row) -> Entry {
    let mut entry = row.entry;
    if !entry.maps.is_empty() {
        entry.extents.clear();
    }
    entry
}

/// True when `stretch` has just these rows.
fn holds(stretch: &Stretch, rows: &[Row]) -> bool {
    let mut found = stretch.rows();
    rows.iter().all(|row| found.next().and_then(|found| found.decode()).as_ref() == Some(row))
        && found.next().is_none()
}
