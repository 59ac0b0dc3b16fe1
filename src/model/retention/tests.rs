use super::*;
use crate::model::Record;
use crate::model::chain::{KnownVerdict, KnownVoid, Untrusted};
use crate::model::id::{HostId, SignerId};
use crate::model::mark::{Level, Target, Verdict};
use crate::model::record::{CheckResult, ComponentLine};
use jiff::tz::TimeZone;
use std::sync::Arc;

const DAY: i64 = 86_400;

fn store() -> VaultId {
    VaultId::from_random([1; 17])
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The rules of a project that says nothing.
fn default_policy() -> Policy {
    let mut policy = Policy::bare(TimeZone::UTC);
    policy.keep_within = Some(SignedDuration::from_secs(7 * DAY));
    policy.periods[Period::Week as usize].within = Some(SignedDuration::from_secs(30 * DAY));
    policy.min_keep = 3;
    policy
}

fn snapshot(number: u64, time: Timestamp) -> KnownSnapshot {
    let mut random = [0; 5];
    random.copy_from_slice(&number.to_be_bytes()[3..]);
    let component = ComponentLine {
        number: 1,
        size: 100,
        entries: 10,
        complete: true,
        check: CheckResult::Passed,
        setup: "a".into(),
    };
    let record = Record {
        format: 1,
        needs: Vec::new(),
        doc: "record".into(),
        vault: store(),
        snapshot: SnapshotId::new(time, random),
        kind: SnapshotKind::Normal,
        host: HostId([1; 16]),
        signer: SignerId([1; 16]),
        number,
        previous: None,
        started: time,
        finished: time,
        complete: true,
        alone: true,
        components: vec![component],
        recipients: Vec::new(),
        objects: Vec::new(),
        index: None,
        run: None,
        tags: Vec::new(),
        milestone: false,
        agent: "test".into(),
    };
    let hash = ObjectId::of(record.snapshot.as_str().as_bytes());
    let mut known = KnownSnapshot::new(Arc::new(record), hash, Trust::Trusted);
    for set in sets(&mut known) {
        set.insert(store());
    }
    known
}

/// Where it is good, and was.
fn sets(known: &mut KnownSnapshot) -> [&mut BTreeSet<VaultId>; 6] {
    let once = &mut known.once_good;
    [
        &mut known.good_in,
        &mut known.good_by_others_in,
        &mut known.sound_by_others_in,
        &mut once.by_all,
        &mut once.by_others,
        &mut once.sound_by_others,
    ]
}

/// Its proofs are older than they may be.
fn proof_is_old(known: &mut KnownSnapshot) {
    let old = known.once_good.clone();
    not_good(known);
    known.once_good = old;
}

/// One a day at 3 in the morning, the last on 26 November 2026, all good.
fn nights(number: i64) -> Vec<KnownSnapshot> {
    let last = at("2026-11-26T03:00:00Z");
    let night = |n: i64| snapshot((number - n).cast_unsigned(), last - SignedDuration::from_secs(n * DAY));
    (0..number).rev().map(night).collect()
}

fn change(known: &mut KnownSnapshot, how: impl FnOnce(&mut Record)) {
    let mut record = (*known.record).clone();
    how(&mut record);
    known.record = Arc::new(record);
}

fn not_good(known: &mut KnownSnapshot) {
    sets(known).into_iter().for_each(BTreeSet::clear);
}

/// A change with its name.
type Named<'a> = (&'a str, &'a dyn Fn(&mut KnownSnapshot));

struct Asked {
    policy: Policy,
    now: Timestamp,
    others: bool,
}

fn asked() -> Asked {
    Asked { policy: default_policy(), now: at("2026-11-26T05:30:00Z"), others: false }
}

impl Asked {
    fn decide(&self, snapshots: &[KnownSnapshot]) -> Verdicts {
        let held: Vec<Held<'_>> = snapshots.iter().map(|known| Held { known, stored: None }).collect();
        let scene = Scene { policy: &self.policy, instance: &store(), now: self.now, others: self.others };
        decide(&held, &scene)
    }

    /// Days of the snapshots that go.
    fn gone(&self, snapshots: &[KnownSnapshot]) -> Vec<String> {
        let decided = self.decide(snapshots).decisions;
        let gone = decided.iter().filter(|d| !d.keep);
        gone.map(|d| d.snapshot.as_str()[4..8].to_owned()).collect()
    }

    fn kept(&self, snapshots: &[KnownSnapshot]) -> Vec<String> {
        let decided = self.decide(snapshots).decisions;
        let kept = decided.iter().filter(|d| d.keep);
        kept.map(|d| d.snapshot.as_str()[4..8].to_owned()).collect()
    }
}

fn words(decision: &Decision) -> Vec<String> {
    decision.because.iter().map(|b| b.words(&|number| format!("component {number}"))).collect()
}

#[test]
fn the_example_of_the_documentation_is_true() {
    let nights = nights(60);
    assert_eq!(
        asked().kept(&nights),
        ["1102", "1109", "1116", "1119", "1120", "1121", "1122", "1123", "1124", "1125", "1126"]
    );
    let decided = asked().decide(&nights);
    assert!(decided.freezes.is_empty());
    let of = |day: &str| decided.decisions.iter().find(|d| &d.snapshot.as_str()[4..8] == day).unwrap();
    assert_eq!(
        words(of("1126")),
        [
            "newest good one",
            "one of the 3 good ones that always stay (min_keep)",
            "not older than 7d (keep_within)"
        ]
    );
    assert_eq!(words(of("1116")), ["first good one of its week"]);
    assert_eq!(words(of("1117")), ["no rule keeps it"]);
}

#[test]
fn age_is_counted_from_the_newest_good_one_so_a_year_away_costs_nothing() {
    let mut nights = nights(60);
    let before = asked().kept(&nights);
    let late = Asked { now: at("2027-11-26T05:30:00Z"), ..asked() };
    // Nobody verified anything in that year.
    nights.iter_mut().for_each(proof_is_old);
    let decided = late.decide(&nights);
    assert!(decided.decisions.iter().all(|d| d.keep), "a gap freezes everything");
    assert_eq!(decided.freezes.len(), 1);
    assert_eq!(
        decided.freezes[0].kind.to_string(),
        "there has been no good snapshot since 2026-11-26T03:00:00Z"
    );
    // Two good ones after the gap change nothing; the third ends it, and only then the old ones go.
    let mut back = nights.clone();
    for (n, hour) in [3, 4, 5].into_iter().enumerate() {
        let time = at("2027-11-26T00:00:00Z") + SignedDuration::from_hours(hour);
        let later = Asked { now: time, ..asked() };
        assert_eq!(later.decide(&back).decisions.iter().filter(|d| !d.keep).count(), 0, "{n} after the gap");
        back.push(snapshot(61 + n as u64, time));
    }
    let later = Asked { now: at("2027-11-26T06:00:00Z"), ..asked() };
    assert_eq!(later.kept(&back).len(), 3);
    assert!(before.len() > 3);
}

#[test]
fn where_backups_are_rare_never_fewer_than_three_good_ones_stay() {
    // One a month, and none is verified: only the newest has a proof that is young enough.
    let mut months: Vec<KnownSnapshot> = nights(12 * 30 + 1).into_iter().step_by(30).collect();
    let newest = months.len() - 1;
    months[..newest].iter_mut().for_each(proof_is_old);
    let decided = asked().decide(&months);
    assert!(decided.freezes.is_empty(), "a month is what is usual: {:?}", decided.freezes);
    assert!(decided.decisions.iter().all(|d| d.keep), "they may be damaged: nobody looked");
    assert!(words(&decided.decisions[0]).concat().contains("fewer than 3 newer ones are (min_keep)"));
    // When they are proved again the rules apply, and three stay.
    let months: Vec<KnownSnapshot> = nights(12 * 30 + 1).into_iter().step_by(30).collect();
    assert_eq!(asked().kept(&months), ["0927", "1027", "1126"]);
}

#[test]
fn a_gap_stays_one_when_all_proofs_are_older_than_they_may_be_and_can_be_accepted() {
    let mut left = nights(60);
    left.iter_mut().for_each(proof_is_old);
    let late = Asked { now: at("2027-01-20T05:30:00Z"), ..asked() };
    let decided = late.decide(&left);
    assert!(matches!(decided.freezes[..], [Freeze { kind: FreezeKind::Gap { until: None, .. }, .. }]));
    left[59].accepted.insert(1, at("2027-01-20T05:00:00Z"));
    let decided = late.decide(&left);
    assert!(decided.freezes.is_empty(), "{:?}", decided.freezes);
    // It may all be damaged by now: first somebody proves it.
    assert!(decided.decisions.iter().all(|d| d.keep && words(d).concat().contains("backstay verify")));
    for set in left.iter_mut().map(|known| (known.once_good.clone(), known)) {
        (set.1.good_in, set.1.good_by_others_in) = (set.0.by_all, set.0.by_others);
    }
    assert!(late.decide(&left).decisions.iter().filter(|d| d.keep).count() < 10);
}

#[test]
fn what_is_empty_after_forty_days_away_is_not_believed() {
    let mut back = nights(60);
    back.iter_mut().for_each(proof_is_old);
    let mut new = snapshot(61, at("2027-01-05T03:00:00Z"));
    change(&mut new, |r| (r.components[0].size, r.components[0].entries) = (0, 1));
    back.push(new);
    let later = Asked { now: at("2027-01-05T04:00:00Z"), ..asked() };
    let decided = later.decide(&back);
    let kinds: Vec<&FreezeKind> = decided.freezes.iter().map(|f| &f.kind).collect();
    let expected = matches!(kinds[..], [FreezeKind::Gap { until: Some(_), .. }, FreezeKind::Shrank { .. }]);
    assert!(expected, "{kinds:?}");
    assert!(decided.decisions.iter().all(|d| d.keep));
}

#[test]
fn bad_nights_push_no_good_one_out() {
    // Fifteen nights whose checks fail, or that nobody could read back, leave all that was good.
    for failing in [true, false] {
        let mut nights = nights(45);
        let before = Asked { now: at("2026-11-11T05:30:00Z"), ..asked() }.kept(&nights[..30]);
        for night in nights.iter_mut().skip(30) {
            not_good(night);
            if failing {
                change(night, |r| r.components[0].check = CheckResult::Failed);
            }
        }
        let gone = asked().gone(&nights);
        assert!(before.iter().all(|day| !gone.contains(day)), "{gone:?}");
        assert!(gone.is_empty(), "frozen: {gone:?}");
    }
}

#[test]
fn freezes_have_their_ways_out() {
    let mut nights = nights(60);
    let gone = asked().gone(&nights);
    assert!(!gone.is_empty());
    // It shrinks in the last night.
    change(&mut nights[59], |r| r.components[0].size = 49);
    let decided = asked().decide(&nights);
    assert!(decided.decisions.iter().all(|d| d.keep));
    let freeze = decided.freezes[0].clone();
    assert_eq!((freeze.component, freeze.good_needed), (1, 2));
    assert_eq!(freeze.accept, nights[59].record.snapshot);
    assert!(
        freeze.kind.to_string().contains("from 100 to 49 bytes, from 10 to 10 entries"),
        "{}",
        freeze.kind
    );
    // Half is not more than half.
    let mut half = nights.clone();
    change(&mut half[59], |r| r.components[0].size = 50);
    assert_eq!(asked().gone(&half), gone);
    // Another configuration explains it.
    let mut explained = nights.clone();
    change(&mut explained[59], |r| r.components[0].setup = "b".into());
    assert_eq!(asked().gone(&explained), gone);
    // A person accepts it; for another component that means nothing.
    let mut accepted = nights.clone();
    accepted[59].accepted.insert(2, at("2026-11-26T12:00:00Z"));
    assert!(asked().gone(&accepted).is_empty());
    accepted[59].accepted.insert(1, at("2026-11-26T12:00:00Z"));
    assert_eq!(asked().gone(&accepted), gone);
    // No good one follows any more: that is something else, which nobody has accepted yet.
    let later = Asked { now: at("2026-12-06T12:00:00Z"), ..asked() };
    let decided = later.decide(&accepted);
    assert!(decided.decisions.iter().all(|d| d.keep), "the window stands still");
    let kinds: Vec<&FreezeKind> = decided.freezes.iter().map(|f| &f.kind).collect();
    assert!(matches!(kinds[..], [FreezeKind::Gap { until: None, .. }]), "{kinds:?}");
    accepted[59].accepted.insert(1, at("2026-12-06T11:00:00Z"));
    assert!(later.gone(&accepted).len() > gone.len());
    // Three good ones at the new size.
    let mut three = nights.clone();
    for night in &mut three[57..60] {
        change(night, |r| r.components[0].size = 49);
    }
    assert_eq!(asked().gone(&three), gone);
    // Entries count as bytes do, and an incomplete capture is smaller for a known reason.
    let mut entries = nights.clone();
    change(&mut entries[59], |r| (r.components[0].size, r.components[0].entries) = (100, 4));
    assert!(asked().gone(&entries).is_empty());
    change(&mut entries[59], |r| (r.components[0].complete, r.complete) = (false, false));
    not_good(&mut entries[59]);
    assert!(!asked().gone(&entries).is_empty());
}

#[test]
fn a_failing_check_found_later_by_a_drill_freezes_too() {
    let mut nights = nights(60);
    let verdict = |check, place| KnownVerdict {
        signer: SignerId([2; 16]),
        number: place,
        time: at("2026-11-26T04:00:00Z"),
        own: false,
        verdict: Verdict {
            target: Target {
                snapshot: SnapshotId::new(at("2026-11-26T03:00:00Z"), [0; 5]),
                record: ObjectId::of(b""),
            },
            instance: store(),
            level: Level::Drill,
            began: at("2026-11-26T04:00:00Z"),
            good: false,
            covered: Vec::new(),
            bad: Vec::new(),
            checks: vec![(1, check)],
        },
    };
    nights[59].verdicts.push(verdict(CheckResult::Failed, 1));
    not_good(&mut nights[59]);
    assert!(asked().gone(&nights).is_empty());
    assert!(matches!(asked().decide(&nights).freezes[0].kind, FreezeKind::CheckFailed { .. }));
    nights[59].verdicts.push(verdict(CheckResult::Passed, 2));
    assert!(!asked().gone(&nights).is_empty(), "the last word counts");
}

#[test]
fn a_component_is_kept_by_its_own_snapshots() {
    // A database every hour of a day and everything once at its beginning; the nights before hold both.
    let mut all = nights(40);
    for night in &mut all {
        change(night, |r| {
            let mut db = r.components[0].clone();
            db.number = 2;
            r.components.push(db);
        });
    }
    for hour in 1..=20 {
        let mut one =
            snapshot(40 + hour, at("2026-11-26T03:00:00Z") + SignedDuration::from_hours(hour.cast_signed()));
        change(&mut one, |r| r.components[0].number = 2);
        all.push(one);
    }
    let mut policy = Policy::bare(TimeZone::UTC);
    (policy.keep_last, policy.min_keep) = (Some(5), 3);
    let asked = Asked { policy, now: at("2026-11-27T00:00:00Z"), others: false };
    let decided = asked.decide(&all);
    let kept: Vec<u64> = (1..).zip(&decided.decisions).filter(|(_, d)| d.keep).map(|(n, _)| n).collect();
    assert_eq!(
        kept,
        [36, 37, 38, 39, 40, 56, 57, 58, 59, 60],
        "five nights for the first, five hours for the second"
    );
    assert_eq!(words(&decided.decisions[35]), ["component 1: keep_last = 5"]);
}

#[test]
fn what_is_doubtful_stays_and_takes_no_place() {
    let mut policy = Policy::bare(TimeZone::UTC);
    (policy.keep_last, policy.min_keep) = (Some(3), 1);
    let asked = Asked { policy, ..asked() };
    let nights = nights(20);
    let last = ["1124", "1125", "1126"];
    assert_eq!(asked.kept(&nights), last);
    let doubtful = |how: &dyn Fn(&mut KnownSnapshot)| {
        let mut all = nights.clone();
        // At the end of the chain, where they would be the newest.
        for n in 0..10 {
            let mut one = snapshot(21 + n, at("2026-11-26T04:00:00Z"));
            how(&mut one);
            all.push(one);
        }
        all
    };
    let future = at("2027-11-26T04:00:00Z");
    let cases: [Named<'_>; 5] = [
        ("odd time", &|s| change(s, |r| (r.started, r.finished) = (future, future))),
        ("odd time", &|s| {
            change(s, |r| (r.started, r.finished) = (at("2020-01-01T00:00:00Z"), at("2020-01-01T00:00:00Z")));
        }),
        ("not trusted", &|s| s.trusted = Trust::Untrusted(Untrusted::UnknownKey)),
        ("said to be void", &|s| {
            s.voids.push(KnownVoid { instance: None, reason: "x".into(), prompt: false });
        }),
        ("not proved yet", &not_good),
    ];
    for (word, how) in cases {
        let all = doubtful(how);
        let decided = asked.decide(&all).decisions;
        for decision in &decided[20..] {
            assert!(
                decision.keep && words(decision).iter().any(|w| w.contains(word)),
                "{:?}",
                words(decision)
            );
        }
        let kept: Vec<&str> =
            decided[..20].iter().filter(|d| d.keep).map(|d| &d.snapshot.as_str()[4..8]).collect();
        assert_eq!(kept, last, "{word}");
    }
    // A void that an honest run said at once goes, and takes no place either.
    let all =
        doubtful(&|s| s.voids.push(KnownVoid { instance: Some(store()), reason: "x".into(), prompt: true }));
    let decided = asked.decide(&all).decisions;
    assert!(decided[20..].iter().all(|d| !d.keep));
    assert_eq!(decided[..20].iter().filter(|d| d.keep).count(), 3);
}

#[test]
fn a_store_that_shows_records_before_they_were_made_makes_them_odd_and_never_old() {
    let nights = nights(20);
    let put = at("1980-01-01T00:00:00Z");
    let held: Vec<Held<'_>> = nights.iter().map(|known| Held { known, stored: Some(put) }).collect();
    let policy = default_policy();
    let scene = Scene { policy: &policy, instance: &store(), now: asked().now, others: false };
    assert!(decide(&held, &scene).decisions.iter().all(|d| d.keep));
}

fn only_by_its_own_word(known: &mut KnownSnapshot) {
    let (good_in, by_all) = (known.good_in.clone(), known.once_good.by_all.clone());
    not_good(known);
    (known.good_in, known.once_good.by_all) = (good_in, by_all);
}

/// Nights that were good by a verifier's word; then the host's key is stolen.
fn compromised(
    change_old: impl Fn(&mut KnownSnapshot),
    garbage: impl Fn(&mut KnownSnapshot),
) -> Vec<KnownSnapshot> {
    let mut all = nights(60);
    all.iter_mut().for_each(change_old);
    for n in 0..(8 * 24) {
        let time = at("2026-11-26T04:00:00Z") + SignedDuration::from_hours(n);
        let mut one = snapshot(61 + n.cast_unsigned(), time);
        // Its own word is all there is.
        only_by_its_own_word(&mut one);
        garbage(&mut one);
        all.push(one);
    }
    all
}

#[test]
fn eight_days_of_garbage_by_a_stolen_key_let_no_good_one_go_elsewhere() {
    let elsewhere = Asked { now: at("2026-12-04T04:00:00Z"), others: true, ..asked() };
    let harmless = |_: &mut KnownSnapshot| {};
    let tricks: [Named<'_>; 5] = [
        ("nothing", &harmless),
        // It says that its own old objects are bad: the verifier's proofs no longer count, were it believed.
        ("bad", &|s| {
            s.good_by_others_in.clear();
            s.once_good.by_others.clear();
        }),
        ("void", &|s| s.voids.push(KnownVoid { instance: None, reason: "mine".into(), prompt: false })),
        ("tags", &|s| s.tags.clear()),
        ("untrusted", &|s| s.trusted = Trust::Untrusted(Untrusted::Retired)),
    ];
    for (name, trick) in tricks {
        let gone = elsewhere.gone(&compromised(trick, harmless));
        assert!(gone.is_empty(), "{name}: {gone:?}");
    }
    // Also when a verifier, who cannot look inside, calls the garbage whole: the weeks of the month stay, and so does what a healthy host
    // would have kept.
    let whole = |s: &mut KnownSnapshot| {
        sets(s).into_iter().for_each(|set| {
            set.insert(store());
        });
    };
    let mut healthy = nights(60);
    healthy.extend((0..8).map(|n| {
        snapshot(61 + n, at("2026-11-27T03:00:00Z") + SignedDuration::from_hours(n.cast_signed() * 24))
    }));
    let decided = elsewhere.decide(&healthy).decisions;
    let kept: Vec<&SnapshotId> = decided[..60].iter().filter(|d| d.keep).map(|d| &d.snapshot).collect();
    assert!(kept.len() >= 3, "{kept:?}");
    let flooded = elsewhere.decide(&compromised(harmless, whole)).decisions;
    for id in kept {
        assert!(flooded.iter().any(|d| d.snapshot == *id && d.keep), "{id} went");
    }
}

#[test]
fn what_is_asked_to_go_goes_but_never_a_milestone_or_the_newest_good_one() {
    let mut nights = nights(20);
    for at in [16, 17, 19] {
        nights[at].delete_asked = true;
    }
    nights[17].milestone = true;
    let decided = asked().decide(&nights).decisions;
    assert_eq!((decided[16].keep, words(&decided[16])), (false, vec!["deletion was asked for".to_owned()]));
    assert_eq!(words(&decided[17]), ["milestone"]);
    assert_eq!(
        words(&decided[19]),
        ["deletion was asked for, but it is the newest good one, which always stays"]
    );
    assert!(decided[19].keep);
    // The last one of a component that was given up goes when that was accepted, too.
    let late = Asked { now: at("2027-11-26T00:00:00Z"), ..asked() };
    assert!(late.decide(&nights).decisions[19].keep);
    nights[19].accepted.insert(1, late.now);
    assert!(!late.decide(&nights).decisions[19].keep);
    // Without any good one the newest is the best there is.
    nights.iter_mut().for_each(not_good);
    let decided = asked().decide(&nights).decisions;
    assert!(decided[19].keep && !decided[16].keep);
    assert!(words(&decided[19]).concat().contains("none is good, and it is the newest"), "{decided:?}");
}

#[test]
fn accepting_that_nothing_newer_comes_holds_after_what_goes_is_gone() {
    for min_keep in [0, 1, 3] {
        let mut policy = default_policy();
        policy.min_keep = min_keep;
        let mut left = nights(60);
        // On the fourth day somebody says that nothing newer is to be expected.
        let said = at("2026-11-29T12:00:00Z");
        let on = |now: Timestamp| Asked { policy: policy.clone(), now, others: false };
        assert_eq!(on(said).decide(&left).freezes.len(), 1);
        left[59].accepted.insert(1, said);
        for days in [0, 3, 8, 20, 40, 400] {
            let asked = on(said + SignedDuration::from_secs(days * DAY));
            let decided = asked.decide(&left);
            assert!(decided.freezes.is_empty(), "{min_keep}, after {days} days: {:?}", decided.freezes);
            let gone: Vec<SnapshotId> =
                decided.decisions.into_iter().filter(|d| !d.keep).map(|d| d.snapshot).collect();
            left.retain(|known| !gone.contains(&known.record.snapshot));
        }
        assert!(left.len() < 60);
    }
}

#[test]
fn accepting_a_shrink_accepts_no_later_gap_where_backups_are_rare() {
    // One a week; the last one shrank, and somebody says on the fifth day that this is right.
    let mut weeks: Vec<KnownSnapshot> = nights(7 * 12 + 1).into_iter().step_by(7).collect();
    let last = weeks.len() - 1;
    change(&mut weeks[last], |r| r.components[0].size = 49);
    weeks[last].accepted.insert(1, at("2026-12-01T12:00:00Z"));
    let soon = Asked { now: at("2026-12-02T12:00:00Z"), ..asked() };
    assert!(soon.decide(&weeks).freezes.is_empty());
    let later = Asked { now: at("2026-12-20T12:00:00Z"), ..asked() };
    let kinds: Vec<FreezeKind> = later.decide(&weeks).freezes.into_iter().map(|f| f.kind).collect();
    assert!(matches!(kinds[..], [FreezeKind::Gap { until: None, .. }]), "{kinds:?}");
}

#[test]
fn safety_snapshots_stay_seven_days_and_until_a_good_one_follows() {
    let mut all = nights(30);
    let safety =
        |all: &mut Vec<KnownSnapshot>, at: usize| change(&mut all[at], |r| r.kind = SnapshotKind::Safety);
    safety(&mut all, 24);
    safety(&mut all, 10);
    let decided = asked().decide(&all).decisions;
    assert_eq!(words(&decided[24]), ["safety snapshot of the last 7 days"]);
    assert_eq!((decided[10].keep, words(&decided[10]).len()), (false, 1));
    all.iter_mut().skip(11).for_each(not_good);
    let decided = asked().decide(&all).decisions;
    assert_eq!(words(&decided[10]), ["safety snapshot, and no good snapshot was made after it"]);
}

#[test]
fn an_interim_record_goes_with_its_run_or_after_seven_days() {
    let mut all = nights(20);
    let run = all[19].record.snapshot.clone();
    let other = SnapshotId::new(at("2026-11-26T03:00:01Z"), [7; 5]);
    for (place, of) in [(18, run), (17, other.clone()), (5, other)] {
        change(&mut all[place], |r| {
            (r.kind, r.run, r.components) = (SnapshotKind::Partial, Some(of), Vec::new());
        });
    }
    let decided = asked().decide(&all).decisions;
    assert_eq!(words(&decided[18]), ["interim record of a run that is committed"]);
    assert_eq!(words(&decided[17]), ["interim record of a run that may go on"]);
    assert_eq!(words(&decided[5]), ["interim record of a run that never ended"]);
    assert_eq!([decided[18].keep, decided[17].keep, decided[5].keep], [false, true, false]);
}

#[test]
fn tags_keep_and_only_prune_takes_that_away() {
    let mut nights = nights(60);
    let gone = asked().gone(&nights);
    nights[3].held_tags.insert("stable".into());
    let mut policy = default_policy();
    policy.keep_tags.insert("stable".into());
    let tagged = Asked { policy, ..asked() };
    let decided = tagged.decide(&nights).decisions;
    assert_eq!(words(&decided[3]), ["tag stable (keep_tags)"]);
    assert_eq!(tagged.gone(&nights).len() + 1, gone.len());
}
