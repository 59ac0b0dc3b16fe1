//! Which keys may say what: those that the reader trusts, those that they introduced, and how far retired ones still count.

use crate::model::chain::{ChainEntry, TrustedSigner, Untrusted};
use crate::model::id::{HostId, ObjectId, SignerId};
use crate::model::mark::{KeyAction, Role, Statement};
use data_encoding::BASE64;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// `(signer, number, hash)` of entries that were dropped when a fork was settled.
pub(crate) type Dropped = BTreeSet<(SignerId, u64, ObjectId)>;

/// The signer id of an Ed25519 public key in OpenSSH's form (`ssh-ed25519 AAAA…`, a comment may follow).
pub fn signer_of_text(text: &str) -> Option<SignerId> {
    const KIND: &[u8] = b"\0\0\0\x0bssh-ed25519\0\0\0\x20";
    let mut words = text.split_ascii_whitespace();
    let (kind, data) = (words.next()?, words.next()?);
    let wire = BASE64.decode(data.as_bytes()).ok()?;
    (kind == "ssh-ed25519" && wire.len() == KIND.len() + 32 && wire.starts_with(KIND))
        .then(|| SignerId::of_key(&wire))
}

/// What one key may do.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// Given by configuration or kit.
    roles: BTreeSet<Role>,
    /// Hosts whose records it may sign.
    hosts: BTreeSet<HostId>,
    /// Its own host: one that it was not introduced for.
    native: BTreeSet<HostId>,
    /// The last entry that counts, once retired.
    last: Option<(u64, ObjectId)>,
    /// The same as a key of one host only.
    last_for: BTreeMap<HostId, (u64, ObjectId)>,
    /// The number of the mark with which it retired itself.
    own_end: u64,
    /// How many introductions it is away from a key that the reader trusts itself.
    depth: usize,
}

/// The standing of all trusted keys.
#[derive(Debug, Clone, Default)]
pub struct Keys(BTreeMap<SignerId, Standing>);

/// A retirement that counts.
struct Cut<'a> {
    mark: &'a ChainEntry,
    key: SignerId,
    /// `None`: for everything the key signs.
    host: Option<HostId>,
    last: (u64, ObjectId),
}

/// A `key` mark with its fields.
struct KeyMark<'a> {
    entry: &'a ChainEntry,
    action: KeyAction,
    key: SignerId,
    host: HostId,
    last: Option<(u64, ObjectId)>,
}

/// All `key` marks, and where each key introduces others for a host.
struct KeyMarks<'a> {
    all: Vec<KeyMark<'a>>,
    introductions: BTreeMap<(SignerId, HostId), Vec<usize>>,
}

impl<'a> KeyMarks<'a> {
    fn of(all: Vec<KeyMark<'a>>) -> Self {
        let mut introductions: BTreeMap<(SignerId, HostId), Vec<usize>> = BTreeMap::new();
        for (place, mark) in all.iter().enumerate().filter(|(_, m)| m.action == KeyAction::Introduce) {
            introductions.entry((mark.entry.signer(), mark.host)).or_default().push(place);
        }
        Self { all, introductions }
    }
}

/// Retirements that count, by the key that they end.
type Cuts<'a> = BTreeMap<SignerId, Vec<Cut<'a>>>;

