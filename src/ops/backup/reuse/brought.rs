//! What a database is compared with, brought from the store before its transaction begins: that must never wait for a network.

use crate::catalog::known::Row;
use crate::model::RelPath;
use crate::ops::backup::blocks::OldTable;
use crate::ops::backup::build::Build;
use crate::ops::backup::reuse::SMALL_BYTES;
use crate::ops::error::Result;
use crate::platform::capture::Ident;
use std::sync::Arc;

/// The block hashes of what a database was, which are not in the catalog.
pub(in crate::ops::backup) struct Brought {
    pub(in crate::ops::backup) path: RelPath,
    pub(in crate::ops::backup) row: Row,
    /// None when they cannot be had: then it is not tried again either.
    pub(in crate::ops::backup) table: Option<Arc<OldTable>>,
}

/// Brings those of the database at `path`, which is about to be captured, where the catalog was made again and lacks them.
pub(in crate::ops::backup) fn bring(
    build: &mut Build<'_>,
    path: &RelPath,
    ident: Option<&Ident>,
) -> Result<()> {
    build.brought = None;
    if build.old.is_empty() {
        return Ok(());
    }
    let own = build.contents.row(path.as_bytes());
    let row = own.or_else(|| build.contents.moved(ident?));
    // Small ones are stored anew sooner than looked for: frames are shared by many, and each would fetch them again.
    if let Some(row) = row.filter(|row| row.entry.size > SMALL_BYTES) {
        let table = match build.old.table(&row.blocks) {
            Some(kept) => Some(kept),
            None => build.old.table_of_stored(&row, None, &build.packer.run)?,
        };
        build.brought = Some(Brought { path: path.clone(), row, table });
    }
    Ok(())
}
