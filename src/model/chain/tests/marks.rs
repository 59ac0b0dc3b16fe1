//! What marks may say, and by whom.

use super::*;

#[test]
fn marks_without_authority_have_no_effect() {
    let (mut one, mut verifier, mut pruner, mut nobody) = (writer(1), writer(8), writer(9), writer(66));
    let record = one.record();
    let about = target(&record);
    let statements = || {
        [
            Statement::Void { target: about.clone(), instance: None, reason: "x".into() },
            Statement::Tag { target: about.clone(), add: vec!["t".into()], remove: Vec::new() },
            Statement::Note { target: about.clone(), sealed: "n".into() },
            Statement::Milestone { target: about.clone(), on: true },
            Statement::Delete(about.clone()),
            Statement::Accept { target: about.clone(), components: vec![1], reason: "x".into() },
        ]
    };
    let effect = |by: &mut Writer| {
        let marks: Vec<ChainEntry> = statements().into_iter().map(|s| by.mark(s)).collect();
        let mut all = vec![&record];
        all.extend(&marks);
        let history = of(&all);
        assert_eq!(history.breaks, []);
        let s = &history.snapshots(&host(1))[0];
        let noted = s.note_sealed.is_some();
        [
            s.void.is_some(),
            s.tags.contains("t"),
            noted,
            s.milestone,
            s.delete_asked,
            s.accepted.contains_key(&1),
        ]
    };
    assert_eq!(effect(&mut nobody), [false; 6]);
    assert_eq!(effect(&mut verifier), [false; 6]);
    assert_eq!(effect(&mut pruner), [false, true, true, true, true, true]);
    assert_eq!(effect(&mut one), [true, true, true, true, false, false]);
}

#[test]
fn a_mark_counts_for_the_record_it_names_only() {
    let (mut one, mut thief) = (writer(1), Writer { host: host(1), ..writer(66) });
    let ours = one.record_at(5);
    let mut forged = thief.record_at(5);
    if let EntryBody::Record(record) = &mut forged.body {
        Arc::make_mut(record).snapshot = ours.snapshot().unwrap().clone();
    }
    let forged = rehash(forged.body);
    let void = one.mark(Statement::Void { target: target(&forged), instance: None, reason: "x".into() });
    let history = of(&[&ours, &forged, &void]);
    assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, ours.hash);
}

#[test]
fn voids_count_where_they_were_said() {
    let mut one = writer(1);
    let (a, b) = (one.record(), one.record());
    let here =
        one.mark(Statement::Void { target: target(&b), instance: Some(store(1)), reason: "lost".into() });
    let latest = |instances: &[u8]| {
        let history = with(|r| r.instances = instances.iter().map(|n| store(*n)).collect(), &[&a, &b, &here]);
        history.latest(&host(1)).unwrap().unwrap().hash
    };
    assert_eq!(latest(&[1]), a.hash);
    assert_eq!(latest(&[2]), b.hash);
    assert_eq!(latest(&[1, 2]), b.hash);
}

#[test]
fn tags_and_milestones_are_taken_back_by_those_who_may() {
    let (mut one, mut pruner) = (writer(1), writer(9));
    let a = one.record();
    let about = target(&a);
    let tag = |add: &[&str], remove: &[&str]| {
        let owned = |tags: &[&str]| tags.iter().map(ToString::to_string).collect();
        Statement::Tag { target: about.clone(), add: owned(add), remove: owned(remove) }
    };
    let marks = [
        one.mark_at(minutes(1), tag(&["mine", "both", "gone"], &[])),
        pruner.mark_at(minutes(2), tag(&["theirs", "both"], &["gone"])),
        one.mark_at(minutes(3), tag(&[], &["mine", "theirs", "both"])),
        one.mark_at(minutes(4), Statement::Milestone { target: about.clone(), on: true }),
        one.mark_at(minutes(5), Statement::Milestone { target: about.clone(), on: false }),
    ];
    let history = of(&[&a, &marks[0], &marks[1], &marks[2], &marks[3], &marks[4]]);
    let snapshot = &history.snapshots(&host(1))[0];
    assert_eq!(snapshot.tags, ["both".to_owned(), "theirs".to_owned()].into());
    assert!(snapshot.milestone, "a host cannot end what holds its past");
    let off = pruner.mark_at(minutes(6), Statement::Milestone { target: about.clone(), on: false });
    let history = of(&[&a, &marks[0], &marks[1], &marks[2], &marks[3], &marks[4], &off]);
    assert!(!history.snapshots(&host(1))[0].milestone);
}

#[test]
fn impossible_times_do_not_make_a_mark_the_last_word() {
    let (mut one, mut pruner) = (writer(1), writer(9));
    let a = one.record_at(1);
    let note = |text: &str| Statement::Note { target: target(&a), sealed: text.into() };
    let future = one.mark_at(minutes(60 * 24 * 365), note("from the future"));
    let plain = pruner.mark_at(minutes(10), note("plain"));
    let back = pruner.mark_at(minutes(2), note("clock set back"));
    let sealed = |entries: &[&ChainEntry]| of(entries).snapshots(&host(1))[0].note_sealed.clone().unwrap();
    assert_eq!(sealed(&[&a, &future, &plain]), "plain");
    assert_eq!(sealed(&[&a, &future, &plain, &back]), "clock set back", "of one signer the number decides");
}

#[test]
fn a_void_after_the_host_s_own_good_word_is_late() {
    let prompt = |words: &dyn Fn(&mut Writer, &ChainEntry) -> Vec<ChainEntry>| {
        let mut one = writer(1);
        let a = one.record();
        let mut entries = vec![a.clone()];
        entries.extend(words(&mut one, &a));
        let history = with(|r| r.instances = [store(1)].into(), &entries.iter().collect::<Vec<_>>());
        let found = history.snapshots(&host(1))[0].clone();
        assert!(found.void.is_some());
        found.voids[0].prompt
    };
    let void = |one: &mut Writer, a: &ChainEntry, instance| {
        one.mark(Statement::Void { target: target(a), instance, reason: "mine".into() })
    };
    let word = |one: &mut Writer, a: &ChainEntry, good: bool, n: u8| {
        let said = Verdict {
            target: target(a),
            instance: store(n),
            level: Level::Read,
            began: start(),
            good,
            covered: Vec::new(),
            bad: Vec::new(),
            checks: Vec::new(),
        };
        one.mark(Statement::Verdict(said))
    };
    assert!(prompt(&|one, a| vec![void(one, a, None)]), "as an honest run says it");
    assert!(prompt(&|one, a| vec![word(one, a, false, 1), void(one, a, None)]));
    // It was committed elsewhere, and did not hold here.
    assert!(prompt(&|one, a| vec![word(one, a, true, 2), void(one, a, Some(store(1)))]));
    assert!(!prompt(&|one, a| vec![word(one, a, true, 1), void(one, a, Some(store(1)))]));
    assert!(!prompt(&|one, a| vec![word(one, a, true, 1), void(one, a, None)]));
}
