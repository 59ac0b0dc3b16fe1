//! Chains: whole, hidden, forked, pruned, settled.

use super::*;

#[test]
fn a_whole_chain_has_a_newest_and_says_how_to_go_on() {
    let mut one = writer(1);
    let (a, b) = (one.record(), one.record());
    let history = of(&[&b, &a, &b]);
    assert_eq!(history.breaks, []);
    assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, b.hash);
    assert_eq!(history.next(&key(1).1), (3, Some(b.hash)));
    assert_eq!(history.heads, [(key(1).1, (2, b.hash))].into());
    assert_eq!(history.next(&key(5).1), (1, None));
    assert_eq!(of(&[]).latest(&host(1)).unwrap(), None);
}

#[test]
fn a_forged_snapshot_is_untrusted_and_never_the_newest() {
    let mut one = writer(1);
    let a = one.record();
    let mut thief = Writer { host: host(1), ..writer(66) };
    let garbage: Vec<ChainEntry> = (0..3).map(|_| thief.record()).collect();
    let forked = altered(&garbage[1]);
    // A verifier's key is trusted, but not as this host.
    let mut verifier = Writer { host: host(1), ..writer(8) };
    let by_verifier = verifier.record_at(30);
    let history = of(&[&a, &garbage[0], &garbage[2], &forked, &by_verifier]);
    assert_eq!(history.breaks, [], "what anybody can write must not stop the host");
    assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, a.hash);
    assert_eq!(trusts(&history, &forked), Trust::Untrusted(Untrusted::UnknownKey));
    assert_eq!(trusts(&history, &by_verifier), Trust::Untrusted(Untrusted::NotOfHost));
    assert_eq!(history.snapshots(&host(1))[0].hash, a.hash, "trusted ones come first");
}

#[test]
fn a_hidden_newest_is_noticed_by_whoever_saw_it() {
    let mut one = writer(1);
    let entries: Vec<ChainEntry> = (0..3).map(|_| one.record()).collect();
    let seen: Heads = [(key(1).1, (3, entries[2].hash))].into();
    let history = with(|r| r.seen = seen.clone(), &[&entries[0], &entries[1]]);
    assert_eq!(kinds(&history), [(3, BreakKind::RolledBack { seen: 3, found: 2 })]);
    assert!(history.latest(&host(1)).is_err());
    assert!(history.heads.is_empty(), "what was seen stays the measure");
    assert_eq!(history.next(&key(1).1), (4, Some(entries[2].hash)), "no number is given twice");
    let all_gone = with(|r| r.seen = seen.clone(), &[]);
    assert_eq!(kinds(&all_gone), [(1, BreakKind::RolledBack { seen: 3, found: 0 })]);
    let rewritten = altered(&entries[2]);
    let history = with(|r| r.seen = seen, &[&entries[0], &entries[1], &rewritten]);
    assert_eq!(kinds(&history), [(3, BreakKind::Rewritten { seen: entries[2].hash })]);
    assert_eq!(history.breaks[0].snapshot.as_ref(), entries[2].snapshot());
    assert_eq!(of(&[&entries[0], &entries[1]]).breaks, [], "a fresh reader cannot know");
}

#[test]
fn gaps_forks_and_wrong_order_are_told_with_their_place() {
    let mut one = writer(1);
    let entries: Vec<ChainEntry> = (0..5).map(|_| one.record()).collect();
    let history = of(&[&entries[0], &entries[3], &entries[4]]);
    assert_eq!(kinds(&history), [(2, BreakKind::Gap { to: 3 })]);
    assert!(history.breaks[0].to_string().contains("entries 2 to 3"));
    assert_eq!(kinds(&of(&[&entries[2]])), [(1, BreakKind::Gap { to: 2 })]);
    let fork = altered(&entries[4]);
    let history = of(&[&entries[0], &entries[1], &entries[2], &entries[3], &entries[4], &fork]);
    assert!(matches!(&kinds(&history)[..], [(5, BreakKind::Forked { hashes })] if hashes.len() == 2));
    let other = altered(&entries[1]);
    let history = of(&[&entries[0], &other, &entries[2]]);
    assert_eq!(kinds(&history), [(3, BreakKind::WrongPrevious)]);
    assert_eq!(history.breaks[0].snapshot.as_ref(), entries[2].snapshot());
    let mut begun = one.clone();
    (begun.number, begun.previous) = (1, Some(ObjectId::of(b"x")));
    assert_eq!(kinds(&of(&[&begun.record()])), [(1, BreakKind::WrongPrevious)]);
}

