//! Histories at random: by honest writers, thieves and strangers, with entries that are hidden, forked, pruned and settled.

use backstay::model::chain::{ChainEntry, EntryBody, Heads, Reader, TrustedSigner, signer_of_text};
use backstay::model::document::line_of;
use backstay::model::mark::{KeyAction, Mark, Removed, Role, Statement, Target};
use backstay::model::record::{CheckResult, ComponentLine, SnapshotKind};
use backstay::model::{
    HostId, ObjectId, ObjectKind, ObjectRef, Record, SignerId, SnapshotId, Timestamp, VaultId,
};
use data_encoding::BASE64;
use jiff::SignedDuration;
use std::collections::BTreeSet;

/// Numbers that look random and come again from the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % sides
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }
}

/// So many keys sign; each may be a host.
pub(super) const KEYS: usize = 8;

/// From here on they are trusted by nobody but who introduces them, and sign nothing before that.
const NEW: usize = 5;

pub(super) fn key(n: usize) -> String {
    let mut wire = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    wire.extend([u8::try_from(n).unwrap(); 32]);
    format!("ssh-ed25519 {}", BASE64.encode(&wire))
}

pub(super) fn id(n: usize) -> SignerId {
    signer_of_text(&key(n)).unwrap()
}

pub(super) fn host(n: usize) -> HostId {
    id(n).into()
}

pub(super) fn instance(n: u8) -> VaultId {
    VaultId::from_random([n; 17])
}

/// One who signs: where it goes on.
#[derive(Clone)]
struct Writer {
    n: usize,
    host: HostId,
    number: u64,
    previous: Option<ObjectId>,
}

/// A history while it is made.
struct World {
    dice: Dice,
    minute: i64,
    writers: Vec<Writer>,
    entries: Vec<ChainEntry>,
}

impl World {
    fn new(seed: u64) -> Self {
        let writer = |n| Writer { n, host: host(n), number: 1, previous: None };
        Self {
            dice: Dice(seed | 1),
            minute: 0,
            writers: (0..KEYS).map(writer).collect(),
            entries: Vec::new(),
        }
    }

    fn time(&mut self) -> Timestamp {
        self.minute += 1;
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let minute = match self.dice.roll(12) {
            0 => 200 * 365 * 24 * 60,
            1 => self.minute / 2,
            _ => self.minute,
        };
        start + SignedDuration::from_mins(minute)
    }

    fn any(&mut self) -> Option<ChainEntry> {
        let count = self.entries.len();
        (count > 0).then(|| self.entries[self.dice.roll(count)].clone())
    }

    fn target(&mut self) -> Target {
        let records: Vec<&ChainEntry> = self.entries.iter().filter(|e| e.snapshot().is_some()).collect();
        let nothing = || Target {
            snapshot: SnapshotId::new(Timestamp::UNIX_EPOCH, [0; 5]),
            record: ObjectId::of(b"nothing"),
        };
        if records.is_empty() {
            return nothing();
        }
        let record = records[self.dice.roll(records.len())];
        Target { snapshot: record.snapshot().unwrap().clone(), record: record.hash }
    }

    fn removed(&mut self) -> Vec<Removed> {
        let row = |e: ChainEntry| Removed {
            signer: e.signer(),
            number: e.number(),
            hash: e.hash,
            snapshot: e.snapshot().cloned(),
        };
        (0..self.dice.roll(3)).filter_map(|_| self.any()).map(row).collect()
    }

    /// A host: mostly the first two, so that they have a history.
    fn host(&mut self) -> HostId {
        let n = if self.dice.one_in(4) { self.dice.roll(KEYS) } else { self.dice.roll(2) };
        host(n)
    }

    /// The host of which a key says something: its own, as far as it is honest.
    fn host_for(&mut self, n: usize) -> HostId {
        if self.dice.one_in(2) { self.writers[n].host } else { self.host() }
    }

