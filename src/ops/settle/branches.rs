//! The histories that a fork leaves: what each is called, and how a person names the one that stands.
//!
//! What two histories share names neither, and one may have no snapshot of its own: so each is called by what it alone has, and every entry can
//! be named.

use crate::model::chain::{ChainEntry, EntryBody};
use crate::model::mark::{KeyAction, Statement};
use crate::model::{ObjectId, SignerId, SnapshotId};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::select;
use crate::ops::session::Session;
use crate::ops::vault::Vault;
use std::collections::{BTreeMap, BTreeSet};

/// Before the hash of an entry where a snapshot could be named.
const ENTRY: &str = "entry:";
/// So many digits of a hash are shown: nobody has two entries that begin alike.
const SHOWN: usize = 16;

/// The entries that `--keep` names. A snapshot of a key that was introduced stands only in a history that introduces it, so it names that one, too.
pub(super) fn kept(session: &Session, vault: &Vault, keep: &[String]) -> Result<BTreeSet<ObjectId>> {
    let mut kept = BTreeSet::new();
    for text in keep {
        if let Some(hash) = text.strip_prefix(ENTRY) {
            kept.insert(entry(vault, hash)?);
            continue;
        }
        let known = select::named(session, vault, text)?;
        kept.insert(known.hash);
        kept.extend(brought_in(vault, known.record.signer));
    }
    Ok(kept)
}

/// How a person names the history of `signer` that introduces `key`, or a key that introduced that.
pub(super) fn that_brings_in(vault: &Vault, key: SignerId, signer: &SignerId) -> Option<String> {
    let marks = brought_in(vault, key);
    let of_signer = |e: &&ChainEntry| e.signer() == *signer && marks.contains(&e.hash);
    vault.entries.iter().find(of_signer).map(|mark| short(&mark.hash))
}

/// The snapshots that are believed because of this mark: those of the key that it introduces, and of keys that came in by that one.
pub(super) fn hanging<'v>(vault: &'v Vault, mark: &ChainEntry) -> Vec<&'v SnapshotId> {
    if mark.introduces().is_none() {
        return Vec::new();
    }
    let signers: BTreeSet<SignerId> = vault.snapshots().map(|s| s.record.signer).collect();
    let hang = |signer: &SignerId| brought_in(vault, *signer).contains(&mark.hash);
    let signers: BTreeSet<SignerId> = signers.into_iter().filter(hang).collect();
    vault.snapshots().filter(|s| signers.contains(&s.record.signer)).map(|s| &s.record.snapshot).collect()
}

fn entry(vault: &Vault, text: &str) -> Result<ObjectId> {
    // What was only seen is in no store: it is named by its whole hash.
    if let Ok(hash) = text.parse() {
        return Ok(hash);
    }
    let begins = |hash: &ObjectId| hash.to_string().starts_with(text);
    let found: BTreeSet<ObjectId> = vault.entries.iter().map(|e| e.hash).filter(begins).collect();
    let error = |class, what: String| {
        OpError::new(class, what).hint("`backstay settle` without --keep shows how the histories are named")
    };
    match (found.first(), found.len()) {
        (Some(hash), 1) => Ok(*hash),
        (None, _) => Err(error(Class::NotFound, format!("no entry has a hash that begins with {text:?}"))),
        _ => Err(error(Class::Usage, format!("{text:?} begins the hashes of more than one entry"))),
    }
}

/// The marks by which `signer` came into the history, and those by which the keys came that signed them.
fn brought_in(vault: &Vault, signer: SignerId) -> BTreeSet<ObjectId> {
    let mut marks = BTreeSet::new();
    let mut key = signer;
    while let Some(mark) = introduction(vault, &key) {
        if !marks.insert(mark.hash) {
            break;
        }
        key = mark.signer();
    }
    marks
}

/// The mark that introduced `key`: the one that its first entry follows on or, where that names none, the only one.
fn introduction<'v>(vault: &'v Vault, key: &SignerId) -> Option<&'v ChainEntry> {
    let counts = |e: &&ChainEntry| e.signer() != *key && vault.history.keys().is_trusted(&e.signer());
    let introduces = |e: &&ChainEntry| e.introduces() == Some(*key);
    let all: BTreeMap<ObjectId, &ChainEntry> =
        vault.entries.iter().filter(introduces).filter(counts).map(|e| (e.hash, e)).collect();
    let first = vault.entries.iter().filter(|e| e.signer() == *key).min_by_key(|e| e.number());
    let followed = first.and_then(ChainEntry::previous).and_then(|hash| all.get(&hash).copied());
    let only = || (all.len() == 1).then(|| all.values().next().copied()).flatten();
    followed.or_else(only)
}

