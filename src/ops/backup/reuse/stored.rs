//! Block hashes of content that lies in the store, for when the catalog that had them was lost: so that of a file that changed meanwhile only changed blocks are packed.
//!
//! A database of which a part changed every day lies in as many archives as there were days, page beside page. It must never be fetched in the order of its pages:
//! nearly each would be another frame, of megabytes. So it is brought archive by archive into a file, each frame once; only where there is no room for that it is
//! read in its own order, and then for no more than a few times what it is worth.

use crate::catalog::known::Row;
use crate::keys::Identities;
use crate::model::Record;
use crate::ops::backup::blocks::{self, CompareError, OldTable, Request, block_size};
use crate::ops::backup::chain_text;
use crate::ops::backup::packer::PackRun;
use crate::ops::backup::reuse::fetch::{Fetched, fetch};
use crate::ops::backup::reuse::in_order::InOrder;
use crate::ops::backup::reuse::{Old, contents::joined};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::session::Session;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, OnceLock};

/// What reads earlier content, where an identity is here.
pub(super) struct Stored {
    pub(super) session: Session,
    /// This host's newest record.
    pub(super) record: Arc<Record>,
    /// Looked for when they are first needed: that may ask somebody for a passphrase.
    identities: OnceLock<std::result::Result<Identities, String>>,
}

impl Stored {
    pub(super) fn of(session: &Session, record: &Arc<Record>) -> Self {
        Self { session: session.clone(), record: Arc::clone(record), identities: OnceLock::new() }
    }

    /// The identities that are here, which may be none; or why they cannot be used.
    pub(super) fn identities(&self) -> std::result::Result<&Identities, &str> {
        let found = self.identities.get_or_init(|| self.session.identities().map_err(|e| chain_text(&e)));
        found.as_ref().map_err(String::as_str)
    }
}

impl Old<'_> {
    /// The block hashes of `row` as it lies in the store, of blocks as content of this `kind` has them, or what it turns out to be; `None` when that cannot be read now, or is not what its hash says. Fails when somebody asks for the end,
    /// and when the store does not answer: to pack all of it would be of no use then.
    pub(in crate::ops::backup) fn table_of_stored(
        &self,
        row: &Row,
        kind: Option<blocks::Content>,
        run: &PackRun<'_>,
    ) -> Result<Option<Arc<OldTable>>> {
        let extents = &row.entry.extents;
        let Some(stored) = &self.reuse.stored else { return Ok(None) };
        if row.entry.size == 0 || !extents.iter().all(|e| self.may_use(&e.archive)) {
            return Ok(None);
        }
        let Some(identities) = stored.identities().ok().filter(|all| !all.is_empty()) else {
            return Ok(None);
        };
        let archives = &self.reuse.known.archives;
        match fetch(stored, identities, archives, &row.entry, run)? {
            Fetched::Whole(file) => {
                table(row, kind, run, &mut |offset, buffer: &mut [u8]| file.read_at(buffer, offset))
            }
            Fetched::Lost(why) => {
                let path = &row.entry.path;
                run.progress.note(&format!(
                    "{path}: all of it is stored again, because what is stored could not be compared: {why}"
                ));
                Ok(None)
            }
            Fetched::NoRoom(why) => {
                let mut reading = InOrder::new(stored, identities, archives, extents);
                let found = table(row, kind, run, &mut |offset, buffer| reading.read(offset, buffer))?;
                if found.is_none() {
                    run.progress.note(&format!(
                        "{}: all of it is stored again, because there is no room to compare it with what is stored: {why}",
                        row.entry.path
                    ));
                }
                Ok(found)
            }
        }
    }
}

/// The block hashes of what `read` gives, when that is the content of `row`.
fn table(
    row: &Row,
    kind: Option<blocks::Content>,
    run: &PackRun<'_>,
    read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<usize>,
) -> Result<Option<Arc<OldTable>>> {
    let (kind, size) = (kind.unwrap_or_else(|| kind_of(read)), row.entry.size);
    let ranges: Vec<(u64, u64)> = joined(row.entry.extents.iter().map(|e| (e.offset, e.length))).collect();
    let block = block_size(kind, size, None);
    let request = Request { pool: run.pool, block, size, ranges: &ranges, content: kind, old: None };
    let mut ranges = Vec::new();
    let mut keep = |range| ranges.push(range);
    let compared = match blocks::compare(&request, read, &mut blocks::Nowhere(run.interrupt), &mut keep) {
        Ok(compared) => compared,
        Err(CompareError::Read(_)) => return Ok(None),
        Err(CompareError::Sink(e)) => return Err(e),
        Err(CompareError::Worker(e)) => {
            return Err(OpError::new(Class::Failed, "cannot hash what is stored").because(e));
        }
    };
    let same = compared.size == size && row.entry.hash == Some(compared.hash);
    Ok(OldTable::of(ranges).filter(|_| same).map(Arc::new))
}

/// What the content is that `read` gives.
fn kind_of(read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<usize>) -> blocks::Content {
    let mut head = [0; 18];
    let page = match read(0, &mut head) {
        Ok(18) => blocks::database_page(&head),
        _ => None,
    };
    page.map_or(blocks::Content::File, blocks::Content::Database)
}
