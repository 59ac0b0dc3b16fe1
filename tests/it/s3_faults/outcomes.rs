//! Faults of which more must be said than that the operation succeeds or fails.

use super::bed::{Bed, CALM, Do, HASTE, bytes, told};
use super::matrix::ALL;
use crate::common::fault_server::{Fault, FaultServer, Manner, Nth, Op};
use backstay::bridge::{TestTimer, Timer};
use backstay::model::ObjectId;
use backstay::store::s3::testing;
use backstay::store::{Key, Prefix, Put, Store, StoreErrorKind as Kind};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

fn manner(change: impl FnOnce(&mut Manner)) -> Bed {
    let mut manner = Manner::default();
    change(&mut manner);
    Bed::with(manner, CALM, testing::keys())
}

fn archive(content: &[u8]) -> Key {
    Key::Archive(ObjectId::of(content))
}

#[test]
fn what_the_server_says_about_waiting_is_kept() {
    let bed = Bed::new();
    bed.server.fault(Op::Get, Nth::First(2), Fault::Refuse(503, "SlowDown", Some(40)));
    bed.perform(Do::Get).unwrap();
    assert!(bed.paused() >= Duration::from_secs(80), "{:?}", bed.paused());
    let bed = Bed::new();
    bed.server.fault(Op::Get, Nth::All, Fault::Refuse(503, "SlowDown", Some(3600)));
    let error = bed.perform(Do::Get).unwrap_err();
    assert_eq!(
        (error.kind, bed.server.count(Op::Get)),
        (Kind::Unreachable, 1),
        "an hour is longer than a request may take"
    );
}

#[test]
fn a_part_that_fails_is_sent_again_and_no_other() {
    let bed = Bed::new();
    bed.server.fault(Op::Part, Nth::Only(2), Fault::CutUp(1 << 20));
    bed.server.fault(Op::Part, Nth::Only(3), Fault::Refuse(500, "InternalError", None));
    bed.perform(Do::PutParts).unwrap();
    assert!((4..=5).contains(&bed.server.count(Op::Part)), "{}", bed.server.count(Op::Part));
    assert!(bed.sent(Op::Part) <= 2 * ((33 << 20) + 5));
    assert_eq!((bed.server.count(Op::Begin), bed.server.uploads()), (1, 0));
}

#[test]
fn a_read_that_breaks_goes_on_where_it_broke() {
    let bed = Bed::new();
    bed.server.fault(Op::Get, Nth::First(1), Fault::CutDown(60_000));
    bed.server.fault(Op::Range, Nth::First(1), Fault::CutDown(10_000));
    bed.perform(Do::Get).unwrap();
    assert_eq!((bed.server.count(Op::Get), bed.server.count(Op::Range)), (1, 2));
    bed.server.calm();
}

#[test]
fn an_answer_that_ends_early_without_saying_so_never_passes_for_the_object() {
    let bed = Bed::new();
    bed.server.fault(Op::Range, Nth::All, Fault::ShortChunks(5));
    let error = bed.perform(Do::GetRange).unwrap_err();
    assert!(matches!(error.kind, Kind::Corrupt | Kind::Unreachable), "{}", told(&error));
    let bed = Bed::new();
    bed.server.fault(Op::Get, Nth::First(1), Fault::ShortChunks(5));
    bed.perform(Do::ReadBack).unwrap();
    bed.server.calm();
}

#[test]
fn wrong_bytes_are_read_once_more_and_then_told_as_they_are() {
    for fault in [Fault::WrongBytes, Fault::OtherObject] {
        let bed = Bed::new();
        bed.server.fault(Op::Get, Nth::First(1), fault.clone());
        bed.perform(Do::ReadBack).unwrap();
        assert_eq!(bed.server.count(Op::Get), 2);
        bed.server.calm();
        let content = bytes(100_000, 1);
        bed.server.fault(Op::Get, Nth::All, fault);
        bed.server.forget_calls();
        let (size, id) = bed.store.read_back(&archive(&content), &mut |_| {}).unwrap();
        assert_eq!((size, bed.server.count(Op::Get)), (100_000, 2));
        assert_ne!(id, ObjectId::of(&content), "the caller sees the damage by the hash");
    }
}

