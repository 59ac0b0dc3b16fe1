//! What marks do to snapshots: the table of authority and the order of marks (section 5 of the format).

use crate::model::chain::{ChainEntry, EntryBody, KnownSnapshot, KnownVerdict, KnownVoid, Trust, Untrusted};
use crate::model::id::{ObjectId, SignerId, SnapshotId, VaultId};
use crate::model::mark::{Role, Statement, Target};
use crate::model::trust_rules::{Dropped, Keys};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// A clock may be this much ahead of the reader's.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(1);

/// A trusted mark at its place in time.
pub(crate) struct PlacedMark<'a> {
    /// The mark's entry in the chain.
    pub(crate) entry: &'a ChainEntry,
    /// What it says.
    pub(crate) statement: &'a Statement,
    /// When, as far as that can be believed.
    time: Timestamp,
}

/// All marks by trusted keys, in their order: of one signer by number, of several by time. A time that cannot be is that of the entry before.
pub(crate) fn in_order<'a>(
    entries: &'a [ChainEntry],
    keys: &Keys,
    dropped: &Dropped,
    now: Timestamp,
) -> Vec<PlacedMark<'a>> {
    let latest = now.saturating_add(AHEAD_MAX).unwrap_or(Timestamp::MAX);
    let mut before: Option<(SignerId, Timestamp)> = None;
    let mut marks = Vec::new();
    // `entries` are sorted by signer and number.
    for entry in entries.iter().filter(|e| !dropped.contains(&(e.signer(), e.number(), e.hash))) {
        let floor =
            before.filter(|(signer, _)| *signer == entry.signer()).map_or(Timestamp::MIN, |(_, time)| time);
        let said = entry.time();
        let time = if said > latest || said < floor { floor } else { said };
        before = Some((entry.signer(), time));
        if let Some(mark) = entry.as_mark().filter(|_| keys.counts(entry)) {
            marks.push(PlacedMark { entry, statement: &mark.statement, time });
        }
    }
    marks.sort_by_key(|m| (m.time, m.entry.signer(), m.entry.number(), m.entry.hash));
    marks
}

/// All snapshots as their records alone say.
pub(crate) fn snapshots(entries: &[ChainEntry], keys: &Keys, dropped: &Dropped) -> Vec<KnownSnapshot> {
    let mut snapshots = Vec::new();
    for entry in entries {
        let EntryBody::Record(record) = &entry.body else {
            continue;
        };
        let reason = match dropped.contains(&(record.signer, record.number, entry.hash)) {
            true => Some(Untrusted::Dropped),
            false => keys.distrust(entry, &record.host),
        };
        let trusted = reason.map_or(Trust::Trusted, Trust::Untrusted);
        snapshots.push(KnownSnapshot::new(Arc::clone(record), entry.hash, trusted));
    }
    snapshots
}

/// Who added a tag. Those of the record are its host's.
#[derive(Clone, Copy)]
struct Adders {
    host: bool,
    prune: bool,
}

/// What has to be remembered of a snapshot while marks are applied.
struct Working {
    tags: BTreeMap<String, Adders>,
    /// Tags that no `prune` key took away.
    held: BTreeSet<String>,
    /// Stores in which the commit did not hold; `None` for all.
    voids: BTreeMap<Option<VaultId>, String>,
}

