//! What `settle` marks must say so that a broken chain counts as whole again: which entries are accepted as lost, and which of two
//! histories stands.
//!
//! Nothing here decides between two histories: where there is more than one, whoever asks names an entry of the one that stands. What is
//! proposed is tried on the very checks that found the chain broken before it is given out.

use crate::model::breaks::{Break, BreakKind};
use crate::model::chain::{ChainEntry, Reader, distinct};
use crate::model::chain_check::{Chain, chains, check};
use crate::model::excuses::{Settled, settle_with, settlements};
use crate::model::id::{ObjectId, SignerId};
use crate::model::mark::Statement;
use crate::model::mark_rules;
use crate::model::trust_rules::Keys;
use std::collections::{BTreeMap, BTreeSet};

/// A mark is signed for each number that is settled. More than so many are no loss but another vault, or numbers that a thief made up.
pub const SETTLED_MAX: u64 = 10_000;

/// Why nothing can be proposed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsettled {
    /// There are several histories, and nobody said which one stands.
    #[error("there is more than one history of signer {signer}")]
    Choose {
        /// Whose.
        signer: SignerId,
        /// The last entries of each: hashes of line 1.
        ends: Vec<ObjectId>,
    },
    /// Too much is missing.
    #[error("{missing} entries of signer {signer} would have to be settled, and {SETTLED_MAX} is the most")]
    TooMany {
        /// Whose.
        signer: SignerId,
        /// How many.
        missing: u64,
    },
    /// What is wrong is not that entries are lost or forked.
    #[error("{left}, whatever is settled")]
    Beyond {
        /// What would still be wrong.
        left: String,
    },
    /// It would take back the mark by which the key that signs the settlement became one of its host.
    #[error("the other history introduces key {key}, which this host signs with")]
    Disowns {
        /// Which key.
        key: SignerId,
    },
}

/// An entry as far as it is known: its hash, and what it says of the one before it when it can be read (`Some(None)`: it is the first).
#[derive(Debug, Clone, Copy)]
struct Node {
    hash: ObjectId,
    previous: Option<Option<ObjectId>>,
    /// This reader saw it once, and nothing in a store speaks of it.
    only_seen: bool,
}

type Nodes = BTreeMap<u64, Vec<Node>>;

/// The statements that settle what is wrong with the chain of `signer`, in the order of its numbers; none when nothing is wrong. They count
/// when another key than that one signs them, which has the role `prune`: `own`. `keep` names entries of the history that stands.
pub fn settling(
    entries: Vec<ChainEntry>,
    reader: &Reader,
    (own, signer): (&SignerId, &SignerId),
    keep: &BTreeSet<ObjectId>,
) -> Result<Vec<Statement>, Unsettled> {
    let entries = distinct(entries);
    let all = Keys::of(&reader.trusted, &entries, &BTreeSet::new());
    let marks = mark_rules::in_order(&entries, &all, &BTreeSet::new(), reader.now);
    let settled = settlements(&marks, &all);
    let keys = Keys::of(&reader.trusted, &entries, &settled.dropped);
    let of_signer = |keys: &Keys, settled: &Settled| -> Vec<Break> {
        let found = check(&entries, keys, settled, reader).breaks;
        found.into_iter().filter(|b| b.signer == *signer).collect()
    };
    let breaks = of_signer(&keys, &settled);
    if breaks.is_empty() {
        return Ok(Vec::new());
    }
    let chains = chains(&entries, &keys, &settled, &reader.instances);
    let chain = chains.get(signer);
    let seen = reader.seen.get(signer).copied().into_iter().chain(keys.retired(signer));
    let dropped = |number, hash| settled.dropped.contains(&(*signer, number, hash));
    let work = Work {
        signer: *signer,
        nodes: nodes(chain, seen.filter(|(number, hash)| !dropped(*number, *hash)), keys.chain_end(signer)),
        lost: lost(chain),
        from: breaks.iter().map(first_place).min().unwrap_or(1).max(1),
        keep,
    };
    let statements = work.statements(&breaks)?;
    let falls = |statement: &Statement| match statement {
        Statement::Settle { drop, .. } => drop.iter().any(|hash| keep.contains(hash)),
        _ => false,
    };
    // Of two that were named and cannot both stand it is not for their numbers to choose.
    if statements.iter().any(falls) {
        return Err(work.choose());
    }
    let mut tried = settled.clone();
    statements.iter().for_each(|statement| settle_with(&mut tried, statement));
    let keys_then = Keys::of(&reader.trusted, &entries, &tried.dropped);
    if keys.loses(&keys_then, own) {
        return Err(Unsettled::Disowns { key: *own });
    }
    match of_signer(&keys_then, &tried).first() {
        Some(left) => Err(Unsettled::Beyond { left: left.to_string() }),
        None => Ok(statements),
    }
}

