//! The history of a vault: what its records and marks say together (sections 3 to 5 of the format).
//!
//! Everything here follows from entries whose signatures were checked before, from the keys that the reader trusts, from the highest
//! heads it has seen, and from the time it is given. What a key that is not trusted has signed must never change what a trusted one
//! said, and must never make the history look broken.

pub use crate::model::breaks::{Break, BreakKind};
use crate::model::chain_check::{self, Breaks};
use crate::model::excuses;
use crate::model::id::{HostId, ObjectId, SignerId, SnapshotId, VaultId};
use crate::model::mark::{Mark, Role, Verdict};
use crate::model::mark_rules;
use crate::model::proof;
use crate::model::record::{Record, SnapshotKind};
use crate::model::trust_rules::Keys;
pub use crate::model::trust_rules::signer_of_text;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What an entry of a chain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryBody {
    /// A record. Shared, because it may list very many objects.
    Record(Arc<Record>),
    /// A mark.
    Mark(Box<Mark>),
}

/// A record or mark whose signature, signer, vault and name were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainEntry {
    /// SHA-256 of its line 1.
    pub hash: ObjectId,
    /// What it says.
    pub body: EntryBody,
}

impl ChainEntry {
    /// A record.
    pub fn record(record: Record, hash: ObjectId) -> Self {
        Self { hash, body: EntryBody::Record(Arc::new(record)) }
    }

    /// A mark.
    pub fn mark(mark: Mark, hash: ObjectId) -> Self {
        Self { hash, body: EntryBody::Mark(Box::new(mark)) }
    }

    /// Who signed.
    pub fn signer(&self) -> SignerId {
        match &self.body {
            EntryBody::Record(record) => record.signer,
            EntryBody::Mark(mark) => mark.signer,
        }
    }

    /// Its place in the signer's chain.
    pub fn number(&self) -> u64 {
        match &self.body {
            EntryBody::Record(record) => record.number,
            EntryBody::Mark(mark) => mark.number,
        }
    }

    /// The hash of the entry before.
    pub fn previous(&self) -> Option<ObjectId> {
        match &self.body {
            EntryBody::Record(record) => record.previous,
            EntryBody::Mark(mark) => mark.previous,
        }
    }

    /// When it was made, as it says.
    pub fn time(&self) -> Timestamp {
        match &self.body {
            EntryBody::Record(record) => record.finished,
            EntryBody::Mark(mark) => mark.time,
        }
    }

    /// The snapshot, for records.
    pub fn snapshot(&self) -> Option<&SnapshotId> {
        match &self.body {
            EntryBody::Record(record) => Some(&record.snapshot),
            EntryBody::Mark(_) => None,
        }
    }

    pub(crate) fn as_mark(&self) -> Option<&Mark> {
        match &self.body {
            EntryBody::Mark(mark) => Some(mark),
            EntryBody::Record(_) => None,
        }
    }
}

/// A key that the configuration or the kit trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedSigner {
    /// Its id.
    pub id: SignerId,
    /// What it may do.
    pub roles: BTreeSet<Role>,
    /// With role `host`: a host that it also signs for, beside the one called after itself.
    pub host: Option<HostId>,
}

/// Highest entries seen: number and hash by signer.
pub type Heads = BTreeMap<SignerId, (u64, ObjectId)>;

/// What a reader brings to the entries of a store.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    /// The keys it trusts.
    pub trusted: Vec<TrustedSigner>,
    /// What it has ever seen of them. To be kept from [`History::heads`], all of it: a key that was introduced counts only as long as the
    /// chain which introduced it is held to what was seen.
    pub seen: Heads,
    /// The stores whose entries these are: one, or several looked at together.
    pub instances: BTreeSet<VaultId>,
    /// The present moment.
    pub now: Timestamp,
    /// How long a proof counts; the design's default is 30 days.
    pub reverify: SignedDuration,
}

/// Why a record is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Nobody vouches for the key.
    #[error("its key is not trusted")]
    UnknownKey,
    /// The key is trusted, but not for records of this host.
    #[error("its key is not one of that host")]
    NotOfHost,
    /// The key was retired before.
    #[error("its key was retired before this entry")]
    Retired,
    /// It lost when a fork was settled.
    #[error("it was dropped when a fork of the history was settled")]
    Dropped,
}

/// Whether a record is what its host said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Signed by a trusted key of its host.
    Trusted,
    /// Shown, never chosen by itself.
    Untrusted(Untrusted),
}

/// A verdict that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownVerdict {
    /// Who said so.
    pub signer: SignerId,
    /// The mark's place in that signer's chain.
    pub number: u64,
    /// When, as far as times of that signer can be believed.
    pub time: Timestamp,
    /// Whether the host said it about itself.
    pub own: bool,
    /// What was said.
    pub verdict: Verdict,
}

/// A mark that says that the commit of a snapshot did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownVoid {
    /// In which store; `None` for all.
    pub instance: Option<VaultId>,
    /// Why.
    pub reason: String,
    /// It follows on the record with nothing but marks between: so an honest run says it. One that comes later may be by whoever stole the
    /// key, about a snapshot that was whole.
    pub prompt: bool,
}

