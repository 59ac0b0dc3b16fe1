//! Reading back what was put: a write that the store did not keep is found now, not when it is needed.

use crate::model::report::Phase;
use crate::model::{ObjectId, ObjectRef, Record, Timestamp};
use crate::ops::backup::begin_phase;
use crate::ops::backup::reuse::Reuse;
use crate::ops::error::{Class, OpError, Result};
use crate::ops::session::{Session, in_store};
use crate::ops::vault::REVERIFY;
use crate::store::Key;
use std::collections::HashSet;

/// Which objects of a snapshot are read back.
pub(super) struct Proofs {
    /// For each object, in the record's order, whether it is read now.
    read: Vec<bool>,
    /// Whether every other was proved lately.
    pub(super) others_hold: bool,
}

/// Of what a run refers to, it reads at most this part of the bytes again, oldest proof first: so a daily backup keeps everything proved.
const AGAIN_PART: u64 = 20;

impl Proofs {
    /// Those that are new and those without a proof are read; and of those whose proof has lasted half its time, some.
    pub(super) fn plan(
        objects: &[ObjectRef],
        reuse: &Reuse,
        reused: &HashSet<ObjectId>,
        now: Timestamp,
    ) -> Self {
        let since = |part: i32| now.saturating_sub(REVERIFY / part).unwrap_or(Timestamp::MIN);
        let (expired, aged) = (since(1), since(2));
        let mut read: Vec<bool> = Vec::with_capacity(objects.len());
        let mut old: Vec<(Timestamp, usize)> = Vec::new();
        for (place, object) in objects.iter().enumerate() {
            let proved = reuse.standing(&object.id).proved.filter(|_| reused.contains(&object.id));
            read.push(proved.is_none());
            old.extend(proved.filter(|proved| *proved < aged).map(|proved| (proved, place)));
        }
        old.sort_unstable();
        let mut left = objects.iter().map(|o| o.size).sum::<u64>() / AGAIN_PART;
        let mut others_hold = true;
        for (place, (proved, object)) in old.into_iter().enumerate() {
            let size = objects[object].size;
            // One is read in any case, however large.
            if place == 0 || size <= left {
                left = left.saturating_sub(size);
                read[object] = true;
            } else {
                others_hold &= proved >= expired;
            }
        }
        Self { read, others_hold }
    }

    /// The objects that are read.
    pub(super) fn chosen<'o>(&self, objects: &'o [ObjectRef]) -> Vec<&'o ObjectRef> {
        objects.iter().zip(&self.read).filter(|(_, read)| **read).map(|(object, _)| object).collect()
    }

    /// Half-open ranges of the places of those that are read.
    pub(super) fn covered(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for place in self.read.iter().enumerate().filter(|(_, read)| **read).map(|(place, _)| place as u64) {
            match ranges.last_mut() {
                Some(last) if last.1 == place => last.1 += 1,
                _ => ranges.push((place, place + 1)),
            }
        }
        ranges
    }
}

/// Reads objects from the medium and compares them with their names. Runs before the record is put: what fails here is never listed.
pub(super) fn read_back(session: &Session, objects: &[&ObjectRef]) -> Result<()> {
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
