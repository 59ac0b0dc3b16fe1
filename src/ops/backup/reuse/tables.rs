//! Block hashes of large files, on their way into the catalog and out of it.

use crate::catalog::known::{keep_blocks, read_blocks};
use crate::model::ObjectId;
use crate::ops::backup::blocks::BlockTable;
use crate::ops::backup::chain_text;
use crate::ops::backup::reuse::Reuse;
use std::sync::{Arc, PoisonError};

/// So many bytes are gathered before they are written down.
const GATHERED_MAX: usize = 4 << 20;

/// What was made in this run and is not written down yet.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pieces: Vec<(ObjectId, Vec<u8>)>,
    bytes: usize,
    /// Why the catalog could not be written.
    pub(super) failed: Option<String>,
}

impl Reuse {
    /// The block hashes that were kept under these names, if they are all there.
    pub(in crate::ops::backup) fn table(&self, pieces: &[ObjectId]) -> Option<Arc<BlockTable>> {
        if pieces.is_empty() {
            return None;
        }
        let read = read_blocks(&self.path, pieces)?;
        BlockTable::decode(&read).ok().map(Arc::new)
    }

    /// Keeps block hashes for later snapshots, and gives their names.
    pub(in crate::ops::backup) fn keep_table(&self, table: &BlockTable) -> Vec<ObjectId> {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = Vec::new();
        for piece in table.encode() {
            let name = ObjectId::of(&piece);
            names.push(name);
            gathered.bytes += piece.len();
            gathered.pieces.push((name, piece));
            if gathered.bytes >= GATHERED_MAX {
                self.write(&mut gathered);
            }
        }
        names
    }

    fn write(&self, gathered: &mut Gathered) {
        let pieces = std::mem::take(&mut gathered.pieces);
        gathered.bytes = 0;
        if pieces.is_empty() || gathered.failed.is_some() {
            return;
        }
        if let Err(error) = keep_blocks(&self.path, &pieces) {
            gathered.failed = Some(chain_text(&error));
        }
    }

    /// Writes down what is left. Gives why the catalog is of no use, if it could not be written.
    pub(super) fn write_tables(&self) -> Option<String> {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(&mut gathered);
        gathered.failed.take()
    }
}
