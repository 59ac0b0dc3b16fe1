//! Prune: what retention lets go is announced and later deleted, and no live object is ever lost: not to a writer that was frozen, not to a
//! listing that lies, not to a kill at any step.

mod doubts;

use backstay::catalog::State;
use backstay::config::{Config, Retention};
use backstay::keys::{Signer, seal_document};
use backstay::model::document::namespace;
use backstay::model::mark::{Mark, Role, Statement, Target};
use backstay::model::record::{CheckResult, ComponentLine, SnapshotKind};
use backstay::model::{
    Clock, HostId, ObjectId, ObjectKind, ObjectRef, Record, SilentProgress, SnapshotId, SystemClock,
    Timestamp,
};
use backstay::ops::backup::{BackupOptions, run as backup};
use backstay::ops::commit::prove_in;
use backstay::ops::error::{Class, OpError};
use backstay::ops::interrupt::Interrupt;
use backstay::ops::prune::{Fate, PruneOptions, PruneReport, run as prune};
use backstay::ops::session::{HostChoice, Session, Surroundings};
use backstay::ops::{init, look};
use backstay::store::testing::{Fault, FaultStore, MemoryStore, Verb};
use backstay::store::{Key, Prefix, Store, StoreErrorKind};
use jiff::SignedDuration;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A clock that tests turn.
struct Turned(Mutex<Timestamp>);

