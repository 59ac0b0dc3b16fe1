//! What snapshots cost: which older ones one hangs on, and how fast a vault grows. Only records are asked, so no key is needed.
//!
//! These are figures for people. Nothing may decide by them that an object may go.

use crate::model::chain::KnownSnapshot;
use crate::model::record::SnapshotKind;
use crate::model::{HostId, ObjectId, ObjectKind, Record, SnapshotId, Timestamp};
use crate::ops::vault::Vault;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What a snapshot needs of an older one: with the older record gone these objects stay, because this one holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// The oldest snapshot that has these objects.
    pub snapshot: SnapshotId,
    /// When it was begun.
    pub started: Timestamp,
    /// How many archives of it are needed.
    pub archives: u64,
    /// How many objects of it are needed, listings included.
    pub objects: u64,
    /// Bytes of these objects.
    pub bytes: u64,
}

/// Which older snapshots of its host `record` hangs on, oldest first. `records` are all of that host in the order of their numbers.
pub fn depends_on<'r>(records: impl IntoIterator<Item = &'r Record>, record: &Record) -> Vec<Dependency> {
    let mut waiting: HashMap<ObjectId, (ObjectKind, u64)> =
        record.objects.iter().map(|o| (o.id, (o.kind, o.size))).collect();
    let mut found: BTreeMap<u64, Dependency> = BTreeMap::new();
    let older = records.into_iter().filter(|r| r.number < record.number);
    for older in older.filter(|r| r.kind != SnapshotKind::Partial) {
        for object in &older.objects {
            let Some((kind, size)) = waiting.remove(&object.id) else { continue };
            let of = found.entry(older.number).or_insert_with(|| Dependency {
                snapshot: older.snapshot.clone(),
                started: older.started,
                archives: 0,
                objects: 0,
                bytes: 0,
            });
            of.archives += u64::from(kind == ObjectKind::Archive);
            of.objects += 1;
            of.bytes = of.bytes.saturating_add(size);
        }
    }
    found.into_values().collect()
}

/// Which older snapshots of its host `record` hangs on, as far as `vault` shows them.
pub fn dependencies(vault: &Vault, record: &Record) -> Vec<Dependency> {
    depends_on(records_of(vault, &record.host), record)
}

fn records_of<'v>(vault: &'v Vault, host: &HostId) -> impl Iterator<Item = &'v Record> {
    vault.history.hosts.get(host).into_iter().flatten().map(|snapshot| &*snapshot.record)
}

/// How fast a host fills a store, at the pace of late, as far as the snapshots tell that are still there: what only pruned ones had is gone, and leaves no trace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Growth {
    /// Bytes that thirty days of such snapshots add, to those that are kept.
    pub bytes_a_month: u64,
    /// Over how many days that was measured.
    pub days: f64,
    /// How many snapshots were looked at.
    pub snapshots: u64,
}

/// Days that are looked back at most, and a month.
const MONTH_DAYS: f64 = 30.0;
/// Less than this says nothing about a month.
const DAYS_MIN: f64 = 0.9;

/// The growth over the last thirty days before the newest of `records`, which are usable ones of one host in the order of their numbers. `None` where they are too few or lie
/// too close together. What the first one of a component stored does not count, be it that it was the first or that those before were pruned: it is what there is, and no
/// growth. Nor does what a later one stores of what an earlier one has.
pub fn growth(records: &[&Record]) -> Option<Growth> {
    let newest = records.last()?.started;
    let days_before = |t: Timestamp| newest.duration_since(t).as_secs_f64() / 86_400.0;
    let (mut seen, mut components) = (HashSet::<ObjectId>::new(), HashSet::<u64>::new());
    let (mut bytes, mut count, mut begin) = (0_u64, 0_u64, None);
    for record in records {
        let new = record.objects.iter().filter(|o| seen.insert(o.id)).map(|o| o.size);
        let new = new.fold(0, u64::saturating_add);
        // A record does not say which object is of which component: one that brings a component counts as a whole for nothing.
        let before = components.len();
        components.extend(record.components.iter().map(|c| c.number));
        let known = components.len() == before;
        if days_before(record.started) > MONTH_DAYS {
            continue;
        }
        // What the first one of the window stored was for the time before it.
        if begin.is_some() && known {
            bytes = bytes.saturating_add(new);
        }
        begin.get_or_insert(record.started);
        count += 1;
    }
    let days = days_before(begin?);
    (count > 1 && days >= DAYS_MIN).then(|| Growth {
        bytes_a_month: (bytes as f64 / days * MONTH_DAYS) as u64,
        days,
        snapshots: count,
    })
}

/// The growth that the snapshots of `host` in `vault` show.
pub fn growth_of(vault: &Vault, host: &HostId) -> Option<Growth> {
    growth_in(vault.history.hosts.get(host)?)
}

