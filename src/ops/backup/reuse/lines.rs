//! What this host's newest records say of components: which are still in use, and which are small for good.

use crate::catalog::known::Sums;
use crate::keys::naming::component_number;
use crate::model::Timestamp;
use crate::model::chain::KnownSnapshot;
use crate::model::retention::GOOD_TO_THAW;
use crate::ops::backup::reuse::Wanted;
use crate::ops::session::{Session, Writer};
use jiff::SignedDuration;
use std::collections::{HashMap, HashSet};

/// A component that the configuration does not name stays known so long after its last snapshot: two configurations may take turns in one state folder, and a
/// bundle of git's is in none.
const STAYS: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Components that are captured today, or are likely to be captured again.
pub(super) fn alive(
    (session, writer): (&Session, &Writer),
    snapshots: &[KnownSnapshot],
    wanted: &[Wanted],
    now: Timestamp,
) -> HashSet<u64> {
    let configured = session.config.iter().flat_map(|config| &config.components);
    let mut alive: HashSet<u64> = configured.map(|c| component_number(&writer.naming, &c.name)).collect();
    alive.extend(wanted.iter().map(|w| w.number));
    let late = |s: &&KnownSnapshot| s.is_usable() && now.duration_since(s.record.started) <= STAYS;
    alive.extend(snapshots.iter().filter(late).flat_map(|s| s.record.components.iter().map(|c| c.number)));
    alive
}

/// Records of so many days are looked at in any case: where a run is made every quarter of an hour, three of them say little.
const LATE: SignedDuration = SignedDuration::from_hours(3 * 24);

/// How large components were of late: in all records of three days, and in the newest of each in any case, as many as end the freeze of one that shrank.
#[derive(Debug, Default)]
pub(super) struct Late(HashMap<u64, Vec<(u64, u64)>>);

impl Late {
    pub(super) fn of(snapshots: &[KnownSnapshot], now: Timestamp) -> Self {
        let mut late: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
        for known in snapshots.iter().rev().filter(|s| s.is_usable() && s.record.index.is_some()) {
            let of_late = now.duration_since(known.record.started) < LATE;
            for line in &known.record.components {
                let sizes = late.entry(line.number).or_default();
                if of_late || sizes.len() < GOOD_TO_THAW {
                    sizes.push((line.entries, line.size));
                }
            }
        }
        Self(late)
    }

    /// True when `known` is more than twice as much as each of them says.
    pub(super) fn were_small(&self, number: u64, known: &Sums) -> bool {
        let sizes = self.0.get(&number).map_or(&[][..], Vec::as_slice);
        sizes.len() >= GOOD_TO_THAW && sizes.iter().all(|(entries, size)| is_twice(known, *entries, *size))
    }
}

/// True when `known` is more than twice as much, in entries or in bytes.
pub(super) fn is_twice(known: &Sums, entries: u64, size: u64) -> bool {
    known.entries > entries.saturating_mul(2) || known.size > size.saturating_mul(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::chain::Trust;
    use crate::model::record::{CheckResult, ComponentLine, SnapshotKind};
    use crate::model::{HostId, ObjectId, Record, SignerId, SnapshotId, VaultId};
    use std::sync::Arc;

    const START: &str = "2026-11-01T00:00:00Z";

    /// A snapshot so many hours after the start, in which component 5 has so many bytes.
    fn snapshot(hour: i64, size: u64) -> KnownSnapshot {
        let started = at(hour);
        let line = ComponentLine {
            number: 5,
            size,
            entries: 10,
            complete: false,
            check: CheckResult::None,
            setup: String::new(),
        };
        let record = Record {
            format: 1,
            needs: Vec::new(),
            doc: "record".into(),
            vault: VaultId::from_random([0; 17]),
            snapshot: SnapshotId::new(started, [1; 5]),
            kind: SnapshotKind::Normal,
            host: HostId([1; 16]),
            signer: SignerId([1; 16]),
            number: 1,
            previous: None,
            started,
            finished: started,
            complete: false,
            alone: false,
            components: vec![line],
            recipients: Vec::new(),
            objects: Vec::new(),
            index: Some(ObjectId([1; 32])),
            run: None,
            tags: Vec::new(),
            milestone: false,
            agent: String::new(),
        };
        KnownSnapshot::new(Arc::new(record), ObjectId([2; 32]), Trust::Trusted)
    }

    fn at(hour: i64) -> Timestamp {
        START.parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hour)
    }

    #[test]
    fn a_component_is_small_for_good_after_three_snapshots_and_three_days() {
        let known = Sums { entries: 10, files: 10, dirs: 0, size: 1000 };
        let small =
            |snapshots: &[KnownSnapshot], hour: i64| Late::of(snapshots, at(hour)).were_small(5, &known);
        // Every hour: a day without a disk is not enough, three days are.
        let hourly: Vec<_> = (0..80).map(|n| snapshot(n, if n < 5 { 1000 } else { 100 })).collect();
        assert!(!small(&hourly[..30], 30) && !small(&hourly[..75], 75));
        assert!(small(&hourly[..76], 76));
        // Every night, and every month.
        let sparse = |hours: i64| -> Vec<_> {
            (0..5).map(|n| snapshot(n * hours, if n < 2 { 1000 } else { 100 })).collect()
        };
        for hours in [24, 24 * 30] {
            let all = sparse(hours);
            assert!(!small(&all[..4], 4 * hours) && small(&all, 5 * hours), "every {hours} hours");
        }
        // Half is not less than half, other components are not asked, and no record says nothing.
        assert!(!small(&[0, 99, 198].map(|hour| snapshot(hour, 500)), 300));
        assert!(!Late::of(&sparse(24), at(5 * 24)).were_small(6, &known) && !small(&[], 0));
    }
}
