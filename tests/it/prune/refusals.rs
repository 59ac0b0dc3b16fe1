//! What makes a prune refuse, and what it must come through without loss.

use super::writer::Writer;
use super::*;
use crate::common::long::{in_time, long};

#[test]
fn a_listing_that_fails_or_lies_authorises_no_delete() {
    // One that fails, whichever it is.
    let bench = due();
    bench.faults.reset();
    bench.faults.fail(Fault {
        verb: Some(Verb::List),
        nth: 1,
        kind: StoreErrorKind::Unreachable,
        after: false,
        lasting: true,
    });
    refuses(&bench, Class::Store, &["failed"], |_| {});
    for nth in 2..=5 {
        let bench = due();
        bench.faults.reset();
        bench.faults.fail_nth(Verb::List, nth, StoreErrorKind::Unreachable);
        refuses(&bench, Class::Store, &[], |_| {});
    }
    // A record in the middle that is not listed.
    refuses(&due(), Class::Damage, &["not whole"], |bench| {
        let victim = Key::Record(bench.records()[4].snapshot.clone());
        bench.faults.hide(&victim);
    });
    // The last record, with and without the marks after it.
    refuses(&due(), Class::Damage, &["not whole"], |bench| {
        let victim = Key::Record(bench.records()[7].snapshot.clone());
        bench.faults.hide(&victim);
    });
    refuses(&due(), Class::Damage, &["not whole"], |bench| {
        let last = bench.records().pop().unwrap();
        bench.faults.hide(&Key::Record(last.snapshot));
        for number in last.number..last.number + 4 {
            bench.faults.hide(&Key::Mark(last.signer, number));
        }
    });
}

#[test]
fn a_listing_that_was_cut_short_is_noticed_by_one_who_was_never_there() {
    let bench = due();
    // Nothing is remembered: as on a fresh machine that prunes.
    let mut config = (**bench.session.config().unwrap()).clone();
    config.state_dir = bench.dir.path().join("fresh");
    let mut session = Session::open(Arc::new(config), bench.session.around.clone()).unwrap();
    session.store = Arc::clone(&bench.faults) as Arc<dyn Store>;
    let fresh = Bench { session, ..bench };
    let last = fresh.records().pop().unwrap();
    // The last record and the mark right after it are hidden from listings and from looks; the mark after that is only not listed.
    fresh.faults.hide(&Key::Record(last.snapshot.clone()));
    let shown = Arc::clone(&fresh.memory);
    let marks: Vec<Key> =
        shown.keys().into_iter().filter(|k| matches!(k, Key::Mark(_, n) if *n > last.number)).collect();
    for key in &marks {
        fresh.faults.hide_from_listings(key);
    }
    refuses(&fresh, Class::Store, &["is there and was not listed"], |_| {});
}

#[test]
fn a_record_that_vanishes_between_two_prunes_stops_the_second() {
    let bench = due();
    let stranger = Signer::generate().unwrap();
    let x = b"held by a stranger".to_vec();
    let writer = Writer::new(&bench, stranger, &x);
    bench.memory.put_bytes(&Key::Record(writer.record.snapshot.clone()), &writer.document).unwrap();
    bench.prune().unwrap();
    bench.turn(25);
    // No chain tells of a stranger's record; that it was seen does.
    let id = writer.record.snapshot.clone();
    refuses(&bench, Class::Damage, &["no longer shows snapshot", id.as_str(), "--ignore"], |bench| {
        bench.memory.delete(&Key::Record(id.clone())).unwrap();
    });
    let ignore = BTreeSet::from([id]);
    bench.prune_with(&PruneOptions { ignore, ..PruneOptions::default() }).unwrap();
    bench.prune().unwrap();
    bench.whole();
}

#[test]
fn an_unreadable_record_stops_prune_and_what_it_names_stays_when_it_is_passed_over() {
    let bench = due();
    let victim = bench.records()[5].clone();
    let key = Key::Record(victim.snapshot.clone());
    let mut bytes = bench.memory.get(&key, 1 << 20).unwrap();
    let place = bytes.len() - 60;
    bytes[place] ^= 1;
    bench.memory.force(&key, &bytes);
    refuses(&bench, Class::Damage, &[&format!("--ignore {}", victim.snapshot)], |_| {});
    let ignore = BTreeSet::from([victim.snapshot.clone()]);
    for _ in 0..3 {
        bench.prune_with(&PruneOptions { ignore: ignore.clone(), ..PruneOptions::default() }).unwrap();
        bench.turn(25);
    }
    assert!(bench.memory.head(&key).unwrap().is_some(), "the record itself stays");
    for object in &victim.objects {
        let key = Key::data(object.kind, object.id);
        assert!(bench.memory.head(&key).unwrap().is_some(), "{key} went");
    }
}

