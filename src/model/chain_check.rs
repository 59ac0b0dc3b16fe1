//! Checks of the chains of trusted signers: forks, gaps, wrong order, and heads that went back.

use crate::model::chain::{Break, BreakKind, ChainEntry, Heads, Reader};
use crate::model::excuses::{Settled, excused};
use crate::model::id::{ObjectId, SignerId, VaultId};
use crate::model::trust_rules::{Keys, is_only_verifier_or_pruner};
use std::collections::{BTreeMap, BTreeSet};

/// What the checks found.
pub(crate) struct Breaks {
    pub(crate) breaks: Vec<Break>,
    pub(crate) heads: Heads,
    pub(crate) next: BTreeMap<SignerId, (u64, Option<ObjectId>)>,
}

/// What is known of one number of a chain.
#[derive(Default)]
pub(crate) struct Slot<'a> {
    pub(crate) present: Vec<&'a ChainEntry>,
    /// Hashes that marks give for it.
    pub(crate) named: BTreeSet<ObjectId>,
    /// Accepted as lost, nobody knows what it was.
    pub(crate) lost: bool,
}

impl Slot<'_> {
    fn hashes(&self) -> BTreeSet<ObjectId> {
        self.present.iter().map(|e| e.hash).chain(self.named.iter().copied()).collect()
    }

    /// True when an entry may name `previous` as this one's hash.
    fn is(&self, previous: Option<&ObjectId>) -> bool {
        (self.lost && self.present.is_empty()) || previous.is_some_and(|hash| self.hashes().contains(hash))
    }
}

/// Number and hash of marks that introduce a key.
type Introductions = BTreeSet<(u64, ObjectId)>;

/// What is known of each number of one signer.
pub(crate) type Chain<'a> = BTreeMap<u64, Slot<'a>>;

/// Checks the chains of all trusted signers.
pub(crate) fn check(entries: &[ChainEntry], keys: &Keys, settled: &Settled, reader: &Reader) -> Breaks {
    let chains = chains(entries, keys, settled, &reader.instances);
    let introductions = introductions(entries);
    let (empty, nobody) = (Chain::new(), BTreeSet::new());
    let mut breaks = Vec::new();
    for signer in keys.signers() {
        let whole = chains.get(signer).unwrap_or(&empty);
        let end = keys.chain_end(signer).unwrap_or(u64::MAX);
        let chain: Vec<(u64, &Slot<'_>)> =
            whole.range(..=end).map(|(number, slot)| (*number, slot)).collect();
        let starts = introductions.get(signer).unwrap_or(&nobody);
        let check = Check { signer: *signer, chain: &chain, starts, chains: &chains, settled };
        breaks.extend(check.links());
        let seen = reader.seen.get(signer).copied().filter(|(number, _)| *number <= end);
        // What retired the key knew its last entry: as good as having seen it.
        for (number, hash) in seen.into_iter().chain(keys.retired(signer)) {
            breaks.extend(check.seen(number, hash));
        }
    }
    breaks.sort_by_key(|b| (b.signer, b.number));
    breaks.dedup();
    let heads = heads(&chains, keys, &breaks);
    let next = next(entries, &chains, reader);
    Breaks { breaks, heads, next }
}

/// What is known of each number, signer by signer, after what was settled.
pub(crate) fn chains<'a>(
    entries: &'a [ChainEntry],
    keys: &Keys,
    settled: &Settled,
    instances: &BTreeSet<VaultId>,
) -> BTreeMap<SignerId, Chain<'a>> {
    let mut chains: BTreeMap<SignerId, Chain<'a>> = BTreeMap::new();
    let kept = |e: &&ChainEntry| !settled.dropped.contains(&(e.signer(), e.number(), e.hash));
    for entry in entries.iter().filter(kept) {
        chains.entry(entry.signer()).or_default().entry(entry.number()).or_default().present.push(entry);
    }
    for (signer, number, hash) in excused(entries, keys, settled, instances) {
        chains.entry(signer).or_default().entry(number).or_default().named.insert(hash);
    }
    for ((signer, number), hash) in &settled.kept {
        let slot = chains.entry(*signer).or_default().entry(*number).or_default();
        slot.named.extend(hash);
        slot.lost |= hash.is_none();
    }
    chains
}

/// One chain under its checks.
struct Check<'a> {
    signer: SignerId,
    chain: &'a [(u64, &'a Slot<'a>)],
    /// Marks of others that introduce this key.
    starts: &'a Introductions,
    chains: &'a BTreeMap<SignerId, Chain<'a>>,
    settled: &'a Settled,
}

