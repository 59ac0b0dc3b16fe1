//! Prune in a small world: two hosts that back up, two machines that prune and verify, somebody who restores, one store. Their calls are mixed
//! at random, call by call; any of them may be frozen for days, cut off at any call, or shown one listing that lies. Time jumps.
//!
//! What must hold after every call: a snapshot whose backup said that it was made has all of its objects for as long as its record is there.

mod cast;
mod stage;

use crate::common::long::{in_time, long};
use backstay::model::{ObjectRef, SnapshotId};
use backstay::ops::backup::{BackupOptions, run as backup};
use backstay::ops::error::OpError;
use backstay::ops::look;
use backstay::ops::prune::{PruneOptions, run as prune};
use backstay::ops::restore::{RestoreOptions, run as restore};
use backstay::ops::session::{HostChoice, Session};
use backstay::ops::verify::{VerifyOptions, run as verify};
use backstay::store::testing::{Fault, FaultStore, Verb};
use backstay::store::{Key, Prefix, Store, StoreErrorKind};
use cast::{Cast, Role};
use stage::Stage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Numbers that come again from the same seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            dice.roll(2);
        }
        dice
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Backup,
    Prune,
    Verify,
    Restore,
}

/// What came of it.
enum Ended {
    Made(SnapshotId, String),
    Well,
    Badly(OpError),
    /// A restore said that it was done.
    Restored(SnapshotId, String),
}

/// Somebody at work.
struct Working {
    act: Act,
    thread: JoinHandle<Ended>,
}

/// What happened in all trials: a test in which the dangerous things never happen would prove nothing.
#[derive(Debug, Default)]
struct Tally {
    ended: BTreeMap<(Act, bool), usize>,
    overlaps: BTreeMap<(Act, Act), usize>,
    void: usize,
    deleted: usize,
    lies: usize,
    cut: usize,
}

struct Trial<'a> {
    cast: &'a Cast,
    dice: Dice,
    stage: Arc<Stage>,
    working: BTreeMap<Role, Working>,
    /// Snapshots that a backup said it made, with their content and what they need.
    made: BTreeMap<SnapshotId, (String, Vec<ObjectRef>)>,
    /// Keys that a listing left out once: no listing does it twice.
    hidden: BTreeSet<Key>,
    lied: BTreeSet<Role>,
    seen: BTreeSet<Key>,
    tally: &'a mut Tally,
    log: Vec<String>,
    seed: u64,
}

impl<'a> Trial<'a> {
    fn new(cast: &'a Cast, seed: u64, tally: &'a mut Tally) -> Self {
        cast.reset();
        let stage = Arc::new(Stage::default());
        let mut trial = Self {
            cast,
            dice: Dice::new(seed),
            stage,
            working: BTreeMap::new(),
            made: BTreeMap::new(),
            hidden: BTreeSet::new(),
            lied: BTreeSet::new(),
            seen: cast.memory.keys().into_iter().collect(),
            tally,
            log: Vec::new(),
            seed,
        };
        for (id, content) in &cast.contents {
            trial.made.insert(id.clone(), (content.clone(), cast.objects_of(id)));
        }
        trial
    }

    fn run(&mut self) {
        let mut budget = 8 + self.dice.roll(6);
        while budget > 0 || !self.working.is_empty() {
            match self.dice.roll(12) {
                0..=2 if budget > 0 => {
                    budget -= u64::from(self.begin());
                }
                3 => {
                    let hours = [1, 3, 26, 26, 50, 8 * 24][self.dice.roll(6) as usize];
                    self.cast.turn(hours);
                    self.log.push(format!("{hours} hours pass"));
                }
                _ => self.go_on(),
            }
            self.check();
        }
        self.heal();
    }

    /// Lets somebody who is idle begin something.
    fn begin(&mut self) -> bool {
        let idle: Vec<Role> = Role::ALL.into_iter().filter(|role| !self.working.contains_key(role)).collect();
        if idle.is_empty() {
            return false;
        }
        let role = idle[self.dice.roll(idle.len() as u64) as usize];
        let act = match (role, self.dice.roll(6)) {
            (Role::Reader, _) => Act::Restore,
            (Role::Host | Role::Other, 0..=4) => Act::Backup,
            (Role::Host, _) => Act::Prune,
            (Role::Other, _) => Act::Backup,
            (_, 0..=1) => Act::Verify,
            _ => Act::Prune,
        };
        let faults = self.cast.faults(role);
        faults.reset();
        self.disturb(role, &faults);
        let stage = Arc::clone(&self.stage);
        faults.on_call(Arc::new(move |_: Verb, _: &str| stage.wait_for_turn(role)));
        self.log.push(format!("{role:?} begins {act:?}"));
        for other in self.working.values() {
            *self.tally.overlaps.entry((act.min(other.act), act.max(other.act))).or_default() += 1;
        }
        self.stage.begin(role);
        let (session, stage) = (self.cast.session(role, &faults), Arc::clone(&self.stage));
        let content = format!("seed {} {}", self.seed, self.log.len());
        let work = self.work(role, act, content);
        let thread = std::thread::spawn(move || {
            let ended = work(&session);
            stage.end(role);
            ended
        });
        self.working.insert(role, Working { act, thread });
        true
    }

