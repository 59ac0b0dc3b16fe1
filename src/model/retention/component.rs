//! The rules for one component: what each of its snapshots is kept for.

use crate::model::chain::KnownSnapshot;
use crate::model::record::ComponentLine;
use crate::model::retention::freeze::{self, Freeze};
use crate::model::retention::period::{Period, PeriodKey};
use crate::model::retention::reason::Reason;
use crate::model::retention::{Policy, Scene};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// A component as one usable snapshot holds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    /// The snapshot's place among those given.
    pub(super) at: usize,
    pub(super) known: &'a KnownSnapshot,
    pub(super) line: &'a ComponentLine,
    pub(super) time: Timestamp,
    pub(super) good: bool,
    /// Good now, or at some time before: what happened is judged by this, what may take another's place by `good`.
    pub(super) once_good: bool,
}

/// What the rules keep.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// By place of the snapshot: reasons, each with the component.
    pub(super) keeps: BTreeMap<usize, Vec<(Reason, u64)>>,
    pub(super) freezes: Vec<Freeze>,
}

/// Applies the rules to `parts`: one component of all usable snapshots that hold it, in the order of the chain.
pub(super) fn apply(component: u64, parts: &[Part<'_>], scene: &Scene<'_>, rules: &mut Rules) {
    let mut work = Work { component, policy: scene.policy, rules };
    let gap_accepted = freeze::gap_accepted(component, parts, scene);
    let last_good = parts.iter().rposition(|p| p.good);
    // With nothing good the newest is the best there is. Who accepted that nothing newer comes may also ask for the last one to go.
    let last = last_good
        .or(parts.len().checked_sub(1))
        .filter(|last| !(parts[*last].known.delete_asked && gap_accepted));
    let goes = |at: &usize| parts[*at].known.delete_asked && Some(*at) != last;
    if let Some(last) = last.filter(|last| parts[*last].known.delete_asked) {
        work.keep(&parts[last], Reason::DeleteRefused { good: last_good.is_some() });
    }
    // What is asked to go takes no other's place.
    let staying: Vec<Part<'_>> = (0..parts.len()).filter(|at| !goes(at)).map(|at| parts[at]).collect();
    let freezes = freeze::of(component, parts, scene);
    for freeze in &freezes {
        staying.iter().for_each(|part| work.keep(part, Reason::Frozen(freeze.kind.clone())));
    }
    work.rules.freezes.extend(freezes);
    let Some(newest) = staying.iter().rposition(|p| p.good) else {
        staying.iter().for_each(|part| work.keep(part, Reason::NothingGood));
        return;
    };
    work.never_removed(&staying, newest);
    let anchor = if gap_accepted { scene.now } else { staying[newest].time.min(scene.now) };
    work.by_age(&staying, anchor);
    Period::ALL.iter().for_each(|period| work.by_period(&staying, *period, anchor));
}

struct Work<'a> {
    component: u64,
    policy: &'a Policy,
    rules: &'a mut Rules,
}

impl Work<'_> {
    fn keep(&mut self, part: &Part<'_>, reason: Reason) {
        self.rules.keeps.entry(part.at).or_default().push((reason, self.component));
    }

    /// The newest good one, what is newer and not proved yet, and the fewest good ones there may be, with all that lies between: where fewer are good,
    /// because backups are rare and their proofs grew old, nothing goes before somebody proved them again.
    fn never_removed(&mut self, parts: &[Part<'_>], newest: usize) {
        for part in &parts[newest + 1..] {
            self.keep(part, Reason::NotProvedYet);
        }
        self.keep(&parts[newest], Reason::NewestGood);
        let (fewest, mut counted) = (self.policy.min_keep, 0);
        for part in parts[..=newest].iter().rev() {
            if counted == fewest {
                break;
            }
            counted += u64::from(part.good);
            self.keep(part, if part.good { Reason::MinKeep(fewest) } else { Reason::TooFewGood(fewest) });
        }
    }

    fn by_age(&mut self, parts: &[Part<'_>], anchor: Timestamp) {
        if let Some(last) = self.policy.keep_last {
            let mut counted = 0;
            for part in parts.iter().rev() {
                if counted == last {
                    break;
                }
                // One that is not good takes no good one's place.
                counted += u64::from(part.good);
                self.keep(part, Reason::Last(last));
            }
        }
        if let Some(within) = self.policy.keep_within {
            let from = anchor.saturating_sub(within).unwrap_or(Timestamp::MIN);
            for part in parts.iter().filter(|p| p.time >= from) {
                self.keep(part, Reason::Within(within));
            }
        }
    }

    fn by_period(&mut self, parts: &[Part<'_>], period: Period, anchor: Timestamp) {
        let rule = self.policy.rule(period);
        if rule.count.is_none() && rule.within.is_none() {
            return;
        }
        let from = rule.within.map(|within| anchor.saturating_sub(within).unwrap_or(Timestamp::MIN));
        let mut counted = 0;
        for first in firsts(parts, |part| period.key(part.time, &self.policy.zone)) {
            let counts = rule.count.is_some_and(|count| counted < count);
            if counts || from.is_some_and(|from| first.time >= from) {
                self.keep(
                    first,
                    if first.good { Reason::FirstOf(period) } else { Reason::FirstNotGood(period) },
                );
            }
            // A period without a good one is kept and takes no other's place.
            counted += u64::from(first.good);
        }
    }
}

/// The first good part of each period, or the first where none is good; the period that the newest part lies in comes first.
fn firsts<'p, 'a>(parts: &'p [Part<'a>], key: impl Fn(&Part<'a>) -> PeriodKey) -> Vec<&'p Part<'a>> {
    let mut order: Vec<&Part<'a>> = Vec::new();
    let mut places: HashMap<PeriodKey, usize> = HashMap::new();
    for part in parts.iter().rev() {
        let place = *places.entry(key(part)).or_insert_with(|| {
            order.push(part);
            order.len() - 1
        });
        // Going backwards, a later find is an earlier snapshot.
        if part.good || !order[place].good {
            order[place] = part;
        }
    }
    order
}