    fn statement(&mut self, n: usize) -> Statement {
        let tags = |dice: &mut Dice| {
            (0..dice.roll(3)).map(|_| ["a", "b", "c"][dice.roll(3)].to_owned()).collect::<Vec<_>>()
        };
        let here = instance(u8::from(!self.dice.one_in(5)));
        match self.dice.roll(14) {
            0..=2 => {
                let new =
                    if self.dice.one_in(2) { NEW + self.dice.roll(KEYS - NEW) } else { self.dice.roll(KEYS) };
                let host = self.host_for(n);
                Statement::Key { action: KeyAction::Introduce, key: key(new), host, last: None }
            }
            3 | 4 => {
                let last = self.any().map(|e| (e.number(), e.hash));
                let last = last.filter(|_| !self.dice.one_in(10));
                let host = self.host_for(n);
                Statement::Key { action: KeyAction::Retire, key: key(self.dice.roll(KEYS)), host, last }
            }
            5 => Statement::Unknown,
            6 => Statement::Prune { instance: here, removed: self.removed() },
            7 => Statement::Absent { instance: here, entries: self.removed() },
            8 => self.settle(n),
            9 => Statement::Void {
                target: self.target(),
                instance: self.dice.one_in(2).then_some(here),
                reason: String::new(),
            },
            10 | 11 => {
                let target = self.target();
                Statement::Tag { target, add: tags(&mut self.dice), remove: tags(&mut self.dice) }
            }
            12 => Statement::Milestone { target: self.target(), on: self.dice.one_in(2) },
            _ => Statement::Delete(self.target()),
        }
    }

    /// About what is there at some place: a fork, where there is one.
    fn settle(&mut self, n: usize) -> Statement {
        let place = |e: &ChainEntry| (e.signer(), e.number());
        let forks =
            self.entries.iter().filter(|e| self.entries.iter().filter(|o| place(o) == place(e)).count() > 1);
        let forks: Vec<ChainEntry> = forks.cloned().collect();
        let about = match forks.len() {
            0 => self.any(),
            count => Some(forks[self.dice.roll(count)].clone()),
        };
        let (of, entry) = about.as_ref().map_or((id(n), 1), place);
        let keep = about.map(|e| e.hash).filter(|_| !self.dice.one_in(3));
        let there = self.entries.iter().filter(|e| place(e) == (of, entry));
        let mut drop: Vec<ObjectId> = there.map(|e| e.hash).collect();
        drop.extend(self.any().filter(|_| self.dice.one_in(3)).map(|e| e.hash));
        Statement::Settle { of, entry, keep, drop }
    }

    fn record(&mut self, writer: &Writer, started: Timestamp) -> Record {
        let object = ObjectRef { kind: ObjectKind::Archive, size: 1, id: ObjectId::of(b"x"), recipients: 0 };
        let component = ComponentLine {
            number: 1,
            size: 1,
            entries: 1,
            complete: true,
            check: CheckResult::Passed,
            setup: String::new(),
        };
        let kinds = [SnapshotKind::Normal, SnapshotKind::Normal, SnapshotKind::Normal, SnapshotKind::Safety];
        let random: [u8; 5] = std::array::from_fn(|_| u8::try_from(self.dice.roll(256)).unwrap());
        Record {
            format: 1,
            needs: Vec::new(),
            doc: "record".into(),
            vault: instance(0),
            snapshot: SnapshotId::new(started, random),
            kind: kinds[self.dice.roll(4)],
            host: if self.dice.one_in(8) { self.host() } else { writer.host },
            signer: id(writer.n),
            number: writer.number,
            previous: writer.previous,
            started,
            finished: started,
            complete: true,
            alone: true,
            components: vec![component],
            recipients: vec![Vec::new()],
            objects: vec![object],
            index: None,
            run: None,
            tags: if self.dice.one_in(3) { vec!["a".into()] } else { Vec::new() },
            milestone: self.dice.one_in(6),
            agent: "test".into(),
        }
    }