impl Clock for Turned {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// A project whose store is in memory behind a wrapper that tests can disturb, with a clock of its own.
struct Bench {
    dir: tempfile::TempDir,
    session: Session,
    memory: Arc<MemoryStore>,
    faults: Arc<FaultStore>,
    clock: Arc<Turned>,
}

const DAY: i64 = 24;

impl Bench {
    /// After `days` nights, each with a snapshot, the last one now; keeps the newest `keep_last`.
    fn after(days: i64, keep_last: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = dir.path().join("app");
        std::fs::create_dir_all(app.join("code")).unwrap();
        std::fs::write(app.join("code/a.txt"), "hello").unwrap();
        let options = init::InitOptions {
            dir: app.clone(),
            config_path: app.join("backstay.toml"),
            keys_root: dir.path().join("keys"),
            state_root: dir.path().join("state"),
            store: "backups".into(),
            more_stores: Vec::new(),
            replace_store: None,
            create_bucket: false,
            interrupt: Interrupt::default(),
            recipients: Vec::new(),
            offline_identity: false,
            kit: None,
            proposal: backstay::config::propose::propose(&app),
        };
        init::run(&options, &SystemClock).unwrap();
        let mut config = Config::load(&options.config_path).unwrap();
        config.retention = Retention {
            keep_last: Some(keep_last),
            keep_within: None,
            weekly: backstay::config::Rule::default(),
            min_keep: 1,
            ..Retention::default()
        };
        let begin = Timestamp::now() - SignedDuration::from_hours((days - 1).max(0) * DAY);
        let clock = Arc::new(Turned(Mutex::new(begin)));
        let around = Surroundings {
            as_of: None,
            ask: backstay::keys::passphrase::nobody(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            progress: Arc::new(SilentProgress),
            interrupt: Interrupt::default(),
            exe: env!("CARGO_BIN_EXE_backstay").into(),
            identity_files: Vec::new(),
            store: None,
            hosts: HostChoice::Own,
            // A child that another test forks just now holds a lock for a moment longer.
            wait: Some(std::time::Duration::from_secs(30)),
        };
        let mut session = Session::open(Arc::new(config), around).unwrap();
        let memory = Arc::new(MemoryStore::new("local"));
        for key in [Key::Store, Key::RecoverMd] {
            memory.put_bytes(&key, &session.store.get(&key, 1 << 20).unwrap()).unwrap();
        }
        let faults = Arc::new(FaultStore::new(Arc::clone(&memory) as Arc<dyn Store>));
        session.store = Arc::clone(&faults) as Arc<dyn Store>;
        let bench = Self { dir, session, memory, faults, clock };
        for day in 0..days {
            bench.backup(&format!("day {day}"));
            if day + 1 < days {
                bench.turn(DAY);
            }
        }
        bench
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn turn(&self, hours: i64) {
        let mut now = self.clock.0.lock().unwrap();
        *now += SignedDuration::from_hours(hours);
    }

    /// The store's clock is the tests': what came since says so.
    fn stamp(&self, before: &BTreeSet<Key>) {
        for key in self.memory.keys().iter().filter(|key| !before.contains(*key)) {
            self.memory.set_modified(key, Some(self.now()));
        }
    }

    fn keys(&self) -> BTreeSet<Key> {
        self.memory.keys().into_iter().collect()
    }

    fn backup(&self, content: &str) -> SnapshotId {
        std::fs::write(self.dir.path().join("app/code/a.txt"), content).unwrap();
        let before = self.keys();
        let report = backup(&self.session, &BackupOptions::default()).unwrap();
        assert!(report.good, "{:?}", report.problems);
        self.stamp(&before);
        report.snapshot
    }

    fn prune(&self) -> Result<PruneReport, OpError> {
        self.prune_with(&PruneOptions::default())
    }

    fn prune_with(&self, options: &PruneOptions) -> Result<PruneReport, OpError> {
        let before = self.keys();
        let pruned = prune(&self.session, options);
        self.stamp(&before);
        pruned
    }

    fn records(&self) -> Vec<Record> {
        let listed = self.memory.list(Prefix::Records).unwrap();
        listed.iter().map(|l| record(&self.memory.get(&l.key, 1 << 20).unwrap())).collect()
    }

    /// Fails unless the history is whole and every record has all of its objects.
    #[track_caller]
    fn whole(&self) {
        let list = look::list(&self.session).unwrap();
        assert!(list.history.is_empty(), "{:?}", list.history);
        assert!(list.damaged.iter().all(|d| !d.key.starts_with("snap")), "{:?}", list.damaged);
        for record in self.records() {
            for object in &record.objects {
                let key = Key::data(object.kind, object.id);
                assert_eq!(
                    self.memory.head(&key).unwrap(),
                    Some(object.size),
                    "{key} of {}",
                    record.snapshot
                );
            }
        }
    }

    fn objects(&self) -> usize {
        self.keys().iter().filter(|key| matches!(key, Key::Archive(_) | Key::Manifest(_))).count()
    }
}

fn record(document: &[u8]) -> Record {
    serde_json::from_slice(document.split(|b| *b == b'\n').next().unwrap()).unwrap()
}

/// An error with its causes and hint, as a person sees it.
fn said(error: &OpError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(&format!("; {e}"));
        cause = e.source();
    }
    format!("{text}; {}", error.hint.as_deref().unwrap_or_default())
}

fn tombstones(keys: &BTreeSet<Key>) -> usize {
    keys.iter().filter(|key| matches!(key, Key::Tombstone(_))).count()
}

#[test]
fn what_retention_lets_go_is_announced_and_a_day_later_deleted() {
    let bench = Bench::after(12, 3);
    let before = bench.keys();
    let plan = bench.prune_with(&PruneOptions { dry_run: true, ..PruneOptions::default() }).unwrap();
    assert_eq!(bench.keys(), before, "a dry run does nothing");
    let fates =
        |report: &PruneReport, fate| report.stores[0].snapshots.iter().filter(|r| r.fate == fate).count();
    assert_eq!(
        [Fate::Stays, Fate::Goes, Fate::Later].map(|fate| fates(&plan, fate)),
        [3, 5, 4],
        "half of nine"
    );
    assert!(plan.stores[0].snapshots.iter().all(|row| !row.reasons.is_empty()));
    let oldest: Vec<bool> = plan.stores[0].snapshots.iter().map(|r| r.fate == Fate::Goes).collect();
    assert_eq!(oldest[..5], [true; 5], "the oldest go first");

    let announced = bench.prune().unwrap();
    assert_eq!(announced.stores[0].deleted.snapshots, 0);
    assert_eq!((announced.stores[0].waiting.len(), announced.stores[0].waiting[0].snapshots), (1, 5));
    assert_eq!(bench.keys().len(), before.len() + 1, "only a tombstone came");
    bench.turn(23);
    let early = bench.prune().unwrap();
    assert_eq!(early.stores[0].deleted.snapshots, 0, "the grace is a day");
    assert_eq!(early.stores[0].waiting.len(), 2, "the next half is announced meanwhile");
    bench.turn(2);
    bench.backup("after the grace");
    let objects = bench.objects();
    let deleted = bench.prune().unwrap();
    assert_eq!(deleted.stores[0].deleted.snapshots, 5);
    assert!(deleted.stores[0].deleted.objects > 0 && deleted.stores[0].deleted.bytes > 0);
    assert_eq!(bench.objects() as u64 + deleted.stores[0].deleted.objects, objects as u64);
    assert!(deleted.stores[0].deleted.marks >= 5, "what was said about them goes along: {deleted:?}");
    assert!(deleted.stores[0].last_pruned.is_some());
    bench.whole();
    // Day after day it comes to what the rules keep, and to what waits for its grace.
    for day in 0..8 {
        bench.turn(DAY + 1);
        bench.backup(&format!("later {day}"));
        bench.prune().unwrap();
        bench.whole();
    }
    assert!(bench.records().len() <= 6, "{}", bench.records().len());
    assert!(tombstones(&bench.keys()) <= 2);
}

#[test]
fn with_now_what_waits_is_a_part_of_the_half_that_goes_in_a_run() {
    let bench = Bench::after(12, 3);
    assert_eq!(bench.prune().unwrap().stores[0].waiting[0].snapshots, 5, "half of nine");
    let now = PruneOptions { now: true, ..PruneOptions::default() };
    let plan = bench.prune_with(&PruneOptions { dry_run: true, ..now.clone() }).unwrap();
    let goes = plan.stores[0].snapshots.iter().filter(|row| row.fate == Fate::Goes).count();
    assert_eq!(goes, 0, "beside what waits: {plan:?}");
    for (deleted, left) in [(5, 7), (2, 5), (1, 4), (1, 3), (0, 3)] {
        let report = bench.prune_with(&now).unwrap();
        assert_eq!((report.stores[0].deleted.snapshots, bench.records().len()), (deleted, left));
        bench.whole();
    }
}

#[test]
fn a_reference_that_came_during_the_grace_is_honoured() {
    let bench = Bench::after(6, 2);
    bench.prune().unwrap();
    let first = bench.records()[0].snapshot.clone();
    // Somebody makes the oldest a milestone while it is announced.
    let saying = backstay::ops::marking::Saying::Milestone(true);
    let report = backstay::ops::marking::say(&bench.session, first.as_str(), &saying).unwrap();
    assert!(
        report.problems.iter().any(|p| p.what.contains("a prune had announced")),
        "{:?}",
        report.problems
    );
    bench.turn(25);
    let deleted = bench.prune().unwrap();
    assert_eq!(deleted.stores[0].deleted.snapshots, 1, "two were announced");
    assert_eq!(bench.records()[0].snapshot, first);
    let row = deleted.stores[0].snapshots.iter().find(|row| row.id == first).unwrap();
    assert_eq!((row.fate, &row.reasons[..]), (Fate::Stays, &["milestone".to_owned()][..]));
    bench.whole();
}

/// A second host that writes into the same store, step by step, as the format says.
struct Writer {
    signer: Signer,
    record: Record,
    document: Vec<u8>,
    hash: ObjectId,
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Begun,
    Refused,
    Put,
    Committed,
    Void,
}

impl Writer {
    /// Wants to commit a snapshot that needs the object `x` and nothing else.
    fn new(bench: &Bench, signer: Signer, x: &[u8]) -> Self {
        let info: serde_json::Value =
            serde_json::from_slice(&bench.memory.get(&Key::Store, 1 << 20).unwrap()).unwrap();
        let (now, id) = (bench.now(), ObjectId::of(x));
        let line = ComponentLine {
            number: 9,
            size: 1,
            entries: 1,
            complete: true,
            check: CheckResult::None,
            setup: String::new(),
        };
        let record = Record {
            format: 1,
            needs: Vec::new(),
            doc: "record".into(),
            vault: info["vault"].as_str().unwrap().parse().unwrap(),
            snapshot: SnapshotId::new(now, [9; 5]),
            kind: SnapshotKind::Normal,
            host: HostId::from(signer.id()),
            signer: signer.id(),
            number: 1,
            previous: None,
            started: now,
            finished: now,
            complete: true,
            alone: true,
            components: vec![line],
            recipients: vec![Vec::new()],
            objects: vec![ObjectRef { kind: ObjectKind::Manifest, size: x.len() as u64, id, recipients: 0 }],
            index: Some(id),
            run: None,
            tags: Vec::new(),
            milestone: false,
            agent: "test".into(),
        };
        let (document, hash) = seal_document(&record, &signer, namespace::RECORD).unwrap();
        Self { signer, record, document, hash }
    }