/// A snapshot with all that marks say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSnapshot {
    /// Its record.
    pub record: Arc<Record>,
    /// SHA-256 of line 1 of the record.
    pub hash: ObjectId,
    /// Whether its host said so.
    pub trusted: Trust,
    /// Why its commit did not hold, here.
    pub void: Option<String>,
    /// Every counting mark that says so, for whichever store.
    pub voids: Vec<KnownVoid>,
    /// Its tags, those of the record included.
    pub tags: BTreeSet<String>,
    /// Tags that it ever had and that no key with role `prune` took away: what retention goes by, so that a host whose key was stolen
    /// cannot let its old snapshots go by taking their tags.
    pub held_tags: BTreeSet<String>,
    /// Its note: base64 of an age file.
    pub note_sealed: Option<String>,
    /// Whether retention must keep it.
    pub milestone: bool,
    /// Whether somebody who may asked for it to go.
    pub delete_asked: bool,
    /// Components whose state was accepted (ends a freeze).
    pub accepted: BTreeSet<u64>,
    /// Verdicts that count, in order.
    pub verdicts: Vec<KnownVerdict>,
    /// The stores, among those looked at, in which it is good by its host's word or a verifier's. Whether all objects are there just now
    /// is not known here.
    pub good_in: BTreeSet<VaultId>,
    /// Those in which it is good by verifiers alone that are not its own host.
    pub good_by_others_in: BTreeSet<VaultId>,
    /// The same when also nothing bad that its own host says counts: a host whose key was stolen must not be able to take a proof away.
    pub sound_by_others_in: BTreeSet<VaultId>,
    /// Whether it is good in at least one of the stores looked at.
    pub good: bool,
}

impl KnownSnapshot {
    pub(crate) fn new(record: Arc<Record>, hash: ObjectId, trusted: Trust) -> Self {
        Self {
            tags: record.tags.iter().cloned().collect(),
            held_tags: record.tags.iter().cloned().collect(),
            milestone: record.milestone,
            record,
            hash,
            trusted,
            void: None,
            voids: Vec::new(),
            note_sealed: None,
            delete_asked: false,
            accepted: BTreeSet::new(),
            verdicts: Vec::new(),
            good_in: BTreeSet::new(),
            good_by_others_in: BTreeSet::new(),
            sound_by_others_in: BTreeSet::new(),
            good: false,
        }
    }

    /// True when it may be used without being named: trusted and not void.
    pub fn is_usable(&self) -> bool {
        self.trusted == Trust::Trusted && self.void.is_none()
    }
}

/// What a vault's records and marks say, as one reader sees them.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// By host: trusted snapshots in the order of the chain, then the others by id.
    pub hosts: BTreeMap<HostId, Vec<KnownSnapshot>>,
    /// What is wrong with the chains of trusted keys.
    pub breaks: Vec<Break>,
    /// The heads of trusted chains that are whole: to be remembered.
    pub heads: Heads,
    keys: Keys,
    next: BTreeMap<SignerId, (u64, Option<ObjectId>)>,
}

impl History {
    /// Works out what `entries` say to `reader`. An entry may come several times (from several stores).
    pub fn of(entries: Vec<ChainEntry>, reader: &Reader) -> Self {
        let entries = distinct(entries);
        let all = Keys::of(&reader.trusted, &entries, &BTreeSet::new());
        let marks = mark_rules::in_order(&entries, &all, &BTreeSet::new(), reader.now);
        let settled = excuses::settlements(&marks, &all);
        let keys = Keys::of(&reader.trusted, &entries, &settled.dropped);
        let Breaks { breaks, heads, next } = chain_check::check(&entries, &keys, &settled, reader);

        let marks = mark_rules::in_order(&entries, &keys, &settled.dropped, reader.now);
        let mut snapshots = mark_rules::snapshots(&entries, &keys, &settled.dropped);
        mark_rules::apply(&mut snapshots, &marks, &keys, &reader.instances);
        proof::judge(&mut snapshots, reader);

        let mut hosts: BTreeMap<HostId, Vec<KnownSnapshot>> = BTreeMap::new();
        for snapshot in snapshots {
            hosts.entry(snapshot.record.host).or_default().push(snapshot);
        }
        for snapshots in hosts.values_mut() {
            snapshots.sort_by(|a, b| order_of(a, &keys).cmp(&order_of(b, &keys)));
        }
        Self { hosts, breaks, heads, keys, next }
    }

    /// The snapshots of `host`: trusted ones in the order of the chain, then the others.
    pub fn snapshots(&self, host: &HostId) -> &[KnownSnapshot] {
        self.hosts.get(host).map_or(&[], Vec::as_slice)
    }

    /// What is wrong with chains of keys of `host`.
    pub fn breaks_of(&self, host: &HostId) -> Vec<&Break> {
        self.breaks.iter().filter(|b| self.keys.is_of(&b.signer, host)).collect()
    }

