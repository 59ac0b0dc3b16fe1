//! What is good, and by whose word.

use super::*;

#[test]
fn good_is_what_was_read_back_lately_by_somebody_who_counts() {
    let (mut one, mut verifier, mut nobody) = (writer(1), writer(8), writer(66));
    let a = one.record_at(0);
    let good = |marks: &[&ChainEntry]| {
        let mut all = vec![&a];
        all.extend(marks);
        let history = of(&all);
        let snapshot = &history.snapshots(&host(1))[0];
        (snapshot.good, !snapshot.good_by_others_in.is_empty())
    };
    let read = |began| Statement::Verdict(verdict(&a, began, Level::Read, true));
    let later = |n: i64| minutes(10 + n);
    assert_eq!(good(&[]), (false, false));
    let own = one.mark_at(later(0), read(later(0)));
    assert_eq!(good(&[&own]), (true, false));
    let other = verifier.mark_at(later(1), read(later(1)));
    assert_eq!(good(&[&other]), (true, true));
    assert_eq!(good(&[&nobody.mark_at(later(2), read(later(2)))]), (false, false));
    let presence = Statement::Verdict(verdict(&a, later(0), Level::Presence, true));
    assert_eq!(good(&[&writer(8).mark_at(later(1), presence)]), (false, false));
    let put = Statement::Verdict(verdict(&a, later(0), Level::Put, true));
    assert_eq!(good(&[&writer(8).mark_at(later(1), put)]), (true, true));
    // A proof that began too long ago, whatever the mark's own time.
    let old = read(start() - SignedDuration::from_hours(31 * 24));
    assert_eq!(good(&[&writer(8).mark_at(later(1), old)]), (false, false));
    // Found bad later, by presence alone; then repaired and proved again.
    let bad = verifier.mark_at(later(5), Statement::Verdict(verdict(&a, later(5), Level::Presence, false)));
    assert_eq!(good(&[&own, &other, &bad]), (false, false));
    let again = one.mark_at(later(6), read(later(6)));
    assert_eq!(good(&[&own, &other, &bad, &again]), (true, false), "the verifier has not looked since");
    // In another store it says nothing here.
    let mut elsewhere = verdict(&a, later(1), Level::Read, true);
    elsewhere.instance = store(2);
    assert_eq!(good(&[&writer(8).mark_at(later(1), Statement::Verdict(elsewhere))]), (false, false));
}

#[test]
fn what_was_not_read_since_it_was_found_bad_stays_bad_in_whatever_order_it_is_said() {
    let (mut one, mut verifier) = (writer(1), writer(8));
    let a = one.record_at(0);
    let say = |began, level, good| Statement::Verdict(verdict(&a, began, level, good));
    let read = one.mark_at(minutes(1), say(minutes(1), Level::Read, true));
    let bad = verifier.mark_at(minutes(10), say(minutes(8), Level::Read, false));
    // Carried over by a run that had read the history before; and read, perhaps before it was damaged.
    let carried = one.mark_at(minutes(12), say(minutes(1), Level::Put, true));
    let beside = one.mark_at(minutes(13), say(minutes(9), Level::Read, true));
    let again = one.mark_at(minutes(14), say(minutes(10), Level::Read, true));
    let later = one.mark_at(minutes(15), say(minutes(1), Level::Put, true));
    let marks = [&carried, &beside, &again, &later];
    let id = ObjectId::of(&[1]);
    let judged = |number: usize| {
        let mut all = vec![&a, &read, &bad];
        all.extend(&marks[..number]);
        let history = of(&all);
        let standing = history.standing(&host(1), &store(1))[&id];
        let says = history.found_bad(&host(1), &store(1)).says(&id, &a.hash);
        (history.snapshots(&host(1))[0].good, standing.bad, says, standing.proved)
    };
    for number in 0..3 {
        assert_eq!(judged(number), (false, true, true, None), "{number}");
    }
    for number in 3..5 {
        assert_eq!(judged(number), (true, false, false, Some(minutes(10))), "{number}");
    }
}

