//! What settles a broken chain.

use super::*;
use crate::model::settling::{SETTLED_MAX, Unsettled, settling};
use proptest::prelude::*;

/// What the pruner would say of the history of key 1.
fn proposed(
    reader: &Reader,
    entries: &[&ChainEntry],
    keep: &[&ChainEntry],
) -> Result<Vec<Statement>, Unsettled> {
    let keep = keep.iter().map(|e| e.hash).collect();
    settling(entries.iter().map(|e| (*e).clone()).collect(), reader, (&key(9).1, &key(1).1), &keep)
}

/// The history after the pruner said it.
fn settled(reader: &Reader, entries: &[&ChainEntry], keep: &[&ChainEntry]) -> (History, Vec<Statement>) {
    let statements = proposed(reader, entries, keep).unwrap();
    let mut pruner = writer(9);
    let marks = statements.iter().map(|s| pruner.mark(s.clone()));
    let all = entries.iter().map(|e| (*e).clone()).chain(marks.collect::<Vec<_>>()).collect();
    (History::of(all, reader), statements)
}

fn numbers(statements: &[Statement]) -> Vec<u64> {
    let number = |s: &Statement| match s {
        Statement::Settle { entry, .. } => *entry,
        other => panic!("{other:?}"),
    };
    statements.iter().map(number).collect()
}

#[test]
fn what_is_missing_is_accepted_as_lost_and_the_newest_is_known_again() {
    let mut one = writer(1);
    let entries: Vec<ChainEntry> = (0..5).map(|_| one.record()).collect();
    let there = [&entries[0], &entries[3], &entries[4]];
    let (history, statements) = settled(&reader(), &there, &[]);
    assert_eq!((numbers(&statements), &history.breaks[..]), (vec![2, 3], &[][..]));
    assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, entries[4].hash);
    assert_eq!(history.next(&key(1).1), (6, Some(entries[4].hash)));
    // The first ones, too.
    let (history, statements) = settled(&reader(), &[&entries[2], &entries[4]], &[]);
    assert_eq!((numbers(&statements), &history.breaks[..]), (vec![1, 2, 4], &[][..]));
    assert_eq!(proposed(&reader(), &[&entries[0], &entries[1]], &[]), Ok(Vec::new()), "nothing is wrong");
}

#[test]
fn what_comes_back_counts_again_where_it_was_accepted_as_lost() {
    let mut one = writer(1);
    let entries: Vec<ChainEntry> = (0..3).map(|_| one.record()).collect();
    let statements = proposed(&reader(), &[&entries[0], &entries[2]], &[]).unwrap();
    let mark = writer(9).mark(statements[0].clone());
    let history = of(&[&entries[0], &entries[1], &entries[2], &mark]);
    assert_eq!(history.breaks, []);
    assert_eq!(trusts(&history, &entries[1]), Trust::Trusted);
    // Another one in its place does not: its hash was known.
    let other = altered(&entries[1]);
    assert!(!of(&[&entries[0], &other, &entries[2], &mark]).breaks.is_empty());
}

#[test]
fn entries_that_only_this_reader_saw_are_accepted_as_lost_for_everybody() {
    let mut one = writer(1);
    let entries: Vec<ChainEntry> = (0..4).map(|_| one.record()).collect();
    let seen = Reader { seen: [(key(1).1, (4, entries[3].hash))].into(), ..reader() };
    let (history, statements) = settled(&seen, &[&entries[0], &entries[1]], &[]);
    assert_eq!((numbers(&statements), &history.breaks[..]), (vec![3, 4], &[][..]));
    assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, entries[1].hash);
    assert_eq!(history.next(&key(1).1), (5, Some(entries[3].hash)), "no number is given twice");
    let marks: Vec<ChainEntry> = {
        let mut pruner = writer(9);
        statements.iter().map(|s| pruner.mark(s.clone())).collect()
    };
    let elsewhere = of(&[&entries[0], &entries[1], &marks[0], &marks[1]]);
    assert_eq!(elsewhere.next(&key(1).1), (5, Some(entries[3].hash)), "nor by those who never saw them");
}

#[test]
fn of_two_histories_the_one_that_is_named_stands_and_the_other_is_untrusted() {
    let mut one = writer(1);
    let shared = one.record();
    let mut twin = one.clone();
    let ours: Vec<ChainEntry> = (0..2).map(|_| one.record()).collect();
    let theirs: Vec<ChainEntry> = (0..3).map(|n| twin.record_at(30 + n)).collect();
    let all: Vec<&ChainEntry> = [&shared].into_iter().chain(&ours).chain(&theirs).collect();
    let ends = [ours[1].hash, theirs[2].hash];
    let Err(Unsettled::Choose { ends: found, .. }) = proposed(&reader(), &all, &[]) else { panic!() };
    assert_eq!(
        found.iter().collect::<BTreeSet<_>>(),
        ends.iter().collect::<BTreeSet<_>>(),
        "the last of each"
    );
    for (keep, stands, falls) in [(&ours[0], &ours[..], &theirs[..]), (&theirs[1], &theirs[..], &ours[..])] {
        let (history, _) = settled(&reader(), &all, &[keep]);
        assert_eq!(history.breaks, []);
        assert!(stands.iter().all(|e| trusts(&history, e) == Trust::Trusted));
        assert!(falls.iter().all(|e| trusts(&history, e) == Trust::Untrusted(Untrusted::Dropped)));
        assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, stands.last().unwrap().hash);
    }
}