    /// The newest snapshot of `host`, or the breaks because of which nobody can know it.
    pub fn latest(&self, host: &HostId) -> Result<Option<&KnownSnapshot>, Vec<&Break>> {
        let breaks = self.breaks_of(host);
        if !breaks.is_empty() {
            return Err(breaks);
        }
        let normal = |s: &&KnownSnapshot| s.is_usable() && s.record.kind == SnapshotKind::Normal;
        Ok(self.snapshots(host).iter().rev().find(normal))
    }

    /// Number and `previous` of the entry that `signer` is to write next, after all that is there and all that was seen.
    ///
    /// A writer must look at [`History::breaks`] first: after a fork or a roll-back this continues the higher side.
    pub fn next(&self, signer: &SignerId) -> (u64, Option<ObjectId>) {
        self.next.get(signer).copied().unwrap_or((1, None))
    }

    /// Who may sign what.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }
}

/// Trusted before untrusted; trusted ones by number, and of equal numbers the older key's first.
fn order_of<'a>(
    snapshot: &'a KnownSnapshot,
    keys: &Keys,
) -> (bool, u64, usize, &'a SnapshotId, &'a ObjectId) {
    let record = &snapshot.record;
    match snapshot.trusted {
        Trust::Trusted => {
            (false, record.number, keys.depth(&record.signer), &record.snapshot, &snapshot.hash)
        }
        Trust::Untrusted(_) => (true, 0, 0, &record.snapshot, &snapshot.hash),
    }
}

