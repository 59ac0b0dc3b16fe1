//! Reading back what was put: a write that the store did not keep is found now, not when it is needed.

use crate::model::mark::Level;
use crate::model::report::Phase;
use crate::model::{ObjectId, ObjectRef, Record, Timestamp};
use crate::ops::backup::begin_phase;
use crate::ops::backup::reuse::Reuse;
use crate::ops::backup::uploads::prove;
use crate::ops::carried::{Carried, ranges};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::session::{Session, in_store};
use crate::ops::verify::objects::{How, Outcome, one};
use crate::store::Key;
use jiff::SignedDuration;
use std::collections::{BTreeSet, HashMap, HashSet};

/// What proofs are measured by.
pub(super) struct Times {
    pub(super) now: Timestamp,
    /// When the last backup began.
    pub(super) before: Option<Timestamp>,
    /// How long a proof counts.
    pub(super) reverify: SignedDuration,
}

/// Which objects of a snapshot are proved in this run.
pub(super) struct Proofs {
    /// For each object, in the record's order, how it was proved while it was put.
    put: Vec<Option<Level>>,
    /// And whether it is read now.
    read: Vec<bool>,
    /// Whether every other was proved lately.
    pub(super) others_hold: bool,
    /// How long a proof counts.
    reverify: SignedDuration,
}

/// Proofs that stand for `record`, too: of the objects that were there before and are not read now.
pub(super) fn carried(
    record: &Record,
    reuse: &Reuse,
    reused: &HashSet<ObjectId>,
    proofs: &Proofs,
    now: Timestamp,
) -> Carried {
    let older = record.objects.iter().enumerate().filter_map(|(place, object)| {
        let carries = !proofs.covers(place) && reused.contains(&object.id);
        carries.then(|| (place as u64, reuse.standing(&object.id)))
    });
    Carried::of(older, now, proofs.reverify)
}

/// In this part of the time that a proof counts, everything is to be read once again.
const CYCLE: f64 = 0.8;

impl Proofs {
    /// `put` says what was proved while it was put. Of the rest those that are new and those without a proof are read; of the others those with the oldest proofs, so many bytes that all come round in time: as large a part as the
    /// time since `before`, the last backup, is of the cycle, and one object in any case.
    pub(super) fn plan(
        objects: &[ObjectRef],
        put: &HashMap<ObjectId, Level>,
        reuse: &Reuse,
        reused: &HashSet<ObjectId>,
        times: &Times,
    ) -> Self {
        let Times { now, before, reverify } = *times;
        let put: Vec<Option<Level>> = objects.iter().map(|o| put.get(&o.id).copied()).collect();
        let expired = now.saturating_sub(reverify).unwrap_or(Timestamp::MIN);
        let mut read: Vec<bool> = Vec::with_capacity(objects.len());
        let mut others: Vec<(Timestamp, usize)> = Vec::new();
        for (place, object) in objects.iter().enumerate() {
            let proved = reuse.standing(&object.id).proved.filter(|_| reused.contains(&object.id));
            read.push(proved.is_none() && put[place].is_none());
            others.extend(proved.filter(|_| put[place].is_none()).map(|proved| (proved, place)));
        }
        others.sort_unstable();
        let total: u64 = others.iter().map(|(_, place)| objects[*place].size).sum();
        let elapsed = before.map_or(0.0, |before| now.duration_since(before).as_secs_f64().max(0.0));
        let part = (elapsed / (reverify.as_secs_f64() * CYCLE)).min(1.0);
        let mut left = (total as f64 * part) as u64;
        let mut others_hold = true;
        for (turn, (proved, place)) in others.into_iter().enumerate() {
            let size = objects[place].size;
            // What was proved within a day need not be again: many runs a day would read much.
            let fresh = now.duration_since(proved).as_hours() < 24;
            if !fresh && (turn == 0 || size <= left) {
                left = left.saturating_sub(size);
                read[place] = true;
            } else {
                others_hold &= proved >= expired;
            }
        }
        Self { put, read, others_hold, reverify }
    }

    /// True for an object that this run proves.
    fn covers(&self, place: usize) -> bool {
        self.put.get(place).is_none_or(Option::is_some) || self.read.get(place).copied().unwrap_or(true)
    }

    /// The objects that are read.
    pub(super) fn chosen<'o>(&self, objects: &'o [ObjectRef]) -> Vec<&'o ObjectRef> {
        objects.iter().zip(&self.read).filter(|(_, read)| **read).map(|(object, _)| object).collect()
    }

    /// Half-open ranges of the places of those that are proved in this run.
    pub(super) fn covered(&self) -> Vec<(u64, u64)> {
        ranges((0..self.read.len()).filter(|place| self.covers(*place)).map(|place| place as u64))
    }

    /// The least that was done for one of them.
    pub(super) fn level(&self) -> Level {
        let least = self.put.iter().flatten().copied().min().unwrap_or(Level::Read);
        least.min(Level::Read)
    }
}

/// Reads objects from the medium and compares them with their names. Runs before the record is put: what fails here is never listed. Gives those of `reused`, which were there
/// before, that are not what they were or cannot be read.
pub(super) fn read_back(
    session: &Session,
    objects: &[&ObjectRef],
    reused: &HashSet<ObjectId>,
) -> Result<BTreeSet<ObjectId>> {
    let mut damaged = BTreeSet::new();
    if objects.is_empty() {
        return Ok(damaged);
    }
    begin_phase(session, Phase::ReadBack, objects.iter().map(|o| o.size).sum());
    for object in objects {
        session.around.interrupt.check()?;
        if reused.contains(&object.id) {
            // One that the medium does not give any more is damaged like one with other bytes: as an error it would stop every run from now on.
            if matches!(one(session, &*session.store, object, How::Read)?, Outcome::Bad(_)) {
                damaged.insert(object.id);
            }
        } else {
            let key = Key::data(object.kind, object.id);
            let mut seen = |bytes| session.around.progress.advance(bytes);
            prove(&*session.store, &session.around.interrupt, &mut seen, &key, (object.size, object.id))?;
        }
    }
    Ok(damaged)
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
