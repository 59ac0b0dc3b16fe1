//! A writer of another host that is frozen at any step while a prune goes by.

use super::writer::{Outcome, Writer};
use super::*;
use crate::common::long::{in_time, long};

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_dir(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

/// Numbers that come again from the same seed.
fn roll(state: &mut u64, sides: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize % sides
}

/// A store with an orphan that is old enough to go, and a writer on another host who wants to refer to it.
struct Race {
    bench: Bench,
    template: BTreeMap<Key, Vec<u8>>,
    times: BTreeMap<Key, Timestamp>,
    trusted: backstay::keys::TrustList,
    other: Signer,
    x: Vec<u8>,
    begun: Timestamp,
}

impl Race {
    fn new() -> Self {
        let bench = Bench::after(4, 2);
        let x = b"an object of a run that was killed ten days ago".to_vec();
        let x_key = Key::Manifest(ObjectId::of(&x));
        bench.memory.put_bytes(&x_key, &x).unwrap();
        bench.memory.set_modified(&x_key, Some(bench.now() - SignedDuration::from_hours(10 * DAY)));
        let bytes = |key: Key| (key.clone(), bench.memory.get(&key, 1 << 20).unwrap());
        let template = bench.memory.keys().into_iter().map(bytes).collect();
        let times = [Prefix::Archives, Prefix::Manifests, Prefix::Records, Prefix::Marks]
            .into_iter()
            .flat_map(|prefix| bench.memory.list(prefix).unwrap())
            .filter_map(|listed| Some((listed.key, listed.modified?)))
            .collect();
        let other = Signer::generate().unwrap();
        let mut trusted = bench.session.trust.clone();
        let key = backstay::keys::TrustedKey::parse(&format!("{} other", other.public_text())).unwrap();
        trusted.add(key.with_roles([Role::Host]));
        let begun = bench.now();
        Self { bench, template, times, trusted, other, x, begun }
    }

    /// The store as it was, behind a wrapper, and a session of its own on it.
    fn copied(&self, state: &Path) -> (Session, Arc<MemoryStore>, Arc<FaultStore>) {
        let memory = Arc::new(MemoryStore::new("local"));
        for (key, bytes) in &self.template {
            memory.force(key, bytes);
            memory.set_modified(key, self.times.get(key).copied());
        }
        copy_dir(self.bench.session.state.as_ref().unwrap().dir(), state);
        let faults = Arc::new(FaultStore::new(Arc::clone(&memory) as Arc<dyn Store>));
        let mut session = self.bench.session.clone();
        session.store = Arc::clone(&faults) as Arc<dyn Store>;
        session.state = Some(State::open(state).unwrap());
        session.trust = self.trusted.clone();
        *self.bench.clock.0.lock().unwrap() = self.begun;
        (session, memory, faults)
    }

    /// A prune; one that is disturbed may give up. Then `hours` pass.
    fn prune(&self, session: &Session, memory: &MemoryStore, hours: i64) {
        let before: BTreeSet<Key> = memory.keys().into_iter().collect();
        let _given_up = prune(session, &PruneOptions::default());
        for key in memory.keys().iter().filter(|key| !before.contains(*key)) {
            memory.set_modified(key, Some(self.bench.now()));
        }
        self.bench.turn(hours);
    }

    /// The writer does its steps before these calls of the pruner, counted over two runs a day apart; later ones after both. Gives what became
    /// of it, whether the object is there in the end, and how many calls there were.
    fn trial(&self, steps: [usize; 3]) -> (Outcome, bool, usize) {
        let state = tempfile::tempdir().unwrap();
        let (session, memory, faults) = self.copied(state.path());
        let writer = Arc::new(Writer::new(&self.bench, self.other.clone(), &self.x));
        let progress = Arc::new(Mutex::new((0usize, Outcome::Begun)));
        let (hooked, seen, act) = (Arc::clone(&memory), Arc::clone(&progress), Arc::clone(&writer));
        faults.on_call(Arc::new(move |_: Verb, _: &str| {
            let mut now = seen.lock().unwrap();
            now.0 += 1;
            let call = now.0;
            for _ in steps.iter().filter(|step| **step == call) {
                now.1 = act.step(&hooked, now.1);
            }
        }));
        self.prune(&session, &memory, 25);
        self.prune(&session, &memory, 25);
        let calls = progress.lock().unwrap().0;
        for _ in steps.iter().filter(|step| **step > calls) {
            let mut now = progress.lock().unwrap();
            now.1 = writer.step(&memory, now.1);
        }
        let outcome = progress.lock().unwrap().1;
        self.prune(&session, &memory, 25);
        self.prune(&session, &memory, 25);
        let there = memory.head(&Key::Manifest(ObjectId::of(&self.x))).unwrap().is_some();
        (outcome, there, calls)
    }
}

/// Every step of a writer before any call of the pruner, over both of its runs a day apart: the writer is frozen between its steps for as long
/// as that takes. It never says that a snapshot is there which lacks an object.
#[test]
fn a_writer_that_is_frozen_at_any_step_never_loses_an_object_that_it_committed() {
    let race = Race::new();
    let (undisturbed, there, calls) = race.trial([usize::MAX; 3]);
    assert_eq!((undisturbed, there), (Outcome::Refused, false), "alone, prune takes the orphan away");
    let (trials, mut seed) = (if long() { 6000 } else { 120 }, 7);
    let mut outcomes: BTreeMap<(Outcome, bool), usize> = BTreeMap::new();
    for _ in in_time((0..trials).collect()) {
        let mut steps = [0; 3].map(|_: usize| 1 + roll(&mut seed, calls + 2));
        // Half of them look before anything is announced: those are the dangerous ones.
        if roll(&mut seed, 2) == 0 {
            steps[0] = 1;
        }
        steps.sort_unstable();
        let (outcome, there, _) = race.trial(steps);
        assert!(outcome != Outcome::Committed || there, "steps {steps:?}: committed, and its object is gone");
        *outcomes.entry((outcome, there)).or_default() += 1;
    }
    println!("{trials} interleavings: {outcomes:?}");
    // A test in which the dangerous things never happen would prove nothing.
    let seen = |outcome, there| outcomes.contains_key(&(outcome, there));
    assert!(seen(Outcome::Committed, true) && seen(Outcome::Void, false), "{outcomes:?}");
}
