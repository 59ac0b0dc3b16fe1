//! Looking at objects in a store, and reading them: several at a time, none kept in memory.
//!
//! A listing never says that something is there. What does not fit is looked at, or fetched, once more before it is called damage: the way
//! here may have done it. A store that fails ends its own part and says nothing about the objects.

use crate::model::{ObjectId, ObjectRef, Timestamp};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::session::{Session, in_store};
use crate::store::{Key, Store, StoreError, StoreErrorKind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) why: String,
}

/// In what way an object is not what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// It is not there.
    Missing,
    /// It has another size.
    Size,
    /// It has other bytes than its name says.
    Bytes,
    /// The store has it and cannot give it.
    Unreadable,
    /// Its bytes are right, and what lies in them is not what a listing says.
    Content,
    /// A signed document, or a file beside them, that cannot be used.
    Document,
}

/// What came of looking at an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As it must be, as far as was looked.
    Fine,
    /// Fine at the second try; what the first one gave.
    FineAtLast(String),
    /// Twice not.
    Bad(Fault),
}

/// How objects are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// There, with its size.
    Head,
    /// Read from the medium, SHA-256 compared.
    Read,
}

/// What came of a number of objects, by place: `None` was not looked at any more.
pub(crate) struct Looked {
    pub(crate) outcomes: Vec<Option<Outcome>>,
    /// Why the store could not go on.
    pub(crate) failed: Option<OpError>,
}

/// Looks at `objects`, the first ones first, until all are done, the store fails or `until` is past.
pub(crate) fn look(
    session: &Session,
    store: &dyn Store,
    objects: &[ObjectRef],
    how: How,
    until: Option<Timestamp>,
) -> Result<Looked> {
    let outcomes: Mutex<Vec<Option<Outcome>>> = Mutex::new(vec![None; objects.len()]);
    let failed: Mutex<Option<OpError>> = Mutex::new(None);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let late = || until.is_some_and(|until| session.around.clock.now() >= until);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let place = next.fetch_add(1, Ordering::Relaxed);
            // One in any case: time that stands still must not keep a run from getting on.
            let Some(object) = objects.get(place).filter(|_| place == 0 || !late()) else {
                return;
            };
            let looked = session.around.interrupt.check().and_then(|()| one(session, store, object, how));
            match looked {
                Ok(outcome) => {
                    let mut all = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    all[place] = Some(outcome);
                }
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads(how).min(objects.len()) {
            scope.spawn(work);
        }
        work();
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failed {
        Some(error) if error.class == Class::Interrupted => Err(error),
        failed => {
            let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
            Ok(Looked { outcomes, failed })
        }
    }
}

/// Hashing wants processors, a look wants patience with a network.
fn threads(how: How) -> usize {
    let cores = crate::platform::processors();
    match how {
        How::Head => 16,
        How::Read => (2 * cores).clamp(4, 16),
    }
}

/// Looks at one object, and once more before it is called bad.
pub(crate) fn one(session: &Session, store: &dyn Store, object: &ObjectRef, how: How) -> Result<Outcome> {
    let first = match try_one(session, store, object, how)? {
        Ok(()) => return Ok(Outcome::Fine),
        Err(fault) => fault,
    };
    Ok(match try_one(session, store, object, how)? {
        Ok(()) => Outcome::FineAtLast(first.why),
        Err(fault) => Outcome::Bad(fault),
    })
}

type Tried = std::result::Result<(), Fault>;

fn fault(kind: FaultKind, why: impl Into<String>) -> Tried {
    Err(Fault { kind, why: why.into() })
}

fn try_one(session: &Session, store: &dyn Store, object: &ObjectRef, how: How) -> Result<Tried> {
    let key = Key::data(object.kind, object.id);
    let other_size = |found: u64| {
        let why = format!("it has {found} bytes, and the record says {}", object.size);
        fault(FaultKind::Size, why)
    };
    Ok(match how {
        How::Head => match store.head(&key) {
            Ok(Some(size)) if size == object.size => Ok(()),
            Ok(Some(size)) => other_size(size),
            Ok(None) => fault(FaultKind::Missing, "it is missing"),
            Err(e) => of_error(store, e)?,
        },
        How::Read => {
            let mut seen = |bytes| session.around.progress.advance(bytes);
            match store.read_back(&key, &mut seen) {
                Ok((size, _)) if size != object.size => other_size(size),
                Ok((_, id)) if id == object.id => Ok(()),
                Ok((_, id)) => fault(FaultKind::Bytes, other_bytes(&id)),
                Err(e) => of_error(store, e)?,
            }
        }
    })
}

fn other_bytes(id: &ObjectId) -> String {
    format!("its bytes are not those of its name: their SHA-256 is {id}")
}

/// An error about this one object is a fault; one about the store ends its part.
fn of_error(store: &dyn Store, error: StoreError) -> Result<Tried> {
    match error.kind {
        StoreErrorKind::NotFound => Ok(fault(FaultKind::Missing, "it is missing")),
        StoreErrorKind::Corrupt | StoreErrorKind::Other => {
            Ok(fault(FaultKind::Unreadable, format!("it cannot be read: {}", error.source)))
        }
        _ => in_store(store, Err(error)),
    }
}