#[test]
fn pruned_entries_are_excused_in_their_store_and_no_other() {
    let (mut one, mut pruner) = (writer(1), writer(9));
    let entries: Vec<ChainEntry> = (0..4).map(|_| one.record()).collect();
    let gone = vec![removed(&entries[0]), removed(&entries[1])];
    let prune = pruner.mark(Statement::Prune { instance: store(1), removed: gone.clone() });
    assert_eq!(of(&[&entries[2], &entries[3], &prune]).breaks, []);
    assert_eq!(
        of(&[&entries[1], &entries[2], &entries[3], &prune]).breaks,
        [],
        "one that is still there is used"
    );
    let elsewhere = with(|r| r.instances = [store(2)].into(), &[&entries[2], &entries[3], &prune]);
    assert!(!elsewhere.breaks.is_empty());
    let both = with(|r| r.instances = [store(1), store(2)].into(), &[&entries[2], &entries[3], &prune]);
    assert!(!both.breaks.is_empty(), "another store must still have them");
    assert!(!of(&[&entries[3], &prune]).breaks.is_empty(), "only what is listed");
    let by_host = one.mark(Statement::Prune { instance: store(1), removed: gone.clone() });
    assert!(!of(&[&entries[2], &entries[3], &by_host]).breaks.is_empty(), "a host cannot prune");
    // Another hash than the next entry names: the pruner saw another history.
    let mut wrong = gone.clone();
    wrong[1].hash = ObjectId::of(b"other");
    let wrong = writer(9).mark(Statement::Prune { instance: store(1), removed: wrong });
    assert_eq!(kinds(&of(&[&entries[2], &entries[3], &wrong])), [(3, BreakKind::WrongPrevious)]);
    // Everything may go, the head stays known.
    let all: Vec<Removed> = entries.iter().map(removed).collect();
    let all = writer(9).mark(Statement::Prune { instance: store(1), removed: all });
    let seen: Heads = [(key(1).1, (4, entries[3].hash))].into();
    assert_eq!(with(|r| r.seen = seen, &[&all]).breaks, []);
}

#[test]
fn absent_marks_excuse_the_signer_s_own_entries() {
    let (mut one, mut other) = (writer(1), writer(4));
    let (a, b) = (one.record(), one.record());
    let own = one.mark(Statement::Absent { instance: store(1), entries: vec![removed(&b)] });
    assert_eq!(of(&[&a, &own]).breaks, []);
    let foreign = other.mark(Statement::Absent { instance: store(1), entries: vec![removed(&a)] });
    let history = with(|r| r.trusted.push(trust(4, &[Role::Host, Role::Prune])), &[&b, &foreign]);
    assert_eq!(kinds(&history), [(1, BreakKind::Gap { to: 1 })]);
}

#[test]
fn a_settled_fork_or_loss_is_no_break() {
    let (mut one, mut pruner) = (writer(1), writer(9));
    let (a, b) = (one.record(), one.record());
    let c = one.record();
    let fork = altered(&b);
    let settle = |keep, drop: &[&ChainEntry]| {
        let drop = drop.iter().map(|e| e.hash).collect();
        Statement::Settle { of: key(1).1, entry: 2, keep, drop }
    };
    let mark = pruner.mark(settle(Some(b.hash), &[&fork]));
    let history = of(&[&a, &b, &fork, &c, &mark]);
    assert_eq!(history.breaks, []);
    assert_eq!(trusts(&history, &fork), Trust::Untrusted(Untrusted::Dropped));
    let seen: Heads = [(key(1).1, (2, fork.hash))].into();
    assert_eq!(
        with(|r| r.seen = seen, &[&a, &b, &fork, &c, &mark]).breaks,
        [],
        "whoever saw the other side, too"
    );
    // A loss that nobody knows the hash of.
    let lost = writer(9).mark(settle(None, &[]));
    assert_eq!(of(&[&a, &c, &lost]).breaks, []);
    assert!(!of(&[&a, &c]).breaks.is_empty());
    // Not by the forked signer alone, whatever roles it has.
    let own = one.mark(settle(Some(b.hash), &[&fork]));
    let all_roles = |r: &mut Reader| r.trusted = vec![trust(1, &[Role::Host, Role::Prune])];
    assert!(!with(all_roles, &[&a, &b, &fork, &c, &own]).breaks.is_empty());
}

#[test]
fn numbers_at_the_end_of_the_range_do_no_harm() {
    let mut one = Writer { number: u64::MAX - 1, previous: Some(ObjectId::of(b"x")), ..writer(1) };
    let mut last = one.record_at(0);
    if let EntryBody::Record(record) = &mut last.body {
        Arc::make_mut(record).number = u64::MAX;
    }
    let last = rehash(last.body);
    let history = of(&[&last]);
    assert_eq!(kinds(&history), [(1, BreakKind::Gap { to: u64::MAX - 1 })]);
    assert_eq!(history.next(&key(1).1).0, u64::MAX);
}
