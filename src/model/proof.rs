//! Which snapshots are good: what counting verdicts prove, for how long, and what ends it.

use crate::model::chain::{History, KnownSnapshot, KnownVerdict, Reader};
use crate::model::id::{HostId, ObjectId, VaultId};
use crate::model::mark::{Level, Verdict};
use crate::model::record::{CheckResult, Record, SnapshotKind};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// A verdict's place in their order, and a time: when a proof began, or when a bad word was signed.
type Word = (usize, Timestamp);

/// What verdicts said of one object.
#[derive(Default)]
struct Said {
    /// The last that found it bad, whoever that was.
    bad: Option<Word>,
    /// The last verifier that found it bad.
    bad_by_others: Option<Word>,
    /// The host's last proof, and when it began.
    own: Option<Word>,
    /// A verifier's last proof.
    other: Option<Word>,
    /// The same when the host's words count for nothing, neither good nor bad.
    other_alone: Option<Word>,
}

/// Whose words count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Words {
    /// The host's and the verifiers'.
    All,
    /// Proofs of verifiers alone; what anybody found bad.
    OthersProofs,
    /// Nothing that the host says.
    OthersAlone,
}

/// True when no bad word ends `proof`: it comes later, and began no sooner than that was signed.
///
/// One that began before may have read the object while it was whole, or was carried over and read nothing. When the bad word was signed counts, and
/// not when its reading began: only by then is certain that it was seen, and that time cannot be put where no proof ever reaches it.
fn holds(proof: Word, bad: Option<Word>) -> bool {
    bad.is_none_or(|(place, signed)| proof.0 > place && proof.1 >= signed)
}

impl Said {
    /// When the youngest proof began that nobody took back later.
    fn proved(&self, words: Words) -> Option<Timestamp> {
        let (own, other, bad) = match words {
            Words::All => (self.own, self.other, self.bad),
            Words::OthersProofs => (None, self.other, self.bad),
            Words::OthersAlone => (None, self.other_alone, self.bad_by_others),
        };
        let proofs = own.into_iter().chain(other);
        proofs.filter(|proof| holds(*proof, bad)).map(|(_, began)| began).max()
    }

    /// A proof at `place` that began at `began`. Any proof counts: one that is carried over from older ones ends no younger one.
    fn prove(&mut self, own: bool, place: usize, began: Timestamp) {
        let later = |proof: Option<Word>, bad: Option<Word>| {
            let younger = proof.filter(|proof| holds(*proof, bad)).map(|(_, began)| began);
            Some((place, younger.map_or(began, |younger| younger.max(began))))
        };
        if own {
            self.own = later(self.own, self.bad);
        } else {
            self.other = later(self.other, self.bad);
            self.other_alone = later(self.other_alone, self.bad_by_others);
        }
    }
}

/// What is known of the objects of a host in a store.
type Objects = HashMap<ObjectId, Said>;

/// Fills in where each snapshot is good. Marks must have been applied before.
pub(crate) fn judge(snapshots: &mut [KnownSnapshot], reader: &Reader) {
    let objects = objects(snapshots);
    let since = reader.now.saturating_sub(reader.reverify).unwrap_or(Timestamp::MIN);
    for snapshot in snapshots.iter_mut() {
        if !may_be_good(snapshot) {
            continue;
        }
        for instance in &reader.instances {
            let Some(known) = objects.get(&(snapshot.record.host, instance.clone())) else {
                continue;
            };
            for words in [Words::All, Words::OthersProofs, Words::OthersAlone] {
                let Some(proved) = good_since(snapshot, instance, known, words) else { continue };
                let once = &mut snapshot.once_good;
                let (now, once) = match words {
                    Words::All => (&mut snapshot.good_in, &mut once.by_all),
                    Words::OthersProofs => (&mut snapshot.good_by_others_in, &mut once.by_others),
                    Words::OthersAlone => (&mut snapshot.sound_by_others_in, &mut once.sound_by_others),
                };
                once.insert(instance.clone());
                if proved >= since {
                    now.insert(instance.clone());
                }
            }
        }
        snapshot.good = !snapshot.good_in.is_empty();
    }
}

fn may_be_good(snapshot: &KnownSnapshot) -> bool {
    let record = &snapshot.record;
    let checks = record.components.iter().all(|c| c.check != CheckResult::Failed);
    snapshot.is_usable() && record.kind != SnapshotKind::Partial && record.complete && checks
}