/// The lowest number that has to do with a break: where an entry follows on another one, it is the one before.
fn first_place(found: &Break) -> u64 {
    match found.kind {
        BreakKind::WrongPrevious => found.number.saturating_sub(1),
        _ => found.number,
    }
}

/// All that is known of each number: entries that are there, those that marks name, and those that were seen.
fn nodes(chain: Option<&Chain<'_>>, seen: impl Iterator<Item = (u64, ObjectId)>, end: Option<u64>) -> Nodes {
    let mut nodes = Nodes::new();
    for (number, slot) in chain.into_iter().flatten() {
        let list = nodes.entry(*number).or_default();
        let there = |e: &&ChainEntry| Node { hash: e.hash, previous: Some(e.previous()), only_seen: false };
        list.extend(slot.present.iter().map(there));
        let named = slot.named.iter().filter(|hash| !slot.present.iter().any(|e| e.hash == **hash));
        list.extend(named.map(|hash| Node { hash: *hash, previous: None, only_seen: false }));
    }
    for (number, hash) in seen {
        let list = nodes.entry(number).or_default();
        if !list.iter().any(|node| node.hash == hash) {
            list.push(Node { hash, previous: None, only_seen: true });
        }
    }
    let end = end.unwrap_or(u64::MAX);
    nodes.retain(|number, list| *number <= end && !list.is_empty());
    nodes
}

/// Numbers that were accepted as lost before.
fn lost(chain: Option<&Chain<'_>>) -> BTreeSet<u64> {
    chain.into_iter().flatten().filter(|(_, slot)| slot.lost).map(|(number, _)| *number).collect()
}

struct Work<'a> {
    signer: SignerId,
    nodes: Nodes,
    lost: BTreeSet<u64>,
    /// The lowest number that is settled.
    from: u64,
    keep: &'a BTreeSet<ObjectId>,
}