    fn work(&mut self, role: Role, act: Act, content: String) -> Box<dyn FnOnce(&Session) -> Ended + Send> {
        let badly = |e: OpError| Ended::Badly(e);
        match act {
            Act::Backup => {
                let (file, full) = (self.cast.file(role, self.dice.roll(3)), self.dice.one_in(6));
                Box::new(move |session| {
                    std::fs::write(&file, &content).unwrap();
                    let options = BackupOptions { full, ..BackupOptions::default() };
                    match backup(session, &options) {
                        Ok(report) => Ended::Made(report.snapshot, cast::told(session)),
                        Err(e) => badly(e),
                    }
                })
            }
            Act::Prune => Box::new(move |session| {
                prune(session, &PruneOptions::default()).map_or_else(badly, |_| Ended::Well)
            }),
            Act::Verify => Box::new(move |session| {
                let options = VerifyOptions { read_data: Some(100.0), ..VerifyOptions::default() };
                verify(session, &options).map_or_else(badly, |_| Ended::Well)
            }),
            Act::Restore => {
                let own: Vec<SnapshotId> = self.cast.records_of_host();
                let chosen = own[self.dice.roll(own.len() as u64) as usize].clone();
                let to = self.cast.restored(&format!("{}-{}", self.seed, self.log.len()));
                Box::new(move |session| {
                    let options = restoring(&chosen, &to);
                    match restore(session, &options) {
                        Ok(report) => {
                            let found = cast::content_below(&to);
                            std::fs::remove_dir_all(&to).unwrap();
                            Ended::Restored(report.snapshot, found)
                        }
                        Err(e) => {
                            assert!(!to.exists(), "half a restore was published: {e}");
                            badly(e)
                        }
                    }
                })
            }
        }
    }

    /// Now and then a run is cut off at one of its calls, or shown listings that lie: one or many entries are left out, or all that came since.
    fn disturb(&mut self, role: Role, faults: &FaultStore) {
        if self.dice.one_in(4) {
            let (nth, after) = (1 + self.dice.roll(120), self.dice.one_in(2));
            faults.fail(Fault { verb: None, nth, kind: StoreErrorKind::Unreachable, after, lasting: true });
            self.tally.cut += 1;
            self.log.push(format!("{role:?} will be cut off at call {nth}, after: {after}"));
        }
        if self.dice.one_in(3) && self.lied.insert(role) {
            let prefixes =
                [Prefix::Records, Prefix::Marks, Prefix::Tombstones, Prefix::Archives, Prefix::Manifests];
            let all: Vec<Key> = prefixes
                .iter()
                .flat_map(|p| self.cast.memory.list(*p).unwrap())
                .map(|listed| listed.key)
                .filter(|key| !self.hidden.contains(key))
                .collect();
            let number = if self.dice.one_in(2) { 1 } else { 1 + self.dice.roll(all.len() as u64 / 3 + 1) };
            for _ in 0..number {
                let key = all[self.dice.roll(all.len() as u64) as usize].clone();
                faults.hide_from_listings(&key);
                self.hidden.insert(key);
            }
            self.tally.lies += 1;
            self.log.push(format!("listings of {role:?} leave {number} out"));
        }
    }

    /// Lets one of those at work make some calls.
    fn go_on(&mut self) {
        let roles: Vec<Role> = self.working.keys().copied().collect();
        if roles.is_empty() {
            return;
        }
        let role = roles[self.dice.roll(roles.len() as u64) as usize];
        let calls = if self.dice.one_in(3) { 1 } else { 1 + self.dice.roll(40) };
        for _ in 0..calls {
            let over = self.stage.grant(role);
            self.stamp();
            if over {
                self.ended(role);
                return;
            }
        }
        self.log.push(format!("{role:?} makes {calls} calls"));
    }

    /// The store's clock is the tests'. Half of the data is left without a time that fits: it looks very old.
    fn stamp(&mut self) {
        for key in self.cast.memory.keys() {
            if !self.seen.contains(&key) {
                let data = matches!(key, Key::Archive(_) | Key::Manifest(_));
                let time = if data && self.dice.one_in(2) { self.cast.long_ago() } else { self.cast.now() };
                if !matches!(key, Key::Tombstone(_)) {
                    self.cast.memory.set_modified(&key, Some(time));
                }
                self.seen.insert(key);
            }
        }
    }

    fn ended(&mut self, role: Role) {
        let Working { act, thread } = self.working.remove(&role).unwrap();
        let Ok(ended) = thread.join() else { self.fail("somebody panicked") };
        *self.tally.ended.entry((act, !matches!(ended, Ended::Badly(_)))).or_default() += 1;
        match ended {
            Ended::Made(id, content) => {
                self.log.push(format!("{role:?} made {id}"));
                if self.cast.memory.head(&Key::Record(id.clone())).unwrap().is_some() {
                    let objects = self.cast.objects_of(&id);
                    self.made.insert(id, (content, objects));
                }
            }
            Ended::Restored(id, found) => {
                if let Some((content, _)) = self.made.get(&id)
                    && *content != found
                {
                    self.fail(&format!("{id} was restored with other content: {found:?}, not {content:?}"));
                }
            }
            Ended::Well => self.log.push(format!("{role:?} ended {act:?} well")),
            Ended::Badly(e) => {
                self.tally.void += usize::from(e.to_string().contains("could not be committed"));
                self.log.push(format!("{role:?} ended {act:?} badly: {}", cast::said(&e)));
            }
        }
        self.cast.faults(role).reset();
    }