    /// The next step: w1 looks, w2 puts the record, w3 and w4 look again and void.
    fn step(&self, store: &MemoryStore, outcome: Outcome) -> Outcome {
        let instance: serde_json::Value =
            serde_json::from_slice(&store.get(&Key::Store, 1 << 20).unwrap()).unwrap();
        let instance = instance["instance"].as_str().unwrap().parse().unwrap();
        let looked = || prove_in(store, &instance, &self.record.objects).unwrap();
        match outcome {
            Outcome::Begun if looked().is_ok() => Outcome::Put,
            Outcome::Begun => Outcome::Refused,
            Outcome::Put => {
                store.put_bytes(&Key::Record(self.record.snapshot.clone()), &self.document).unwrap();
                Outcome::Committed
            }
            Outcome::Committed => match looked() {
                Ok(()) => Outcome::Committed,
                Err(why) => {
                    self.void(store, &why);
                    Outcome::Void
                }
            },
            ended => ended,
        }
    }

    fn void(&self, store: &MemoryStore, why: &str) {
        let target = Target { snapshot: self.record.snapshot.clone(), record: self.hash };
        let mark = Mark {
            format: 1,
            needs: Vec::new(),
            doc: "mark".into(),
            vault: self.record.vault.clone(),
            host: self.record.host,
            signer: self.record.signer,
            number: 2,
            previous: Some(self.hash),
            time: self.record.finished,
            agent: "test".into(),
            statement: Statement::Void { target, instance: None, reason: why.to_owned() },
        };
        let (bytes, _) = seal_document(&mark, &self.signer, namespace::MARK).unwrap();
        store.put_bytes(&Key::Mark(self.record.signer, 2), &bytes).unwrap();
    }
}

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
    let long = std::env::var_os("BACKSTAY_LONG").is_some();
    let (trials, mut seed) = (if long { 6000 } else { 120 }, 7);
    let mut outcomes: BTreeMap<(Outcome, bool), usize> = BTreeMap::new();
    for _ in 0..trials {
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

/// Prune with `disturb` in force deletes nothing, says `words`, and gives no record or object away.
#[track_caller]
fn refuses(bench: &Bench, class: Class, words: &[&str], disturb: impl FnOnce(&Bench)) {
    disturb(bench);
    let before = bench.keys();
    let error = bench.prune().expect_err("prune should have refused");
    let text = said(&error);
    assert_eq!(error.class, class, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert_eq!(bench.keys(), before, "something was put or deleted");
}

/// With something that waits and is due.
fn due() -> Bench {
    let bench = Bench::after(8, 2);
    bench.prune().unwrap();
    bench.turn(25);
    bench
}

/// A prune puts its mark before it takes records away. Marks are listed while records are fetched, so that list may be older than the mark.
#[test]
fn what_a_prune_elsewhere_takes_away_while_a_history_is_read_is_no_gap() {
    let bench = due();
    let (mut reader, pruner) = (bench.session.clone(), bench.session.clone());
    let faults = Arc::new(FaultStore::new(Arc::clone(&bench.memory) as Arc<dyn Store>));
    reader.store = Arc::clone(&faults) as Arc<dyn Store>;
    reader.state = None;
    let (before, pruned) = (bench.records().len(), std::sync::Once::new());
    faults.on_call(Arc::new(move |verb: Verb, subject: &str| {
        if verb == Verb::Get && subject.starts_with("snapshots/") {
            pruned.call_once(|| drop(prune(&pruner, &PruneOptions::default()).unwrap()));
        }
    }));
    let vault = reader.read_vault().unwrap();
    assert!(bench.records().len() < before, "nothing was taken away");
    assert!(vault.snapshots().count() < before, "a record that is gone was read");
    assert!(vault.history.breaks.is_empty(), "{:?}", vault.history.breaks);
}

#[test]
fn a_listing_that_fails_or_lies_authorises_no_delete() {
    // One that fails, whichever it is.
    let bench = due();
    bench.faults.reset();
    bench.faults.fail(Fault {
        verb: Some(Verb::List),
        nth: 1,
        kind: StoreErrorKind::Unreachable,
        after: false,
        lasting: true,
    });
    refuses(&bench, Class::Store, &["failed"], |_| {});
    for nth in 2..=5 {
        let bench = due();
        bench.faults.reset();
        bench.faults.fail_nth(Verb::List, nth, StoreErrorKind::Unreachable);
        refuses(&bench, Class::Store, &[], |_| {});
    }
    // A record in the middle that is not listed.
    refuses(&due(), Class::Damage, &["not whole"], |bench| {
        let victim = Key::Record(bench.records()[4].snapshot.clone());
        bench.faults.hide(&victim);
    });
    // The last record, with and without the marks after it.
    refuses(&due(), Class::Damage, &["not whole"], |bench| {
        let victim = Key::Record(bench.records()[7].snapshot.clone());
        bench.faults.hide(&victim);
    });
    refuses(&due(), Class::Damage, &["not whole"], |bench| {
        let last = bench.records().pop().unwrap();
        bench.faults.hide(&Key::Record(last.snapshot));
        for number in last.number..last.number + 4 {
            bench.faults.hide(&Key::Mark(last.signer, number));
        }
    });
}

#[test]
fn a_listing_that_was_cut_short_is_noticed_by_one_who_was_never_there() {
    let bench = due();
    // Nothing is remembered: as on a fresh machine that prunes.
    let mut config = (**bench.session.config().unwrap()).clone();
    config.state_dir = bench.dir.path().join("fresh");
    let mut session = Session::open(Arc::new(config), bench.session.around.clone()).unwrap();
    session.store = Arc::clone(&bench.faults) as Arc<dyn Store>;
    let fresh = Bench { session, ..bench };
    let last = fresh.records().pop().unwrap();
    // The last record and the mark right after it are hidden from listings and from looks; the mark after that is only not listed.
    fresh.faults.hide(&Key::Record(last.snapshot.clone()));
    let shown = Arc::clone(&fresh.memory);
    let marks: Vec<Key> =
        shown.keys().into_iter().filter(|k| matches!(k, Key::Mark(_, n) if *n > last.number)).collect();
    for key in &marks {
        fresh.faults.hide_from_listings(key);
    }
    refuses(&fresh, Class::Store, &["is there and was not listed"], |_| {});
}

#[test]
fn a_record_that_vanishes_between_two_prunes_stops_the_second() {
    let bench = due();
    let stranger = Signer::generate().unwrap();
    let x = b"held by a stranger".to_vec();
    let writer = Writer::new(&bench, stranger, &x);
    bench.memory.put_bytes(&Key::Record(writer.record.snapshot.clone()), &writer.document).unwrap();
    bench.prune().unwrap();
    bench.turn(25);
    // No chain tells of a stranger's record; that it was seen does.
    let id = writer.record.snapshot.clone();
    refuses(&bench, Class::Damage, &["no longer shows snapshot", id.as_str(), "--ignore"], |bench| {
        bench.memory.delete(&Key::Record(id.clone())).unwrap();
    });
    let ignore = BTreeSet::from([id]);
    bench.prune_with(&PruneOptions { ignore, ..PruneOptions::default() }).unwrap();
    bench.prune().unwrap();
    bench.whole();
}

#[test]
fn an_unreadable_record_stops_prune_and_what_it_names_stays_when_it_is_passed_over() {
    let bench = due();
    let victim = bench.records()[5].clone();
    let key = Key::Record(victim.snapshot.clone());
    let mut bytes = bench.memory.get(&key, 1 << 20).unwrap();
    let place = bytes.len() - 60;
    bytes[place] ^= 1;
    bench.memory.force(&key, &bytes);
    refuses(&bench, Class::Damage, &[&format!("--ignore {}", victim.snapshot)], |_| {});
    let ignore = BTreeSet::from([victim.snapshot.clone()]);
    for _ in 0..3 {
        bench.prune_with(&PruneOptions { ignore: ignore.clone(), ..PruneOptions::default() }).unwrap();
        bench.turn(25);
    }
    assert!(bench.memory.head(&key).unwrap().is_some(), "the record itself stays");
    for object in &victim.objects {
        let key = Key::data(object.kind, object.id);
        assert!(bench.memory.head(&key).unwrap().is_some(), "{key} went");
    }
}

#[test]
fn strangers_hold_what_they_name_and_are_never_deleted() {
    let bench = due();
    let first = bench.records()[0].clone();
    let stranger = Signer::generate().unwrap();
    let mut writer = Writer::new(&bench, stranger, b"x");
    writer.record.objects = first.objects.clone();
    writer.record.recipients = first.recipients.clone();
    writer.record.index = first.index;
    let (document, _) = seal_document(&writer.record, &writer.signer, namespace::RECORD).unwrap();
    bench.memory.put_bytes(&Key::Record(writer.record.snapshot.clone()), &document).unwrap();
    let deleted = bench.prune().unwrap();
    assert!(deleted.stores[0].deleted.objects_kept > 0, "{deleted:?}");
    for object in &first.objects {
        assert!(bench.memory.head(&Key::data(object.kind, object.id)).unwrap().is_some());
    }
    assert!(bench.memory.head(&Key::Record(writer.record.snapshot)).unwrap().is_some());
}

#[test]
fn a_store_that_forbids_deletes_is_said_and_nothing_is_half_done() {
    let bench = due();
    let before = bench.keys();
    bench.faults.fail(Fault {
        verb: Some(Verb::Delete),
        nth: 1,
        kind: StoreErrorKind::Denied,
        after: false,
        lasting: true,
    });
    let error = bench.prune().expect_err("it may not delete");
    assert_eq!(error.class, Class::Store);
    let text = said(&error);
    assert!(text.contains("refuses to delete") && text.contains("prune = \"elsewhere\""), "{text}");
    assert!(before.is_subset(&bench.keys()), "nothing went");
    bench.faults.reset();
    bench.whole();
    bench.backup("a backup goes on");
    // Once it may delete it goes on where it was.
    assert_eq!(bench.prune().unwrap().stores[0].deleted.snapshots, 3);
    bench.whole();
}

#[test]
fn clocks_that_differ_delete_nothing() {
    let bench = due();
    bench.faults.set_clock_ahead(Some(SignedDuration::from_mins(-6)));
    refuses(&bench, Class::Failed, &["360 seconds behind this machine's"], |_| {});
    bench.faults.set_clock_ahead(Some(SignedDuration::from_mins(4)));
    bench.prune().unwrap();
    // This machine's clock went back behind what it signed itself.
    let bench = due();
    refuses(&bench, Class::Failed, &["this machine itself signed", "the next backup or signed"], |bench| {
        bench.turn(-60 * DAY);
    });
}

#[test]
fn a_failure_at_any_call_of_a_prune_loses_nothing_and_the_next_run_ends_it() {
    let count = {
        let bench = due();
        bench.faults.reset();
        bench.prune().unwrap();
        bench.faults.calls().len() as u64
    };
    let step = if std::env::var_os("BACKSTAY_LONG").is_some() { 1 } else { 9 };
    for (after, nth) in (1..=count).step_by(step).flat_map(|nth| [(false, nth), (true, nth)]) {
        let bench = due();
        bench.faults.reset();
        bench.faults.fail(Fault { verb: None, nth, kind: StoreErrorKind::Unreachable, after, lasting: true });
        let failed = bench.prune();
        bench.faults.reset();
        assert!(failed.is_err() || nth == count, "call {nth} of {count}");
        bench.whole_of_what_is_there();
        for _ in 0..2 {
            bench.prune().unwrap();
        }
        bench.whole();
        assert_eq!(bench.records().len(), 5, "call {nth} of {count}");
    }
}

impl Bench {
    /// As [`Bench::whole`], while a prune was cut off: what is there is whole.
    #[track_caller]
    fn whole_of_what_is_there(&self) {
        for record in self.records() {
            let missing =
                record.objects.iter().find(|o| self.memory.head(&Key::data(o.kind, o.id)).unwrap().is_none());
            assert!(missing.is_none(), "{} lacks {missing:?}", record.snapshot);
        }
        self.whole();
    }

    fn config_path(&self) -> PathBuf {
        self.dir.path().join("app/backstay.toml")
    }
}

#[test]
fn a_freeze_needs_a_person_and_accept_ends_it() {
    let bench = Bench::after(8, 2);
    std::fs::write(bench.dir.path().join("app/code/big"), vec![7; 100_000]).unwrap();
    for day in 0..4 {
        bench.turn(DAY);
        bench.backup(&format!("grown {day}"));
    }
    std::fs::remove_file(bench.dir.path().join("app/code/big")).unwrap();
    bench.turn(DAY);
    let shrunk = bench.backup("shrunk");
    let frozen = bench.prune().unwrap();
    let store = &frozen.stores[0];
    assert!(frozen.needs_person() && store.waiting.is_empty(), "{store:?}");
    assert_eq!(store.frozen[0].accept, shrunk);
    assert!(store.frozen[0].why.contains("shrank by more than half"), "{}", store.frozen[0].why);
    let named = store.frozen[0].component.clone();
    assert!(!named.starts_with("component "), "{named}: the configuration has its name");
    let wrong =
        PruneOptions { accept: vec![bench.records()[0].snapshot.to_string()], ..PruneOptions::default() };
    // An earlier one holds the same component: its state is not the one that was asked about, and the freeze goes on.
    assert!(bench.prune_with(&wrong).unwrap().needs_person());
    let accept = PruneOptions { accept: vec![shrunk.to_string()], ..PruneOptions::default() };
    let ended = bench.prune_with(&accept).unwrap();
    assert_eq!(ended.accepted[0].components, [named]);
    assert!(!ended.needs_person() && ended.stores[0].waiting.len() == 1, "{:?}", ended.stores[0]);
    let error = bench.prune_with(&accept).expect_err("nothing is frozen any more");
    assert_eq!(error.class, Class::Usage);
    assert!(bench.config_path().exists());
}