#[test]
fn a_failed_check_or_drill_makes_a_snapshot_not_good() {
    let (mut one, mut verifier) = (writer(1), writer(8));
    let a = one.record_at(0);
    let read = verifier.mark_at(minutes(1), Statement::Verdict(verdict(&a, minutes(1), Level::Read, true)));
    let mut failed = verdict(&a, minutes(2), Level::Drill, true);
    failed.checks = vec![(1, CheckResult::Failed)];
    let mut drill = verdict(&a, minutes(2), Level::Drill, true);
    drill.good = false;
    for (statement, mended) in [(failed, Level::Drill), (drill, Level::Drill)] {
        let mut verifier = verifier.clone();
        let fails = verifier.mark_at(minutes(2), Statement::Verdict(statement));
        assert!(!of(&[&a, &read, &fails]).snapshots(&host(1))[0].good);
        let shallow = verifier
            .clone()
            .mark_at(minutes(3), Statement::Verdict(verdict(&a, minutes(3), Level::Read, true)));
        assert!(!of(&[&a, &read, &fails, &shallow]).snapshots(&host(1))[0].good);
        let mut passes = verdict(&a, minutes(3), mended, true);
        passes.checks = vec![(1, CheckResult::Passed)];
        let passes = verifier.mark_at(minutes(3), Statement::Verdict(passes));
        assert!(of(&[&a, &read, &fails, &passes]).snapshots(&host(1))[0].good);
    }
    // What the record itself says stays.
    let mut broken = writer(1).record_at(0);
    if let EntryBody::Record(record) = &mut broken.body {
        Arc::make_mut(record).components[0].check = CheckResult::Failed;
    }
    let broken = rehash(broken.body);
    let read =
        writer(8).mark_at(minutes(1), Statement::Verdict(verdict(&broken, minutes(1), Level::Read, true)));
    assert!(!of(&[&broken, &read]).snapshots(&host(1))[0].good);
}

#[test]
fn verdicts_of_a_host_reach_no_other_host() {
    let (mut one, mut other) = (writer(1), writer(4));
    let a = one.record_at(0);
    // The other host lists our object among its own and says what it likes of it.
    let mut theirs = other.record_at(1);
    if let (EntryBody::Record(theirs), EntryBody::Record(ours)) = (&mut theirs.body, &a.body) {
        Arc::make_mut(theirs).objects.clone_from(&ours.objects);
    }
    let theirs = rehash(theirs.body);
    let read = one.mark_at(minutes(2), Statement::Verdict(verdict(&a, minutes(2), Level::Read, true)));
    let bad = other.mark_at(minutes(3), Statement::Verdict(verdict(&theirs, minutes(3), Level::Read, false)));
    let four = |r: &mut Reader| r.trusted.push(trust(4, &[Role::Host]));
    assert!(with(four, &[&a, &theirs, &read, &bad]).snapshots(&host(1))[0].good);
    let says_good =
        writer(4).mark_at(minutes(3), Statement::Verdict(verdict(&a, minutes(3), Level::Read, true)));
    assert!(!with(four, &[&a, &says_good]).snapshots(&host(1))[0].good);
}

#[test]
fn a_range_beyond_the_objects_is_no_proof_and_no_panic() {
    let mut one = writer(1);
    let a = one.record_at(0);
    for covered in [vec![(0, u64::MAX)], vec![(1, 0)], vec![(u64::MAX, u64::MAX)], vec![(5, 2)]] {
        let mut strange = verdict(&a, minutes(1), Level::Read, true);
        strange.covered = covered.clone();
        let mark = writer_at(&one).mark(Statement::Verdict(strange));
        assert_eq!(of(&[&a, &mark]).snapshots(&host(1))[0].good, covered[0].0 == 0, "{covered:?}");
    }
}