#[test]
fn what_is_there_is_compared_and_never_overwritten() {
    let beds = [
        Bed::new(),
        manner(|m| m.overwrites = true),
        manner(|m| m.refuses_conditions = true),
        manner(|m| m.refuses_checksums = true),
        manner(|m| m.ignores_checksums = true),
        manner(|m| m.whole_for_ranges = true),
        manner(|m| m.etag = Some("no-quotes-and-no-hash")),
        manner(|m| m.etag = None),
    ];
    for (number, bed) in beds.iter().enumerate() {
        for length in [1000, 17 << 20] {
            let content = bytes(length, 3);
            let key = archive(&content);
            let put = || {
                let path = bed.state.path().join("spooled");
                std::fs::write(&path, &content).unwrap();
                bed.store.put_file(&key, &path, length as u64, &ObjectId::of(&content))
            };
            assert!(put().is_ok(), "bed {number}: {}", told(&put().unwrap_err()));
            assert_eq!(put().unwrap(), Put::AlreadyThere, "bed {number}");
            let other = bytes(length, 4);
            bed.server.insert(&Bed::at(&key), &other);
            let error = put().unwrap_err();
            assert_eq!(error.kind, Kind::Exists, "bed {number}: {}", told(&error));
            assert!(bed.server.object(&Bed::at(&key)) == Some(other), "bed {number}: it was overwritten");
        }
        assert_eq!(bed.store.get_range(&Key::Store, 1, 1).unwrap(), b"}");
    }
}

#[test]
fn what_a_server_cannot_do_is_found_out_before_it_is_relied_on() {
    let known = |bed: &Bed| bed.store.known().unwrap();
    let able = known(&Bed::new());
    assert!(able.create_only && able.proves_put() && able.proves_parts() && able.ranges);
    assert!(!known(&manner(|m| m.overwrites = true)).create_only);
    assert!(!known(&manner(|m| m.refuses_conditions = true)).create_only);
    let shy = manner(|m| m.refuses_checksums = true);
    shy.perform(Do::PutBytes).unwrap();
    assert!(shy.server.calls().iter().all(|call| !call.checksum), "what it refuses is not sent");
    let able = Bed::new();
    able.perform(Do::PutParts).unwrap();
    let bodies = [Op::Put, Op::Part];
    assert!(able.server.calls().iter().filter(|c| bodies.contains(&c.op)).all(|call| call.checksum));
    let able = Bed::new();
    able.perform(Do::PutBytes).unwrap();
    let calls = able.server.calls();
    let [put] = &calls[..] else { panic!("one request is enough: {calls:?}") };
    assert!(put.op == Op::Put && put.create_only && put.key.starts_with("p/x/archives/"), "{put:?}");
}

#[test]
fn an_answer_that_says_nothing_of_the_lie_proves_nothing() {
    let careless = || manner(|m| (m.ignores_checksums, m.ignores_signed) = (true, true));
    for (status, code) in [
        (429, "TooManyRequests"),
        (503, "SlowDown"),
        (500, "SlowDown"),
        (408, ""),
        (409, "OperationAborted"),
        (400, "RequestTimeout"),
        (400, "ExpiredToken"),
        (403, "ExpiredToken"),
    ] {
        let bed = careless();
        let refused = Fault::Refuse(status, code, None);
        for key in ["-2", "-3"] {
            bed.server.fault_on(Op::Put, key, Nth::First(2), refused.clone());
        }
        // The first part is the truth.
        bed.server.fault_on(Op::Part, "-3", Nth::Only(2), refused.clone());
        bed.server.fault_on(Op::Part, "-3", Nth::Only(3), refused);
        match bed.store.probe() {
            Ok(found) => assert!(!found.proves_put() && !found.proves_parts(), "{status} {code}: {found:?}"),
            Err(error) => assert_eq!((code, error.kind), ("ExpiredToken", Kind::Denied), "{}", told(&error)),
        }
    }
    let bed = careless();
    bed.server.fault_on(Op::Put, "-2", Nth::All, Fault::Refuse(429, "TooManyRequests", None));
    let error = bed.store.probe().unwrap_err();
    assert_eq!(
        error.kind,
        Kind::Unreachable,
        "a server that stays busy was not found out about: {}",
        told(&error)
    );
}