impl Keys {
    /// Works out the standing of keys. Introductions are transitive; a retirement, once found to count, stays.
    pub(crate) fn of(trusted: &[TrustedSigner], entries: &[ChainEntry], dropped: &Dropped) -> Self {
        let kept = |e: &&ChainEntry| !dropped.contains(&(e.signer(), e.number(), e.hash));
        let births = births(trusted, entries.iter().filter(kept));
        let fits = |m: &KeyMark<'_>| m.action != KeyAction::Introduce || begins_after(m, trusted, &births);
        let marks = KeyMarks::of(entries.iter().filter(kept).filter_map(key_mark).filter(fits).collect());
        let mut cuts = Cuts::new();
        let mut taken: BTreeSet<usize> = BTreeSet::new();
        // A retirement may take the authority of others away, so they are taken one after the other; only where one ends introductions that
        // counted must everything be worked out anew.
        'anew: loop {
            let mut keys = Self::with(trusted, &cuts, &marks);
            for place in keys.retirements(&marks) {
                let Some(cut) = keys.as_cut(&marks.all[place]).filter(|_| taken.insert(place)) else {
                    continue;
                };
                let undoes = keys.undoes(&cut, &marks);
                keys.cut(&cut);
                cuts.entry(cut.key).or_default().push(cut);
                if undoes {
                    continue 'anew;
                }
            }
            return keys;
        }
    }

    fn with(trusted: &[TrustedSigner], cuts: &Cuts<'_>, marks: &KeyMarks<'_>) -> Self {
        let mut keys = Self::default();
        for signer in trusted {
            let standing = keys.0.entry(signer.id).or_default();
            standing.roles.extend(&signer.roles);
            standing.native.insert(HostId::from(signer.id));
            standing.native.extend(signer.host);
            if signer.roles.contains(&Role::Host) {
                standing.hosts.extend(standing.native.clone());
            }
        }
        cuts.values().flatten().for_each(|cut| keys.cut(cut));
        let own: Vec<(SignerId, HostId)> =
            keys.0.iter().flat_map(|(key, s)| s.hosts.iter().map(|host| (*key, *host))).collect();
        let mut open: BTreeSet<(usize, SignerId, HostId)> =
            own.iter().flat_map(|(key, host)| keys.introduced(marks, key, host)).collect();
        // The nearest to the reader's own keys first.
        while let Some((depth, key, host)) = open.pop_first() {
            let standing = keys.0.entry(key).or_insert_with(|| Standing { depth, ..Standing::default() });
            if !standing.hosts.insert(host) {
                continue;
            }
            // One at a time: the key that was introduced just now may itself be cut before its own introductions count.
            cuts.get(&key).into_iter().flatten().for_each(|cut| keys.cut(cut));
            open.extend(keys.introduced(marks, &key, &host));
        }
        keys
    }

    /// What `key` introduces for `host` with marks that count.
    fn introduced<'m>(
        &'m self,
        marks: &'m KeyMarks<'_>,
        key: &SignerId,
        host: &HostId,
    ) -> impl Iterator<Item = (usize, SignerId, HostId)> {
        let (depth, host) = (self.depth(key) + 1, *host);
        let said =
            marks.introductions.get(&(*key, host)).into_iter().flatten().map(|place| &marks.all[*place]);
        said.filter(move |m| self.speaks_for(m.entry, &host)).map(move |m| (depth, m.key, host))
    }

    /// True when the retirement ends introductions that count up to now.
    fn undoes(&self, cut: &Cut<'_>, marks: &KeyMarks<'_>) -> bool {
        let hosts = self.0.get(&cut.key).map(|standing| &standing.hosts);
        let ended = hosts.into_iter().flatten().filter(|host| cut.host.is_none_or(|of| of == **host));
        ended.filter_map(|host| Some((host, marks.introductions.get(&(cut.key, *host))?))).any(
            |(host, said)| {
                said.iter()
                    .map(|place| marks.all[*place].entry)
                    .any(|mark| self.speaks_for(mark, host) && !within(Some(cut.last), mark))
            },
        )
    }

    fn cut(&mut self, cut: &Cut<'_>) {
        let Some(standing) = self.0.get_mut(&cut.key) else {
            return;
        };
        let lower = |old: Option<(u64, ObjectId)>| old.map_or(cut.last, |old| old.min(cut.last));
        match cut.host {
            None => {
                standing.last = Some(lower(standing.last));
                if cut.mark.signer() == cut.key {
                    standing.own_end = standing.own_end.max(cut.mark.number());
                }
            }
            Some(host) => {
                let last = lower(standing.last_for.get(&host).copied());
                standing.last_for.insert(host, last);
            }
        }
    }

    /// The places of all retirements in the order in which they are taken: those by `prune` keys first, then by number. Of equal numbers the
    /// mark of the later introduced key goes first: who recovers from a stolen key must not be retired by the thief.
    fn retirements(&self, marks: &KeyMarks<'_>) -> Vec<usize> {
        let mut places: Vec<usize> =
            (0..marks.all.len()).filter(|place| marks.all[*place].action == KeyAction::Retire).collect();
        places.sort_by_cached_key(|place| {
            let entry = marks.all[*place].entry;
            let signer = entry.signer();
            (!self.has_role(entry, Role::Prune), entry.number(), Reverse(self.depth(&signer)), signer)
        });
        places
    }

    fn as_cut<'a>(&self, mark: &KeyMark<'a>) -> Option<Cut<'a>> {
        let retired = self.0.get(&mark.key)?;
        let signer = mark.entry.signer();
        let of_host = retired.hosts.contains(&mark.host) && self.speaks_for(mark.entry, &mark.host);
        let only_of_host = retired.roles.is_empty() && retired.hosts.len() == 1;
        let itself = signer == mark.key && self.counts(mark.entry);
        // A host must not take the roles of a verifier or pruner away by introducing its key for itself and then retiring it.
        let whole = itself
            || self.has_role(mark.entry, Role::Prune)
            || (of_host && (only_of_host || retired.native.contains(&mark.host)));
        let host = match (whole, of_host) {
            (true, _) => None,
            (false, true) => Some(mark.host),
            (false, false) => return None,
        };
        Some(Cut { mark: mark.entry, key: mark.key, host, last: mark.last? })
    }

    /// True when `entry` is by a trusted key, and not after its retirement.
    pub(crate) fn counts(&self, entry: &ChainEntry) -> bool {
        self.0.get(&entry.signer()).is_some_and(|standing| within(standing.last, entry))
    }

    /// True when `entry` counts and its key has `role` by configuration or kit.
    pub(crate) fn has_role(&self, entry: &ChainEntry, role: Role) -> bool {
        self.counts(entry)
            && self.0.get(&entry.signer()).is_some_and(|standing| standing.roles.contains(&role))
    }

    /// True when `entry` is by a trusted key of `host`.
    pub(crate) fn speaks_for(&self, entry: &ChainEntry, host: &HostId) -> bool {
        self.counts(entry)
            && self.0.get(&entry.signer()).is_some_and(|standing| {
                standing.hosts.contains(host) && within(standing.last_for.get(host).copied(), entry)
            })
    }

    /// Why `entry`, a record of `host`, is not trusted; `None` when it is.
    pub(crate) fn distrust(&self, entry: &ChainEntry, host: &HostId) -> Option<Untrusted> {
        let Some(standing) = self.0.get(&entry.signer()) else {
            return Some(Untrusted::UnknownKey);
        };
        if !standing.hosts.contains(host) {
            return Some(Untrusted::NotOfHost);
        }
        (!self.speaks_for(entry, host)).then_some(Untrusted::Retired)
    }

    /// True when any role makes this signer's chain worth checking.
    pub fn is_trusted(&self, signer: &SignerId) -> bool {
        self.0.contains_key(signer)
    }

    /// True when the key is, or was before it was retired, one of `host`; a key that is only configured is of the host called after it.
    pub fn is_of(&self, signer: &SignerId, host: &HostId) -> bool {
        self.0
            .get(signer)
            .is_some_and(|standing| standing.hosts.contains(host) || standing.native.contains(host))
    }

    /// True when the key may sign what comes next for `host`.
    pub fn may_sign_for(&self, signer: &SignerId, host: &HostId) -> bool {
        self.0.get(signer).is_some_and(|standing| {
            standing.hosts.contains(host) && standing.last.is_none() && !standing.last_for.contains_key(host)
        })
    }

    /// True when the key has this role by configuration or kit and is not retired.
    pub fn may(&self, signer: &SignerId, role: Role) -> bool {
        self.0.get(signer).is_some_and(|standing| standing.last.is_none() && standing.roles.contains(&role))
    }

    /// The last entry of a key that counts, when it was retired.
    pub fn retired(&self, signer: &SignerId) -> Option<(u64, ObjectId)> {
        self.0.get(signer)?.last
    }

    /// How far chain checks go for a retired key. One that retires itself says so above its last entry, and that mark must not be hidden.
    pub(crate) fn chain_end(&self, signer: &SignerId) -> Option<u64> {
        let standing = self.0.get(signer)?;
        Some(standing.last?.0.max(standing.own_end))
    }

    /// True when `key` is trusted, or is one of a host, here and would not be `then`.
    pub(crate) fn loses(&self, then: &Self, key: &SignerId) -> bool {
        let hosts = |keys: &Self| keys.0.get(key).map(|standing| standing.hosts.clone());
        match (hosts(self), hosts(then)) {
            (Some(now), Some(then)) => !now.is_subset(&then),
            (now, _) => now.is_some(),
        }
    }

    /// All trusted signers.
    pub fn signers(&self) -> impl Iterator<Item = &SignerId> {
        self.0.keys()
    }

    /// How many introductions the key is away from one that the reader trusts itself.
    pub fn depth(&self, signer: &SignerId) -> usize {
        self.0.get(signer).map_or(0, |standing| standing.depth)
    }
}