impl Check<'_> {
    /// Numbers without holes, one entry each, every one following on the one before.
    fn links(&self) -> Vec<Break> {
        let mut breaks = Vec::new();
        if let Some((number, slot)) = self.chain.first() {
            breaks.extend(self.start(*number, slot));
        }
        for pair in self.chain.windows(2) {
            let ((before, slot_before), (number, slot)) = (pair[0], pair[1]);
            if before + 1 < number {
                breaks.push(self.found(before + 1, None, BreakKind::Gap { to: number - 1 }));
                continue;
            }
            let wrong = slot.present.iter().filter(|e| !slot_before.is(e.previous().as_ref()));
            breaks.extend(wrong.map(|e| self.found(number, Some(*e), BreakKind::WrongPrevious)));
        }
        for (number, slot) in self.chain {
            let hashes = slot.hashes();
            if hashes.len() > 1 {
                let hashes = hashes.into_iter().collect();
                breaks.push(self.found(*number, slot.present.first().copied(), BreakKind::Forked { hashes }));
            }
        }
        breaks
    }

    /// A chain begins with 1, or after the mark that introduced its key.
    fn start(&self, number: u64, slot: &Slot<'_>) -> Vec<Break> {
        if number == 1 {
            let wrong = slot.present.iter().filter(|e| e.previous().is_some());
            return wrong.map(|e| self.found(1, Some(*e), BreakKind::WrongPrevious)).collect();
        }
        let starts = self.starts;
        let before = number.saturating_sub(1);
        let fits = |e: &&ChainEntry| e.previous().is_some_and(|hash| starts.contains(&(before, hash)));
        let numbered = starts.iter().any(|(introduced, _)| *introduced == before);
        // Where only a mark names the first entry there is no `previous` to compare.
        let excused =
            |e: &&ChainEntry| e.previous().is_some_and(|hash| self.excused_elsewhere(before, &hash));
        if slot.present.iter().all(|e| fits(e) || excused(e)) && (numbered || !slot.present.is_empty()) {
            return Vec::new();
        }
        if numbered {
            let wrong = slot.present.iter().filter(|e| !fits(e));
            return wrong.map(|e| self.found(number, Some(*e), BreakKind::WrongPrevious)).collect();
        }
        let first = starts.iter().map(|(introduced, _)| introduced + 1).filter(|first| *first < number).min();
        vec![self.found(first.unwrap_or(1), None, BreakKind::Gap { to: before })]
    }

    /// True when another signer's chain had this entry, and a mark says that it is gone.
    fn excused_elsewhere(&self, number: u64, hash: &ObjectId) -> bool {
        let others = self.chains.iter().filter(|(signer, _)| **signer != self.signer);
        others.filter_map(|(_, chain)| chain.get(&number)).any(|slot| slot.named.contains(hash))
    }

    /// What was seen before must still be so.
    fn seen(&self, number: u64, hash: ObjectId) -> Option<Break> {
        let head = self.chain.last().map_or(0, |(number, _)| *number);
        if head < number {
            return Some(self.found(head + 1, None, BreakKind::RolledBack { seen: number, found: head }));
        }
        // A hole at that place is said already.
        let (_, slot) = self.chain.iter().find(|(n, _)| *n == number)?;
        let dropped = self.settled.dropped.contains(&(self.signer, number, hash));
        if dropped || slot.is(Some(&hash)) {
            return None;
        }
        Some(self.found(number, slot.present.first().copied(), BreakKind::Rewritten { seen: hash }))
    }

    fn found(&self, number: u64, entry: Option<&ChainEntry>, kind: BreakKind) -> Break {
        Break { signer: self.signer, number, snapshot: entry.and_then(ChainEntry::snapshot).cloned(), kind }
    }
}

/// By key, the marks of others that introduce it. No authority is asked for: it is that key's own first entry that names one of them, and
/// whether the key is trusted was decided elsewhere.
fn introductions(entries: &[ChainEntry]) -> BTreeMap<SignerId, Introductions> {
    let mut introductions: BTreeMap<SignerId, Introductions> = BTreeMap::new();
    for entry in entries {
        if let Some(key) = entry.introduces().filter(|key| *key != entry.signer()) {
            introductions.entry(key).or_default().insert((entry.number(), entry.hash));
        }
    }
    introductions
}

/// Heads worth remembering. A broken chain's is not: what was seen before it broke stays the measure.
fn heads(chains: &BTreeMap<SignerId, Chain<'_>>, keys: &Keys, breaks: &[Break]) -> Heads {
    let whole = |signer: &SignerId| keys.is_trusted(signer) && !breaks.iter().any(|b| b.signer == *signer);
    let mut heads = Heads::new();
    for (signer, chain) in chains.iter().filter(|(signer, _)| whole(signer)) {
        let end = keys.chain_end(signer).unwrap_or(u64::MAX);
        let head =
            chain.range(..=end).rev().find_map(|(number, slot)| Some((*number, slot.hashes().pop_first()?)));
        heads.extend(head.map(|head| (*signer, head)));
    }
    heads
}

/// Where each known signer goes on.
fn next(
    entries: &[ChainEntry],
    chains: &BTreeMap<SignerId, Chain<'_>>,
    reader: &Reader,
) -> BTreeMap<SignerId, (u64, Option<ObjectId>)> {
    // The head: number, and the hash that the next entry names.
    let mut heads: BTreeMap<SignerId, (u64, ObjectId)> = BTreeMap::new();
    for entry in entries {
        let begins =
            |key: &SignerId| *key != entry.signer() && !is_only_verifier_or_pruner(&reader.trusted, key);
        let Some(introduced) = entry.introduces().filter(begins) else {
            continue;
        };
        let place = (entry.number(), entry.hash);
        heads.entry(introduced).and_modify(|head| *head = place.max(*head)).or_insert(place);
    }
    for (signer, chain) in chains {
        let last = chain.keys().next_back().copied();
        // After an entry that is lost for good, any `previous` is accepted; the last hash known is the most honest.
        let hash = chain.values().rev().find_map(|slot| slot.hashes().pop_first());
        heads.extend(last.zip(hash).map(|head| (*signer, head)));
    }
    for (signer, seen) in &reader.seen {
        let head = heads.entry(*signer).or_insert(*seen);
        if head.0 <= seen.0 {
            *head = *seen;
        }
    }
    heads
        .into_iter()
        .map(|(signer, (number, hash))| (signer, (number.saturating_add(1), Some(hash))))
        .collect()
}
