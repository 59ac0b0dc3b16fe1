//! Freezes: when something looks wrong with a component, nothing of it may go until somebody looked or three good snapshots followed.
//!
//! Good means here: at some time. A gap that is only seen until proofs are a month old would let everything go after one backup.

use crate::model::chain::KnownSnapshot;
use crate::model::id::{SnapshotId, VaultId};
use crate::model::record::CheckResult;
use crate::model::retention::Scene;
use crate::model::retention::component::Part;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::fmt;

/// A shorter stretch without a good snapshot is no gap.
const GAP_MIN: SignedDuration = SignedDuration::from_hours(48);
/// A gap is longer than so many times the usual distance.
const GAP_TIMES: i32 = 3;
/// The usual distance is the median of at most so many.
const DISTANCES_MAX: usize = 20;
/// So many good snapshots end a freeze.
pub const GOOD_TO_THAW: usize = 3;

/// What a freeze is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum FreezeKind {
    /// There was no good snapshot for longer than is usual.
    Gap {
        /// The last good one before.
        since: Timestamp,
        /// The first good one after; `None` while it lasts.
        until: Option<Timestamp>,
    },
    /// The check of a database or dump failed.
    CheckFailed {
        /// In this snapshot.
        snapshot: SnapshotId,
    },
    /// It has less than half the bytes or entries of the good one before.
    Shrank {
        /// In this snapshot.
        snapshot: SnapshotId,
        /// Bytes before and now.
        size: (u64, u64),
        /// Entries before and now.
        entries: (u64, u64),
    },
}

impl fmt::Display for FreezeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { since, until: None } => write!(f, "there has been no good snapshot since {since:.0}"),
            Self::Gap { since, until: Some(until) } => {
                write!(f, "there was no good snapshot from {since:.0} to {until:.0}")
            }
            Self::CheckFailed { snapshot } => write!(f, "its check failed in snapshot {snapshot}"),
            Self::Shrank { snapshot, size, entries } => write!(
                f,
                "it shrank by more than half in snapshot {snapshot}: from {} to {} bytes, from {} to {} entries",
                size.0, size.1, entries.0, entries.1
            ),
        }
    }
}

/// A component nothing of which may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// The component's number.
    pub component: u64,
    /// Why.
    pub kind: FreezeKind,
    /// How many good snapshots more would end it.
    pub good_needed: usize,
    /// `prune --accept` of this one ends it.
    pub accept: SnapshotId,
}

