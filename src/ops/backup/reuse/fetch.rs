//! Content brought from the store into a file of its own, archive by archive, each frame once.

use crate::catalog::known::KnownArchive;
use crate::durable::scratch_file;
use crate::keys::Identities;
use crate::model::{Entry, ObjectId};
use crate::ops::backup::chain_text;
use crate::ops::backup::packer::PackRun;
use crate::ops::backup::reuse::stored::Stored;
use crate::ops::error::{Class, OpError, Result};
use crate::ops::restore::read::{Archives, Piece, Reading, Sink, reading_pool};
use crate::ops::sources::Sources;
use crate::ops::verify::room_in;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// What came of it.
pub(super) enum Fetched {
    /// All of it, in a file without a name: it is gone when this is, also after a kill. Nothing of it is proved yet.
    Whole(File),
    /// Some of it cannot be had, and why.
    Lost(String),
    /// It would not fit, and why.
    NoRoom(String),
}

/// Brings the content of `entry`. Fails when somebody asks for the end, and when the store does not answer.
pub(super) fn fetch(
    stored: &Stored,
    identities: &Identities,
    known: &BTreeMap<ObjectId, KnownArchive>,
    entry: &Entry,
    run: &PackRun<'_>,
) -> Result<Fetched> {
    let bytes = entry.extents.iter().map(|e| e.length).fold(0, u64::saturating_add);
    if let Some(room) = room_in(run.scratch).filter(|room| *room < bytes) {
        let dir = run.scratch.display();
        return Ok(Fetched::NoRoom(format!("{bytes} bytes are needed in {dir} and {room} may be used")));
    }
    let mut archives = Archives::default();
    let needed: BTreeSet<ObjectId> = entry.extents.iter().map(|e| e.archive).collect();
    archives.add(needed.iter().filter_map(|id| known.get(id)).map(|known| known.info.clone()).collect());
    let file = match scratch_file(run.scratch).and_then(|file| file.set_len(entry.size).map(|()| file)) {
        Ok(file) => file,
        Err(e) => {
            return Ok(Fetched::NoRoom(format!("nothing can be written in {}: {e}", run.scratch.display())));
        }
    };
    if let Err(why) = archives.settle() {
        return Ok(Fetched::Lost(why));
    }
    let sources = Arc::new(Sources::alone(&stored.session, &stored.session.store));
    let pool = reading_pool();
    let interrupt = run.interrupt;
    let reading = Reading { sources: &sources, record: &stored.record, identities, pool: &pool, interrupt };
    let pieces = entry.extents.iter().map(|extent| Piece { extent, file: 0 }).collect();
    let mut filling = Filling { file: &file, full: None };
    let came = reading.deliver(pieces, &archives, &mut filling);
    interrupt.check()?;
    sources.answered()?;
    Ok(match (came, filling.full) {
        (Ok(()), _) => Fetched::Whole(file),
        (Err(_), Some(why)) => Fetched::NoRoom(why),
        (Err(e), None) => Fetched::Lost(chain_text(&e)),
    })
}

/// Writes what comes to its place. What does not come ends it: without all of it nothing is won.
struct Filling<'a> {
    file: &'a File,
    /// What could not be written.
    full: Option<String>,
}

impl Sink for Filling<'_> {
    fn bytes(&mut self, _: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|e| {
            self.full = Some(format!("a scratch file could not be written to its end: {e}"));
            OpError::new(Class::Failed, "cannot write a scratch file").because(e)
        })
    }

    fn lost(&mut self, _: usize, why: &str) -> Result<()> {
        Err(OpError::new(Class::Damage, "some of what is stored cannot be had").because(why.to_owned()))
    }
}