    /// Who signs next: mostly the first, or a key that was introduced.
    fn who(&mut self) -> usize {
        let waits = |w: &Writer| w.n >= NEW && w.number == 1;
        let ready: Vec<usize> = self.writers.iter().filter(|w| !waits(w)).map(|w| w.n).collect();
        if self.dice.one_in(3) { 0 } else { ready[self.dice.roll(ready.len())] }
    }

    /// One more entry, by somebody.
    fn step(&mut self) {
        let at = self.who();
        let mut writer = self.writers[at].clone();
        let time = self.time();
        let entry = if self.dice.one_in(2) {
            let record = self.record(&writer, time);
            let hash = ObjectId::of(&line_of(&record).unwrap());
            ChainEntry::record(record, hash)
        } else {
            let mark = Mark {
                format: 1,
                needs: Vec::new(),
                doc: "mark".into(),
                vault: instance(0),
                host: writer.host,
                signer: id(writer.n),
                number: writer.number,
                previous: writer.previous,
                time,
                agent: "test".into(),
                statement: self.statement(writer.n),
            };
            let hash = ObjectId::of(&line_of(&mark).unwrap());
            ChainEntry::mark(mark, hash)
        };
        self.begin_introduced(&entry);
        // Sometimes the same place once more: a fork.
        if !self.dice.one_in(25) {
            writer.number += 1;
            writer.previous = Some(entry.hash);
            self.writers[at] = writer;
        }
        self.entries.push(entry);
    }

    /// A key that has signed nothing goes on where it was introduced, mostly.
    fn begin_introduced(&mut self, entry: &ChainEntry) {
        let EntryBody::Mark(mark) = &entry.body else { return };
        let Statement::Key { action: KeyAction::Introduce, key, host, .. } = &mark.statement else { return };
        let new = signer_of_text(key).unwrap();
        let fresh =
            new != mark.signer && self.entries.iter().all(|e| e.signer() != new) && !self.dice.one_in(6);
        if let Some(writer) = self.writers.iter_mut().filter(|_| fresh).find(|w| id(w.n) == new) {
            (writer.number, writer.previous, writer.host) = (mark.number + 1, Some(entry.hash), *host);
        }
    }
}

/// Some of these roles each: the first is a host, the third a pruner; the others whatever comes.
fn trusted(dice: &mut Dice) -> Vec<TrustedSigner> {
    let mut trusted = vec![TrustedSigner { id: id(0), roles: [Role::Host].into(), host: None }];
    for n in 1..NEW {
        let mut roles = BTreeSet::new();
        for role in [Role::Host, Role::Verify, Role::Prune] {
            if dice.one_in(3) || (n == 2 && role == Role::Prune) {
                roles.insert(role);
            }
        }
        if n == 2 || dice.one_in(2) {
            trusted.push(TrustedSigner { id: id(n), roles, host: dice.one_in(4).then(|| host(0)) });
        }
    }
    trusted
}

/// A history as a reader has it.
pub(super) fn case(seed: u64) -> (Vec<ChainEntry>, Reader) {
    let mut world = World::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let steps = 3 + world.dice.roll(40);
    (0..steps).for_each(|_| world.step());
    let trusted = trusted(&mut world.dice);
    let seen: Heads = match world.any().filter(|_| world.dice.one_in(3)) {
        Some(e) => [(e.signer(), (e.number(), e.hash))].into(),
        None => Heads::new(),
    };
    let World { mut dice, mut entries, .. } = world;
    // Half of the histories are whole but for what their writers did.
    if dice.one_in(2) {
        entries.retain(|_| !dice.one_in(12));
    }
    let reader = Reader {
        trusted,
        seen,
        instances: [instance(1)].into(),
        now: Timestamp::now(),
        reverify: SignedDuration::from_hours(24),
    };
    (entries, reader)
}