fn distinct(mut entries: Vec<ChainEntry>) -> Vec<ChainEntry> {
    entries.sort_by_key(|e| (e.signer(), e.number(), e.hash));
    entries.dedup_by_key(|e| (e.signer(), e.number(), e.hash));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::document::line_of;
    use crate::model::mark::{KeyAction, Level, Removed, Statement, Target};
    use crate::model::record::{CheckResult, ComponentLine, ObjectKind, ObjectRef};
    use data_encoding::BASE64;
    use proptest::prelude::*;

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
            let new =
                Writer { n, id: key(n).1, host: self.host, number: number + 1, previous: Some(mark.hash) };
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

    #[test]
    fn a_whole_chain_has_a_newest_and_says_how_to_go_on() {
        let mut one = writer(1);
        let (a, b) = (one.record(), one.record());
        let history = of(&[&b, &a, &b]);
        assert_eq!(history.breaks, []);
        assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, b.hash);
        assert_eq!(history.next(&key(1).1), (3, Some(b.hash)));
        assert_eq!(history.heads, [(key(1).1, (2, b.hash))].into());
        assert_eq!(history.next(&key(5).1), (1, None));
        assert_eq!(of(&[]).latest(&host(1)).unwrap(), None);
    }

    #[test]
    fn a_forged_snapshot_is_untrusted_and_never_the_newest() {
        let mut one = writer(1);
        let a = one.record();
        let mut thief = Writer { host: host(1), ..writer(66) };
        let garbage: Vec<ChainEntry> = (0..3).map(|_| thief.record()).collect();
        let forked = altered(&garbage[1]);
        // A verifier's key is trusted, but not as this host.
        let mut verifier = Writer { host: host(1), ..writer(8) };
        let by_verifier = verifier.record_at(30);
        let history = of(&[&a, &garbage[0], &garbage[2], &forked, &by_verifier]);
        assert_eq!(history.breaks, [], "what anybody can write must not stop the host");
        assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, a.hash);
        assert_eq!(trusts(&history, &forked), Trust::Untrusted(Untrusted::UnknownKey));
        assert_eq!(trusts(&history, &by_verifier), Trust::Untrusted(Untrusted::NotOfHost));
        assert_eq!(history.snapshots(&host(1))[0].hash, a.hash, "trusted ones come first");
    }

    #[test]
    fn a_hidden_newest_is_noticed_by_whoever_saw_it() {
        let mut one = writer(1);
        let entries: Vec<ChainEntry> = (0..3).map(|_| one.record()).collect();
        let seen: Heads = [(key(1).1, (3, entries[2].hash))].into();
        let history = with(|r| r.seen = seen.clone(), &[&entries[0], &entries[1]]);
        assert_eq!(kinds(&history), [(3, BreakKind::RolledBack { seen: 3, found: 2 })]);
        assert!(history.latest(&host(1)).is_err());
        assert!(history.heads.is_empty(), "what was seen stays the measure");
        assert_eq!(history.next(&key(1).1), (4, Some(entries[2].hash)), "no number is given twice");
        let all_gone = with(|r| r.seen = seen.clone(), &[]);
        assert_eq!(kinds(&all_gone), [(1, BreakKind::RolledBack { seen: 3, found: 0 })]);
        let rewritten = altered(&entries[2]);
        let history = with(|r| r.seen = seen, &[&entries[0], &entries[1], &rewritten]);
        assert_eq!(kinds(&history), [(3, BreakKind::Rewritten { seen: entries[2].hash })]);
        assert_eq!(history.breaks[0].snapshot.as_ref(), entries[2].snapshot());
        assert_eq!(of(&[&entries[0], &entries[1]]).breaks, [], "a fresh reader cannot know");
    }

    #[test]
    fn gaps_forks_and_wrong_order_are_told_with_their_place() {
        let mut one = writer(1);
        let entries: Vec<ChainEntry> = (0..5).map(|_| one.record()).collect();
        let history = of(&[&entries[0], &entries[3], &entries[4]]);
        assert_eq!(kinds(&history), [(2, BreakKind::Gap { to: 3 })]);
        assert!(history.breaks[0].to_string().contains("entries 2 to 3"));
        assert_eq!(kinds(&of(&[&entries[2]])), [(1, BreakKind::Gap { to: 2 })]);
        let fork = altered(&entries[4]);
        let history = of(&[&entries[0], &entries[1], &entries[2], &entries[3], &entries[4], &fork]);
        assert!(matches!(&kinds(&history)[..], [(5, BreakKind::Forked { hashes })] if hashes.len() == 2));
        let other = altered(&entries[1]);
        let history = of(&[&entries[0], &other, &entries[2]]);
        assert_eq!(kinds(&history), [(3, BreakKind::WrongPrevious)]);
        assert_eq!(history.breaks[0].snapshot.as_ref(), entries[2].snapshot());
        let mut begun = one.clone();
        (begun.number, begun.previous) = (1, Some(ObjectId::of(b"x")));
        assert_eq!(kinds(&of(&[&begun.record()])), [(1, BreakKind::WrongPrevious)]);
    }

    #[test]
    fn an_introduced_key_goes_on_in_the_host_s_sequence() {
        let mut one = writer(1);
        let a = one.record();
        let (mark, mut two) = one.introduce(2);
        let next_of_new = of(&[&a, &mark]).next(&key(2).1);
        assert_eq!(next_of_new, (3, Some(mark.hash)));
        let b = two.record();
        let (second, mut three) = two.introduce(3);
        let c = three.record();
        let history = of(&[&a, &mark, &b, &second, &c]);
        assert_eq!(history.breaks, []);
        assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, c.hash, "introduction is transitive");
        // Without the mark the keys after it are nobody's.
        let hidden = of(&[&a, &b, &second, &c]);
        assert_eq!(trusts(&hidden, &b), Trust::Untrusted(Untrusted::UnknownKey));
        assert_eq!(trusts(&hidden, &c), Trust::Untrusted(Untrusted::UnknownKey));
        let seen = history.heads.clone();
        let hidden = with(|r| r.seen = seen, &[&a, &b, &second, &c]);
        assert!(hidden.latest(&host(1)).is_err(), "the chain that introduced it went back");
        // The first entry of an introduced key hidden.
        assert_eq!(kinds(&of(&[&a, &mark, &second])), [(3, BreakKind::Gap { to: 3 })]);
    }

    #[test]
    fn a_key_the_reader_trusts_itself_may_begin_after_a_mark_of_one_it_does_not() {
        let mut one = writer(1);
        let a = one.record();
        let (mark, mut two) = one.introduce(2);
        let b = two.record();
        let c = two.record();
        let new = TrustedSigner { host: Some(host(1)), ..trust(2, &[Role::Host]) };
        let history = with(|r| r.trusted = vec![new.clone()], &[&a, &mark, &b, &c]);
        assert_eq!(history.breaks, []);
        assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, c.hash);
        assert_eq!(trusts(&history, &a), Trust::Untrusted(Untrusted::UnknownKey));
        let history = with(|r| r.trusted = vec![new], &[&a, &mark, &c]);
        assert!(!history.breaks.is_empty());
    }

    #[test]
    fn introduction_gives_the_role_host_for_one_host_and_only_by_its_keys() {
        let (mut one, mut other) = (writer(1), writer(4));
        let foreign =
            Statement::Key { action: KeyAction::Introduce, key: key(2).0, host: host(1), last: None };
        let marks = [other.mark(foreign.clone()), writer(66).mark(foreign)];
        let mut two = Writer { number: 1, previous: None, host: host(1), ..writer(2) };
        let record = two.record();
        let four = |r: &mut Reader| r.trusted.push(trust(4, &[Role::Host]));
        let history = with(four, &[&marks[0], &marks[1], &record]);
        assert_eq!(trusts(&history, &record), Trust::Untrusted(Untrusted::UnknownKey));
        // An introduced key is no pruner, and none for other hosts.
        let a = one.record();
        let (mark, mut two) = one.introduce(2);
        let delete = two.mark(Statement::Delete(target(&a)));
        let of_four = other.record();
        two.host = host(4);
        let strange = two.record();
        let history = with(four, &[&a, &mark, &delete, &marks[0], &of_four, &strange]);
        assert!(!history.snapshots(&host(1))[0].delete_asked);
        assert_eq!(trusts(&history, &strange), Trust::Untrusted(Untrusted::NotOfHost));
    }

    #[test]
    fn a_retired_key_counts_up_to_its_last_entry() {
        let mut one = writer(1);
        let a = one.record();
        let (mark, mut two) = one.introduce(2);
        let retire = two.retire(1, host(1), &mark);
        let b = two.record();
        // The thief of the old key goes on, back-dated and with garbage of all kinds.
        let stolen = [one.record_at(1), one.record_at(2)];
        let forked = altered(&stolen[1]);
        let (introduced, mut thief) = one.introduce(66);
        let by_thief = thief.record();
        let revenge = one.retire(2, host(1), &retire);
        let all = [&a, &mark, &retire, &b, &stolen[0], &stolen[1], &forked, &introduced, &by_thief, &revenge];
        let history = of(&all);
        assert_eq!(history.breaks, []);
        assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, b.hash);
        assert_eq!(trusts(&history, &a), Trust::Trusted);
        assert_eq!(trusts(&history, &stolen[0]), Trust::Untrusted(Untrusted::Retired));
        assert_eq!(trusts(&history, &by_thief), Trust::Untrusted(Untrusted::UnknownKey));
        assert!(
            history.keys().may_sign_for(&key(2).1, &host(1))
                && !history.keys().may_sign_for(&key(1).1, &host(1))
        );
        // Who retired the key knew its last entry: also a reader that never saw it is told when that is hidden.
        let both = |r: &mut Reader| {
            r.trusted.push(TrustedSigner { host: Some(host(1)), ..trust(2, &[Role::Host]) });
        };
        assert_eq!(with(both, &all).breaks, []);
        let hidden = with(both, &[&a, &retire, &b]);
        assert!(
            kinds(&hidden).contains(&(2, BreakKind::RolledBack { seen: 2, found: 1 })),
            "{:?}",
            hidden.breaks
        );
        let replaced = altered(&mark);
        assert!(with(both, &[&a, &replaced, &retire, &b]).latest(&host(1)).is_err());
    }

    #[test]
    fn a_host_cannot_take_a_verifier_s_or_pruner_s_roles_away() {
        let (mut one, mut pruner) = (writer(1), writer(9));
        let a = one.record();
        let first = pruner.mark(Statement::Delete(target(&a)));
        let introduce =
            Statement::Key { action: KeyAction::Introduce, key: key(9).0, host: host(1), last: None };
        let marks = [one.mark(introduce), one.retire(9, host(1), &first)];
        let second = pruner.mark(Statement::Milestone { target: target(&a), on: true });
        let history = of(&[&a, &first, &marks[0], &marks[1], &second]);
        assert!(history.keys().may(&key(9).1, Role::Prune));
        assert!(history.snapshots(&host(1))[0].milestone);
    }

    #[test]
    fn a_pruner_may_retire_any_key_and_a_key_itself() {
        let (mut one, mut pruner) = (writer(1), writer(9));
        let (a, b) = (one.record(), one.record());
        let retire = pruner.retire(1, host(1), &a);
        let history = of(&[&a, &b, &retire]);
        assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, a.hash);
        assert_eq!(history.keys().retired(&key(1).1), Some((1, a.hash)));
        let own = one.retire(1, host(1), &b);
        let late = one.record();
        let history = of(&[&a, &b, &own, &late]);
        assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, b.hash);
        // Its own retirement must not be hidden either.
        let seen = history.heads.clone();
        assert!(!with(|r| r.seen = seen, &[&a, &b]).breaks.is_empty());
    }

    #[test]
    fn marks_without_authority_have_no_effect() {
        let (mut one, mut verifier, mut pruner, mut nobody) = (writer(1), writer(8), writer(9), writer(66));
        let record = one.record();
        let about = target(&record);
        let statements = || {
            [
                Statement::Void { target: about.clone(), instance: None, reason: "x".into() },
                Statement::Tag { target: about.clone(), add: vec!["t".into()], remove: Vec::new() },
                Statement::Note { target: about.clone(), sealed: "n".into() },
                Statement::Milestone { target: about.clone(), on: true },
                Statement::Delete(about.clone()),
                Statement::Accept { target: about.clone(), components: vec![1], reason: "x".into() },
            ]
        };
        let effect = |by: &mut Writer| {
            let marks: Vec<ChainEntry> = statements().into_iter().map(|s| by.mark(s)).collect();
            let mut all = vec![&record];
            all.extend(&marks);
            let history = of(&all);
            assert_eq!(history.breaks, []);
            let s = &history.snapshots(&host(1))[0];
            let noted = s.note_sealed.is_some();
            [
                s.void.is_some(),
                s.tags.contains("t"),
                noted,
                s.milestone,
                s.delete_asked,
                s.accepted.contains(&1),
            ]
        };
        assert_eq!(effect(&mut nobody), [false; 6]);
        assert_eq!(effect(&mut verifier), [false; 6]);
        assert_eq!(effect(&mut pruner), [false, true, true, true, true, true]);
        assert_eq!(effect(&mut one), [true, true, true, true, false, false]);
    }

    #[test]
    fn a_mark_counts_for_the_record_it_names_only() {
        let (mut one, mut thief) = (writer(1), Writer { host: host(1), ..writer(66) });
        let ours = one.record_at(5);
        let mut forged = thief.record_at(5);
        if let EntryBody::Record(record) = &mut forged.body {
            Arc::make_mut(record).snapshot = ours.snapshot().unwrap().clone();
        }
        let forged = rehash(forged.body);
        let void = one.mark(Statement::Void { target: target(&forged), instance: None, reason: "x".into() });
        let history = of(&[&ours, &forged, &void]);
        assert_eq!(history.latest(&host(1)).unwrap().unwrap().hash, ours.hash);
    }

    #[test]
    fn voids_count_where_they_were_said() {
        let mut one = writer(1);
        let (a, b) = (one.record(), one.record());
        let here =
            one.mark(Statement::Void { target: target(&b), instance: Some(store(1)), reason: "lost".into() });
        let latest = |instances: &[u8]| {
            let history =
                with(|r| r.instances = instances.iter().map(|n| store(*n)).collect(), &[&a, &b, &here]);
            history.latest(&host(1)).unwrap().unwrap().hash
        };
        assert_eq!(latest(&[1]), a.hash);
        assert_eq!(latest(&[2]), b.hash);
        assert_eq!(latest(&[1, 2]), b.hash);
    }

    #[test]
    fn tags_and_milestones_are_taken_back_by_those_who_may() {
        let (mut one, mut pruner) = (writer(1), writer(9));
        let a = one.record();
        let about = target(&a);
        let tag = |add: &[&str], remove: &[&str]| {
            let owned = |tags: &[&str]| tags.iter().map(ToString::to_string).collect();
            Statement::Tag { target: about.clone(), add: owned(add), remove: owned(remove) }
        };
        let marks = [
            one.mark_at(minutes(1), tag(&["mine", "both", "gone"], &[])),
            pruner.mark_at(minutes(2), tag(&["theirs", "both"], &["gone"])),
            one.mark_at(minutes(3), tag(&[], &["mine", "theirs", "both"])),
            one.mark_at(minutes(4), Statement::Milestone { target: about.clone(), on: true }),
            one.mark_at(minutes(5), Statement::Milestone { target: about.clone(), on: false }),
        ];
        let history = of(&[&a, &marks[0], &marks[1], &marks[2], &marks[3], &marks[4]]);
        let snapshot = &history.snapshots(&host(1))[0];
        assert_eq!(snapshot.tags, ["both".to_owned(), "theirs".to_owned()].into());
        assert!(snapshot.milestone, "a host cannot end what holds its past");
        let off = pruner.mark_at(minutes(6), Statement::Milestone { target: about.clone(), on: false });
        let history = of(&[&a, &marks[0], &marks[1], &marks[2], &marks[3], &marks[4], &off]);
        assert!(!history.snapshots(&host(1))[0].milestone);
    }

    #[test]
    fn impossible_times_do_not_make_a_mark_the_last_word() {
        let (mut one, mut pruner) = (writer(1), writer(9));
        let a = one.record_at(1);
        let note = |text: &str| Statement::Note { target: target(&a), sealed: text.into() };
        let future = one.mark_at(minutes(60 * 24 * 365), note("from the future"));
        let plain = pruner.mark_at(minutes(10), note("plain"));
        let back = pruner.mark_at(minutes(2), note("clock set back"));
        let sealed =
            |entries: &[&ChainEntry]| of(entries).snapshots(&host(1))[0].note_sealed.clone().unwrap();
        assert_eq!(sealed(&[&a, &future, &plain]), "plain");
        assert_eq!(
            sealed(&[&a, &future, &plain, &back]),
            "clock set back",
            "of one signer the number decides"
        );
    }

    #[test]
    fn pruned_entries_are_excused_in_their_store_and_no_other() {
        let (mut one, mut pruner) = (writer(1), writer(9));
        let entries: Vec<ChainEntry> = (0..4).map(|_| one.record()).collect();
        let gone = vec![removed(&entries[0]), removed(&entries[1])];
        let prune = pruner.mark(Statement::Prune { instance: store(1), removed: gone.clone() });
        assert_eq!(of(&[&entries[2], &entries[3], &prune]).breaks, []);
        assert_eq!(
            of(&[&entries[1], &entries[2], &entries[3], &prune]).breaks,
            [],
            "one that is still there is used"
        );
        let elsewhere = with(|r| r.instances = [store(2)].into(), &[&entries[2], &entries[3], &prune]);
        assert!(!elsewhere.breaks.is_empty());
        let both = with(|r| r.instances = [store(1), store(2)].into(), &[&entries[2], &entries[3], &prune]);
        assert!(!both.breaks.is_empty(), "another store must still have them");
        assert!(!of(&[&entries[3], &prune]).breaks.is_empty(), "only what is listed");
        let by_host = one.mark(Statement::Prune { instance: store(1), removed: gone.clone() });
        assert!(!of(&[&entries[2], &entries[3], &by_host]).breaks.is_empty(), "a host cannot prune");
        // Another hash than the next entry names: the pruner saw another history.
        let mut wrong = gone.clone();
        wrong[1].hash = ObjectId::of(b"other");
        let wrong = writer(9).mark(Statement::Prune { instance: store(1), removed: wrong });
        assert_eq!(kinds(&of(&[&entries[2], &entries[3], &wrong])), [(3, BreakKind::WrongPrevious)]);
        // Everything may go, the head stays known.
        let all: Vec<Removed> = entries.iter().map(removed).collect();
        let all = writer(9).mark(Statement::Prune { instance: store(1), removed: all });
        let seen: Heads = [(key(1).1, (4, entries[3].hash))].into();
        assert_eq!(with(|r| r.seen = seen, &[&all]).breaks, []);
    }

    #[test]
    fn absent_marks_excuse_the_signer_s_own_entries() {
        let (mut one, mut other) = (writer(1), writer(4));
        let (a, b) = (one.record(), one.record());
        let own = one.mark(Statement::Absent { instance: store(1), entries: vec![removed(&b)] });
        assert_eq!(of(&[&a, &own]).breaks, []);
        let foreign = other.mark(Statement::Absent { instance: store(1), entries: vec![removed(&a)] });
        let history = with(|r| r.trusted.push(trust(4, &[Role::Host, Role::Prune])), &[&b, &foreign]);
        assert_eq!(kinds(&history), [(1, BreakKind::Gap { to: 1 })]);
    }

    #[test]
    fn a_settled_fork_or_loss_is_no_break() {
        let (mut one, mut pruner) = (writer(1), writer(9));
        let (a, b) = (one.record(), one.record());
        let c = one.record();
        let fork = altered(&b);
        let settle = |keep, drop: &[&ChainEntry]| {
            let drop = drop.iter().map(|e| e.hash).collect();
            Statement::Settle { of: key(1).1, entry: 2, keep, drop }
        };
        let mark = pruner.mark(settle(Some(b.hash), &[&fork]));
        let history = of(&[&a, &b, &fork, &c, &mark]);
        assert_eq!(history.breaks, []);
        assert_eq!(trusts(&history, &fork), Trust::Untrusted(Untrusted::Dropped));
        let seen: Heads = [(key(1).1, (2, fork.hash))].into();
        assert_eq!(
            with(|r| r.seen = seen, &[&a, &b, &fork, &c, &mark]).breaks,
            [],
            "whoever saw the other side, too"
        );
        // A loss that nobody knows the hash of.
        let lost = writer(9).mark(settle(None, &[]));
        assert_eq!(of(&[&a, &c, &lost]).breaks, []);
        assert!(!of(&[&a, &c]).breaks.is_empty());
        // Not by the forked signer alone, whatever roles it has.
        let own = one.mark(settle(Some(b.hash), &[&fork]));
        let all_roles = |r: &mut Reader| r.trusted = vec![trust(1, &[Role::Host, Role::Prune])];
        assert!(!with(all_roles, &[&a, &b, &fork, &c, &own]).breaks.is_empty());
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

    #[test]
    fn good_is_what_was_read_back_lately_by_somebody_who_counts() {
        let (mut one, mut verifier, mut nobody) = (writer(1), writer(8), writer(66));
        let a = one.record_at(0);
        let good = |marks: &[&ChainEntry]| {
            let mut all = vec![&a];
            all.extend(marks);
            let history = of(&all);
            let snapshot = &history.snapshots(&host(1))[0];
            (snapshot.good, !snapshot.good_by_others_in.is_empty())
        };
        let read = |began| Statement::Verdict(verdict(&a, began, Level::Read, true));
        let later = |n: i64| minutes(10 + n);
        assert_eq!(good(&[]), (false, false));
        let own = one.mark_at(later(0), read(later(0)));
        assert_eq!(good(&[&own]), (true, false));
        let other = verifier.mark_at(later(1), read(later(1)));
        assert_eq!(good(&[&other]), (true, true));
        assert_eq!(good(&[&nobody.mark_at(later(2), read(later(2)))]), (false, false));
        let presence = Statement::Verdict(verdict(&a, later(0), Level::Presence, true));
        assert_eq!(good(&[&writer(8).mark_at(later(1), presence)]), (false, false));
        let put = Statement::Verdict(verdict(&a, later(0), Level::Put, true));
        assert_eq!(good(&[&writer(8).mark_at(later(1), put)]), (true, true));
        // A proof that began too long ago, whatever the mark's own time.
        let old = read(start() - SignedDuration::from_hours(31 * 24));
        assert_eq!(good(&[&writer(8).mark_at(later(1), old)]), (false, false));
        // Found bad later, by presence alone; then repaired and proved again.
        let bad =
            verifier.mark_at(later(5), Statement::Verdict(verdict(&a, later(5), Level::Presence, false)));
        assert_eq!(good(&[&own, &other, &bad]), (false, false));
        let again = one.mark_at(later(6), read(later(6)));
        assert_eq!(good(&[&own, &other, &bad, &again]), (true, false), "the verifier has not looked since");
        // In another store it says nothing here.
        let mut elsewhere = verdict(&a, later(1), Level::Read, true);
        elsewhere.instance = store(2);
        assert_eq!(good(&[&writer(8).mark_at(later(1), Statement::Verdict(elsewhere))]), (false, false));
    }

    #[test]
    fn a_failed_check_or_drill_makes_a_snapshot_not_good() {
        let (mut one, mut verifier) = (writer(1), writer(8));
        let a = one.record_at(0);
        let read =
            verifier.mark_at(minutes(1), Statement::Verdict(verdict(&a, minutes(1), Level::Read, true)));
        let mut failed = verdict(&a, minutes(2), Level::Drill, true);
        failed.checks = vec![(1, CheckResult::Failed)];
        let mut drill = verdict(&a, minutes(2), Level::Drill, true);
        drill.good = false;
        for (statement, mended) in [(failed, Level::Drill), (drill, Level::Drill)] {
            let mut verifier = verifier.clone();
            let fails = verifier.mark_at(minutes(2), Statement::Verdict(statement));
            assert!(!of(&[&a, &read, &fails]).snapshots(&host(1))[0].good);
            let shallow = verifier
                .clone()
                .mark_at(minutes(3), Statement::Verdict(verdict(&a, minutes(3), Level::Read, true)));
            assert!(!of(&[&a, &read, &fails, &shallow]).snapshots(&host(1))[0].good);
            let mut passes = verdict(&a, minutes(3), mended, true);
            passes.checks = vec![(1, CheckResult::Passed)];
            let passes = verifier.mark_at(minutes(3), Statement::Verdict(passes));
            assert!(of(&[&a, &read, &fails, &passes]).snapshots(&host(1))[0].good);
        }
        // What the record itself says stays.
        let mut broken = writer(1).record_at(0);
        if let EntryBody::Record(record) = &mut broken.body {
            Arc::make_mut(record).components[0].check = CheckResult::Failed;
        }
        let broken = rehash(broken.body);
        let read = writer(8)
            .mark_at(minutes(1), Statement::Verdict(verdict(&broken, minutes(1), Level::Read, true)));
        assert!(!of(&[&broken, &read]).snapshots(&host(1))[0].good);
    }

    #[test]
    fn verdicts_of_a_host_reach_no_other_host() {
        let (mut one, mut other) = (writer(1), writer(4));
        let a = one.record_at(0);
        // The other host lists our object among its own and says what it likes of it.
        let mut theirs = other.record_at(1);
        if let (EntryBody::Record(theirs), EntryBody::Record(ours)) = (&mut theirs.body, &a.body) {
            Arc::make_mut(theirs).objects.clone_from(&ours.objects);
        }
        let theirs = rehash(theirs.body);
        let read = one.mark_at(minutes(2), Statement::Verdict(verdict(&a, minutes(2), Level::Read, true)));
        let bad =
            other.mark_at(minutes(3), Statement::Verdict(verdict(&theirs, minutes(3), Level::Read, false)));
        let four = |r: &mut Reader| r.trusted.push(trust(4, &[Role::Host]));
        assert!(with(four, &[&a, &theirs, &read, &bad]).snapshots(&host(1))[0].good);
        let says_good =
            writer(4).mark_at(minutes(3), Statement::Verdict(verdict(&a, minutes(3), Level::Read, true)));
        assert!(!with(four, &[&a, &says_good]).snapshots(&host(1))[0].good);
    }

    #[test]
    fn a_range_beyond_the_objects_is_no_proof_and_no_panic() {
        let mut one = writer(1);
        let a = one.record_at(0);
        for covered in [vec![(0, u64::MAX)], vec![(1, 0)], vec![(u64::MAX, u64::MAX)], vec![(5, 2)]] {
            let mut strange = verdict(&a, minutes(1), Level::Read, true);
            strange.covered = covered.clone();
            let mark = writer_at(&one).mark(Statement::Verdict(strange));
            assert_eq!(of(&[&a, &mark]).snapshots(&host(1))[0].good, covered[0].0 == 0, "{covered:?}");
        }
    }

    fn writer_at(writer: &Writer) -> Writer {
        writer.clone()
    }

    #[test]
    fn numbers_at_the_end_of_the_range_do_no_harm() {
        let mut one = Writer { number: u64::MAX - 1, previous: Some(ObjectId::of(b"x")), ..writer(1) };
        let mut last = one.record_at(0);
        if let EntryBody::Record(record) = &mut last.body {
            Arc::make_mut(record).number = u64::MAX;
        }
        let last = rehash(last.body);
        let history = of(&[&last]);
        assert_eq!(kinds(&history), [(1, BreakKind::Gap { to: u64::MAX - 1 })]);
        assert_eq!(history.next(&key(1).1).0, u64::MAX);
    }

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
                (1, Some(record)) => {
                    now.mark(Statement::Note { target: target(&record), sealed: String::new() })
                }
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
}