/// Where the chain of a key begins, as far as that is known.
struct Birth {
    number: u64,
    /// What its first entry names as the one before; empty where only a `prune` mark tells of it.
    previous: Vec<Option<ObjectId>>,
}

/// Where the chains of all signers begin. Entries that are gone count where a key that is configured to prune names them.
fn births<'e>(
    trusted: &[TrustedSigner],
    entries: impl Iterator<Item = &'e ChainEntry>,
) -> BTreeMap<SignerId, Birth> {
    let pruners: BTreeSet<SignerId> =
        trusted.iter().filter(|t| t.roles.contains(&Role::Prune)).map(|t| t.id).collect();
    let mut births: BTreeMap<SignerId, Birth> = BTreeMap::new();
    let mut note = |signer: SignerId, number: u64, previous: Option<Option<ObjectId>>| {
        let birth = births.entry(signer).or_insert(Birth { number, previous: Vec::new() });
        if number < birth.number {
            *birth = Birth { number, previous: Vec::new() };
        }
        if number == birth.number {
            birth.previous.extend(previous);
        }
    };
    for entry in entries {
        note(entry.signer(), entry.number(), Some(entry.previous()));
        if let Some(Statement::Prune { removed, .. }) = entry.as_mark().map(|m| &m.statement)
            && pruners.contains(&entry.signer())
        {
            removed.iter().for_each(|row| note(row.signer, row.number, None));
        }
    }
    births
}

