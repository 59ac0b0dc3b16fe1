//! Reading back what was put: a write that the store did not keep is found now, not when it is needed.

use crate::model::report::Phase;
use crate::model::{ObjectId, ObjectRef, Record};
use crate::ops::backup::begin_phase;
use crate::ops::error::{Class, OpError, Result};
use crate::ops::session::{Session, in_store};
use crate::store::Key;

/// Reads every object from the medium and compares it with its name. Runs before the record is put: what fails here is never listed.
pub(super) fn read_back(session: &Session, objects: &[ObjectRef]) -> Result<()> {
    begin_phase(session, Phase::ReadBack, objects.iter().map(|o| o.size).sum());
    for object in objects {
        session.around.interrupt.check()?;
        let key = Key::data(object.kind, object.id);
        let mut seen = |bytes| session.around.progress.advance(bytes);
        let found = in_store(&*session.store, session.store.read_back(&key, &mut seen))?;
        if found != (object.size, object.id) {
            let what = format!("store {:?} did not keep {key} as it was written", session.store.name());
            return Err(OpError::new(Class::Damage, what)
                .because("what was read back is not what was put; no snapshot was made")
                .hint("check that disk, and its cable and memory; older snapshots are untouched, but verify them too"));
        }
    }
    Ok(())
}

/// Reads the record back.
pub(super) fn read_record(session: &Session, record: &Record, hash: ObjectId) -> Result<()> {
    let key = Key::Record(record.snapshot.clone());
    let limit = crate::model::document::DOCUMENT_BYTES_MAX;
    let bytes = in_store(&*session.store, session.store.get(&key, limit))?;
    let line = crate::model::document::split(&bytes).map(|(line, _)| ObjectId::of(line));
    if line == Some(hash) {
        return Ok(());
    }
    let what = format!("store {:?} did not keep {key} as it was written", session.store.name());
    Err(OpError::new(Class::Damage, what).hint("check that disk; `backstay list` says what is there"))
}