#[test]
fn keys_that_may_not_end_uploads_are_probed_all_the_same_and_it_is_remembered() {
    let bed = Bed::new();
    bed.server.fault(Op::Abort, Nth::All, Fault::Refuse(403, "AccessDenied", None));
    let found = bed.store.probe().map_err(|e| told(&e)).unwrap();
    assert!(found.proves_put() && found.proves_parts() && found.ranges && found.delete_allowed, "{found:?}");
    let remembered = std::fs::read_to_string(bed.state.path().join("stores/offsite.json")).unwrap();
    assert!(remembered.contains("\"abort_allowed\": false"), "{remembered}");
}

#[test]
fn a_slow_line_is_no_reason_to_give_up_after_one_try() {
    let bed = Bed::limited(100);
    let content = bytes(300_000, 7);
    bed.server.fault_on(Op::Put, "archives/", Nth::First(1), Fault::Refuse(503, "SlowDown", None));
    let put = bed.store.put_bytes(&archive(&content), &content).map_err(|e| told(&e)).unwrap();
    assert_eq!(put, Put::Proved);
    assert!(bed.paused() > Duration::from_secs(30 * 60), "it took long: {:?}", bed.paused());
    bed.server.calm();
}

#[test]
fn not_there_right_after_a_put_is_waited_for_and_then_believed() {
    let bed = Bed::new();
    let content = bytes(10, 5);
    bed.store.put_bytes(&archive(&content), &content).unwrap();
    for (op, nth) in [(Op::Head, Nth::First(2)), (Op::Get, Nth::First(2)), (Op::Range, Nth::First(2))] {
        bed.server.fault(op, nth, Fault::Hidden);
        assert_eq!(bed.store.head(&archive(&content)).unwrap(), Some(10));
        assert_eq!(bed.store.get(&archive(&content), 10).unwrap(), content);
        assert_eq!(bed.store.get_range(&archive(&content), 2, 5).unwrap(), content[2..7]);
        bed.server.calm();
    }
    bed.server.fault(Op::Head, Nth::All, Fault::Hidden);
    assert_eq!(bed.store.head(&archive(&content)).unwrap(), None, "nothing is committed that is not seen");
    assert!(bed.server.count(Op::Head) < 20 && bed.paused() < Duration::from_secs(120), "{:?}", bed.paused());
    // What was never put is not waited for.
    let before = bed.paused();
    assert_eq!(bed.store.head(&archive(b"never")).unwrap(), None);
    assert_eq!(bed.paused(), before);
}

#[test]
fn a_stale_size_is_told_as_the_server_says_it() {
    let bed = Bed::new();
    bed.server.fault(Op::Head, Nth::First(1), Fault::StaleSize(7));
    let content = bytes(10, 5);
    bed.store.put_bytes(&archive(&content), &content).unwrap();
    assert_eq!(
        bed.store.head(&archive(&content)).unwrap(),
        Some(7),
        "who compares sizes sees that they differ"
    );
}

