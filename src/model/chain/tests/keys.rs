//! Keys that come, go and are retired.

use super::*;

#[test]
fn an_introduced_key_goes_on_in_the_host_s_sequence() {
    let mut one = writer(1);
    let a = one.record();
    let (mark, mut two) = one.introduce(2);
    let next_of_new = of(&[&a, &mark]).next(&key(2).1);
    assert_eq!(next_of_new, (3, Some(mark.hash)));
    let b = two.record();
    let (second, mut three) = two.introduce(3);
    let c = three.record();
    let history = of(&[&a, &mark, &b, &second, &c]);
    assert_eq!(history.breaks, []);
    assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, c.hash, "introduction is transitive");
    // Without the mark the keys after it are nobody's.
    let hidden = of(&[&a, &b, &second, &c]);
    assert_eq!(trusts(&hidden, &b), Trust::Untrusted(Untrusted::UnknownKey));
    assert_eq!(trusts(&hidden, &c), Trust::Untrusted(Untrusted::UnknownKey));
    let seen = history.heads.clone();
    let hidden = with(|r| r.seen = seen, &[&a, &b, &second, &c]);
    assert!(hidden.latest(&host(1)).is_err(), "the chain that introduced it went back");
    // The first entry of an introduced key hidden.
    assert_eq!(kinds(&of(&[&a, &mark, &second])), [(3, BreakKind::Gap { to: 3 })]);
}

#[test]
fn a_key_the_reader_trusts_itself_may_begin_after_a_mark_of_one_it_does_not() {
    let mut one = writer(1);
    let a = one.record();
    let (mark, mut two) = one.introduce(2);
    let b = two.record();
    let c = two.record();
    let new = TrustedSigner { host: Some(host(1)), ..trust(2, &[Role::Host]) };
    let history = with(|r| r.trusted = vec![new.clone()], &[&a, &mark, &b, &c]);
    assert_eq!(history.breaks, []);
    assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, c.hash);
    assert_eq!(trusts(&history, &a), Trust::Untrusted(Untrusted::UnknownKey));
    let history = with(|r| r.trusted = vec![new], &[&a, &mark, &c]);
    assert!(!history.breaks.is_empty());
}

#[test]
fn introduction_gives_the_role_host_for_one_host_and_only_by_its_keys() {
    let (mut one, mut other) = (writer(1), writer(4));
    let foreign = Statement::Key { action: KeyAction::Introduce, key: key(2).0, host: host(1), last: None };
    let marks = [other.mark(foreign.clone()), writer(66).mark(foreign)];
    let mut two = Writer { number: 1, previous: None, host: host(1), ..writer(2) };
    let record = two.record();
    let four = |r: &mut Reader| r.trusted.push(trust(4, &[Role::Host]));
    let history = with(four, &[&marks[0], &marks[1], &record]);
    assert_eq!(trusts(&history, &record), Trust::Untrusted(Untrusted::UnknownKey));
    // An introduced key is no pruner, and none for other hosts.
    let a = one.record();
    let (mark, mut two) = one.introduce(2);
    let delete = two.mark(Statement::Delete(target(&a)));
    let of_four = other.record();
    two.host = host(4);
    let strange = two.record();
    let history = with(four, &[&a, &mark, &delete, &marks[0], &of_four, &strange]);
    assert!(!history.snapshots(&host(1))[0].delete_asked);
    assert_eq!(trusts(&history, &strange), Trust::Untrusted(Untrusted::NotOfHost));
}

#[test]
fn a_retired_key_counts_up_to_its_last_entry() {
    let mut one = writer(1);
    let a = one.record();
    let (mark, mut two) = one.introduce(2);
    let retire = two.retire(1, host(1), &mark);
    let b = two.record();
    // The thief of the old key goes on, back-dated and with garbage of all kinds.
    let stolen = [one.record_at(1), one.record_at(2)];
    let forked = altered(&stolen[1]);
    let (introduced, mut thief) = one.introduce(66);
    let by_thief = thief.record();
    let revenge = one.retire(2, host(1), &retire);
    let all = [&a, &mark, &retire, &b, &stolen[0], &stolen[1], &forked, &introduced, &by_thief, &revenge];
    let history = of(&all);
    assert_eq!(history.breaks, []);
    assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, b.hash);
    assert_eq!(trusts(&history, &a), Trust::Trusted);
    assert_eq!(trusts(&history, &stolen[0]), Trust::Untrusted(Untrusted::Retired));
    assert_eq!(trusts(&history, &by_thief), Trust::Untrusted(Untrusted::UnknownKey));
    assert!(
        history.keys().may_sign_for(&key(2).1, &host(1)) && !history.keys().may_sign_for(&key(1).1, &host(1))
    );
    // Who retired the key knew its last entry: also a reader that never saw it is told when that is hidden.
    let both = |r: &mut Reader| {
        r.trusted.push(TrustedSigner { host: Some(host(1)), ..trust(2, &[Role::Host]) });
    };
    assert_eq!(with(both, &all).breaks, []);
    let hidden = with(both, &[&a, &retire, &b]);
    assert!(
        kinds(&hidden).contains(&(2, BreakKind::RolledBack { seen: 2, found: 1 })),
        "{:?}",
        hidden.breaks
    );
    let replaced = altered(&mark);
    assert!(with(both, &[&a, &replaced, &retire, &b]).latest(&host(1)).is_err());
}

