//! What marks say is gone from a store by right, and what they do not say yet of a store that never had it.
//!
//! What was pruned from every store there was is excused in each of them, and in no store that is made later. Only the entry's own signer could
//! call it absent there; but that key may be retired, lost with its machine, or one that fills no store. So whoever may prune says it: never
//! more than a counting mark says of another store already, and only of a store that cannot have had the entry. What a store had and lost
//! must stay a gap.

use crate::model::chain::{BreakKind, ChainEntry, Heads};
use crate::model::id::{SignerId, VaultId};
use crate::model::mark::{Removed, Role, Statement};
use crate::model::{Timestamp, chain};
use crate::ops::error::Result;
use crate::ops::session::Session;
use crate::ops::union::heads_in;
use crate::ops::vault::{EntryName, Vault, View};
use jiff::SignedDuration;
use std::collections::{BTreeMap, BTreeSet};

/// Clocks differ: a store that says it was made so much before a mark may have been made after it.
const TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// So many entries go into one `prune` mark.
const ROWS_MAX: usize = 10_000;

/// What one mark that counts says is gone from one store.
pub(super) struct Said<'v> {
    /// From which.
    pub(super) instance: &'v VaultId,
    /// By a `prune` mark; else by an `absent` mark, and then it may still come.
    pub(super) pruned: bool,
    mark: &'v ChainEntry,
    list: &'v [Removed],
}

impl<'v> Said<'v> {
    /// The entries. A key calls none absent but its own.
    pub(super) fn rows(&self) -> impl Iterator<Item = &'v Removed> + use<'v> {
        let (any, own) = (self.pruned, self.mark.signer());
        self.list.iter().filter(move |row| any || row.signer == own)
    }
}

/// All that counting marks say is gone.
pub(super) fn said(vault: &Vault) -> impl Iterator<Item = Said<'_>> {
    let keys = vault.history.keys();
    vault.entries.iter().filter(|e| keys.counts(e)).filter_map(|mark| match &mark.as_mark()?.statement {
        Statement::Prune { instance, removed } if keys.has_role(mark, Role::Prune) => {
            Some(Said { instance, pruned: true, mark, list: removed })
        }
        Statement::Absent { instance, entries } => {
            Some(Said { instance, pruned: false, mark, list: entries })
        }
        _ => None,
    })
}

/// Entries that counting marks say are not in the store with that instance, by right.
pub(super) fn excused_in(vault: &Vault, instance: &VaultId) -> BTreeSet<EntryName> {
    let (mut excused, absent) = excuses_in(vault, instance);
    excused.extend(absent);
    excused
}

/// The same by what says so: `prune` marks, and `absent` marks. What was deleted stays away; what never came may still come.
pub(super) fn excuses_in(vault: &Vault, instance: &VaultId) -> (BTreeSet<EntryName>, BTreeSet<EntryName>) {
    let (mut pruned, mut absent) = (BTreeSet::new(), BTreeSet::new());
    for said in said(vault).filter(|said| said.instance == instance) {
        let names = if said.pruned { &mut pruned } else { &mut absent };
        names.extend(said.rows().map(|gone| (gone.signer, gone.number, gone.hash)));
    }
    (pruned, absent)
}

/// True when the entry is among those whose lack breaks a chain.
pub(super) fn is_missed(vault: &Vault, signer: &SignerId, number: u64) -> bool {
    vault.history.breaks.iter().any(|b| is_in_gap(b, signer, number))
}

fn is_in_gap(found: &chain::Break, signer: &SignerId, number: u64) -> bool {
    matches!(found.kind, BreakKind::Gap { to } if found.signer == *signer && (found.number..=to).contains(&number))
}

/// An entry that no store holds and that marks say is gone, by right, from some.
struct Told<'v> {
    row: &'v Removed,
    /// At least one of these is a `prune` mark.
    pruned: bool,
    /// When the last of them was signed.
    last: Timestamp,
    /// They name different entries: nobody knows which it was.
    disputed: bool,
}

/// What fills gaps of the history, by signer and number.
fn told(vault: &Vault) -> BTreeMap<(SignerId, u64), Told<'_>> {
    let mut all: BTreeMap<(SignerId, u64), Told<'_>> = BTreeMap::new();
    if vault.history.breaks.is_empty() {
        return all;
    }
    for said in said(vault) {
        let (pruned, last) = (said.pruned, said.mark.time());
        for row in said.rows().filter(|row| is_missed(vault, &row.signer, row.number)) {
            let fresh = Told { row, pruned, last, disputed: false };
            let told = all.entry((row.signer, row.number)).or_insert(fresh);
            told.pruned |= pruned;
            told.last = told.last.max(last);
            told.disputed |= told.row.hash != row.hash;
        }
    }
    all
}

/// Entries that no store which was read holds, that a counting mark says are gone from another store, and that nothing says of the store of
/// `view`, which never had them. What only an `absent` mark names may lie in a store that is away: it is among them when none is.
///
/// `named` is for a store that a person names although it was rolled back: then what it had counts no more.
pub(super) fn unsaid(session: &Session, vault: &Vault, view: &View, named: bool) -> Result<Vec<Removed>> {
    let told = told(vault);
    if told.is_empty() {
        return Ok(Vec::new());
    }
    let instance = &view.info.instance;
    let seen = session.state.as_ref().map_or_else(|| Ok(Heads::new()), |state| heads_in(state, instance))?;
    let all_here = is_all_here(session, vault);
    let excused = excused_in(vault, instance);
    let unsaid = |told: &&Told<'_>| {
        let row = told.row;
        !told.disputed
            && (told.pruned || all_here)
            && !excused.contains(&(row.signer, row.number, row.hash))
            && (named || never_had(view, &seen, told))
    };
    Ok(told.values().filter(unsaid).map(|told| told.row.clone()).collect())
}

/// True when every store of the configuration was read.
pub(super) fn is_all_here(session: &Session, vault: &Vault) -> bool {
    session.config.as_ref().is_some_and(|config| vault.views.len() >= config.stores.len())
}

/// Whether the store cannot have had the entry: it was made after all others had let it go, it ends before it, or this machine saw it end
/// before it, and never whole since. Else it may have lost it, and that must not be excused.
fn never_had(view: &View, seen: &Heads, told: &Told<'_>) -> bool {
    let (signer, number) = (told.row.signer, told.row.number);
    let head = seen.get(&signer).map(|head| head.0);
    if head.is_some_and(|head| head >= number) {
        return false;
    }
    let made_since = view.info.created.duration_since(told.last) >= -TOLERANCE;
    let ends_before = !view.present.iter().any(|(of, there, _)| *of == signer && *there >= number);
    made_since || ends_before || head.is_some()
}

/// `rows` as `prune` marks for the store with that instance.
pub(super) fn as_prune(instance: &VaultId, rows: &[Removed]) -> Vec<Statement> {
    let statement =
        |rows: &[Removed]| Statement::Prune { instance: instance.clone(), removed: rows.to_vec() };
    rows.chunks(ROWS_MAX).map(statement).collect()
}