/// Applies `marks`, which are in order.
pub(crate) fn apply(
    snapshots: &mut [KnownSnapshot],
    marks: &[PlacedMark<'_>],
    keys: &Keys,
    instances: &BTreeSet<VaultId>,
) {
    let by_target: HashMap<(SnapshotId, ObjectId), usize> =
        snapshots.iter().enumerate().map(|(i, s)| ((s.record.snapshot.clone(), s.hash), i)).collect();
    let of_record = Adders { host: true, prune: false };
    let start = |s: &KnownSnapshot| Working {
        tags: s.record.tags.iter().map(|tag| (tag.clone(), of_record)).collect(),
        held: s.record.tags.iter().cloned().collect(),
        voids: BTreeMap::new(),
    };
    let mut working: Vec<Working> = snapshots.iter().map(start).collect();
    let places: HashSet<(SignerId, u64)> =
        marks.iter().map(|m| (m.entry.signer(), m.entry.number())).collect();
    for mark in marks {
        let Some(target) = target_of(mark.statement) else {
            continue;
        };
        let Some(&i) = by_target.get(&(target.snapshot.clone(), target.record)) else {
            continue;
        };
        apply_one(&mut snapshots[i], &mut working[i], mark, keys);
        void_one(&mut snapshots[i], mark, &places);
    }
    for (snapshot, working) in snapshots.iter_mut().zip(working) {
        snapshot.tags = working.tags.into_keys().collect();
        snapshot.held_tags = working.held;
        let here = |store: &&Option<VaultId>| store.as_ref().is_some_and(|id| instances.contains(id));
        let everywhere = working.voids.contains_key(&None)
            || (!instances.is_empty() && working.voids.keys().filter(here).count() == instances.len());
        snapshot.void = everywhere.then(|| working.voids.into_values().next()).flatten();
    }
}

fn apply_one(snapshot: &mut KnownSnapshot, working: &mut Working, mark: &PlacedMark<'_>, keys: &Keys) {
    let host = keys.speaks_for(mark.entry, &snapshot.record.host);
    let prune = keys.has_role(mark.entry, Role::Prune);
    match mark.statement {
        Statement::Void { instance, reason, .. } if mark.entry.signer() == snapshot.record.signer => {
            working.voids.entry(instance.clone()).or_insert_with(|| reason.clone());
        }
        Statement::Tag { add, remove, .. } if host || prune => {
            change_tags(&mut working.tags, add, remove, Adders { host, prune });
            if prune {
                working.held.retain(|tag| !remove.contains(tag));
            }
            working.held.extend(add.iter().cloned());
        }
        Statement::Note { sealed, .. } if host || prune => {
            snapshot.note_sealed = Some(sealed.clone());
        }
        Statement::Milestone { on, .. } if prune || (host && *on) => snapshot.milestone = *on,
        Statement::Delete(_) if prune => snapshot.delete_asked = true,
        Statement::Accept { components, .. } if prune => {
            snapshot.accepted.extend(components.iter().map(|component| (*component, mark.time)));
        }
        // A verifier's word about its own host is the host's word.
        Statement::Verdict(verdict) if host || keys.has_role(mark.entry, Role::Verify) => {
            let own = keys.is_of(&mark.entry.signer(), &snapshot.record.host);
            let (signer, number, time) = (mark.entry.signer(), mark.entry.number(), mark.time);
            let verdict = verdict.clone();
            snapshot.verdicts.push(KnownVerdict { signer, number, time, own, verdict });
        }
        _ => {}
    }
}

/// Notes a mark that voids a snapshot, and whether it came as an honest run's does.
fn void_one(snapshot: &mut KnownSnapshot, mark: &PlacedMark<'_>, places: &HashSet<(SignerId, u64)>) {
    let Statement::Void { instance, reason, .. } = mark.statement else {
        return;
    };
    let (signer, number) = (snapshot.record.signer, snapshot.record.number);
    if mark.entry.signer() == signer {
        // A run that called it good there did not find afterwards that its commit had not held.
        let said_good = snapshot.verdicts.iter().any(|said| {
            let there = instance.as_ref().is_none_or(|instance| *instance == said.verdict.instance);
            said.signer == signer && said.number < mark.entry.number() && said.verdict.good && there
        });
        let prompt = number < mark.entry.number()
            && (number + 1..mark.entry.number()).all(|between| places.contains(&(signer, between)))
            && !said_good;
        snapshot.voids.push(KnownVoid { instance: instance.clone(), reason: reason.clone(), prompt });
    }
}

/// A host takes away what it added itself, `prune` everything. What one mark both removes and adds stays.
fn change_tags(tags: &mut BTreeMap<String, Adders>, add: &[String], remove: &[String], by: Adders) {
    for tag in remove {
        let left = match tags.get(tag) {
            Some(adders) if !by.prune && adders.prune => Adders { host: false, ..*adders },
            Some(_) => {
                tags.remove(tag);
                continue;
            }
            None => continue,
        };
        tags.insert(tag.clone(), left);
    }
    for tag in add {
        let adders = tags.entry(tag.clone()).or_insert(Adders { host: false, prune: false });
        // A key with both roles adds as the host that it is.
        adders.host |= by.host;
        adders.prune |= by.prune && !by.host;
    }
}

fn target_of(statement: &Statement) -> Option<&Target> {
    match statement {
        Statement::Void { target, .. }
        | Statement::Tag { target, .. }
        | Statement::Note { target, .. }
        | Statement::Milestone { target, .. }
        | Statement::Accept { target, .. }
        | Statement::Delete(target) => Some(target),
        Statement::Verdict(verdict) => Some(&verdict.target),
        _ => None,
    }
}