#[test]
fn strangers_hold_what_they_name_and_are_never_deleted() {
    let bench = due();
    let first = bench.records()[0].clone();
    let stranger = Signer::generate().unwrap();
    let mut writer = Writer::new(&bench, stranger, b"x");
    writer.record.objects = first.objects.clone();
    writer.record.recipients = first.recipients.clone();
    writer.record.index = first.index;
    let (document, _) = seal_document(&writer.record, &writer.signer, namespace::RECORD).unwrap();
    bench.memory.put_bytes(&Key::Record(writer.record.snapshot.clone()), &document).unwrap();
    let deleted = bench.prune().unwrap();
    assert!(deleted.stores[0].deleted.objects_kept > 0, "{deleted:?}");
    for object in &first.objects {
        assert!(bench.memory.head(&Key::data(object.kind, object.id)).unwrap().is_some());
    }
    assert!(bench.memory.head(&Key::Record(writer.record.snapshot)).unwrap().is_some());
}

#[test]
fn a_store_that_forbids_deletes_is_said_and_nothing_is_half_done() {
    let bench = due();
    let before = bench.keys();
    bench.faults.fail(Fault {
        verb: Some(Verb::Delete),
        nth: 1,
        kind: StoreErrorKind::Denied,
        after: false,
        lasting: true,
    });
    let error = bench.prune().expect_err("it may not delete");
    assert_eq!(error.class, Class::Store);
    let text = said(&error);
    assert!(text.contains("refuses to delete") && text.contains("prune = \"elsewhere\""), "{text}");
    assert!(before.is_subset(&bench.keys()), "nothing went");
    bench.faults.reset();
    bench.whole();
    bench.backup("a backup goes on");
    // Once it may delete it goes on where it was.
    assert_eq!(bench.prune().unwrap().stores[0].deleted.snapshots, 3);
    bench.whole();
}

#[test]
fn clocks_that_differ_delete_nothing() {
    let bench = due();
    bench.faults.set_clock_ahead(Some(SignedDuration::from_mins(-6)));
    refuses(&bench, Class::Failed, &["360 seconds behind this machine's"], |_| {});
    bench.faults.set_clock_ahead(Some(SignedDuration::from_mins(4)));
    bench.prune().unwrap();
    // This machine's clock went back behind what it signed itself.
    let bench = due();
    refuses(&bench, Class::Failed, &["this machine itself signed", "the next backup or signed"], |bench| {
        bench.turn(-60 * DAY);
    });
}

#[test]
fn a_failure_at_any_call_of_a_prune_loses_nothing_and_the_next_run_ends_it() {
    let count = {
        let bench = due();
        bench.faults.reset();
        bench.prune().unwrap();
        bench.faults.calls().len() as u64
    };
    let step = if long() { 1 } else { 9 };
    let all = (1..=count).step_by(step).flat_map(|nth| [(false, nth), (true, nth)]);
    for (after, nth) in in_time(all.collect()) {
        let bench = due();
        bench.faults.reset();
        bench.faults.fail(Fault { verb: None, nth, kind: StoreErrorKind::Unreachable, after, lasting: true });
        let failed = bench.prune();
        bench.faults.reset();
        assert!(failed.is_err() || nth == count, "call {nth} of {count}");
        bench.whole_of_what_is_there();
        for _ in 0..2 {
            bench.prune().unwrap();
        }
        bench.whole();
        assert_eq!(bench.records().len(), 5, "call {nth} of {count}");
    }
}

impl Bench {
    /// As [`Bench::whole`], while a prune was cut off: what is there is whole.
    #[track_caller]
    fn whole_of_what_is_there(&self) {
        for record in self.records() {
            let missing =
                record.objects.iter().find(|o| self.memory.head(&Key::data(o.kind, o.id)).unwrap().is_none());
            assert!(missing.is_none(), "{} lacks {missing:?}", record.snapshot);
        }
        self.whole();
    }
}
