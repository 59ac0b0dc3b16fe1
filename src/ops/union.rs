//! Several stores read as one vault: what one lacks another may explain, and what none explains is a break.
//!
//! A store that lacks what it never had *lags*; one that shows less than it was seen to hold was rolled back, and that is said whatever the
//! others hold.

use crate::catalog::{Head, State};
use crate::model::chain::{Break, BreakKind, ChainEntry, Heads, History};
use crate::model::{Problem, ProblemKind, SignerId, VaultId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::excuses::excused_in;
use crate::ops::none_here::none_here;
use crate::ops::session::Session;
use crate::ops::stores::{Away, StoreSlot};
use crate::ops::vault::{BadDocument, EntryName, StoreReading, Vault, key_of, name_of};
use std::collections::{BTreeMap, BTreeSet};

/// How one store of the project stands in a reading of all.
#[derive(Clone)]
pub(super) struct Standing {
    /// Its name.
    pub(super) name: String,
    /// Where it is.
    pub(super) place: String,
    /// Its place among the views, when it was read.
    pub(super) view: Option<usize>,
    /// Why it is not used: it is away, another's, or was rolled back.
    pub(super) away: Option<Away>,
    /// It was rolled back: it is read, and nothing is written to it by itself.
    pub(super) fallen: bool,
    /// What it has lost of what it was seen to hold, as lines.
    pub(super) lost: Vec<String>,
    /// Documents in it that cannot be used, also where another store has them whole.
    pub(super) bad: Vec<BadDocument>,
    /// Documents in it that cannot be used as they are, and that an older version has whole.
    pub(super) older: Vec<BadDocument>,
}

/// All stores read together.
pub(super) struct Union {
    pub(super) vault: Vault,
    pub(super) standings: Vec<Standing>,
}

/// The highest entries seen in a store. Only under the lock: else another run may raise them after the store was read.
pub(super) fn heads_in(state: &State, instance: &VaultId) -> Result<Heads> {
    Ok(seen(state)?.remove(instance).unwrap_or_default())
}

/// The highest entries seen in each store, by instance.
pub(super) fn seen(state: &State) -> Result<BTreeMap<VaultId, Heads>> {
    let everywhere = state
        .heads_everywhere()
        .doing(Class::Damage, || "cannot read what was seen in this store before".into())?;
    let numbers = |heads: BTreeMap<SignerId, Head>| {
        heads.into_iter().map(|(signer, head)| (signer, (head.number, head.hash))).collect()
    };
    Ok(everywhere.into_iter().map(|(instance, heads)| (instance, numbers(heads))).collect())
}

/// Remembers what a store holds.
pub(super) fn remember_in(state: &State, instance: &VaultId, seen: &[(SignerId, Head)]) -> Result<()> {
    state
        .raise_heads_in(instance, seen)
        .doing(Class::Failed, || "cannot remember what was seen in this store".into())
}

/// A problem with a store that another one makes good.
pub(super) fn store_problem(store: &str, what: impl Into<String>, hint: impl Into<String>) -> Problem {
    let (subject, what) = (format!("store {store}"), what.into());
    Problem { kind: ProblemKind::Store, component: None, subject, what, hint: Some(hint.into()) }
}

type Found = std::result::Result<StoreReading, Away>;

fn read_slot(session: &Session, slot: &StoreSlot) -> Found {
    let store = session.store_of(slot)?;
    session.read_one(&store).map_err(|e| Away::from(&e))
}

/// Reads stores at once, each in a thread of its own.
fn read_slots(session: &Session, slots: &[StoreSlot]) -> Vec<Found> {
    std::thread::scope(|scope| {
        let read: Vec<_> = slots.iter().map(|slot| scope.spawn(move || read_slot(session, slot))).collect();
        read.into_iter()
            .zip(slots)
            .map(|(read, slot)| read.join().unwrap_or_else(|_| read_slot(session, slot)))
            .collect()
    })
}

/// For a reading command: the first store that is here, and the others only when that one does not tell the whole history.
pub(super) fn look(session: &Session) -> Result<Vault> {
    let mut found: Vec<Found> = Vec::new();
    for slot in &session.stores {
        found.push(read_slot(session, slot));
        if found.last().is_some_and(std::result::Result::is_ok) {
            break;
        }
    }
    let mut partial = true;
    if let Some(Ok(first)) = found.last()
        && !tells_all(session, first)?
    {
        let rest = session.stores.get(found.len()..).unwrap_or(&[]);
        found.extend(read_slots(session, rest));
        partial = false;
    }
    if found.iter().all(std::result::Result::is_err) {
        return Err(none_of(session, &found));
    }
    for (slot, found) in session.stores.iter().zip(&found) {
        if let Err(away) = found {
            say_away(session, slot, away);
        }
    }
    let union = judge(session, found)?;
    if !partial {
        say_lag(session, &union);
    }
    Ok(union.vault)
}

/// For a run that writes: all stores. Fails when none can be used.
pub(super) fn read(session: &Session) -> Result<Union> {
    let found = read_slots(session, &session.stores);
    if found.iter().all(std::result::Result::is_err) {
        return Err(none_of(session, &found));
    }
    judge(session, found)
}

/// What is wrong with the history now, after a run that may have said what was missing.
pub(super) fn breaks_now(session: &Session) -> Result<Vec<String>> {
    Ok(read(session)?.vault.history.breaks.iter().map(ToString::to_string).collect())
}

/// A store that was never seen and is away may hold entries of this host that nobody here knows of; a number would be signed twice.
pub(super) fn refuse_unseen(session: &Session, standings: &[Standing]) -> Result<()> {
    let state = session.state()?;
    for standing in standings.iter().filter(|s| s.view.is_none()) {
        let cannot = || "cannot read which stores were seen".into();
        if state.instance_of(&standing.name).doing(Class::Damage, cannot)?.is_none() {
            let what = format!("store {:?} is away and was never seen by this machine", standing.name);
            let why = standing.away.as_ref().map(Away::line).unwrap_or_default();
            return Err(OpError::new(Class::Store, what).because(why).hint(
                "where there never was a store, `backstay init` makes one; else bring it back, or take it out of the configuration",
            ));
        }
    }
    Ok(())
}

/// Why a store of the configuration cannot be looked into, when one cannot: what is missing elsewhere may lie there.
pub(super) fn first_away(standings: &[Standing]) -> Option<OpError> {
    // One that is not here at all explains best why others seem to have lost something.
    let not_here = standings.iter().find(|s| s.view.is_none());
    let standing = not_here.or_else(|| standings.iter().find(|s| s.away.is_some()))?;
    let why = standing.away.as_ref().map(Away::line).unwrap_or_default();
    let what = format!("store {} is not here whole, and what is missing may lie there", standing.name);
    let name = &standing.name;
    Some(OpError::new(Class::Store, what).because(why).hint(format!(
        "bring it back, or `backstay sync --to {name}` where it lost something; one that is gone for good is replaced with `backstay init --replace-store {name}`, or taken out of the configuration"
    )))
}

fn none_of(session: &Session, found: &[Found]) -> OpError {
    let named = session.stores.iter().zip(found);
    let aways = named.filter_map(|(slot, found)| Some((&*slot.name, found.as_ref().err()?.clone())));
    none_here(&aways.collect::<Vec<_>>())
}

fn say_away(session: &Session, slot: &StoreSlot, away: &Away) {
    let hint = away.hint().unwrap_or("`backstay list --store NAME` shows what another store holds");
    if away.class == Class::Damage {
        session.trouble(store_problem(&slot.name, away.line(), hint));
    } else {
        session.note(&format!("store {} is away, and the next one is read: {}", slot.name, away.line()));
    }
}

/// Whether this one store shows all that was ever seen, and nothing is wrong in it.
fn tells_all(session: &Session, first: &StoreReading) -> Result<bool> {
    if session.state.is_none() || !first.bad.is_empty() || session.heads.is_empty() {
        return Ok(false);
    }
    let (history, _) = alone(session, first)?;
    let reaches = |(signer, seen): (&SignerId, &(u64, _))| {
        history.heads.get(signer).is_some_and(|head| head.0 >= seen.0)
    };
    Ok(history.breaks.is_empty() && session.heads.iter().all(reaches))
}

/// What a store shows when it is measured by what it was seen to hold; and what it has lost of that.
fn alone(session: &Session, reading: &StoreReading) -> Result<(History, Vec<Break>)> {
    let seen = &reading.seen;
    let copy = StoreReading {
        store: reading.store.clone(),
        info: reading.info.clone(),
        entries: reading.entries.clone(),
        bad: Vec::new(),
        older: Vec::new(),
        hidden: false,
        seen: Heads::new(),
    };
    let history = Vault::of(vec![copy], &session.judge(seen))?.history;
    let lost = |b: &&Break| match b.kind {
        BreakKind::RolledBack { .. } | BreakKind::Rewritten { .. } => true,
        // Above what it was seen to hold in one piece it is being filled.
        BreakKind::Gap { .. } => seen.get(&b.signer).is_some_and(|head| b.number <= head.0),
        _ => false,
    };
    let lost = history.breaks.iter().filter(lost).cloned().collect();
    Ok((history, lost))
}

fn judge(session: &Session, found: Vec<Found>) -> Result<Union> {
    let (mut readings, mut standings, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    for (slot, found) in session.stores.iter().zip(found) {
        let mut standing = Standing {
            name: slot.name.clone(),
            place: slot.place.clone(),
            view: None,
            away: None,
            fallen: false,
            lost: Vec::new(),
            bad: Vec::new(),
            older: Vec::new(),
        };
        match found {
            Err(away) => standing.away = Some(away),
            Ok(reading) if twice(&readings, &reading) => standing.away = Some(same_instance(&reading)),
            Ok(reading) => {
                standing.view = Some(readings.len());
                standing.bad.clone_from(&reading.bad);
                standing.older.clone_from(&reading.older);
                lost.push((standings.len(), lost_of(session, &reading)?));
                readings.push(reading);
            }
        }
        standings.push(standing);
    }
    pass_over_what_another_has(session, &mut readings);
    let whole = standings.len() == session.stores.len() && standings.iter().all(|s| s.view.is_some());
    let heads = measure(session, &readings, whole)?;
    let vault = Vault::of(readings, &session.judge(&heads))?;
    for (place, lost) in lost.iter().filter(|(_, lost)| !lost.is_empty()) {
        // Where every store is here and none has it, there is nothing to wait for: it is said of the whole history, as with one store.
        if !(whole && lost.iter().all(|lost| is_lost_everywhere(&vault, lost))) {
            fall(session, lost, &mut standings[*place]);
        }
    }
    if let Some(state) = &session.state {
        session.remembered(vault.remember(state))?;
    }
    Ok(Union { vault, standings })
}

fn twice(readings: &[StoreReading], reading: &StoreReading) -> bool {
    readings.iter().any(|other| other.info.instance == reading.info.instance)
}

fn same_instance(reading: &StoreReading) -> Away {
    let what = format!("store {:?} has the instance of another store", reading.store.name());
    let hint = "one is a copied folder: name a folder of its own for each, and let `backstay init` make a store in it";
    Away::from(&OpError::new(Class::Damage, what).hint(hint))
}

/// What a store shows less than it did; what it shows is remembered.
fn lost_of(session: &Session, reading: &StoreReading) -> Result<Vec<Break>> {
    let Some(state) = &session.state else {
        return Ok(Vec::new());
    };
    let (history, lost) = alone(session, reading)?;
    let seen: Vec<(SignerId, Head)> =
        history.heads.iter().map(|(signer, h)| (*signer, Head { number: h.0, hash: h.1 })).collect();
    session.remembered(remember_in(state, &reading.info.instance, &seen))?;
    Ok(lost)
}

/// True when no store makes good what one lost: then the whole history has the same break.
fn is_lost_everywhere(vault: &Vault, lost: &Break) -> bool {
    vault.history.breaks.contains(lost)
}

/// A store that shows less than it did, where another may have it: it is read, and nothing is written to it by itself.
fn fall(session: &Session, lost: &[Break], standing: &mut Standing) {
    let lines: Vec<String> = lost.iter().map(ToString::to_string).collect();
    let name = &standing.name;
    let what = format!("it shows less than it held before: {}", lines.join("; "));
    let hint =
        format!("find out who changed it; `backstay sync --to {name}` brings back what another store has");
    session.trouble(store_problem(name, &what, &hint));
    standing.away = Some(Away::from(&OpError::new(Class::Damage, what).hint(hint)));
    (standing.fallen, standing.lost) = (true, lines);
}

/// A document that is damaged in one store and whole in another is that store's trouble, not the vault's.
fn pass_over_what_another_has(session: &Session, readings: &mut [StoreReading]) {
    let whole: BTreeSet<String> =
        readings.iter().flat_map(|r| r.entries.iter().map(|e| key_of(e).to_string())).collect();
    for reading in readings {
        let name = reading.store.name().to_owned();
        reading.bad.retain(|bad| {
            let elsewhere = whole.contains(&bad.key);
            if elsewhere {
                let what = format!("{} cannot be used there: {}", bad.key, bad.why);
                session.trouble(store_problem(&name, what, "another store has it whole; look at that disk"));
            }
            !elsewhere
        });
    }
}

/// What the union is measured by: all that was ever seen. Where a store is away, entries that only it had do not make the rest a history
/// that was rolled back; but each store that is here must still show what it held.
fn measure(session: &Session, readings: &[StoreReading], whole: bool) -> Result<Heads> {
    let mut reached: BTreeMap<SignerId, u64> = BTreeMap::new();
    for entry in readings.iter().flat_map(|r| &r.entries) {
        let number = reached.entry(entry.signer()).or_default();
        *number = entry.number().max(*number);
    }
    let mut heads = session.heads.clone();
    let above = |signer: &SignerId, number: u64| reached.get(signer).is_none_or(|there| *there < number);
    let beyond: Vec<SignerId> =
        heads.iter().filter(|(signer, head)| above(signer, head.0)).map(|(signer, _)| *signer).collect();
    if whole || beyond.is_empty() {
        return Ok(heads);
    }
    let mut held = Heads::new();
    for (signer, head) in readings.iter().flat_map(|reading| &reading.seen) {
        let best = held.entry(*signer).or_insert(*head);
        *best = (*best).max(*head);
    }
    for signer in beyond {
        let seen = heads.remove(&signer).map_or(0, |head| head.0);
        let there = reached.get(&signer).copied().unwrap_or(0);
        session.note(&format!(
            "the stores that are here show entries up to {there} of signer {signer}; up to {seen} were seen before, in a store that is away"
        ));
        heads.extend(held.get(&signer).map(|head| (signer, *head)));
    }
    Ok(heads)
}

/// Says which stores lack entries that another has.
fn say_lag(session: &Session, union: &Union) {
    for (name, missing) in lag(&union.vault) {
        session.note(&format!(
            "store {name} lacks {missing} entries that another store has; the next backup or `backstay sync` brings them"
        ));
    }
}

/// For each store that was read and lacks entries of trusted signers: its name, and how many.
pub(super) fn lag(vault: &Vault) -> Vec<(String, usize)> {
    let keys = vault.history.keys();
    // What lost when a fork was settled is brought nowhere, so no store lacks it.
    let stands = |e: &&ChainEntry| !vault.history.is_dropped(&e.signer(), e.number(), &e.hash);
    let counts = |e: &&ChainEntry| keys.counts(e);
    let all: BTreeSet<EntryName> = vault.entries.iter().filter(counts).filter(stands).map(name_of).collect();
    let lacks = |view: &crate::ops::vault::View| {
        let excused = excused_in(vault, &view.info.instance);
        let missing = all.iter().filter(|e| !view.present.contains(*e) && !excused.contains(*e)).count();
        (view.store.name().to_owned(), missing)
    };
    vault.views.iter().map(lacks).filter(|(_, missing)| *missing > 0).collect()
}
