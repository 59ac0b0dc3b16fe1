//! Proofs of older verdicts that stand for a newer snapshot, too: when prune takes the records that those were about, they end with them.
//!
//! Nothing here may make a proof younger than it is, nor so old that it began before a bad word which it took back.

use crate::model::Timestamp;
use crate::model::mark::{Level, Verdict};
use crate::model::proof::Standing;
use jiff::SignedDuration;

/// So many groups by age: the oldest proof of a group speaks for all of it, as far as it is younger than what was said against them.
const GROUPS: i32 = 3;

/// An object's proof: when it began, when the object was last said to be bad before that, and its place in the record.
type Proof = (Timestamp, Option<Timestamp>, u64);

/// When each group's oldest proof began, and the places of its objects in the record.
pub(super) struct Carried(Vec<(Timestamp, Vec<u64>)>);

impl Carried {
    /// Of `proofs`, places with what was said of the objects there, those that still count.
    pub(super) fn of(
        proofs: impl Iterator<Item = (u64, Standing)>,
        now: Timestamp,
        reverify: SignedDuration,
    ) -> Self {
        let mut ages: Vec<Vec<Proof>> = (0..GROUPS).map(|_| Vec::new()).collect();
        let span = (reverify.as_secs() / i64::from(GROUPS)).max(1);
        for (place, standing) in proofs {
            let Some(proved) = standing.proved else { continue };
            let age = now.duration_since(proved).as_secs() / span;
            // A proof that does not count any more is none.
            if let Some(group) = usize::try_from(age.max(0)).ok().and_then(|age| ages.get_mut(age)) {
                group.push((proved, standing.said_bad, place));
            }
        }
        Self(ages.into_iter().flat_map(grouped).collect())
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

/// As few groups as may be, in each of which the oldest proof is younger than all that was said against the objects.
fn grouped(mut proofs: Vec<Proof>) -> Vec<(Timestamp, Vec<u64>)> {
    proofs.sort_unstable();
    let mut groups: Vec<(Timestamp, Vec<u64>)> = Vec::new();
    for (proved, said_bad, place) in proofs {
        match groups.last_mut() {
            Some((oldest, places)) if said_bad.is_none_or(|said| *oldest >= said) => places.push(place),
            _ => groups.push((proved, vec![place])),
        }
    }
    groups.iter_mut().for_each(|(_, places)| places.sort_unstable());
    groups
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

    #[test]
    fn the_oldest_proof_of_a_group_speaks_for_none_that_was_found_bad_after_it() {
        let at = |hour: i64| Timestamp::from_second(hour * 3600).unwrap();
        let (now, reverify) = (at(72), SignedDuration::from_hours(72));
        let of = |proofs: &[(i64, Option<i64>)]| {
            let standing = |(proved, said): &(i64, Option<i64>)| Standing {
                bad: false,
                proved: Some(at(*proved)),
                said_bad: said.map(at),
            };
            Carried::of((0u64..).zip(proofs.iter().map(standing)), now, reverify).0
        };
        let plain = of(&[(70, None), (60, None), (20, None), (-1, None)]);
        assert_eq!(plain, [(at(60), vec![0, 1]), (at(20), vec![2])]);
        // What was said before the oldest proof of all asks for nothing.
        assert_eq!(of(&[(70, Some(59)), (60, None), (65, None)]), [(at(60), vec![0, 1, 2])]);
        let mended = of(&[(70, Some(64)), (60, None), (65, Some(61)), (71, None), (66, Some(65))]);
        assert_eq!(mended, [(at(60), vec![1]), (at(65), vec![0, 2, 3, 4])]);
        let unproved = Standing { bad: true, proved: None, said_bad: Some(at(1)) };
        assert!(Carried::of(std::iter::once((0, unproved)), now, reverify).0.is_empty());
    }
}