/// All verdicts in the order that counts, each with its snapshot.
fn in_order(snapshots: &[KnownSnapshot]) -> Vec<(&KnownSnapshot, &KnownVerdict)> {
    let mut verdicts: Vec<(&KnownSnapshot, &KnownVerdict)> =
        snapshots.iter().flat_map(|s| s.verdicts.iter().map(move |v| (s, v))).collect();
    verdicts.sort_by_key(|(_, v)| (v.time, v.signer, v.number));
    verdicts
}

/// A proof reaches the objects of the same host only: what one host claims of its records must not touch another's.
fn objects(snapshots: &[KnownSnapshot]) -> BTreeMap<(HostId, VaultId), Objects> {
    let mut objects: BTreeMap<(HostId, VaultId), Objects> = BTreeMap::new();
    for (place, (snapshot, known)) in in_order(snapshots).into_iter().enumerate() {
        let said = objects.entry((snapshot.record.host, known.verdict.instance.clone())).or_default();
        if proves(known.verdict.level) {
            let began = known.verdict.began.min(known.time);
            for id in covered(&snapshot.record, &known.verdict) {
                said.entry(id).or_default().prove(known.own, place, began);
            }
        }
        for id in &known.verdict.bad {
            let object = said.entry(*id).or_default();
            object.bad = Some((place, known.time));
            if !known.own {
                object.bad_by_others = object.bad;
            }
        }
    }
    objects
}

/// What counting verdicts say of one object in one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// It was found missing or damaged, and nobody proved it since.
    pub bad: bool,
    /// When the last proof that still holds began; `None` when there is none.
    pub proved: Option<Timestamp>,
    /// When it was last said to be bad, also where a proof took that back: who speaks of that proof again must not call it older.
    pub said_bad: Option<Timestamp>,
}

impl Said {
    fn standing(&self) -> Standing {
        let proofs = self.own.into_iter().chain(self.other);
        let proved = proofs.filter(|proof| holds(*proof, self.bad)).map(|(_, began)| began).max();
        let said_bad = self.bad.map(|(_, signed)| signed);
        Standing { bad: said_bad.is_some() && proved.is_none(), proved, said_bad }
    }
}

impl History {
    /// What counting verdicts say of the objects of `host` in the store `instance`. Objects that none names are not listed.
    pub fn standing(&self, host: &HostId, instance: &VaultId) -> HashMap<ObjectId, Standing> {
        let snapshots = self.hosts.get(host).map_or(&[][..], Vec::as_slice);
        let mut known = objects(snapshots);
        let said = known.remove(&(*host, instance.clone())).unwrap_or_default();
        said.into_iter().map(|(id, said)| (id, said.standing())).collect()
    }

    /// Which objects of `host` verdicts found bad in the store `instance`, and of which snapshots they said it.
    pub fn found_bad(&self, host: &HostId, instance: &VaultId) -> FoundBad {
        let snapshots = self.hosts.get(host).map_or(&[][..], Vec::as_slice);
        let mut found = FoundBad::default();
        let verdicts = in_order(snapshots).into_iter();
        for (snapshot, known) in
            verdicts.filter(|(s, v)| s.record.host == *host && v.verdict.instance == *instance)
        {
            found.learn(&snapshot.record, snapshot.hash, &known.verdict, known.time);
        }
        found
    }
}

/// Objects that were found bad in a store and that nobody proved since, each with the records that it was said of: said of one snapshot it
/// need not be said of that one again, but of others, because a verdict goes with the snapshot that it is about.
#[derive(Debug, Default)]
pub struct FoundBad(HashMap<ObjectId, BadOf>);

/// Where an object was found bad.
#[derive(Debug)]
struct BadOf {
    /// When that was said last.
    signed: Timestamp,
    records: HashSet<ObjectId>,
}

impl FoundBad {
    /// True when a verdict on the snapshot of `record` says so of `object`, and no proof on any snapshot took that back.
    pub fn says(&self, object: &ObjectId, record: &ObjectId) -> bool {
        self.0.get(object).is_some_and(|said| said.records.contains(record))
    }

    /// Takes up a verdict that is later than all before it, signed at `time`, and about `record` with that `hash`.
    pub fn learn(&mut self, record: &Record, hash: ObjectId, verdict: &Verdict, time: Timestamp) {
        if proves(verdict.level) {
            let began = verdict.began.min(time);
            for id in covered(record, verdict) {
                // As in `holds`: what began before the bad word does not take it back.
                if self.0.get(&id).is_some_and(|said| began >= said.signed) {
                    self.0.remove(&id);
                }
            }
        }
        for id in &verdict.bad {
            let said = self.0.entry(*id).or_insert_with(|| BadOf { signed: time, records: HashSet::new() });
            said.signed = said.signed.max(time);
            said.records.insert(hash);
        }
    }
}