#[test]
fn what_both_histories_have_names_neither_and_who_names_both_is_asked_again() {
    let mut one = writer(1);
    let shared = one.record();
    let mut twin = one.clone();
    let (ours, theirs) = (one.record(), twin.record_at(30));
    let all = [&shared, &ours, &theirs];
    for keep in [&[&shared][..], &[&ours, &theirs], &[&theirs, &shared, &ours]] {
        let found = proposed(&reader(), &all, keep);
        assert!(matches!(found, Err(Unsettled::Choose { .. })), "{found:?}");
    }
    assert!(proposed(&reader(), &all, &[&shared, &ours]).is_ok());
}

#[test]
fn a_history_that_was_rewritten_or_follows_on_another_entry_is_settled_by_naming_what_stands() {
    let mut one = writer(1);
    let entries: Vec<ChainEntry> = (0..3).map(|_| one.record()).collect();
    let rewritten = altered(&entries[2]);
    let seen = Reader { seen: [(key(1).1, (3, entries[2].hash))].into(), ..reader() };
    let there = [&entries[0], &entries[1], &rewritten];
    assert!(matches!(proposed(&seen, &there, &[]), Err(Unsettled::Choose { .. })));
    let (history, _) = settled(&seen, &there, &[&rewritten]);
    assert_eq!(history.breaks, []);
    assert!(history.is_dropped(&key(1).1, 3, &entries[2].hash));
    let other = altered(&entries[1]);
    let there = [&entries[0], &other, &entries[2]];
    assert!(matches!(proposed(&reader(), &there, &[]), Err(Unsettled::Choose { .. })));
    let (history, _) = settled(&reader(), &there, &[&entries[2]]);
    assert_eq!(
        (&history.breaks[..], trusts(&history, &other)),
        (&[][..], Trust::Untrusted(Untrusted::Dropped))
    );
    let (history, _) = settled(&reader(), &there, &[&other]);
    assert_eq!(
        (&history.breaks[..], trusts(&history, &entries[2])),
        (&[][..], Trust::Untrusted(Untrusted::Dropped))
    );
}

#[test]
fn numbers_that_are_made_up_and_the_key_that_settles_are_not_settled_away() {
    let mut one = writer(1);
    let first = one.record();
    one.number = SETTLED_MAX + 10;
    let far = one.record();
    assert!(matches!(proposed(&reader(), &[&first, &far], &[]), Err(Unsettled::TooMany { .. })));
    // Key 2 prunes, and is of host 1 by a mark of one of two histories.
    let mut one = writer(1);
    let shared = one.record();
    let mut twin = one.clone();
    let other = twin.record_at(30);
    let (introduced, _) = one.introduce(2);
    let reader = Reader { trusted: vec![trust(1, &[Role::Host]), trust(2, &[Role::Prune])], ..reader() };
    let entries = vec![shared, other.clone(), introduced];
    let keep = [other.hash].into();
    let disowns = settling(entries, &reader, (&key(2).1, &key(1).1), &keep);
    assert!(matches!(disowns, Ok(_) | Err(Unsettled::Disowns { .. })), "{disowns:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is lost of two histories, naming the end of one of them, and what holes leave open, settles it.
    #[test]
    fn whatever_is_lost_of_two_histories_naming_one_settles_it(
        shared in 0_usize..5,
        ours in 1_usize..6,
        theirs in 0_usize..6,
        lost in proptest::collection::vec(any::<bool>(), 17),
        seen in proptest::option::of(0_usize..17),
    ) {
        let mut one = writer(1);
        let mut all: Vec<ChainEntry> = (0..shared).map(|_| one.record()).collect();
        let mut twin = one.clone();
        let mine: Vec<ChainEntry> = all.iter().cloned().chain((0..ours).map(|_| one.record())).collect();
        all.clone_from(&mine);
        all.extend((0..theirs).map(|n| twin.record_at(30 + i64::try_from(n).unwrap())));
        let mut reader = reader();
        if let Some(entry) = seen.and_then(|at| all.get(at)) {
            reader.seen = [(key(1).1, (entry.number(), entry.hash))].into();
        }
        let there: Vec<&ChainEntry> = all.iter().zip(&lost).filter(|(_, lost)| !**lost).map(|(e, _)| e).collect();
        let stands: Vec<&ChainEntry> = there.iter().filter(|e| mine.contains(e)).copied().collect();
        prop_assume!(!there.is_empty() && !stands.is_empty());
        let found = proposed(&reader, &there, &stands);
        let Ok(statements) = found else {
            return Err(TestCaseError::fail(format!("{found:?}")));
        };
        let mut pruner = writer(9);
        let marks: Vec<ChainEntry> = statements.iter().map(|s| pruner.mark(s.clone())).collect();
        let entries = there.iter().map(|e| (*e).clone()).chain(marks).collect();
        let history = History::of(entries, &reader);
        prop_assert_eq!(&history.breaks, &[]);
        let of = |e: &&ChainEntry| trusts(&history, e) == Trust::Trusted;
        prop_assert!(stands.iter().all(of), "what was named stands");
    }
}