/// The histories into which the chain of one signer falls.
pub(super) struct Branches<'v> {
    vault: &'v Vault,
    by_hash: BTreeMap<ObjectId, &'v ChainEntry>,
    ends: &'v [ObjectId],
    /// The key that would sign what is settled.
    own: SignerId,
}

impl<'v> Branches<'v> {
    pub(super) fn of(vault: &'v Vault, signer: &SignerId, ends: &'v [ObjectId], own: SignerId) -> Self {
        let of_signer = vault.entries.iter().filter(|e| e.signer() == *signer);
        Self { vault, by_hash: of_signer.map(|e| (e.hash, e)).collect(), ends, own }
    }

    /// Each with what it is named by.
    pub(super) fn in_words(&self) -> Vec<String> {
        self.ends.iter().map(|end| self.one_in_words(end)).collect()
    }

    fn one_in_words(&self, end: &ObjectId) -> String {
        let alone = self.alone(end);
        let Some(last) = alone.first() else {
            return format!("an entry that is known and not here: --keep {ENTRY}{end}");
        };
        let record = alone.iter().find(|e| matches!(e.body, EntryBody::Record(_)));
        let shown = record.unwrap_or(last);
        let time = shown.time().strftime("%Y-%m-%d %H:%M:%S UTC");
        let what = format!("{} (entry {} of {time})", entry_in_words(shown), shown.number());
        let keys: String = alone.iter().filter_map(|e| self.key_in_words(e)).collect();
        let name = shown.snapshot().map_or_else(|| short(&shown.hash), ToString::to_string);
        format!("{what}{keys}: --keep {name}")
    }

    /// The key that `mark` introduces, and what hangs on it.
    fn key_in_words(&self, mark: &ChainEntry) -> Option<String> {
        let key = mark.introduces()?;
        let own = if key == self.own { ", which this machine signs with" } else { "" };
        let count = hanging(self.vault, mark).len();
        Some(format!(" and introduces key {key}{own} (snapshots that hang on it: {count})"))
    }

    /// What no other of the histories has, from the end downward. Empty when the end is not here.
    fn alone(&self, end: &ObjectId) -> Vec<&'v ChainEntry> {
        let others = self.ends.iter().filter(|other| *other != end);
        let shared: BTreeSet<ObjectId> =
            others.flat_map(|other| self.down_from(other)).map(|e| e.hash).collect();
        self.down_from(end).take_while(|e| !shared.contains(&e.hash)).collect()
    }

    fn down_from(&self, end: &ObjectId) -> impl Iterator<Item = &'v ChainEntry> + use<'_, 'v> {
        let at = move |hash: ObjectId| self.by_hash.get(&hash).copied();
        std::iter::successors(at(*end), move |entry| at(entry.previous()?))
    }
}

fn short(hash: &ObjectId) -> String {
    let digits: String = hash.to_string().chars().take(SHOWN).collect();
    format!("{ENTRY}{digits}")
}

fn entry_in_words(entry: &ChainEntry) -> String {
    match &entry.body {
        EntryBody::Record(record) => format!("snapshot {}", record.snapshot),
        EntryBody::Mark(mark) => mark_in_words(&mark.statement),
    }
}

fn mark_in_words(statement: &Statement) -> String {
    let (what, of) = match statement {
        Statement::Void { target, .. } => ("a mark that voids snapshot", target.snapshot.to_string()),
        Statement::Tag { target, .. } => ("tags of snapshot", target.snapshot.to_string()),
        Statement::Note { target, .. } => ("a note on snapshot", target.snapshot.to_string()),
        Statement::Milestone { target, .. } => ("a word on milestone", target.snapshot.to_string()),
        Statement::Verdict(verdict) => ("a verdict on snapshot", verdict.target.snapshot.to_string()),
        Statement::Delete(target) => ("a wish to delete snapshot", target.snapshot.to_string()),
        Statement::Accept { target, .. } => {
            ("a mark that ends a freeze with snapshot", target.snapshot.to_string())
        }
        Statement::Prune { instance, .. } => ("a mark of what was deleted from store", instance.to_string()),
        Statement::Absent { instance, .. } => ("a mark of what is not in store", instance.to_string()),
        Statement::Settle { of, .. } => ("a settlement of the history of signer", of.to_string()),
        Statement::Key { action: KeyAction::Introduce, host, .. } => {
            ("the mark of a new key of host", host.to_string())
        }
        Statement::Key { host, .. } => ("the mark that retires a key of host", host.to_string()),
        Statement::Unknown => return "a mark of a newer backstay".into(),
    };
    format!("{what} {of}")
}
