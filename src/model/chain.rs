//! The history of a vault: what its records and marks say together (sections 3 to 5 of the format).
//!
//! Everything here follows from entries whose signatures were checked before, from the keys that the reader trusts, from the highest
//! heads it has seen, and from the time it is given. What a key that is not trusted has signed must never change what a trusted one
//! said, and must never make the history look broken.

pub use crate::model::breaks::{Break, BreakKind};
use crate::model::chain_check::{self, Breaks};
use crate::model::excuses;
use crate::model::id::{HostId, ObjectId, SignerId, SnapshotId, VaultId};
use crate::model::mark::{KeyAction, Mark, Role, Statement, Verdict};
use crate::model::mark_rules;
use crate::model::proof;
use crate::model::record::{Record, SnapshotKind};
pub use crate::model::trust_rules::signer_of_text;
use crate::model::trust_rules::{Dropped, Keys};
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

    /// The key that it introduces.
    pub(crate) fn introduces(&self) -> Option<SignerId> {
        match &self.as_mark()?.statement {
            Statement::Key { action: KeyAction::Introduce, key, .. } => signer_of_text(key),
            _ => None,
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
    /// Components whose state was accepted (ends a freeze), each with when that was said last.
    pub accepted: BTreeMap<u64, Timestamp>,
    /// Verdicts that count, in order.
    pub verdicts: Vec<KnownVerdict>,
    /// The stores, among those looked at, in which it is good by its host's word or a verifier's. Whether all objects are there just now
    /// is not known here.
    pub good_in: BTreeSet<VaultId>,
    /// Those in which it is good by verifiers alone that are not its own host.
    pub good_by_others_in: BTreeSet<VaultId>,
    /// The same when also nothing bad that its own host says counts: a host whose key was stolen must not be able to take a proof away.
    pub sound_by_others_in: BTreeSet<VaultId>,
    /// Where it was good at some time, however long ago that was proved.
    pub once_good: OnceGood,
    /// Whether it is good in at least one of the stores looked at.
    pub good: bool,
}

/// The stores in which a snapshot was good at some time, and nothing was found bad since: each set as the one of its name for what is good now, which it
/// includes. Proofs grow old, but that a backup once went well does not: whether one is missing for long, or a component shrank, must not change by waiting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OnceGood {
    /// By the word of its host or a verifier: [`KnownSnapshot::good_in`].
    pub by_all: BTreeSet<VaultId>,
    /// By verifiers alone: [`KnownSnapshot::good_by_others_in`].
    pub by_others: BTreeSet<VaultId>,
    /// By verifiers alone, whatever its own host says against it: [`KnownSnapshot::sound_by_others_in`].
    pub sound_by_others: BTreeSet<VaultId>,
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
            accepted: BTreeMap::new(),
            verdicts: Vec::new(),
            good_in: BTreeSet::new(),
            good_by_others_in: BTreeSet::new(),
            sound_by_others_in: BTreeSet::new(),
            once_good: OnceGood::default(),
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
    dropped: Dropped,
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
        excuses::pruned_is_not_good(&mut snapshots, &marks, &keys);

        let mut hosts: BTreeMap<HostId, Vec<KnownSnapshot>> = BTreeMap::new();
        for snapshot in snapshots {
            hosts.entry(snapshot.record.host).or_default().push(snapshot);
        }
        for snapshots in hosts.values_mut() {
            snapshots.sort_by(|a, b| order_of(a, &keys).cmp(&order_of(b, &keys)));
        }
        Self { hosts, breaks, heads, keys, dropped: settled.dropped, next }
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

    /// True when that entry lost when a fork was settled: whoever saw it need not find it any more.
    pub fn is_dropped(&self, signer: &SignerId, number: u64, hash: &ObjectId) -> bool {
        self.dropped.contains(&(*signer, number, *hash))
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

/// Each entry once, in the order of signers and numbers.
pub(crate) fn distinct(mut entries: Vec<ChainEntry>) -> Vec<ChainEntry> {
    entries.sort_by_key(|e| (e.signer(), e.number(), e.hash));
    entries.dedup_by_key(|e| (e.signer(), e.number(), e.hash));
    entries
}

#[cfg(test)]
mod tests;
