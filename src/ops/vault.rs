//! What stores hold: every record and mark read, every signature and chain verified, every time. Of several stores the union is judged, and
//! it stays known which entry lies where.

use crate::catalog::{Head, State};
use crate::keys::TrustList;
use crate::keys::signed::{OpenError, open_document};
use crate::model::chain::{ChainEntry, EntryBody, Heads, History, KnownSnapshot, Reader};
use crate::model::document::{DOCUMENT_BYTES_MAX, DocumentError, namespace};
use crate::model::mark::{Mark, Statement};
use crate::model::settling::{Unsettled, settling};
use crate::model::{HostId, ObjectId, Record, SignerId, VaultId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::many::try_each;
use crate::ops::versions::older_document;
use crate::store::{Key, Prefix, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// `backstay.json`: what a store says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreInfo {
    /// Format number.
    pub format: u32,
    /// Words a reader must know.
    pub needs: Vec<String>,
    /// `store`.
    #[serde(rename = "type")]
    pub doc: String,
    /// The vault it belongs to.
    pub vault: VaultId,
    /// This very store.
    pub instance: VaultId,
    /// When it was made.
    pub created: jiff::Timestamp,
    /// By what.
    pub agent: String,
}

/// A document that cannot be used, and why.
#[derive(Debug, Clone, Serialize)]
pub struct BadDocument {
    /// Its key.
    pub key: String,
    /// What is wrong.
    pub why: String,
    /// Written by a later program: not damage.
    pub too_new: bool,
}

/// Everything signed that one store holds, read and its signatures verified.
pub struct StoreReading {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What it says of itself.
    pub info: StoreInfo,
    /// Its entries.
    pub entries: Vec<ChainEntry>,
    /// Documents in it that cannot be used.
    pub bad: Vec<BadDocument>,
    /// Documents whose present version cannot be used, and that were read from an older one; with what is wrong.
    pub older: Vec<BadDocument>,
    /// An older version of a document that cannot be used may be whole, and is not shown to these keys.
    pub hidden: bool,
    /// The highest entries that were seen in it before it was read. What another run puts and remembers meanwhile is no reason to find too little.
    pub seen: Heads,
}

/// Signer, number and hash of an entry.
pub type EntryName = (SignerId, u64, ObjectId);

/// Names an entry.
pub fn name_of(entry: &ChainEntry) -> EntryName {
    (entry.signer(), entry.number(), entry.hash)
}

/// The key that an entry lies under.
pub fn key_of(entry: &ChainEntry) -> Key {
    match &entry.body {
        EntryBody::Record(r) => Key::Record(r.snapshot.clone()),
        EntryBody::Mark(m) => Key::Mark(m.signer, m.number),
    }
}

/// One of the stores that were read, and what lies in it.
#[derive(Clone)]
pub struct View {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What it says of itself.
    pub info: StoreInfo,
    /// The entries it holds.
    pub present: BTreeSet<EntryName>,
}

impl View {
    /// Whether the record of `known` is there.
    pub fn has(&self, known: &KnownSnapshot) -> bool {
        self.present.contains(&(known.record.signer, known.record.number, known.hash))
    }
}

/// A vault as one reading found it: one store, or the union of several.
pub struct Vault {
    /// What the first of the stores says of itself.
    pub info: StoreInfo,
    /// The stores that were read, in their order.
    pub views: Vec<View>,
    /// All entries, each once or, from several stores, several times.
    pub entries: Vec<ChainEntry>,
    /// Snapshots, marks that count, and breaks in the chains.
    pub history: History,
    /// Documents that cannot be used.
    pub bad: Vec<BadDocument>,
    /// By whom this was judged.
    reader: Reader,
}

/// True when the snapshot is what its host said.
pub fn is_trusted(snapshot: &KnownSnapshot) -> bool {
    snapshot.trusted == crate::model::chain::Trust::Trusted
}

/// That a later program wrote `what`: nothing is wrong with it.
pub fn too_new(what: &str) -> OpError {
    OpError::new(Class::Damage, format!("{what} is newer than this backstay understands"))
        .hint("upgrade backstay; nothing is wrong with what is stored")
        .too_new()
}

/// Reads `backstay.json`.
pub fn store_info(store: &dyn Store) -> Result<StoreInfo> {
    let bytes = store.get(&Key::Store, 1 << 20).map_err(|e| store_error(e, store))?;
    match parse_info(store, &bytes) {
        // An older version is the store's own, too; which vault it names is compared by whoever asked.
        Err(e) if !e.is_too_new() => {
            let fits = |bytes: &[u8]| parse_info(store, bytes).ok();
            older_document(store, &Key::Store, 1 << 20, fits).ok().flatten().ok_or(e)
        }
        read => read,
    }
}

fn parse_info(store: &dyn Store, bytes: &[u8]) -> Result<StoreInfo> {
    let of = format!("{} of store {:?}", Key::Store, store.name());
    let one_line = bytes.strip_suffix(b"\n").filter(|line| !line.contains(&b'\n'));
    let damaged = || {
        OpError::new(Class::Damage, format!("{of} cannot be read")).hint(
            "nothing else there is lost: with a second store `backstay sync` writes it anew; else see \"a store's own file\" in docs/operations.md",
        )
    };
    let line = one_line.ok_or_else(|| damaged().because("it is not one whole line"))?;
    crate::model::document::parse(line, "store").map_err(|e| match e {
        DocumentError::TooNew(_) => too_new(&of).because(e),
        _ => damaged().because(e),
    })
}

/// A store's error, with the class and hint its kind asks for.
pub fn store_error(error: crate::store::StoreError, store: &dyn Store) -> OpError {
    use crate::store::StoreErrorKind as Kind;
    let what = format!("store {:?} ({}) failed", store.name(), store.location());
    let (class, hint) = match error.kind {
        Kind::Missing => {
            (Class::Store, Some("is the disk mounted? `backstay init` makes a new store where there is none"))
        }
        Kind::Denied => (Class::Store, Some("check who may read and write there")),
        Kind::Full => (Class::Store, Some("make room on that disk; nothing that was committed is touched")),
        Kind::Unreachable => (Class::Store, Some("try again later")),
        Kind::NotFound | Kind::Corrupt => (Class::Damage, None),
        Kind::Exists => {
            (Class::Damage, Some("the object there has other bytes than its name says; look at that disk"))
        }
        Kind::Interrupted => (Class::Interrupted, None),
        Kind::Other => (Class::Store, None),
    };
    let error = OpError::new(class, what).because(error);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// What a reading is judged by.
pub struct Judge<'a> {
    /// Trusted keys.
    pub trust: &'a TrustList,
    /// The vault that is meant, where it is known from elsewhere.
    pub vault: Option<&'a VaultId>,
    /// The highest entries seen before.
    pub heads: &'a Heads,
    /// The present moment.
    pub now: jiff::Timestamp,
    /// How long a proof counts.
    pub reverify: jiff::SignedDuration,
}

/// Reads everything signed in `store`. Another vault's store than the one that is meant is an error, and nothing of it is used.
pub fn read_store(store: &Arc<dyn Store>, meant: Option<&VaultId>) -> Result<StoreReading> {
    let info = store_info(&**store)?;
    if meant.is_some_and(|expected| *expected != info.vault) {
        let what = format!(
            "store {:?} ({}) belongs to another vault, as its {} says",
            store.name(),
            store.location(),
            Key::Store
        );
        let hint = "is another disk mounted there? backstay touches nothing in it";
        return Err(OpError::new(Class::Damage, what).hint(hint));
    }
    let (entries, bad, older) = Default::default();
    let mut reading = Reading { store: &**store, info: &info, entries, bad, older, hidden: false };
    reading.read_all()?;
    let Reading { entries, bad, older, hidden, .. } = reading;
    Ok(StoreReading { store: Arc::clone(store), info, entries, bad, older, hidden, seen: Heads::new() })
}

impl Vault {
    /// Judges what was read in one or several stores (at least one).
    pub fn of(readings: Vec<StoreReading>, judge: &Judge<'_>) -> Result<Self> {
        let reader = Reader {
            trusted: judge.trust.signers(),
            seen: judge.heads.clone(),
            instances: readings.iter().map(|r| r.info.instance.clone()).collect(),
            now: judge.now,
            reverify: judge.reverify,
        };
        let (mut views, mut entries, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        for reading in readings {
            let StoreReading { store, info, entries: found, bad: unusable, .. } = reading;
            views.push(View { store, info, present: found.iter().map(name_of).collect() });
            entries.extend(found);
            bad.extend(unusable);
        }
        let Some(first) = views.first() else {
            return Err(OpError::new(Class::Store, "no store could be read"));
        };
        let history = History::of(entries.clone(), &reader);
        Ok(Self { info: first.info.clone(), views, entries, history, bad, reader })
    }

    /// The history as it will be when `more`, which is signed and in no store yet, is there, too.
    pub(super) fn history_with(&self, more: impl IntoIterator<Item = ChainEntry>) -> History {
        History::of(self.entries.iter().cloned().chain(more).collect(), &self.reader)
    }

    /// What `own`, a key with the role `prune`, would have to sign so that the history of `signer` is whole again.
    pub fn settling(
        &self,
        own: &SignerId,
        signer: &SignerId,
        keep: &BTreeSet<ObjectId>,
    ) -> std::result::Result<Vec<Statement>, Unsettled> {
        settling(self.entries.clone(), &self.reader, (own, signer), keep)
    }

    /// The hosts that have trusted snapshots here.
    pub fn hosts(&self) -> Vec<HostId> {
        let trusted = |(_, s): &(&HostId, &Vec<KnownSnapshot>)| s.iter().any(is_trusted);
        self.history.hosts.iter().filter(trusted).map(|(host, _)| *host).collect()
    }

    /// Every snapshot, trusted or not, host by host: trusted ones in the order of the chain.
    pub fn snapshots(&self) -> impl Iterator<Item = &KnownSnapshot> {
        self.history.hosts.values().flatten()
    }

    /// The host that `signer` signs for.
    pub fn host_of(&self, signer: &SignerId) -> HostId {
        let own = HostId::from(*signer);
        let signs = |host: &&HostId| self.history.keys().is_of(signer, host);
        // A key that was introduced signs for the host that introduced it.
        let other = self.history.hosts.keys().filter(|host| **host != own).find(signs);
        other.copied().unwrap_or(own)
    }

    /// The heads that this reading proved.
    pub fn seen(&self) -> Vec<(SignerId, Head)> {
        let head = |(signer, (number, hash)): (&SignerId, &(u64, ObjectId))| {
            (*signer, Head { number: *number, hash: *hash })
        };
        self.history.heads.iter().map(head).collect()
    }

    /// Remembers the heads that this reading proved, so that a later reading notices when they are gone.
    pub fn remember(&self, state: &State) -> Result<()> {
        let given_up =
            |signer: &SignerId, head: &Head| self.history.is_dropped(signer, head.number, &head.hash);
        state
            .raise_heads_over(&self.seen(), given_up)
            .doing(Class::Failed, || "cannot remember the newest entries seen".into())
    }
}

struct Reading<'a> {
    store: &'a dyn Store,
    info: &'a StoreInfo,
    entries: Vec<ChainEntry>,
    bad: Vec<BadDocument>,
    older: Vec<BadDocument>,
    hidden: bool,
}

type Read = std::result::Result<Option<ChainEntry>, OpenError>;

impl Reading<'_> {
    /// Records are listed before marks are, because a prune puts its mark before it takes a record away: whoever lists them the other way round
    /// misses both. The records themselves never change, so marks are listed while these are fetched; but where one was taken away
    /// meanwhile, the mark that says so may be newer than that list.
    fn read_all(&mut self) -> Result<()> {
        let records = self.list(Prefix::Records)?;
        let (read, marks) = std::thread::scope(|scope| {
            let listing = std::thread::Builder::new().spawn_scoped(scope, || self.list(Prefix::Marks));
            let read = try_each(&records, |key| self.read_one(key));
            // Without a thread of its own it is listed here.
            let marks = listing
                .ok()
                .and_then(|thread| thread.join().ok())
                .unwrap_or_else(|| self.list(Prefix::Marks));
            (read, marks)
        });
        let read = read?;
        let went = read.iter().any(|read| matches!(read, Ok(None)));
        self.take(&records, read);
        let marks = if went { self.list(Prefix::Marks)? } else { marks? };
        let read = try_each(&marks, |key| self.read_one(key))?;
        self.take(&marks, read);
        Ok(())
    }

    fn list(&self, prefix: Prefix) -> Result<Vec<Key>> {
        let listed = self.store.list(prefix).map_err(|e| store_error(e, self.store))?;
        Ok(listed.into_iter().map(|object| object.key).collect())
    }

    fn take(&mut self, keys: &[Key], read: Vec<Read>) {
        for (key, read) in keys.iter().zip(read) {
            match read {
                Ok(entry) => self.entries.extend(entry),
                Err(problem) => {
                    let too_new = matches!(problem, OpenError::TooNew(_));
                    let bad = BadDocument { key: key.to_string(), why: problem.to_string(), too_new };
                    match (!too_new).then(|| self.older_entry(key)).flatten() {
                        Some(entry) => {
                            self.entries.push(entry);
                            self.older.push(bad);
                        }
                        None => self.bad.push(bad),
                    }
                }
            }
        }
    }

    /// The entry as an older version of the document has it, where the store keeps versions: its signature is the proof.
    fn older_entry(&mut self, key: &Key) -> Option<ChainEntry> {
        let fits = |bytes: &[u8]| parse_entry(key, bytes, &self.info.vault).ok().flatten();
        let found = older_document(self.store, key, DOCUMENT_BYTES_MAX, fits);
        self.hidden |= found.is_err();
        found.ok().flatten()
    }

    fn lists(&self, key: &Key) -> Result<bool> {
        let prefix = if matches!(key, Key::Record(_)) { Prefix::Records } else { Prefix::Marks };
        Ok(self.list(prefix)?.contains(key))
    }

    fn read_one(&self, key: &Key) -> Result<Read> {
        let bytes = match self.store.get(key, DOCUMENT_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(e) if e.kind == crate::store::StoreErrorKind::Corrupt => {
                return Ok(Err(OpenError::Damaged("it is too large".into())));
            }
            // A prune elsewhere took it away since it was listed: then it is listed no more.
            Err(e) if e.kind == crate::store::StoreErrorKind::NotFound && !self.lists(key)? => {
                return Ok(Ok(None));
            }
            Err(e) => return Err(store_error(e, self.store)),
        };
        Ok(parse_entry(key, &bytes, &self.info.vault))
    }
}

/// The entry that lies under `key` as `bytes`: signature, vault and name verified. `None` for keys that hold no entries.
pub fn parse_entry(
    key: &Key,
    bytes: &[u8],
    vault: &VaultId,
) -> std::result::Result<Option<ChainEntry>, OpenError> {
    let entry = match key {
        Key::Record(_) => {
            let signed = open_document::<Record>(bytes, "record", namespace::RECORD)?;
            ChainEntry::record(signed.value, signed.hash)
        }
        Key::Mark(..) => {
            let signed = open_document::<Mark>(bytes, "mark", namespace::MARK)?;
            ChainEntry::mark(signed.value, signed.hash)
        }
        _ => return Ok(None),
    };
    // The last two checks of the format: the vault, and the object's own name.
    let of = match &entry.body {
        EntryBody::Record(r) => &r.vault,
        EntryBody::Mark(m) => &m.vault,
    };
    if of != vault {
        return Err(OpenError::Damaged("it belongs to another vault".into()));
    }
    let own = key_of(&entry);
    if own != *key {
        return Err(OpenError::Damaged(format!("it is {own} under another name")));
    }
    Ok(Some(entry))
}
