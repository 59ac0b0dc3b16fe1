//! Block hashes of large files, on their way into the catalog and out of it.

use crate::catalog::known::{keep_blocks, read_blocks};
use crate::model::ObjectId;
use crate::ops::backup::blocks::OldTable;
use crate::ops::backup::chain_text;
use crate::ops::backup::reuse::Reuse;
use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

/// So many bytes are gathered before they are written down.
const GATHERED_MAX: usize = 4 << 20;

/// What was made in this run and is not written down yet.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pieces: Vec<(ObjectId, Vec<u8>)>,
    bytes: usize,
    /// What is in the catalog, proved or written in this run.
    there: HashSet<ObjectId>,
    /// Why the catalog could not be written.
    pub(super) failed: Option<String>,
}

impl Reuse {
    /// The block hashes that were kept under these names, if they are all there. They stay where they are: a large database has hundreds of megabytes of them.
    pub(in crate::ops::backup) fn table(&self, pieces: &[ObjectId]) -> Option<Arc<OldTable>> {
        if pieces.is_empty() {
            return None;
        }
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        // Files that are captured twice in a run are rare, but they must not be without what was not written yet.
        self.write(&mut gathered);
        let (path, names) = (self.path.clone(), pieces.to_vec());
        // Read piece by piece later on, while others are written: each is proved by its name again.
        let piece = move |number: usize| read_blocks(&path, std::slice::from_ref(names.get(number)?))?.pop();
        let table = OldTable::new(pieces.len(), piece)?;
        gathered.there.extend(pieces);
        Some(Arc::new(table))
    }

    /// Keeps a range of block hashes for later snapshots, and gives its name.
    pub(in crate::ops::backup) fn keep_piece(&self, piece: Vec<u8>) -> ObjectId {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let name = ObjectId::of(&piece);
        if gathered.there.insert(name) {
            gathered.bytes += piece.len();
            gathered.pieces.push((name, piece));
            if gathered.bytes >= GATHERED_MAX {
                self.write(&mut gathered);
            }
        }
        name
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
