//! Two listings side by side.

use crate::model::Entry;
use crate::ops::error::Result;
use crate::source::folder::Found;
use std::cmp::Ordering;

/// Something on one side.
pub(super) enum Thing<'s> {
    /// In a snapshot.
    Stored(Box<Entry>),
    /// In the live tree, at this place of its scan.
    Live(usize, &'s Found),
}

impl Thing<'_> {
    /// What is known of it.
    pub(super) fn entry(&self) -> &Entry {
        match self {
            Thing::Stored(entry) => entry,
            Thing::Live(_, found) => &found.entry,
        }
    }
}

/// A listing in walk order.
pub(super) trait Listed<'s> {
    /// What comes next.
    fn next(&mut self) -> Result<Option<Thing<'s>>>;
}

/// Calls `each` once for every path of either side, in walk order.
pub(super) fn side_by_side<'s>(
    old: &mut dyn Listed<'s>,
    new: &mut dyn Listed<'s>,
    each: &mut dyn FnMut(Option<Thing<'s>>, Option<Thing<'s>>) -> Result<()>,
) -> Result<()> {
    let (mut a, mut b) = (old.next()?, new.next()?);
    loop {
        let order = match (&a, &b) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.entry().path.cmp(&b.entry().path),
        };
        match order {
            Ordering::Less => each(std::mem::replace(&mut a, old.next()?), None)?,
            Ordering::Greater => each(None, std::mem::replace(&mut b, new.next()?))?,
            Ordering::Equal => {
                each(std::mem::replace(&mut a, old.next()?), std::mem::replace(&mut b, new.next()?))?;
            }
        }
    }
}
