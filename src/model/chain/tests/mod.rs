//! Writers, readers and entries for tests of the history.

mod chains;
mod keys;
mod marks;
mod proofs;
mod random;
mod settling;

use super::*;
use crate::model::document::line_of;
use crate::model::mark::{KeyAction, Level, Removed, Statement, Target};
use crate::model::record::{CheckResult, ComponentLine, ObjectKind, ObjectRef};
use data_encoding::BASE64;

/// A key as its text and id.
fn key(n: u8) -> (String, SignerId) {
    let mut wire = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    wire.extend([n; 32]);
    let text = format!("ssh-ed25519 {}", BASE64.encode(&wire));
    let id = signer_of_text(&text).unwrap();
    (text, id)
}

fn host(n: u8) -> HostId {
    key(n).1.into()
}

fn store(n: u8) -> VaultId {
    VaultId::from_random([n; 17])
}

fn start() -> Timestamp {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

fn minutes(n: i64) -> Timestamp {
    start() + SignedDuration::from_mins(n)
}

/// A signer who writes entries, as an honest host does.
#[derive(Clone)]
struct Writer {
    n: u8,
    id: SignerId,
    host: HostId,
    number: u64,
    previous: Option<ObjectId>,
}

fn writer(n: u8) -> Writer {
    Writer { n, id: key(n).1, host: host(n), number: 1, previous: None }
}

impl Writer {
    fn entry(&mut self, entry: ChainEntry) -> ChainEntry {
        self.number += 1;
        self.previous = Some(entry.hash);
        entry
    }

    fn record_at(&mut self, minute: i64) -> ChainEntry {
        let started = minutes(minute);
        let object =
            ObjectRef { kind: ObjectKind::Archive, size: 1, id: ObjectId::of(&[self.n]), recipients: 0 };
        let component = ComponentLine {
            number: 1,
            size: 1,
            entries: 1,
            complete: true,
            check: CheckResult::Passed,
            setup: String::new(),
        };
        let record = Record {
            format: 1,
            needs: Vec::new(),
            doc: "record".into(),
            vault: store(0),
            snapshot: SnapshotId::new(started, [self.n; 5]),
            kind: SnapshotKind::Normal,
            host: self.host,
            signer: self.id,
            number: self.number,
            previous: self.previous,
            started,
            finished: started,
            complete: true,
            alone: true,
            components: vec![component],
            recipients: vec![Vec::new()],
            objects: vec![object],
            index: None,
            run: None,
            tags: Vec::new(),
            milestone: false,
            agent: "test".into(),
        };
        self.entry(rehash(EntryBody::Record(Arc::new(record))))
    }

    fn record(&mut self) -> ChainEntry {
        self.record_at(self.number.cast_signed())
    }

    fn mark_at(&mut self, time: Timestamp, statement: Statement) -> ChainEntry {
        let mark = Mark {
            format: 1,
            needs: Vec::new(),
            doc: "mark".into(),
            vault: store(0),
            host: self.host,
            signer: self.id,
            number: self.number,
            previous: self.previous,
            time,
            agent: "test".into(),
            statement,
        };
        self.entry(rehash(EntryBody::Mark(Box::new(mark))))
    }

    fn mark(&mut self, statement: Statement) -> ChainEntry {
        self.mark_at(minutes(self.number.cast_signed()), statement)
    }

    /// Introduces key `n` for this writer's host.
    fn introduce(&mut self, n: u8) -> (ChainEntry, Writer) {
        let number = self.number;
        let statement =
            Statement::Key { action: KeyAction::Introduce, key: key(n).0, host: self.host, last: None };
        let mark = self.mark(statement);
        let new = Writer { n, id: key(n).1, host: self.host, number: number + 1, previous: Some(mark.hash) };
        (mark, new)
    }

    fn retire(&mut self, n: u8, host: HostId, last: &ChainEntry) -> ChainEntry {
        let last = Some((last.number(), last.hash));
        self.mark(Statement::Key { action: KeyAction::Retire, key: key(n).0, host, last })
    }
}

fn rehash(body: EntryBody) -> ChainEntry {
    let line = match &body {
        EntryBody::Record(record) => line_of(record.as_ref()).unwrap(),
        EntryBody::Mark(mark) => line_of(mark).unwrap(),
    };
    ChainEntry { hash: ObjectId::of(&line), body }
}

/// The same entry, saying something else.
fn altered(entry: &ChainEntry) -> ChainEntry {
    let mut body = entry.body.clone();
    match &mut body {
        EntryBody::Record(record) => Arc::make_mut(record).tags.push("other".into()),
        EntryBody::Mark(mark) => mark.agent.push('x'),
    }
    rehash(body)
}

fn target(entry: &ChainEntry) -> Target {
    Target { snapshot: entry.snapshot().unwrap().clone(), record: entry.hash }
}

fn removed(entry: &ChainEntry) -> Removed {
    let snapshot = entry.snapshot().cloned();
    Removed { signer: entry.signer(), number: entry.number(), hash: entry.hash, snapshot }
}

fn trust(n: u8, roles: &[Role]) -> TrustedSigner {
    TrustedSigner { id: key(n).1, roles: roles.iter().copied().collect(), host: None }
}

/// Trusts key 1 as a host, 8 as a verifier and 9 as a pruner, and looks at store 1.
fn reader() -> Reader {
    Reader {
        trusted: vec![trust(1, &[Role::Host]), trust(8, &[Role::Verify]), trust(9, &[Role::Prune])],
        seen: Heads::new(),
        instances: [store(1)].into(),
        now: minutes(60),
        reverify: SignedDuration::from_hours(30 * 24),
    }
}

fn of(entries: &[&ChainEntry]) -> History {
    History::of(entries.iter().map(|e| (*e).clone()).collect(), &reader())
}

fn with(change: impl FnOnce(&mut Reader), entries: &[&ChainEntry]) -> History {
    let mut reader = reader();
    change(&mut reader);
    History::of(entries.iter().map(|e| (*e).clone()).collect(), &reader)
}

fn kinds(history: &History) -> Vec<(u64, BreakKind)> {
    history.breaks.iter().map(|b| (b.number, b.kind.clone())).collect()
}

fn trusts(history: &History, entry: &ChainEntry) -> Trust {
    history.hosts.values().flatten().find(|s| s.hash == entry.hash).unwrap().trusted
}

fn verdict(about: &ChainEntry, began: Timestamp, level: Level, good: bool) -> Verdict {
    let EntryBody::Record(record) = &about.body else { panic!("not a record") };
    let bad = if good { Vec::new() } else { vec![record.objects[0].id] };
    Verdict {
        target: target(about),
        instance: store(1),
        level,
        began,
        good,
        covered: vec![(0, 1)],
        bad,
        checks: Vec::new(),
    }
}

fn writer_at(writer: &Writer) -> Writer {
    writer.clone()
}