/// The freezes of a component, given `parts`: all usable snapshots that hold it, in the order of the chain.
pub(super) fn of(component: u64, parts: &[Part<'_>], scene: &Scene<'_>) -> Vec<Freeze> {
    let found = [gap(parts, scene), failed(component, parts, scene.instance), shrank(parts)];
    let mut freezes = Vec::new();
    for event in found.into_iter().flatten() {
        let accepted = event.is_accepted(component, parts);
        let Event { at, kind, ended_by, .. } = event;
        let good = parts[ended_by.min(parts.len())..].iter().filter(|p| p.once_good).count();
        if !accepted && good < GOOD_TO_THAW {
            let accept = parts[at].known.record.snapshot.clone();
            freezes.push(Freeze { component, kind, good_needed: GOOD_TO_THAW - good, accept });
        }
    }
    freezes
}

/// Something that looks wrong.
struct Event {
    /// Accepting this part or a later one ends the freeze.
    at: usize,
    kind: FreezeKind,
    /// Good parts from here on count towards its end.
    ended_by: usize,
    /// When it began, where that is after what `at` is of: who accepted something before did not mean this.
    since: Option<Timestamp>,
}

impl Event {
    fn is_accepted(&self, component: u64, parts: &[Part<'_>]) -> bool {
        let mut said = parts[self.at..].iter().filter_map(|p| p.known.accepted.get(&component));
        said.any(|said| self.since.is_none_or(|since| *said > since))
    }
}

/// The last stretch without a good snapshot that is longer than is usual.
fn gap(parts: &[Part<'_>], scene: &Scene<'_>) -> Option<Event> {
    let good: Vec<(usize, Timestamp)> =
        parts.iter().enumerate().filter(|(_, p)| p.once_good).map(|(place, p)| (place, p.time)).collect();
    let (last, last_time) = *good.last()?;
    let most = longest(&good);
    if scene.now.duration_since(last_time) > most {
        let kind = FreezeKind::Gap { since: last_time, until: None };
        let most = most.min(longest(&staying(parts, &good, scene)));
        let since = Some(last_time.saturating_add(most).unwrap_or(Timestamp::MAX));
        return Some(Event { at: last, kind, ended_by: parts.len(), since });
    }
    let (before, after) =
        good.windows(2).map(|w| (w[0], w[1])).rev().find(|(a, b)| b.1.duration_since(a.1) > most)?;
    let kind = FreezeKind::Gap { since: before.1, until: Some(after.1) };
    Some(Event { at: after.0, kind, ended_by: after.0, since: None })
}

/// Of `good`, those that no rule and no acceptance lets go before another one is made. A prune makes the distances between the
/// others longer, and an acceptance that is measured by those would end by itself.
fn staying(parts: &[Part<'_>], good: &[(usize, Timestamp)], scene: &Scene<'_>) -> Vec<(usize, Timestamp)> {
    let last = good.last().map(|last| last.0);
    let asked = |place: usize| parts[place].known.delete_asked && Some(place) != last;
    let stay: Vec<(usize, Timestamp)> = good.iter().copied().filter(|(place, _)| !asked(*place)).collect();
    let fewest = usize::try_from(scene.policy.min_keep).unwrap_or(usize::MAX);
    stay[stay.len().saturating_sub(fewest)..].to_vec()
}

/// How long it may take from one good snapshot to the next: three times the usual distance, at least two days.
fn longest(good: &[(usize, Timestamp)]) -> SignedDuration {
    let mut distances: Vec<SignedDuration> =
        good.windows(2).rev().take(DISTANCES_MAX).map(|w| w[1].1.duration_since(w[0].1)).collect();
    distances.sort_unstable();
    // Of an even number the lower: one gap among few snapshots must not pass for their distance.
    let usual = distances.get(distances.len().saturating_sub(1) / 2).copied().unwrap_or(SignedDuration::ZERO);
    usual.saturating_mul(GAP_TIMES).max(GAP_MIN)
}

/// True when somebody said that nothing newer than the last good one is to be expected.
pub(super) fn gap_accepted(component: u64, parts: &[Part<'_>], scene: &Scene<'_>) -> bool {
    let open = gap(parts, scene).filter(|event| matches!(event.kind, FreezeKind::Gap { until: None, .. }));
    open.is_some_and(|event| event.is_accepted(component, parts))
}

/// The last snapshot in which the component's check failed.
fn failed(component: u64, parts: &[Part<'_>], instance: &VaultId) -> Option<Event> {
    let at = parts
        .iter()
        .rposition(|p| p.line.check == CheckResult::Failed || check_failed(p.known, component, instance))?;
    let kind = FreezeKind::CheckFailed { snapshot: parts[at].known.record.snapshot.clone() };
    Some(Event { at, kind, ended_by: at + 1, since: None })
}

/// What the last verdict with a check of the component found in this store.
fn check_failed(known: &KnownSnapshot, component: u64, instance: &VaultId) -> bool {
    let here = known.verdicts.iter().filter(|v| v.verdict.instance == *instance);
    let mut checks = here.flat_map(|v| &v.verdict.checks).filter(|(number, _)| *number == component);
    checks.next_back().is_some_and(|(_, check)| *check == CheckResult::Failed)
}

/// The last snapshot in which the component shrank by more than half, and its configuration does not say why.
fn shrank(parts: &[Part<'_>]) -> Option<Event> {
    let mut before: Option<&Part<'_>> = None;
    let mut event = None;
    for (at, part) in parts.iter().enumerate().filter(|(_, p)| p.line.complete) {
        if let Some(good) = before.filter(|good| good.line.setup == part.line.setup) {
            let (size, entries) = ((good.line.size, part.line.size), (good.line.entries, part.line.entries));
            let halved = |(before, now): (u64, u64)| now.saturating_mul(2) < before;
            if halved(size) || halved(entries) {
                let snapshot = part.known.record.snapshot.clone();
                let kind = FreezeKind::Shrank { snapshot, size, entries };
                event = Some(Event { at, kind, ended_by: at, since: None });
            }
        }
        if part.once_good {
            before = Some(part);
        }
    }
    event
}
