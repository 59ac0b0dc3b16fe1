//! Retention against an oracle: the same rules said a second time, by their definitions and without any cleverness, with a calendar of its
//! own. Random timelines, all time zones, odd times, voids, marks by several parties.

use backstay::model::chain::{KnownSnapshot, KnownVoid, OnceGood, Trust, Untrusted};
use backstay::model::record::{CheckResult, ComponentLine, SnapshotKind};
use backstay::model::retention::{Held, Policy, Rule, Scene, decide};
use backstay::model::{HostId, ObjectId, Record, SignerId, SnapshotId, Timestamp, VaultId};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Numbers that look random and come again from the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize]
    }
}

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A timeline with all that a decision depends on.
struct Case {
    snapshots: Vec<KnownSnapshot>,
    stored: Vec<Option<Timestamp>>,
    policy: Policy,
    now: i64,
    others: bool,
}

fn store() -> VaultId {
    VaultId::from_random([1; 17])
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn zones() -> Vec<TimeZone> {
    let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    names.iter().filter_map(|name| TimeZone::get(name).ok()).collect()
}

fn record(number: u64, kind: SnapshotKind, started: i64, finished: i64) -> Record {
    let mut random = [0; 5];
    random.copy_from_slice(&number.to_be_bytes()[3..]);
    Record {
        format: 1,
        needs: Vec::new(),
        doc: "record".into(),
        vault: store(),
        snapshot: SnapshotId::new(at(started), random),
        kind,
        host: HostId([1; 16]),
        signer: SignerId([1; 16]),
        number,
        previous: None,
        started: at(started),
        finished: at(finished),
        complete: true,
        alone: true,
        components: Vec::new(),
        recipients: Vec::new(),
        objects: Vec::new(),
        index: None,
        run: None,
        tags: Vec::new(),
        milestone: false,
        agent: "test".into(),
    }
}

fn known(record: Record) -> KnownSnapshot {
    KnownSnapshot {
        hash: ObjectId::of(record.snapshot.as_str().as_bytes()),
        record: Arc::new(record),
        trusted: Trust::Trusted,
        void: None,
        voids: Vec::new(),
        tags: BTreeSet::new(),
        held_tags: BTreeSet::new(),
        note_sealed: None,
        milestone: false,
        delete_asked: false,
        accepted: BTreeMap::new(),
        verdicts: Vec::new(),
        good_in: BTreeSet::new(),
        good_by_others_in: BTreeSet::new(),
        sound_by_others_in: BTreeSet::new(),
        once_good: OnceGood::default(),
        good: false,
    }
}

fn set(on: bool) -> BTreeSet<VaultId> {
    on.then(store).into_iter().collect()
}

fn random_rule(dice: &mut Dice) -> Rule {
    let within = [HOUR, 5 * HOUR, DAY, 7 * DAY, 30 * DAY, 400 * DAY];
    Rule {
        count: dice.one_in(3).then(|| dice.roll(5)),
        within: dice.one_in(3).then(|| SignedDuration::from_secs(dice.pick(&within))),
    }
}

fn random_policy(dice: &mut Dice, zone: TimeZone) -> Policy {
    let mut policy = Policy::bare(zone);
    policy.min_keep = dice.roll(5);
    policy.keep_last = dice.one_in(3).then(|| dice.roll(6));
    policy.keep_within =
        dice.one_in(2).then(|| SignedDuration::from_secs(dice.pick(&[0, DAY, 7 * DAY, 60 * DAY])));
    for period in &mut policy.periods {
        *period = if dice.one_in(3) { random_rule(dice) } else { Rule::default() };
    }
    policy.keep_tags = dice.one_in(3).then(|| "stable".to_owned()).into_iter().collect();
    policy
}

fn random_snapshot(
    dice: &mut Dice,
    number: u64,
    started: i64,
    ids: &[SnapshotId],
    wild: bool,
) -> KnownSnapshot {
    let often = |dice: &mut Dice, sides: u64| wild && dice.one_in(sides);
    let kind = match dice.roll(14) {
        0 if wild => SnapshotKind::Safety,
        1 if wild => SnapshotKind::Partial,
        _ => SnapshotKind::Normal,
    };
    let finished = started + dice.pick(&[0, 5, 600, 3 * HOUR]) - if often(dice, 60) { 4 * HOUR } else { 0 };
    let mut record = record(number, kind, started, finished);
    if kind == SnapshotKind::Partial {
        let other = ids.get(dice.roll(ids.len() as u64 + 1) as usize);
        record.run = Some(other.cloned().unwrap_or_else(|| SnapshotId::new(at(started + 1), [9; 5])));
    }
    for component in 1..=3 {
        if dice.one_in(4) {
            continue;
        }
        record.components.push(ComponentLine {
            number: component,
            size: dice.pick(&[100, 100, 100, 100, 90, 90, 90, 60, 60, 20]),
            entries: if dice.one_in(12) { 4 } else { 10 },
            complete: !dice.one_in(10),
            check: if dice.one_in(25) { CheckResult::Failed } else { CheckResult::Passed },
            setup: dice.pick(&["a", "a", "a", "a", "b"]).into(),
        });
    }
    let mut known = known(record);
    let good = dice.roll(8);
    known.good_in = set(good > 0);
    known.good_by_others_in = set(good > 1);
    known.sound_by_others_in = set(good > 2 || (good > 0 && dice.one_in(2)));
    // What was good and is no more, because nobody looked lately: in a third of the cases.
    let once = |dice: &mut Dice, now: &BTreeSet<VaultId>| set(!now.is_empty() || dice.one_in(3));
    known.once_good.by_all = once(dice, &known.good_in);
    known.once_good.by_others = once(dice, &known.good_by_others_in);
    known.once_good.sound_by_others = once(dice, &known.sound_by_others_in);
    known.milestone = often(dice, 15);
    known.delete_asked = often(dice, 12);
    if often(dice, 10) {
        known.held_tags.insert(dice.pick(&["stable", "other"]).into());
    }
    if often(dice, 15) {
        known.trusted = Trust::Untrusted(Untrusted::UnknownKey);
    }
    if often(dice, 12) {
        let instance = dice.pick(&[0, 1, 2]);
        let instance = [None, Some(store()), Some(VaultId::from_random([2; 17]))][instance].clone();
        known.voids.push(KnownVoid { instance, reason: "lost".into(), prompt: dice.one_in(2) });
    }
    for component in 1..=3 {
        if often(dice, 20) {
            let later = dice.pick(&[0, HOUR, 3 * DAY, 30 * DAY, 400 * DAY]);
            known.accepted.insert(component, at(started + later));
        }
    }
    known
}

fn random_case(seed: u64, zones: &[TimeZone]) -> Case {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for _ in 0..4 {
        dice.roll(2);
    }
    let zone = zones[dice.roll(zones.len() as u64) as usize].clone();
    let policy = random_policy(&mut dice, zone);
    let wild = !dice.one_in(3);
    let step = dice.pick(&[120, HOUR, 6 * HOUR, DAY, DAY, 7 * DAY]);
    let mut time = 1_420_000_000 + dice.roll(26 * 365) as i64 * DAY + dice.roll(86_400) as i64;
    let (mut snapshots, mut stored, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=dice.roll(36) {
        time += step / 2 + dice.roll(step as u64) as i64;
        if dice.one_in(15) {
            time += dice.roll(20) as i64 * step;
        }
        let skew = if wild && dice.one_in(15) {
            dice.pick(&[-400 * DAY, -2 * HOUR, -60, 2 * HOUR, 300 * DAY])
        } else {
            0
        };
        let snapshot = random_snapshot(&mut dice, number, time + skew, &ids, wild);
        ids.push(snapshot.record.snapshot.clone());
        let put = snapshot.record.finished.as_second()
            + if wild && dice.one_in(8) { dice.pick(&[-40 * DAY, -HOUR, -1800, DAY, 90 * DAY]) } else { 1 };
        stored.push((!dice.one_in(6)).then(|| at(put)));
        snapshots.push(snapshot);
    }
    // Untrusted ones come last, as a history has them.
    let (trusted, untrusted): (Vec<_>, Vec<_>) =
        snapshots.into_iter().zip(stored).partition(|(s, _)| s.trusted == Trust::Trusted);
    let (snapshots, stored) = trusted.into_iter().chain(untrusted).unzip();
    let now = time + dice.pick(&[0, 60, DAY, 3 * DAY, 40 * DAY]);
    Case { snapshots, stored, policy, now, others: dice.one_in(2) }
}

// --- the oracle -------------------------------------------------------------------------------------------------------------------------

/// Year, month, day, weekday (Monday is 0) and day of the year of a count of days since 1970.
fn civil(days: i64) -> (i64, i64, i64, i64, i64) {
    let leap = |y: i64| (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    let (mut year, mut rest) = (1970, days);
    while rest < 0 {
        year -= 1;
        rest += if leap(year) { 366 } else { 365 };
    }
    while rest >= if leap(year) { 366 } else { 365 } {
        rest -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let of_year = rest;
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    // The first of January 1970 was a Thursday.
    (year, month as i64 + 1, rest + 1, (days + 3).rem_euclid(7), of_year)
}

/// Period `which` (0 hour … 4 year) that a second lies in: by the zone's offset and the calendar above.
fn period(which: usize, time: Timestamp, zone: &TimeZone) -> (i64, i64, i64) {
    let offset = i64::from(zone.to_offset(time).seconds());
    let local = time.as_second() - if time.subsec_nanosecond() < 0 { 1 } else { 0 } + offset;
    let days = local.div_euclid(DAY);
    let (year, month, _, weekday, _) = civil(days);
    match which {
        0 => (days, local.rem_euclid(DAY) / HOUR, offset),
        1 => (days, 0, 0),
        // Weeks are told apart by their Monday.
        2 => (days - weekday, 0, 0),
        3 => (year, month, 0),
        _ => (year, 0, 0),
    }
}

/// Which snapshots are good now, and which were at some time.
type Views<'v> = (&'v dyn Fn(usize) -> bool, &'v dyn Fn(usize) -> bool);

struct Oracle<'a> {
    case: &'a Case,
    times: Vec<Option<i64>>,
    /// By length and snapshot.
    periods: Vec<Vec<(i64, i64, i64)>>,
}

impl Oracle<'_> {
    fn of(case: &Case) -> Oracle<'_> {
        let mut times: Vec<Option<i64>> = Vec::new();
        for (i, s) in case.snapshots.iter().enumerate() {
            let (started, finished) = (s.record.started.as_second(), s.record.finished.as_second());
            let put = case.stored[i].map(Timestamp::as_second);
            let impossible = finished < started
                || finished > case.now + HOUR
                || put.is_some_and(|put| finished > put + HOUR);
            let backwards = (0..i).any(|j| {
                let earlier = &case.snapshots[j];
                times[j].is_some()
                    && earlier.trusted == Trust::Trusted
                    && earlier.record.started > s.record.started
            });
            let odd = impossible || (s.trusted == Trust::Trusted && backwards);
            times.push((!odd).then(|| put.map_or(started, |put| put.min(started))));
        }
        let key = |which, time: &Option<i64>| period(which, at(time.unwrap_or(0)), &case.policy.zone);
        let periods = (0..5).map(|which| times.iter().map(|time| key(which, time)).collect()).collect();
        Oracle { case, times, periods }
    }

    fn void(&self, i: usize) -> Option<bool> {
        let here = |v: &&KnownVoid| v.instance.is_none() || v.instance == Some(store());
        let voids: Vec<bool> = self.case.snapshots[i].voids.iter().filter(here).map(|v| v.prompt).collect();
        (!voids.is_empty()).then(|| voids.contains(&true))
    }

    fn usable(&self, i: usize) -> bool {
        let s = &self.case.snapshots[i];
        s.trusted == Trust::Trusted
            && s.record.kind == SnapshotKind::Normal
            && self.void(i).is_none()
            && self.times[i].is_some()
    }

    fn line(&self, i: usize, c: u64) -> Option<&ComponentLine> {
        self.case.snapshots[i].record.components.iter().find(|line| line.number == c)
    }

    fn all(&self) -> std::ops::Range<usize> {
        0..self.case.snapshots.len()
    }

    /// Usable snapshots that hold the component.
    fn holding(&self, c: u64) -> Vec<usize> {
        self.all().filter(|i| self.usable(*i) && self.line(*i, c).is_some()).collect()
    }

    fn time(&self, i: usize) -> i64 {
        self.times[i].unwrap()
    }

    fn accepted_from(&self, c: u64, from: usize) -> bool {
        self.holding(c).into_iter().any(|i| i >= from && self.case.snapshots[i].accepted.contains_key(&c))
    }

    /// Whether somebody accepted the last good snapshot, or one after it, when there was a gap to accept.
    fn gap_accepted(&self, c: u64, last: usize, begins: i64) -> bool {
        self.holding(c).into_iter().filter(|i| *i >= last).any(|i| {
            let said = self.case.snapshots[i].accepted.get(&c);
            said.is_some_and(|said| said.as_second() > begins)
        })
    }

    /// Three times the median of the last 20 distances, at least two days.
    fn usual(&self, goods: &[usize]) -> i64 {
        let mut distances: Vec<i64> =
            (1..goods.len()).map(|n| self.time(goods[n]) - self.time(goods[n - 1])).collect();
        distances = distances[distances.len().saturating_sub(20)..].to_vec();
        distances.sort_unstable();
        let median = if distances.is_empty() { 0 } else { distances[(distances.len() - 1) / 2] };
        (3 * median).max(2 * DAY)
    }

    /// The open gap's last good snapshot and from when on one may accept it, else the first good one after the last closed gap.
    fn gap(&self, c: u64, once: &dyn Fn(usize) -> bool) -> Option<(Option<i64>, usize)> {
        let goods: Vec<usize> = self.holding(c).into_iter().filter(|i| once(*i)).collect();
        let last = *goods.last()?;
        let most = self.usual(&goods);
        if self.case.now - self.time(last) > most {
            // Whatever is pruned meanwhile, the newest `min_keep` of those that nobody asked to go are still there.
            let asked = |i: &usize| self.case.snapshots[*i].delete_asked && *i != last;
            let mut stay: Vec<usize> = goods.iter().copied().filter(|i| !asked(i)).collect();
            while stay.len() as u64 > self.case.policy.min_keep {
                stay.remove(0);
            }
            let begins = self.time(last) + most.min(self.usual(&stay));
            return Some((Some(begins), last));
        }
        let closed = |n: &usize| self.time(goods[*n]) - self.time(goods[*n - 1]) > most;
        (1..goods.len()).filter(closed).max().map(|n| (None, goods[n]))
    }

    /// What looks wrong is judged by what was good once, now or long ago.
    fn frozen(&self, c: u64, good: &dyn Fn(usize) -> bool) -> bool {
        let holding = self.holding(c);
        let good_from = |from: usize| holding.iter().filter(|i| **i >= from && good(**i)).count();
        let gap = match self.gap(c, good) {
            Some((Some(begins), last)) => !self.gap_accepted(c, last, begins),
            Some((None, first)) => !self.accepted_from(c, first) && good_from(first) < 3,
            None => false,
        };
        let failed = holding.iter().rev().find(|i| self.line(**i, c).unwrap().check == CheckResult::Failed);
        let failed = failed.is_some_and(|i| !self.accepted_from(c, *i) && good_from(*i + 1) < 3);
        let shrunk = holding.iter().rev().find(|i| {
            let now = self.line(**i, c).unwrap();
            let complete_good = |j: &&usize| *j < *i && good(**j) && self.line(**j, c).unwrap().complete;
            let before = holding.iter().rev().find(complete_good).map(|j| self.line(*j, c).unwrap());
            now.complete
                && before.is_some_and(|b| {
                    b.setup == now.setup && (b.size > 2 * now.size || b.entries > 2 * now.entries)
                })
        });
        let shrunk = shrunk.is_some_and(|i| !self.accepted_from(c, *i) && good_from(*i) < 3);
        gap || failed || shrunk
    }

    /// Whether the component needs the snapshot, which it does not when somebody asked for it to go and it is not the last.
    fn needs(&self, c: u64, i: usize, (good, once): Views<'_>) -> bool {
        let (case, policy) = (self.case, &self.case.policy);
        let holding = self.holding(c);
        let gap_accepted = match self.gap(c, once) {
            Some((Some(begins), last)) => self.gap_accepted(c, last, begins),
            _ => false,
        };
        let last_good = holding.iter().rev().find(|j| good(**j)).or(holding.last()).copied();
        let asked = |j: usize| case.snapshots[j].delete_asked;
        let protected = |j: usize| Some(j) == last_good && !(asked(j) && gap_accepted);
        if asked(i) {
            return protected(i);
        }
        let staying: Vec<usize> = holding.into_iter().filter(|j| !asked(*j) || protected(*j)).collect();
        let goods: Vec<usize> = staying.iter().copied().filter(|j| good(*j)).collect();
        let Some(newest) = goods.last().copied() else { return true };
        let good_after = goods.iter().filter(|j| **j > i).count() as u64;
        let anchor = if gap_accepted { case.now } else { self.time(newest).min(case.now) };
        let young =
            |within: Option<SignedDuration>| within.is_some_and(|w| self.time(i) >= anchor - w.as_secs());
        self.frozen(c, once)
            || i >= newest
            || good_after < policy.min_keep
            || policy.keep_last.is_some_and(|n| good_after < n)
            || young(policy.keep_within)
            || (0..5).any(|which| {
                let rule = policy.periods[which];
                let key = |j: usize| self.periods[which][j];
                let mine: Vec<usize> = staying.iter().copied().filter(|j| key(*j) == key(i)).collect();
                let first = mine.iter().find(|j| good(**j)).or(mine.first());
                if rule == Rule::default() || first != Some(&i) {
                    return false;
                }
                let newest = |k| staying.iter().rposition(|j| key(*j) == k);
                let newer: BTreeSet<_> =
                    goods.iter().map(|j| key(*j)).filter(|k| newest(*k) > newest(key(i))).collect();
                rule.count.is_some_and(|n| (newer.len() as u64) < n) || young(rule.within)
            })
    }

    fn keeps(&self, i: usize) -> bool {
        let (case, s) = (self.case, &self.case.snapshots[i]);
        let strict = |i: usize| match case.others {
            false => case.snapshots[i].good_in.contains(&store()),
            true => case.snapshots[i].good_by_others_in.contains(&store()),
        };
        let lax = |i: usize| match case.others {
            false => strict(i),
            true => case.snapshots[i].sound_by_others_in.contains(&store()),
        };
        let strict_once = |i: usize| match case.others {
            false => case.snapshots[i].once_good.by_all.contains(&store()),
            true => case.snapshots[i].once_good.by_others.contains(&store()),
        };
        let lax_once = |i: usize| match case.others {
            false => strict_once(i),
            true => case.snapshots[i].once_good.sound_by_others.contains(&store()),
        };
        let views: [Views<'_>; 2] = [(&strict, &strict_once), (&lax, &lax_once)];
        if s.trusted != Trust::Trusted || s.milestone {
            return true;
        }
        if let Some(prompt) = self.void(i) {
            return !prompt && !s.delete_asked;
        }
        let Some(time) = self.times[i] else { return !s.delete_asked };
        let components: Vec<u64> = s.record.components.iter().map(|line| line.number).collect();
        match s.record.kind {
            SnapshotKind::Partial => {
                let ended = self.all().any(|j| {
                    let other = &case.snapshots[j];
                    other.trusted == Trust::Trusted && Some(&other.record.snapshot) == s.record.run.as_ref()
                });
                !ended && time >= case.now - 7 * DAY
            }
            SnapshotKind::Safety => {
                let needed = |(good, once): &Views<'_>| {
                    let later = self.all().any(|j| j > i && self.usable(j) && good(j));
                    !later || components.iter().any(|c| self.frozen(*c, *once))
                };
                !s.delete_asked && (time >= case.now - 7 * DAY || views.iter().any(needed))
            }
            SnapshotKind::Normal => {
                let tagged =
                    !s.delete_asked && s.held_tags.iter().any(|tag| case.policy.keep_tags.contains(tag));
                components.is_empty()
                    || tagged
                    || views.iter().any(|view| components.iter().any(|c| self.needs(*c, i, *view)))
            }
        }
    }
}

// --- the comparison ---------------------------------------------------------------------------------------------------------------------

fn decided(case: &Case) -> Vec<bool> {
    let held: Vec<Held<'_>> = case
        .snapshots
        .iter()
        .zip(&case.stored)
        .map(|(known, stored)| Held { known, stored: *stored })
        .collect();
    let scene = Scene { policy: &case.policy, instance: &store(), now: at(case.now), others: case.others };
    let verdicts = decide(&held, &scene);
    assert!(verdicts.decisions.iter().all(|d| !d.because.is_empty()), "a decision without a reason");
    verdicts.decisions.iter().map(|d| d.keep).collect()
}

fn compare(seed: u64, zones: &[TimeZone]) -> (usize, usize) {
    let case = random_case(seed, zones);
    let oracle = Oracle::of(&case);
    let kept = decided(&case);
    for (i, keep) in kept.iter().enumerate() {
        let s = &case.snapshots[i];
        assert_eq!(
            *keep,
            oracle.keeps(i),
            "seed {seed}: snapshot {i} of {}: {:?}\n{s:#?}\n{:?}",
            kept.len(),
            oracle.times,
            case.policy
        );
    }
    (kept.iter().filter(|k| **k).count(), kept.iter().filter(|k| !**k).count())
}

/// Compares the random timelines of so many seeds, over all zones there are, in two threads; gives how many snapshots were kept and how many went.
pub(crate) fn compare_all(seeds: std::ops::Range<u64>) -> (usize, usize) {
    let zones = zones();
    assert!(zones.len() >= 400, "{} time zones are here", zones.len());
    let half = |from: u64| {
        let (mut kept, mut gone) = (0, 0);
        for seed in (seeds.start + from..seeds.end).step_by(2) {
            let (k, g) = compare(seed, &zones);
            (kept, gone) = (kept + k, gone + g);
        }
        (kept, gone)
    };
    let (a, b) = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        (half(0), other.join().unwrap())
    });
    (a.0 + b.0, a.1 + b.1)
}

