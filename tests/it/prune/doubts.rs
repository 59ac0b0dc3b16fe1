//! What a prune must doubt although every chain seems whole.

use super::*;
use backstay::model::mark::Removed;

/// Whoever stole the host's key, and may write over what is there.
struct Thief {
    signer: Signer,
    number: u64,
    previous: Option<ObjectId>,
    mark: Mark,
}

impl Thief {
    fn of(bench: &Bench) -> Self {
        let signer = bench.session.signer().unwrap();
        let marks = bench.memory.list(Prefix::Marks).unwrap();
        let last = marks.iter().map(|l| (mark_number(&l.key), &l.key)).max().unwrap();
        let bytes = bench.memory.get(last.1, 1 << 20).unwrap();
        let line = backstay::model::document::split(&bytes).unwrap().0;
        let mark: Mark = backstay::model::document::parse(line, "mark").unwrap();
        Self { signer, number: mark.number + 1, previous: Some(ObjectId::of(line)), mark }
    }

    fn took(&mut self, hash: ObjectId) {
        (self.number, self.previous) = (self.number + 1, Some(hash));
    }
}

fn mark_number(key: &Key) -> u64 {
    if let Key::Mark(_, number) = key { *number } else { 0 }
}

#[test]
fn a_record_that_was_exchanged_for_another_of_the_same_name_stops_prune() {
    let bench = due();
    let mut thief = Thief::of(&bench);
    let key = Key::Record(bench.records()[5].snapshot.clone());
    let bytes = bench.memory.get(&key, 1 << 20).unwrap();
    let old = record(&bytes);
    let line = backstay::model::document::split(&bytes).unwrap().0;
    let row = Removed {
        signer: old.signer,
        number: old.number,
        hash: ObjectId::of(line),
        snapshot: Some(old.snapshot.clone()),
    };
    let tiny = ObjectRef { kind: ObjectKind::Manifest, size: 1, id: ObjectId::of(b"x"), recipients: 0 };
    let forged = Record {
        number: thief.number,
        previous: thief.previous,
        objects: vec![tiny],
        index: Some(tiny.id),
        ..old.clone()
    };
    let (document, hash) = seal_document(&forged, &thief.signer, namespace::RECORD).unwrap();
    bench.memory.force(&key, &document);
    thief.took(hash);
    let instance = bench.session.read_vault().unwrap().info.instance;
    let statement = Statement::Absent { instance, entries: vec![row] };
    let mark = Mark { number: thief.number, previous: thief.previous, statement, ..thief.mark.clone() };
    let (document, _) = seal_document(&mark, &thief.signer, namespace::MARK).unwrap();
    bench.memory.put_bytes(&Key::Mark(mark.signer, mark.number), &document).unwrap();
    let id = old.snapshot.as_str();
    refuses(&bench, Class::Damage, &["shows another record for snapshot", id, "--ignore"], |_| {});
    for object in &old.objects {
        assert!(bench.memory.head(&Key::data(object.kind, object.id)).unwrap().is_some());
    }
}

#[test]
fn one_run_with_the_clock_ahead_stops_prune_only_until_the_next_backup() {
    let bench = due();
    bench.turn(365 * DAY);
    let ahead = bench.backup("from the future");
    bench.turn(-365 * DAY);
    refuses(&bench, Class::Failed, &["this machine itself signed", "the next backup or signed"], |_| {});
    bench.turn(1);
    bench.backup("at the right time");
    bench.prune().unwrap();
    assert!(bench.records().iter().any(|r| r.snapshot == ahead), "what has an odd time stays");
    bench.whole();
}

#[test]
fn a_pruned_record_that_is_put_back_takes_no_place_and_is_not_good() {
    let bench = Bench::after(6, 2);
    let saved: Vec<(Key, Vec<u8>)> =
        bench.keys().into_iter().map(|key| (key.clone(), bench.memory.get(&key, 1 << 20).unwrap())).collect();
    let victim = bench.records()[4].snapshot.clone();
    backstay::ops::marking::delete(&bench.session, &[victim.to_string()]).unwrap();
    let now = PruneOptions { now: true, ..PruneOptions::default() };
    for _ in 0..4 {
        bench.prune_with(&now).unwrap();
    }
    let kept: Vec<SnapshotId> = bench.records().into_iter().map(|r| r.snapshot).collect();
    assert!(!kept.contains(&victim) && kept.len() == 2, "{kept:?}");
    // Somebody brings an old copy of the store back over this one.
    for (key, bytes) in &saved {
        if bench.memory.head(key).unwrap().is_none() {
            bench.memory.put_bytes(key, bytes).unwrap();
        }
    }
    let list = look::list(&bench.session).unwrap().snapshots;
    for row in &list {
        assert_eq!(row.good, kept.contains(&row.id), "{}", row.id);
    }
    for _ in 0..4 {
        bench.prune_with(&now).unwrap();
    }
    let left: Vec<SnapshotId> = bench.records().into_iter().map(|r| r.snapshot).collect();
    assert!(
        kept.iter().all(|id| left.contains(id)),
        "what was kept instead is still kept: {left:?} of {kept:?}"
    );
    assert_eq!(left.len(), 3, "between two of the last it stays, and counts for none of them");
}
