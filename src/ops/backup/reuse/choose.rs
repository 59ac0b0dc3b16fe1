//! Which of a component's archives are packed again, as far as their sizes tell.
//!
//! Half-empty ones, so that space comes free; and the smallest, so that no snapshot hangs on very many little ones. Packing again must come to an end by itself:
//! whatever is chosen becomes fewer archives than it was, or the same bytes would be stored run after run though nothing changes.

use crate::model::ObjectId;
use std::collections::HashSet;

/// A component that refers to more small delta archives than this has the smallest of them folded into few.
const SMALL_MAX: usize = 32;

/// How many small delta archives a component may refer to. In debug builds a test may set another bound, so that its component need not have so many.
pub(super) fn small_max() -> usize {
    #[cfg(debug_assertions)]
    if let Some(most) = std::env::var("BACKSTAY_TEST_SMALL_MAX").ok().and_then(|n| n.parse().ok()) {
        return most;
    }
    SMALL_MAX
}

/// An archive of a component, and how full it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) archive: ObjectId,
    /// Bytes of its tar stream that are in use now, and that were when it was made.
    pub(super) used: u64,
    pub(super) of: u64,
    /// The size of the object.
    pub(super) size: u64,
    pub(super) age: u64,
    pub(super) delta: bool,
}

impl Share {
    fn is_half_empty(&self) -> bool {
        u128::from(self.used) * 2 < u128::from(self.of)
    }

    /// About how many bytes of the object are in use.
    fn packed(&self) -> u64 {
        let of = self.of.max(1);
        let packed = u128::from(self.size) * u128::from(self.used.min(of)) / u128::from(of);
        u64::try_from(packed).unwrap_or(u64::MAX)
    }
}

/// The archives of `shares` that are to be packed again. `full` is the size at which archives are sealed, `room` how many bytes a run may pack again, and
/// `most` how many small ones may stay.
pub(super) fn choose(shares: &[Share], full: u64, room: u64, most: usize) -> HashSet<ObjectId> {
    let half_empty: Vec<&Share> = shares.iter().filter(|s| s.is_half_empty()).collect();
    let taken = half_empty.iter().map(|s| s.used).fold(0, u64::saturating_add);
    let small = |s: &&Share| s.delta && !s.is_half_empty() && s.packed() < full / 2;
    let small: Vec<&Share> = shares.iter().filter(small).collect();
    let folded = fold(small, full, room.saturating_sub(taken), most);
    half_empty.into_iter().chain(folded).map(|s| s.archive).collect()
}

/// Those of `small` that are folded: when there are too many, the smallest, at least until with the new archive there are `most`.
///
/// None is larger than all the others together, so what is folded comes to lie in an archive of twice the size at least. A byte is folded a few times in its life,
/// then, and not every time that something is added. And all of it fits into `room`: a part of each would only make more archives.
fn fold(mut small: Vec<&Share>, full: u64, room: u64, most: usize) -> Vec<&Share> {
    // The new archive is one more.
    let over = if small.len() > most { small.len() + 1 - most } else { return Vec::new() };
    small.sort_by_key(|s| (s.used, s.age, s.archive));
    let (mut count, mut used, mut packed, mut doubled) = (0, 0_u64, 0_u64, false);
    for share in &small {
        let doubles = share.used <= used;
        // Beyond a whole archive nothing is won: those are never folded again.
        let enough = count >= over && doubled && (!doubles || packed >= full);
        if enough || used.saturating_add(share.used) > room {
            break;
        }
        used = used.saturating_add(share.used);
        packed = packed.saturating_add(share.packed());
        doubled = doubles;
        count += 1;
    }
    // One alone would only change its place.
    small.truncate(if count > 1 { count } else { 0 });
    small
}

#[cfg(test)]
mod tests;