/// A million of them take 20 minutes of one core as tests are compiled, and are quicker so:
/// `cargo run --config profile.dev.opt-level=2 --all-features --example retention_oracle`.
#[test]
fn retention_decides_as_the_oracle_does_on_random_timelines() {
    let (turn, turns) = (20_000, if crate::common::long::long() { 50 } else { 1 });
    let (mut kept, mut gone, mut cases) = (0, 0, 0);
    for first in crate::common::long::in_time((0..turns).collect()) {
        let (k, g) = compare_all(first * turn..(first + 1) * turn);
        (kept, gone, cases) = (kept + k, gone + g, cases + turn);
    }
    println!("{cases} timelines: {kept} kept, {gone} gone");
    // A comparison in which nothing ever goes would prove nothing.
    assert!(gone as u64 > cases && kept as u64 > cases, "{kept} kept, {gone} gone");
}

/// A snapshot every hour over days at which clocks change or years and weeks end, in every zone there is.
#[test]
fn four_hundred_time_zones_give_the_same_periods_as_the_oracle() {
    let zones = zones();
    assert!(zones.len() >= 400, "{} time zones are here", zones.len());
    for (n, zone) in zones.iter().enumerate() {
        // The turn of each year from 2015 to 2040, and a spring and an autumn night, one year for each zone.
        let year = 2015 + n as i64 % 26;
        let begin = (year - 1970) * 365 * DAY + (year - 1969) / 4 * DAY;
        let start = begin + [-4, 66, 82, 295, 302][n % 5] * DAY;
        let mut case = Case {
            snapshots: Vec::new(),
            stored: Vec::new(),
            policy: Policy::bare(zone.clone()),
            now: 0,
            others: false,
        };
        for i in 0..(10 * 24) {
            let mut one =
                record(i + 1, SnapshotKind::Normal, start + i as i64 * HOUR, start + i as i64 * HOUR);
            let (complete, check, setup) = (true, CheckResult::Passed, String::new());
            one.components = vec![ComponentLine { number: 1, size: 1, entries: 1, complete, check, setup }];
            let mut one = known(one);
            (one.good_in, one.once_good.by_all) = (set(true), set(true));
            case.snapshots.push(one);
            case.stored.push(None);
            case.now = start + i as i64 * HOUR;
        }
        for which in 0..5 {
            let mut policy = Policy::bare(zone.clone());
            policy.periods[which] = Rule { count: Some(30), within: None };
            case.policy = policy;
            let firsts: BTreeMap<_, _> = case
                .snapshots
                .iter()
                .rev()
                .map(|s| (period(which, s.record.started, zone), s.record.number))
                .collect();
            let mut expected: Vec<u64> = firsts.values().copied().collect();
            expected.sort_unstable();
            let expected: BTreeSet<u64> = expected.into_iter().rev().take(30).chain([240]).collect();
            let kept: BTreeSet<u64> = (1..).zip(decided(&case)).filter(|(_, k)| *k).map(|(n, _)| n).collect();
            assert_eq!(kept, expected, "{zone:?}, period {which}");
        }
    }
}