#[test]
fn a_host_cannot_take_a_verifier_s_or_pruner_s_roles_away() {
    let (mut one, mut pruner) = (writer(1), writer(9));
    let a = one.record();
    let first = pruner.mark(Statement::Delete(target(&a)));
    let introduce = Statement::Key { action: KeyAction::Introduce, key: key(9).0, host: host(1), last: None };
    let marks = [one.mark(introduce), one.retire(9, host(1), &first)];
    let second = pruner.mark(Statement::Milestone { target: target(&a), on: true });
    let history = of(&[&a, &first, &marks[0], &marks[1], &second]);
    assert!(history.keys().may(&key(9).1, Role::Prune));
    assert!(history.snapshots(&host(1))[0].milestone);
    assert!(!history.keys().is_of(&key(9).1, &host(1)), "nor make it a key of its own");
    assert_eq!(history.breaks, []);
    // Not before it signed anything either, nor where the first it signed went with what it was about.
    let fresh = of(&[&a, &marks[0]]);
    assert!(!fresh.keys().is_of(&key(9).1, &host(1)));
    assert_eq!(fresh.next(&key(9).1), (1, None));
    let removed = vec![removed(&first), removed(&second)];
    let gone = pruner.mark(Statement::Prune { instance: store(1), removed });
    let history = of(&[&a, &marks[0], &marks[1], &gone]);
    assert!(!history.keys().is_of(&key(9).1, &host(1)));
    assert_eq!(history.breaks, []);
}

#[test]
fn a_key_that_has_a_chain_of_its_own_is_made_no_key_of_another_host() {
    let (mut one, mut four) = (writer(1), writer(4));
    let (a, b) = (one.record(), four.record());
    let introduce = Statement::Key { action: KeyAction::Introduce, key: key(4).0, host: host(1), last: None };
    let mark = one.mark(introduce);
    let trusts_four = |r: &mut Reader| r.trusted.push(trust(4, &[Role::Host]));
    let history = with(trusts_four, &[&a, &b, &mark]);
    assert!(history.keys().is_of(&key(4).1, &host(4)) && !history.keys().is_of(&key(4).1, &host(1)));
    assert_eq!(history.breaks, []);
    // A pruner's key that took over as a host's, and whose first entries were pruned, stays one.
    let (mark, mut nine) = one.introduce(9);
    let records = [nine.record(), nine.record()];
    let instance = store(1);
    let gone =
        nine.mark(Statement::Prune { instance, removed: vec![removed(&records[0]), removed(&records[1])] });
    for entries in
        [&[&a, &mark, &records[0]][..], &[&a, &mark, &records[0], &records[1], &gone], &[&a, &mark, &gone]]
    {
        let both = |r: &mut Reader| r.trusted.push(trust(9, &[Role::Host, Role::Prune]));
        let history = with(both, entries);
        assert!(history.keys().is_of(&key(9).1, &host(1)), "{}", entries.len());
    }
}

#[test]
fn a_pruner_may_retire_any_key_and_a_key_itself() {
    let (mut one, mut pruner) = (writer(1), writer(9));
    let (a, b) = (one.record(), one.record());
    let retire = pruner.retire(1, host(1), &a);
    let history = of(&[&a, &b, &retire]);
    assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, a.hash);
    assert_eq!(history.keys().retired(&key(1).1), Some((1, a.hash)));
    let own = one.retire(1, host(1), &b);
    let late = one.record();
    let history = of(&[&a, &b, &own, &late]);
    assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, b.hash);
    // Its own retirement must not be hidden either.
    let seen = history.heads.clone();
    assert!(!with(|r| r.seen = seen, &[&a, &b]).breaks.is_empty());
}

#[test]
fn thousands_of_keys_that_one_introduces_and_retires_hold_no_reader_up() {
    let took = |keys: u16| {
        let entries = introduced_and_retired(keys);
        let began = std::time::Instant::now();
        let history = History::of(entries, &reader());
        assert!(history.keys().signers().count() > usize::from(keys));
        began.elapsed()
    };
    // The least of several: other tests run beside this one.
    let least = |keys| (0..3).map(|_| took(keys)).min().unwrap_or_default();
    let (few, many) = (least(250), least(1000));
    assert!(
        many < few * 40,
        "four times the keys, {few:?} and {many:?}: worked out anew each time it is 64 times as long"
    );
}

/// A host that introduces so many keys and retires each at once.
fn introduced_and_retired(keys: u16) -> Vec<ChainEntry> {
    let mut one = writer(1);
    let mut entries = vec![one.record()];
    for n in 0..keys {
        let mut wire = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
        wire.extend([255; 30]);
        wire.extend(n.to_be_bytes());
        let key = format!("ssh-ed25519 {}", BASE64.encode(&wire));
        let say = |action, last| Statement::Key { action, key: key.clone(), host: host(1), last };
        let (introduce, retire) =
            (say(KeyAction::Introduce, None), |last| say(KeyAction::Retire, Some(last)));
        let mark = one.mark(introduce);
        let new = signer_of_text(&key).unwrap();
        let mut new = Writer { id: new, number: mark.number() + 1, previous: Some(mark.hash), ..writer(1) };
        let said = new.mark(Statement::Unknown);
        entries.extend([mark, one.mark(retire((said.number(), said.hash))), said]);
    }
    entries
}