    fn check(&self) {
        let keys: BTreeSet<Key> = self.cast.memory.keys().into_iter().collect();
        for (id, (_, objects)) in &self.made {
            if !keys.contains(&Key::Record(id.clone())) {
                continue;
            }
            if let Some(gone) = objects.iter().find(|o| !keys.contains(&Key::data(o.kind, o.id))) {
                self.fail(&format!("{id} was made and lacks {:?}", Key::data(gone.kind, gone.id)));
            }
        }
    }

    fn fail(&self, why: &str) -> ! {
        panic!("seed {}: {why}\n{}", self.seed, self.log.join("\n"));
    }

    /// Nothing disturbs any more: everybody ends well, and what is listed comes back.
    fn heal(&mut self) {
        let before = self.made.len();
        for round in 0..3 {
            self.cast.turn(26);
            for role in [Role::Pruner, Role::Second, Role::Host, Role::Other] {
                self.alone(
                    role,
                    if matches!(role, Role::Host | Role::Other) { Act::Backup } else { Act::Verify },
                );
                if role != Role::Other {
                    self.alone(role, Act::Prune);
                }
            }
            self.log.push(format!("healed {round}"));
            self.check();
        }
        let keys: BTreeSet<Key> = self.cast.memory.keys().into_iter().collect();
        self.tally.deleted +=
            self.made.keys().filter(|id| !keys.contains(&Key::Record((*id).clone()))).count();
        assert!(self.made.len() >= before + 6, "seed {}", self.seed);
        for role in [Role::Host, Role::Other] {
            self.all_back(role);
        }
    }

    /// One run that nobody disturbs must end well.
    fn alone(&mut self, role: Role, act: Act) {
        let faults = self.cast.faults(role);
        faults.reset();
        let content = format!("seed {} alone {}", self.seed, self.log.len());
        let session = self.cast.session(role, &faults);
        let ended = self.work(role, act, content)(&session);
        self.stamp();
        match ended {
            Ended::Made(id, content) => {
                let objects = self.cast.objects_of(&id);
                self.made.insert(id, (content, objects));
            }
            Ended::Badly(e) => self.fail(&format!("undisturbed {act:?} of {role:?}: {}", cast::said(&e))),
            _ => self.log.push(format!("{role:?} {act:?} alone")),
        }
    }

    /// Every snapshot of a host that is listed and not void comes back as it was made.
    fn all_back(&self, role: Role) {
        let mut session = self.cast.session(role, &self.cast.faults(role));
        session.around.hosts = HostChoice::Own;
        let list = look::list(&session).unwrap();
        if !list.history.is_empty() {
            self.fail(&format!("{:?}", list.history));
        }
        for row in
            list.snapshots.iter().filter(|row| row.void.is_none() && row.host == self.cast.host_of(role))
        {
            let to = self.cast.restored("last");
            let options = restoring(&row.id, &to);
            if let Err(e) = restore(&session, &options) {
                self.fail(&format!("{} does not come back: {}", row.id, cast::said(&e)));
            }
            let found = cast::content_below(&to);
            std::fs::remove_dir_all(&to).unwrap();
            if let Some((content, _)) = self.made.get(&row.id)
                && *content != found
            {
                self.fail(&format!("{} came back with {found:?}, not {content:?}", row.id));
            }
        }
    }
}

fn restoring(id: &SnapshotId, to: &std::path::Path) -> RestoreOptions {
    RestoreOptions {
        snapshot: id.to_string(),
        paths: Vec::new(),
        to: to.to_owned(),
        accept_untrusted: false,
        ignore_owners: false,
        salvage: true,
    }
}

#[test]
fn whatever_the_order_of_calls_no_snapshot_that_was_made_loses_an_object() {
    let trials: u64 = match std::env::var("BACKSTAY_TRIALS").ok().and_then(|text| text.parse().ok()) {
        Some(trials) => trials,
        None if long() => 4000,
        None => 24,
    };
    let first: u64 = std::env::var("BACKSTAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let tally = Mutex::new(Tally::default());
    let cast = Cast::new();
    for seed in in_time((first..first + trials).collect()) {
        Trial::new(&cast, seed, &mut tally.lock().unwrap()).run();
    }
    let tally = tally.into_inner().unwrap();
    println!("{trials} worlds: {tally:#?}");
    assert!(tally.deleted > 0 && tally.lies > 0 && tally.cut > 0, "{tally:?}");
    for pair in [(Act::Backup, Act::Prune), (Act::Prune, Act::Prune), (Act::Prune, Act::Restore)] {
        assert!(tally.overlaps.contains_key(&pair), "{pair:?} never overlapped: {tally:?}");
    }
}