#[test]
fn listings_are_sorted_whole_and_end() {
    let bed = manner(|m| m.page = 100);
    let ids: Vec<Key> = (0..1250_u32).map(|n| archive(&n.to_be_bytes())).collect();
    ids.iter().for_each(|key| bed.server.insert(&Bed::at(key), b"x"));
    bed.server.insert("p/x/archives/no-key", b"x");
    bed.server.insert("p/xy/archives/00/other", b"x");
    let keys =
        || bed.store.list(Prefix::Archives).map(|all| all.into_iter().map(|l| l.key).collect::<Vec<_>>());
    let mut sorted = ids.clone();
    sorted.sort();
    assert!(keys().unwrap() == sorted);
    assert_eq!(bed.server.count(Op::List), 13);
    bed.server.fault(Op::List, Nth::First(1), Fault::ListMess);
    assert!(keys().unwrap() == sorted, "double and unsorted entries do no harm");
    bed.server.calm();
    bed.server.fault(Op::List, Nth::All, Fault::ListLoop);
    bed.server.forget_calls();
    let error = keys().unwrap_err();
    assert_eq!(error.kind, Kind::Corrupt, "{}", told(&error));
    assert!(bed.server.count(Op::List) < 5, "a listing without end is noticed at once");
    bed.server.calm();
    // What a listing leaves out cannot be seen in it: nothing may be concluded from that, and a look at the object finds it.
    bed.server.fault(Op::List, Nth::All, Fault::ListNewestMissing);
    let newest = archive(b"newest");
    bed.server.insert(&Bed::at(&newest), b"newest");
    assert!(!keys().unwrap().contains(&newest));
    assert_eq!(bed.store.head(&newest).unwrap(), Some(6));
}

#[test]
fn clocks_that_differ_are_named_as_the_cause() {
    for hours in [1, -1, 24 * 365] {
        let bed = manner(|m| m.skew = hours * 3600);
        let skew = bed.store.skew().unwrap();
        assert!((skew - hours * 3600).abs() < 60, "{skew}");
        bed.server.fault(Op::Put, Nth::All, Fault::Refuse(403, "RequestTimeTooSkewed", None));
        let error = bed.perform(Do::PutBytes).unwrap_err();
        let text = told(&error);
        assert!(error.kind == Kind::Denied && text.contains("clock"), "{text}");
    }
}

#[test]
fn a_refusal_is_asked_twice_at_most_and_names_where_the_keys_come_from() {
    for (what, op) in [(Do::Delete, Op::Delete), (Do::PutBytes, Op::Put), (Do::List, Op::List)] {
        let bed = Bed::new();
        bed.server.fault(op, Nth::All, Fault::Refuse(403, "AccessDenied", None));
        let text = told(&bed.perform(what).unwrap_err());
        assert!(text.contains("the keys of a test") && text.contains("AccessDenied"), "{text}");
        assert!(bed.server.count(op) <= 2 && bed.paused() < Duration::from_secs(5), "{text}");
    }
}

#[test]
fn a_full_store_is_not_asked_again() {
    let bed = Bed::new();
    bed.server.fault(Op::Put, Nth::All, Fault::Refuse(507, "InsufficientStorage", None));
    assert_eq!(bed.perform(Do::PutBytes).unwrap_err().kind, Kind::Full);
    assert_eq!(bed.server.count(Op::Put), 1);
    assert_eq!(bed.server.count(Op::Delete), 0, "nothing is deleted to make room");
}

#[test]
fn nothing_is_sent_to_another_host() {
    for status in [301, 302, 307, 308] {
        let other = FaultServer::start();
        for (what, op) in ALL {
            let bed = Bed::new();
            bed.server.fault(
                *op,
                Nth::All,
                Fault::Redirect(status, format!("{}/bucket/x", other.endpoint())),
            );
            let text = told(&bed.perform(*what).unwrap_err());
            assert!(text.contains("region = \"eu-central-1\""), "{text}");
        }
        assert!(other.calls().is_empty(), "{:?}", other.calls());
    }
}

#[test]
fn etags_mean_nothing_whatever_they_look_like() {
    for etag in [Some("no-quotes-and-no-hash"), Some("\"d41d8cd98f00b204e9800998ecf8427e-99\""), None] {
        let bed = manner(|m| m.etag = etag);
        for (what, _) in ALL {
            if let Err(error) = bed.perform(*what) {
                panic!("{etag:?} {what:?}: {}", told(&error));
            }
            bed.server.forget();
        }
    }
}

/// Time whose calendar can be set to anything.
#[derive(Debug)]
struct Jumping(TestTimer, AtomicI64);

impl Timer for Jumping {
    fn now(&self) -> Duration {
        self.0.now()
    }
    fn pause(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.0.pause(time)
    }
    fn guard(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.0.guard(time)
    }
    /// A year further back at each look.
    fn unix(&self) -> i64 {
        self.1.fetch_sub(365 * 24 * 3600, Ordering::SeqCst)
    }
}