/// To be there is no proof; to have been taken by a server that compares the hash is one.
fn proves(level: Level) -> bool {
    level != Level::Presence
}

fn covered<'a>(record: &'a Record, verdict: &'a Verdict) -> impl Iterator<Item = ObjectId> + 'a {
    let objects = &record.objects;
    merged(&verdict.covered, objects.len()).into_iter().flatten().map(|place| objects[place].id)
}

/// The places that `rows` name, each once, below `end`: whoever signs the same row a million times must not make readers go through it as often.
fn merged(rows: &[(u64, u64)], end: usize) -> Vec<Range<usize>> {
    let place = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(end);
    let mut ranges: Vec<Range<usize>> =
        rows.iter().map(|(from, to)| place(*from)..place(*to)).filter(|range| !range.is_empty()).collect();
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// When the oldest of the proofs began by which it is good, one for each of its objects; `None` where one lacks a proof, or something stands against the snapshot.
fn good_since(
    snapshot: &KnownSnapshot,
    instance: &VaultId,
    known: &Objects,
    words: Words,
) -> Option<Timestamp> {
    let mut objects = snapshot.record.objects.iter();
    let oldest = objects.try_fold(Timestamp::MAX, |oldest, object| {
        let began = known.get(&object.id)?.proved(words)?;
        Some(began.min(oldest))
    })?;
    passes(snapshot, instance, words).then_some(oldest)
}

/// No verdict about this snapshot itself stands against it: a failed check, or a failure that names no object (a drill that did not end
/// well) and that no later verdict at least as deep has taken back.
fn passes(snapshot: &KnownSnapshot, instance: &VaultId, words: Words) -> bool {
    let counts = |known: &&KnownVerdict| words != Words::OthersAlone || !known.own;
    let counting = || snapshot.verdicts.iter().filter(counts);
    let here = || counting().map(|known| &known.verdict).filter(|v| v.instance == *instance);
    let mut checks: BTreeMap<u64, CheckResult> = BTreeMap::new();
    checks.extend(here().flat_map(|v| v.checks.iter().copied()));
    let mut failed = here().enumerate().filter(|(_, v)| !v.good && v.bad.is_empty());
    let taken_back =
        |(place, bad): (usize, &Verdict)| here().skip(place + 1).any(|v| v.good && v.level >= bad.level);
    checks.values().all(|check| *check != CheckResult::Failed) && failed.all(taken_back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_say_the_same_are_gone_through_once() {
        assert_eq!(merged(&[(5, 9), (0, 2), (2, 3), (6, 7), (4, 4), (9, 1)], 8), [0..3, 5..8]);
        let one = |range| std::iter::once(range).collect::<Vec<Range<_>>>();
        assert_eq!(merged(&[(u64::MAX, u64::MAX), (3, u64::MAX)], 10), one(3..10));
        let rows = vec![(0, 10_000); 1_000_000];
        assert_eq!(merged(&rows, 10_000), one(0..10_000));
        assert!(merged(&rows, 0).is_empty());
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    #[test]
    fn a_proof_that_began_before_the_bad_word_takes_nothing_back() {
        for own in [true, false] {
            let mut said = Said::default();
            said.prove(own, 0, at(1));
            assert_eq!(said.standing(), Standing { bad: false, proved: Some(at(1)), said_bad: None });
            (said.bad, said.bad_by_others) = (Some((1, at(10))), Some((1, at(10))));
            // Carried over from before, by a run that did not know of it; then read while that was found out.
            for (place, began) in [(2, at(1)), (3, at(9))] {
                said.prove(own, place, began);
                assert_eq!(said.standing(), Standing { bad: true, proved: None, said_bad: Some(at(10)) });
                assert_eq!((said.proved(Words::All), said.proved(Words::OthersAlone)), (None, None));
            }
            said.prove(own, 4, at(10));
            // And what is carried over after that ends nothing.
            said.prove(own, 5, at(1));
            assert_eq!(
                said.standing(),
                Standing { bad: false, proved: Some(at(10)), said_bad: Some(at(10)) }
            );
            assert_eq!(said.proved(Words::All), Some(at(10)));
            assert_eq!(said.proved(Words::OthersAlone), Some(at(10)).filter(|_| !own));
        }
    }

    #[test]
    fn presence_alone_is_no_proof() {
        let proving = [Level::Put, Level::Presence, Level::Read, Level::Decrypt, Level::Drill].map(proves);
        assert_eq!(proving, [true, false, true, true, true]);
    }
}