/// True when the chain of the key that `mark` introduces can begin there. One that signed before, or that is configured to verify or prune
/// and did not begin there, is what it was: else who stole one host's key could make any other key one of that host.
fn begins_after(mark: &KeyMark<'_>, trusted: &[TrustedSigner], births: &BTreeMap<SignerId, Birth>) -> bool {
    let introduced = mark.entry.number();
    match births.get(&mark.key) {
        None => !is_only_verifier_or_pruner(trusted, &mark.key),
        Some(birth) if birth.number <= introduced => false,
        Some(birth) if birth.number == introduced + 1 && !birth.previous.is_empty() => {
            birth.previous.contains(&Some(mark.entry.hash)) || !has_any(trusted, &mark.key, OTHER_ROLES)
        }
        Some(_) => true,
    }
}

/// Roles that no introduction gives.
const OTHER_ROLES: &[Role] = &[Role::Verify, Role::Prune];

fn has_any(trusted: &[TrustedSigner], key: &SignerId, roles: &[Role]) -> bool {
    let mut given = trusted.iter().filter(|t| t.id == *key).flat_map(|t| &t.roles);
    given.any(|role| roles.contains(role))
}

/// True for a key that the reader believes as a verifier or pruner and not as a host: before its first entry nobody introduces it.
pub(crate) fn is_only_verifier_or_pruner(trusted: &[TrustedSigner], key: &SignerId) -> bool {
    has_any(trusted, key, OTHER_ROLES) && !has_any(trusted, key, &[Role::Host])
}

fn within(last: Option<(u64, ObjectId)>, entry: &ChainEntry) -> bool {
    last.is_none_or(|(number, hash)| {
        entry.number() < number || (entry.number() == number && entry.hash == hash)
    })
}

fn key_mark(entry: &ChainEntry) -> Option<KeyMark<'_>> {
    match &entry.as_mark()?.statement {
        Statement::Key { action, key, host, last } => {
            Some(KeyMark { entry, action: *action, key: signer_of_text(key)?, host: *host, last: *last })
        }
        _ => None,
    }
}
