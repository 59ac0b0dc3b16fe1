//! Whose turn it is to be read: what was found bad, then what nobody ever read, then the oldest proof.
//!
//! A function of sizes and proofs alone: run every day with the same part it comes round to everything, whatever the sizes.

use crate::model::{ObjectId, Timestamp};

/// What decides about one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) id: ObjectId,
    pub(super) size: u64,
    /// It was found bad, and nobody proved it since.
    pub(super) bad: bool,
    pub(super) proved: Option<Timestamp>,
}

/// The places of those that are read now, first ones first: enough for `percent` of all bytes, the last one whole. With `None` only those
/// that were found bad before: nothing else can take that back.
pub(super) fn choose(all: &[Turn], percent: Option<f64>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|place| {
        let turn = &all[*place];
        (!turn.bad, turn.proved, turn.id)
    });
    let total: u64 = all.iter().map(|turn| turn.size).sum();
    let wanted = percent.map_or(0.0, |percent| total as f64 * percent / 100.0);
    let mut taken: u64 = 0;
    let mut chosen = Vec::new();
    for place in order {
        let turn = &all[place];
        // Also with a part of next to nothing a run reads one.
        let more = percent.is_some() && (chosen.is_empty() || (taken as f64) < wanted);
        if !more && !turn.bad {
            break;
        }
        taken = taken.saturating_add(turn.size);
        chosen.push(place);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turn(n: u8, size: u64, proved: Option<i64>) -> Turn {
        let proved = proved.map(|s| Timestamp::from_second(s).unwrap());
        Turn { id: ObjectId([n; 32]), size, bad: false, proved }
    }

    #[test]
    fn what_was_found_bad_is_read_whatever_was_asked_for() {
        let mut all = [turn(1, 10, Some(1)), turn(2, 10, None), turn(3, 10, Some(5))];
        assert_eq!(choose(&all, None), Vec::<usize>::new());
        all[2].bad = true;
        assert_eq!(choose(&all, None), [2]);
        assert_eq!(choose(&all, Some(40.0)), [2, 1]);
    }

    #[test]
    fn the_never_read_come_first_then_the_oldest() {
        let all = [turn(1, 10, Some(9)), turn(2, 10, None), turn(3, 10, Some(5)), turn(4, 10, None)];
        assert_eq!(choose(&all, Some(100.0)), [1, 3, 2, 0]);
        assert_eq!(choose(&all, Some(26.0)), [1, 3]);
        assert_eq!(choose(&all, Some(0.001)), [1]);
    }

    proptest! {
        /// As many runs as the part goes into the whole read everything, whatever the sizes.
        #[test]
        fn daily_runs_come_round_to_everything(
            sizes in prop::collection::vec(1u64..2_000_000_000, 1..60),
            percent in 1.0f64..100.0,
        ) {
            let mut all: Vec<Turn> = (0u8..).zip(sizes).map(|(n, size)| turn(n, size, None)).collect();
            let runs = (100.0 / percent).ceil() as i64;
            for day in 1..=runs {
                for place in choose(&all, Some(percent)) {
                    all[place].proved = Timestamp::from_second(day * 86_400).ok();
                }
            }
            prop_assert!(all.iter().all(|turn| turn.proved.is_some()), "{all:?}");
            // And again: no proof gets older than one round.
            for day in runs + 1..=3 * runs {
                for place in choose(&all, Some(percent)) {
                    all[place].proved = Timestamp::from_second(day * 86_400).ok();
                }
                let oldest = all.iter().filter_map(|turn| turn.proved).min().unwrap();
                prop_assert!(oldest.as_second() > (day - runs - 1) * 86_400, "{day} {runs} {oldest}");
            }
        }
    }
}