#[test]
fn a_clock_that_jumps_changes_nothing() {
    let timer = Arc::new(Jumping(TestTimer::new(CALM), AtomicI64::new(1_900_000_000)));
    let bed = Bed::by(Manner::default(), testing::keys(), Arc::clone(&timer) as _);
    for (what, op) in ALL {
        bed.server.fault(*op, Nth::First(1), Fault::Refuse(503, "SlowDown", None));
        if let Err(error) = bed.perform(*what) {
            panic!("{what:?}: {}", told(&error));
        }
        bed.server.calm();
        bed.server.forget();
    }
    assert!(timer.1.load(Ordering::SeqCst) < 1_800_000_000, "the calendar was looked at, and ran back");
}

#[test]
fn nobody_there_is_said_after_some_tries() {
    for (what, _) in ALL {
        let bed = Bed::new();
        bed.server.end();
        let text = told(&bed.perform(*what).unwrap_err());
        assert!(text.contains("cannot be reached") && text.contains("given up after"), "{text}");
        let paused = bed.paused();
        assert!(paused > Duration::from_secs(10) && paused < Duration::from_secs(900), "{paused:?}");
    }
}

/// A history of a thousand records is a thousand requests: each waiting for minutes, one after another, would hold a run for hours.
#[test]
fn a_server_that_went_away_is_waited_for_at_length_once_and_not_for_each_request() {
    let bed = Bed::new();
    bed.perform(Do::List).unwrap();
    bed.server.end();
    bed.perform(Do::List).unwrap_err();
    let first = bed.paused();
    for _ in 0..5 {
        let text = told(&bed.perform(Do::List).unwrap_err());
        assert!(text.contains("cannot be reached") && text.contains("given up after 5 tries"), "{text}");
    }
    let more = bed.paused() - first;
    assert!(first > Duration::from_secs(45) && more < first / 2, "{first:?}, then {more:?} for five");
}

#[test]
fn an_end_that_is_asked_for_comes_whatever_the_server_does() {
    let all = ALL.iter().map(|(what, op)| (*what, *op, Fault::StallUp));
    let more = [(Do::Get, Op::Get, Fault::StallDown(5)), (Do::List, Op::List, Fault::DoneThenSilent)];
    for (what, op, fault) in all.chain(more) {
        let bed = Bed::with(Manner::default(), 1, testing::keys());
        bed.server.fault(op, Nth::All, fault);
        let (interrupted, begun) = (&bed.interrupted, Instant::now());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while bed.server.count(op) == 0 {
                    std::thread::yield_now();
                }
                interrupted.store(true, Ordering::SeqCst);
            });
            let error = bed.perform(what).unwrap_err();
            assert_eq!(error.kind, Kind::Interrupted, "{}", told(&error));
        });
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        interrupted.store(false, Ordering::SeqCst);
        bed.server.calm();
        bed.perform(what).unwrap();
        assert_eq!(bed.server.uploads(), 0, "what was begun is taken up or ended");
    }
}

#[test]
fn an_upload_that_was_interrupted_is_gone_on_with() {
    let bed = Bed::with(Manner::default(), HASTE, testing::keys());
    bed.server.fault(Op::Part, Nth::Only(3), Fault::Refuse(403, "AccessDenied", None));
    bed.server.fault(Op::Part, Nth::First(1), Fault::Refuse(403, "AccessDenied", None));
    assert_eq!(bed.perform(Do::PutParts).map_err(|e| e.kind), Ok(()), "keys are fetched anew once");
    let bed = Bed::new();
    bed.server.fault(Op::Complete, Nth::All, Fault::Refuse(503, "SlowDown", None));
    assert_eq!(bed.perform(Do::PutParts).unwrap_err().kind, Kind::Unreachable);
    assert_eq!(bed.server.count(Op::Part), 3);
    bed.server.calm();
    bed.perform(Do::PutParts).unwrap();
    assert_eq!(bed.server.count(Op::Part), 3, "no part was sent twice");
    assert_eq!(bed.server.uploads(), 0);
}
