//! Histories that are changed at random.

use super::*;
use proptest::prelude::*;

/// A random honest history: by one to four keys of host 1 and a pruner, each entry by the newest key.
fn history(steps: &[u8]) -> Vec<ChainEntry> {
    let (mut now, mut pruner) = (writer(1), writer(9));
    let mut entries: Vec<ChainEntry> = Vec::new();
    let mut keys = 1;
    for step in steps {
        let any = entries.iter().find(|e| e.snapshot().is_some()).cloned();
        let entry = match (step % 8, any) {
            (0, _) if keys < 4 => {
                keys += 1;
                let (mark, new) = now.introduce(keys);
                now = new;
                mark
            }
            (1, Some(record)) => now.mark(Statement::Note { target: target(&record), sealed: String::new() }),
            (2, Some(record)) => pruner.mark(Statement::Delete(target(&record))),
            _ => now.record(),
        };
        entries.push(entry);
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn removing_or_changing_any_entry_is_noticed_once_the_heads_were_seen(
        steps in proptest::collection::vec(any::<u8>(), 1..24),
        at in any::<prop::sample::Index>(),
    ) {
        let entries = history(&steps);
        let whole = History::of(entries.clone(), &reader());
        prop_assert_eq!(&whole.breaks, &[]);
        let reader = Reader { seen: whole.heads.clone(), ..reader() };
        prop_assert!(History::of(entries.clone(), &reader).breaks.is_empty());

        let at = at.index(entries.len());
        let mut without = entries.clone();
        let entry = without.remove(at);
        prop_assert!(!History::of(without.clone(), &reader).breaks.is_empty(), "{} removed", at);
        without.push(altered(&entry));
        prop_assert!(!History::of(without.clone(), &reader).breaks.is_empty(), "{} changed", at);
        without.push(entry);
        prop_assert!(!History::of(without, &reader).breaks.is_empty(), "{} forked", at);
    }

    #[test]
    fn nobody_without_a_trusted_key_can_change_what_is_said(
        steps in proptest::collection::vec(any::<u8>(), 1..16),
        theirs in proptest::collection::vec(any::<u8>(), 1..16),
    ) {
        let entries = history(&steps);
        let before = History::of(entries.clone(), &reader());
        // The same kinds of entries, by keys that nobody trusts, in the name of host 1 and about its snapshots.
        let mut thief = Writer { host: host(1), ..writer(66) };
        let mut all = entries.clone();
        for step in theirs {
            let record = entries.iter().find(|e| e.snapshot().is_some());
            all.push(match (step % 6, record) {
                (0, _) => thief.introduce(67).0,
                (1, _) => thief.retire(1, host(1), &entries[0]),
                (2, Some(record)) => thief.mark(Statement::Void { target: target(record), instance: None, reason: String::new() }),
                (3, Some(record)) => thief.mark(Statement::Verdict(verdict(record, minutes(1), Level::Drill, false))),
                (4, _) => thief.mark(Statement::Prune { instance: store(1), removed: entries.iter().map(removed).collect() }),
                _ => thief.record_at(59),
            });
        }
        let after = History::of(all, &reader());
        prop_assert_eq!(&before.breaks, &after.breaks);
        prop_assert_eq!(&before.heads, &after.heads);
        let trusted = |h: &History| {
            let all = h.snapshots(&host(1)).iter().filter(|s| s.trusted == Trust::Trusted);
            all.cloned().collect::<Vec<_>>()
        };
        prop_assert_eq!(trusted(&before), trusted(&after));
    }
}