/// Untrusted and void ones say nothing, and stand last in a history, whenever they were made.
fn growth_in(snapshots: &[KnownSnapshot]) -> Option<Growth> {
    growth(&snapshots.iter().filter(|s| s.is_usable()).map(|s| &*s.record).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::chain::{Trust, Untrusted};
    use crate::model::record::{CheckResult, ComponentLine};
    use crate::model::{ObjectRef, SignerId, VaultId};
    use std::sync::Arc;

    fn record(number: u64, day: i64, objects: &[(&str, u64)]) -> Record {
        let start: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let started = start + jiff::SignedDuration::from_hours(24 * day);
        let object = |(name, size): &(&str, u64)| {
            let id = ObjectId::of(name.as_bytes());
            ObjectRef { kind: ObjectKind::Archive, size: *size, id, recipients: 0 }
        };
        Record {
            format: 1,
            needs: Vec::new(),
            doc: "record".into(),
            vault: VaultId::from_random([0; 17]),
            snapshot: SnapshotId::new(started, [number as u8; 5]),
            kind: SnapshotKind::Normal,
            host: HostId([1; 16]),
            signer: SignerId([1; 16]),
            number,
            previous: None,
            started,
            finished: started,
            complete: true,
            alone: number == 1,
            components: Vec::new(),
            recipients: Vec::new(),
            objects: objects.iter().map(object).collect(),
            index: None,
            run: None,
            tags: Vec::new(),
            milestone: false,
            agent: String::new(),
        }
    }

    #[test]
    fn a_snapshot_hangs_on_the_oldest_that_has_what_it_needs() {
        let all = [
            record(1, 0, &[("a", 100), ("b", 50)]),
            record(2, 1, &[("a", 100), ("c", 7)]),
            record(3, 2, &[("a", 100), ("c", 7), ("d", 1)]),
        ];
        let of = |n: usize| -> Vec<(u64, u64)> {
            depends_on(&all, &all[n]).iter().map(|d| (d.archives, d.bytes)).collect()
        };
        assert_eq!(of(0), []);
        assert_eq!(of(1), [(1, 100)]);
        assert_eq!(of(2), [(1, 100), (1, 7)]);
        assert_eq!(depends_on(&all, &all[2])[1].snapshot, all[1].snapshot);
    }

    #[test]
    fn growth_is_what_later_snapshots_added_over_their_time() {
        let all = [
            record(1, 0, &[("a", 1000)]),
            record(2, 1, &[("a", 1000), ("b", 30)]),
            record(3, 3, &[("b", 30), ("c", 60)]),
        ];
        let all: Vec<&Record> = all.iter().collect();
        let found = growth(&all).unwrap();
        assert_eq!((found.bytes_a_month, found.snapshots), (900, 3));
        assert!((found.days - 3.0).abs() < 0.01);
        assert_eq!(growth(&all[..1]), None);
        assert_eq!(growth(&[]), None);
    }

    fn of(components: &[u64], record: Record) -> Record {
        let line = |number: &u64| ComponentLine {
            number: *number,
            size: 1,
            entries: 1,
            complete: true,
            check: CheckResult::None,
            setup: String::new(),
        };
        Record { components: components.iter().map(line).collect(), ..record }
    }

    #[test]
    fn what_the_first_kept_snapshot_of_a_component_holds_is_no_growth() {
        // Every quarter of an hour the database, each night all: of the first day a prune left the database alone.
        let all = [
            of(&[1], record(1, 0, &[("db", 10)])),
            of(&[1, 2], record(2, 1, &[("db", 10), ("base of the folder", 90_000)])),
            of(&[1], record(3, 2, &[("db", 10), ("more of the db", 5)])),
            of(&[1, 2], record(4, 3, &[("base of the folder", 90_000), ("more of the folder", 25)])),
        ];
        let found = growth(&all.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((found.bytes_a_month, found.snapshots), (300, 4));
    }

    #[test]
    fn records_that_do_not_count_make_no_growth_and_move_no_window() {
        let known = |record, trust| KnownSnapshot::new(Arc::new(record), ObjectId::of(b"record"), trust);
        let good = [record(1, 0, &[("a", 1000)]), record(2, 3, &[("a", 1000), ("b", 30)])];
        let mut snapshots: Vec<_> = good.map(|record| known(record, Trust::Trusted)).into();
        let mut void = known(record(3, 4, &[("c", 7000)]), Trust::Trusted);
        void.void = Some("an object is missing".into());
        // Untrusted ones stand last, whatever time they are of.
        let stray = known(record(1, -400, &[("d", 7000)]), Trust::Untrusted(Untrusted::UnknownKey));
        snapshots.extend([void, stray]);
        let found = growth_in(&snapshots).unwrap();
        assert_eq!((found.bytes_a_month, found.snapshots), (300, 2));
    }

    #[test]
    fn only_the_last_thirty_days_count() {
        let all = [
            record(1, 0, &[("a", 1000)]),
            record(2, 40, &[("b", 500)]),
            record(3, 50, &[("b", 500), ("c", 10)]),
        ];
        let all: Vec<&Record> = all.iter().collect();
        assert_eq!(growth(&all).unwrap().bytes_a_month, 30);
    }
}
