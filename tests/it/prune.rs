//! Prune: what retention lets go is announced and later deleted, and no live object is ever lost: not to a writer that was frozen, not to a
//! listing that lies, not to a kill at any step.

mod doubts;
mod frozen_writer;
mod refusals;
mod writer;

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
use backstay::ops::verify::{VerifyOptions, run as verify};
use backstay::ops::{init, look};
use backstay::store::testing::{Fault, FaultStore, MemoryStore, Verb};
use backstay::store::{Key, Prefix, Store, StoreErrorKind};
use jiff::SignedDuration;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::path::Path;
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
        let retention = Retention {
            keep_last: Some(keep_last),
            keep_within: None,
            weekly: backstay::config::Rule::default(),
            min_keep: 1,
            ..Retention::default()
        };
        Self::with(days, DAY, retention)
    }

    /// After so many snapshots, one every so many hours, the last one now.
    fn with(number: i64, hours: i64, retention: Retention) -> Self {
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
        config.retention = retention;
        let begin = Timestamp::now() - SignedDuration::from_hours((number - 1).max(0) * hours);
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
        for turn in 0..number {
            bench.backup(&format!("day {turn}"));
            if turn + 1 < number {
                bench.turn(hours);
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

/// The rules of a project that says nothing, and nobody ever verifies: proofs hold for a month.
#[test]
fn backups_two_months_apart_never_leave_fewer_than_three_good_ones() {
    let bench = Bench::with(6, 61 * DAY, Retention::default());
    let good =
        |bench: &Bench| look::list(&bench.session).unwrap().snapshots.iter().filter(|s| s.good).count();
    assert_eq!(good(&bench), 1, "only what was stored lately is proved");
    for _ in 0..4 {
        let report = bench.prune().unwrap();
        let stays = report.stores[0].snapshots.iter().all(|row| row.fate == Fate::Stays);
        assert!(stays && report.stores[0].deleted.snapshots == 0, "{report:?}");
        bench.turn(2 * DAY);
    }
    // When they were read the rules apply, and three stay.
    let read = VerifyOptions { read_data: Some(100.0), ..VerifyOptions::default() };
    verify(&bench.session, &read).unwrap();
    assert_eq!(good(&bench), 6);
    for _ in 0..6 {
        bench.prune().unwrap();
        bench.turn(2 * DAY);
        bench.whole();
    }
    assert_eq!((bench.records().len(), good(&bench)), (3, 3));
}

/// Away for longer than proofs hold, and the first backup after it is of a disk that is not mounted.
#[test]
fn after_forty_days_away_one_snapshot_of_nothing_lets_nothing_old_go() {
    let bench = Bench::with(12, DAY, Retention::default());
    bench.turn(40 * DAY);
    let frozen = |bench: &Bench| bench.prune().unwrap().stores[0].frozen.len();
    assert_eq!(frozen(&bench), 1, "the gap is one before the first backup, too");
    std::fs::remove_dir_all(bench.dir.path().join("app/code")).unwrap();
    std::fs::create_dir(bench.dir.path().join("app/code")).unwrap();
    bench.backup("");
    for _ in 0..6 {
        assert!(frozen(&bench) > 0);
        bench.turn(2 * DAY);
    }
    assert_eq!(bench.records().len(), 13);
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
    assert!(bench.dir.path().join("app/backstay.toml").exists());
}
