//! Proofs of older verdicts that stand for a newer snapshot, too: when prune takes the records that those were about, they end with them.
//!
//! Nothing here may make a proof younger than it is.

use crate::model::Timestamp;
use crate::model::mark::{Level, Verdict};
use jiff::SignedDuration;

/// So many groups by age: the oldest proof of a group speaks for all of it.
const GROUPS: i32 = 3;

/// When each group's oldest proof began, and the places of its objects in the record.
pub(super) struct Carried(Vec<(Timestamp, Vec<u64>)>);

impl Carried {
    /// Of `proofs`, places in ascending order with the times when their proofs began, those that still count.
    pub(super) fn of(
        proofs: impl Iterator<Item = (u64, Timestamp)>,
        now: Timestamp,
        reverify: SignedDuration,
    ) -> Self {
        let mut groups: Vec<(Timestamp, Vec<u64>)> =
            (0..GROUPS).map(|_| (Timestamp::MAX, Vec::new())).collect();
        let span = (reverify.as_secs() / i64::from(GROUPS)).max(1);
        for (place, proved) in proofs {
            let age = now.duration_since(proved).as_secs() / span;
            let Some(group) = usize::try_from(age.max(0)).ok().and_then(|age| groups.get_mut(age)) else {
                continue; // a proof that does not count any more is none
            };
            group.0 = group.0.min(proved);
            group.1.push(place);
        }
        groups.retain(|(_, places)| !places.is_empty());
        Self(groups)
    }

    /// The verdicts, on the target and in the store of `own`.
    pub(super) fn verdicts(self, own: &Verdict) -> Vec<Verdict> {
        let verdict = |(began, places): (Timestamp, Vec<u64>)| {
            let covered = ranges(places.into_iter());
            // How the oldest of them was proved is not known any more.
            Verdict { began, covered, level: Level::Put, checks: Vec::new(), good: true, ..own.clone() }
        };
        self.0.into_iter().map(verdict).collect()
    }
}

/// Half-open ranges of ascending places.
pub(super) fn ranges(places: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for place in places {
        match ranges.last_mut() {
            Some(last) if last.1 == place => last.1 += 1,
            _ => ranges.push((place, place + 1)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_follow_each_other_are_one_range() {
        assert_eq!(ranges([0, 1, 2, 5, 7, 8].into_iter()), [(0, 3), (5, 6), (7, 9)]);
        assert!(ranges(std::iter::empty()).is_empty());
    }
}