impl Work<'_> {
    fn statements(&self, breaks: &[Break]) -> Result<Vec<Statement>, Unsettled> {
        let to = self.nodes.last_key_value().map_or(0, |(number, _)| *number);
        let missing = (to + 1).saturating_sub(self.from);
        if missing > SETTLED_MAX {
            return Err(Unsettled::TooMany { signer: self.signer, missing });
        }
        let stands = self.standing(breaks)?;
        Ok((self.from..=to).filter_map(|number| self.statement(number, stands.get(&number))).collect())
    }

    fn statement(&self, number: u64, stands: Option<&ObjectId>) -> Option<Statement> {
        let nodes = self.nodes.get(&number).map_or(&[][..], Vec::as_slice);
        let drop: Vec<ObjectId> =
            nodes.iter().map(|node| node.hash).filter(|hash| Some(hash) != stands).collect();
        // What this reader alone saw is not there: others must be told that it is accepted as lost.
        let there = nodes.iter().any(|node| Some(&node.hash) == stands && !node.only_seen);
        let said = self.lost.contains(&number);
        if drop.is_empty() && (there || said) {
            return None;
        }
        Some(Statement::Settle { of: self.signer, entry: number, keep: stands.copied(), drop })
    }

    /// The entries that stand, by number, from the lowest that is settled up to the end of the history that was chosen.
    fn standing(&self, breaks: &[Break]) -> Result<BTreeMap<u64, ObjectId>, Unsettled> {
        let (number, node) = self.chosen(breaks)?;
        let mut stands = self.up(number, node)?;
        stands.extend(self.down(number, node)?);
        Ok(stands)
    }

    /// An entry of the history that stands: the last that was named, or the last one where there is one history only.
    fn chosen(&self, breaks: &[Break]) -> Result<(u64, Node), Unsettled> {
        let all = self.nodes.iter().flat_map(|(number, list)| list.iter().map(|node| (*number, *node)));
        if let Some(found) = all.rev().find(|(_, node)| self.keep.contains(&node.hash)) {
            return Ok(found);
        }
        let several = self.nodes.range(self.from..).any(|(_, list)| list.len() > 1)
            || breaks.iter().any(|b| b.kind == BreakKind::WrongPrevious);
        let last = self.nodes.iter().next_back().and_then(|(number, list)| Some((*number, *list.first()?)));
        match (several, last) {
            (false, Some(last)) => Ok(last),
            _ => Err(self.choose()),
        }
    }

    fn choose(&self) -> Unsettled {
        let ends = self.nodes.range(self.from..).flat_map(|(number, list)| {
            let above = self.nodes.get(&(number + 1)).map_or(&[][..], Vec::as_slice);
            let is_end = move |node: &&Node| !above.iter().any(|next| next.previous == Some(Some(node.hash)));
            list.iter().filter(is_end).map(|node| node.hash)
        });
        Unsettled::Choose { signer: self.signer, ends: ends.collect() }
    }

    /// What follows on `node`, as far as one thing does.
    fn up(&self, number: u64, node: Node) -> Result<BTreeMap<u64, ObjectId>, Unsettled> {
        let mut stands = BTreeMap::from([(number, node.hash)]);
        let (mut below, mut known) = (number, node.hash);
        for (number, list) in self.nodes.range(number + 1..) {
            // Above a hole nothing says on what an entry follows.
            let whole = below + 1 == *number;
            let follows = |node: &&Node| match node.previous {
                Some(previous) => !whole || previous == Some(known),
                None => true,
            };
            let next: Vec<Node> = list.iter().filter(follows).copied().collect();
            let Some(next) = self.one_of(&next)? else {
                return Ok(stands);
            };
            (below, known) = (*number, next.hash);
            stands.insert(below, known);
        }
        Ok(stands)
    }

    /// What `node` follows on.
    fn down(&self, number: u64, node: Node) -> Result<BTreeMap<u64, ObjectId>, Unsettled> {
        let mut stands = BTreeMap::new();
        let mut expected = node.previous.flatten();
        for number in (self.from..number).rev() {
            let list = self.nodes.get(&number).map_or(&[][..], Vec::as_slice);
            let found = match expected {
                Some(hash) => list.iter().find(|node| node.hash == hash).copied(),
                None => self.only(number, list)?,
            };
            if let Some(hash) = expected.or(found.map(|node| node.hash)) {
                stands.insert(number, hash);
            }
            expected = found.and_then(|node| node.previous).flatten();
        }
        Ok(stands)
    }

    /// The one entry of a number below a hole, or the one of several that was named. None when all are of a history that was not.
    fn only(&self, number: u64, list: &[Node]) -> Result<Option<Node>, Unsettled> {
        let fits: Vec<Node> = list.iter().filter(|node| !self.contradicts(number, node)).copied().collect();
        self.one_of(&fits)
    }

    /// The only one, the one that was named, or the one that this reader saw: who does not have it hardly names it.
    fn one_of(&self, nodes: &[Node]) -> Result<Option<Node>, Unsettled> {
        let with = |fits: &dyn Fn(&Node) -> bool| match nodes.iter().filter(|n| fits(n)).collect::<Vec<_>>()[..]
        {
            [one] => Some(*one),
            _ => None,
        };
        let found = with(&|_| true)
            .or_else(|| with(&|node| self.keep.contains(&node.hash)))
            .or_else(|| with(&|node| node.only_seen));
        match found {
            None if !nodes.is_empty() => Err(self.choose()),
            found => Ok(found),
        }
    }

    /// True when what the entry follows on, as far as that is there, passes by one that was named.
    fn contradicts(&self, number: u64, node: &Node) -> bool {
        let mut hash = node.hash;
        for number in (self.from..=number).rev() {
            let list = self.nodes.get(&number).map_or(&[][..], Vec::as_slice);
            if !self.keep.contains(&hash) && list.iter().any(|node| self.keep.contains(&node.hash)) {
                return true;
            }
            let Some(here) = list.iter().find(|node| node.hash == hash) else {
                return false;
            };
            let Some(before) = here.previous.flatten() else {
                return false;
            };
            hash = before;
        }
        false
    }
}
