//! Retention: which snapshots of a host may go from a store, which stay, and why.
//!
//! A pure function of records, marks, policy and time. It must never let a snapshot go because of something that only an untrusted key, a
//! clock or a flood of records says: what is doubtful is kept and counts for nothing. Rules are applied component by component; a snapshot
//! stays while any of its components needs it. Docs: `docs/retention.md`.

mod component;
mod freeze;
mod period;
mod policy;
mod reason;
mod times;

pub use freeze::{Freeze, FreezeKind, GOOD_TO_THAW};
pub use period::Period;
pub use policy::{Policy, Rule};
pub use reason::{Because, Reason};
pub use times::Odd;

use crate::model::chain::{KnownSnapshot, Trust};
use crate::model::id::{ObjectId, SnapshotId, VaultId};
use crate::model::record::SnapshotKind;
use component::{Part, Rules};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// How long safety snapshots are kept, and interim records of runs that never ended.
pub const SAFETY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A snapshot that a store holds.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    /// What is known of it.
    pub known: &'a KnownSnapshot,
    /// When the store says that its record was put; informative only.
    pub stored: Option<Timestamp>,
}

/// What a decision is made by.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The rules.
    pub policy: &'a Policy,
    /// The store.
    pub instance: &'a VaultId,
    /// The present moment.
    pub now: Timestamp,
    /// Another host decides: what the host of the snapshots says about itself proves nothing.
    pub others: bool,
}

/// What is to become of a snapshot, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// SHA-256 of line 1 of its record.
    pub record: ObjectId,
    /// Whether it stays.
    pub keep: bool,
    /// Why, at least one reason.
    pub because: Vec<Because>,
}

/// What is to become of the snapshots of a host in a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdicts {
    /// One for each snapshot, in the order given.
    pub decisions: Vec<Decision>,
    /// Components nothing of which may go now.
    pub freezes: Vec<Freeze>,
}

/// Decides about `held`, all snapshots of one host in one store: trusted ones in the order of the chain, others anywhere.
pub fn decide(held: &[Held<'_>], scene: &Scene<'_>) -> Verdicts {
    let times = times::of(held, scene.now);
    let views = judgements(held, scene);
    let rules: Vec<Rules> = views.iter().map(|view| rules(held, &times, view, scene)).collect();
    let mut freezes: Vec<Freeze> = Vec::new();
    for freeze in rules.iter().flat_map(|r| &r.freezes) {
        if !freezes.contains(freeze) {
            freezes.push(freeze.clone());
        }
    }
    let all = All { held, times: &times, views: &views, rules: &rules, scene };
    Verdicts { decisions: (0..held.len()).map(|at| all.decision(at)).collect(), freezes }
}

/// Which of the snapshots given are good, by their places.
#[derive(Debug, PartialEq, Eq)]
struct View {
    now: Vec<bool>,
    /// Now, or at some time before.
    once: Vec<bool>,
}

/// Which of `held` are good: once by what counts, and, for another host's snapshots, once more without what that host says against itself.
/// Only what both let go may go.
fn judgements(held: &[Held<'_>], scene: &Scene<'_>) -> Vec<View> {
    type Set = fn(&KnownSnapshot) -> &BTreeSet<VaultId>;
    let by = |set: Set| held.iter().map(|h| set(h.known).contains(scene.instance)).collect();
    let view = |now: Set, once: Set| View { now: by(now), once: by(once) };
    if !scene.others {
        return vec![view(|s| &s.good_in, |s| &s.once_good.by_all)];
    }
    let strict = view(|s| &s.good_by_others_in, |s| &s.once_good.by_others);
    let lax = view(|s| &s.sound_by_others_in, |s| &s.once_good.sound_by_others);
    if strict == lax { vec![strict] } else { vec![strict, lax] }
}

/// Why the commit of a snapshot did not hold in this store, and whether an honest run said so.
fn void_here<'a>(known: &'a KnownSnapshot, instance: &VaultId) -> Option<(&'a str, bool)> {
    let here = known.voids.iter().filter(|v| v.instance.as_ref().is_none_or(|i| i == instance));
    here.map(|v| (v.reason.as_str(), v.prompt)).max_by_key(|(_, prompt)| *prompt)
}

/// True when rules are applied to it: a trusted normal snapshot that is not void, at a time that can be.
fn is_usable(held: &Held<'_>, time: &Result<Timestamp, Odd>, instance: &VaultId) -> bool {
    held.known.trusted == Trust::Trusted
        && held.known.record.kind == SnapshotKind::Normal
        && void_here(held.known, instance).is_none()
        && time.is_ok()
}

/// Applies the rules to every component.
fn rules(held: &[Held<'_>], times: &[Result<Timestamp, Odd>], view: &View, scene: &Scene<'_>) -> Rules {
    let mut parts: BTreeMap<u64, Vec<Part<'_>>> = BTreeMap::new();
    for (at, one) in held.iter().enumerate() {
        let Some(time) = times[at].ok().filter(|_| is_usable(one, &times[at], scene.instance)) else {
            continue;
        };
        for line in &one.known.record.components {
            let (good, once_good) = (view.now[at], view.once[at]);
            let part = Part { at, known: one.known, line, time, good, once_good };
            parts.entry(line.number).or_default().push(part);
        }
    }
    let mut rules = Rules::default();
    for (component, parts) in parts {
        component::apply(component, &parts, scene, &mut rules);
    }
    rules
}

/// Everything there is to a decision.
struct All<'a> {
    held: &'a [Held<'a>],
    times: &'a [Result<Timestamp, Odd>],
    views: &'a [View],
    rules: &'a [Rules],
    scene: &'a Scene<'a>,
}

impl All<'_> {
    fn decision(&self, at: usize) -> Decision {
        let known = self.held[at].known;
        let (keep, because) = match self.outside_the_rules(at) {
            Some((keep, reason)) => (keep, vec![Because::whole(reason)]),
            None => self.by_the_rules(at),
        };
        Decision { snapshot: known.record.snapshot.clone(), record: known.hash, keep, because }
    }

    /// What is decided before any rule is asked. The order matters: what is doubtful stays whatever else is said of it.
    fn outside_the_rules(&self, at: usize) -> Option<(bool, Reason)> {
        let (known, instance) = (self.held[at].known, self.scene.instance);
        if let Trust::Untrusted(why) = known.trusted {
            return Some((true, Reason::Untrusted(why)));
        }
        if known.milestone {
            return Some((true, Reason::Milestone));
        }
        if let Some((reason, prompt)) = void_here(known, instance) {
            let reason = reason.to_owned();
            return Some(match prompt || known.delete_asked {
                true => (false, Reason::Void(reason)),
                false => (true, Reason::LateVoid(reason)),
            });
        }
        let time = match self.times[at] {
            Ok(time) => time,
            Err(_) if known.delete_asked => return Some((false, Reason::DeleteAsked)),
            Err(odd) => return Some((true, Reason::Odd(odd))),
        };
        match known.record.kind {
            SnapshotKind::Partial => Some(self.partial(known, time)),
            SnapshotKind::Safety if known.delete_asked => Some((false, Reason::DeleteAsked)),
            SnapshotKind::Safety => Some(self.safety(at, time)),
            SnapshotKind::Normal => None,
        }
    }

    fn partial(&self, known: &KnownSnapshot, time: Timestamp) -> (bool, Reason) {
        let same_run = |h: &&Held<'_>| {
            h.known.trusted == Trust::Trusted && Some(&h.known.record.snapshot) == known.record.run.as_ref()
        };
        if self.held.iter().any(|h| same_run(&h)) {
            return (false, Reason::RunEnded);
        }
        (
            time >= self.ago(SAFETY),
            if time >= self.ago(SAFETY) { Reason::RunMayGoOn } else { Reason::RunLost },
        )
    }

    /// A safety snapshot is what a rollback can be undone with: it stays 7 days, and until a good snapshot was made after it.
    fn safety(&self, at: usize, time: Timestamp) -> (bool, Reason) {
        if time >= self.ago(SAFETY) {
            return (true, Reason::Safety);
        }
        let good_later = |view: &View| {
            let usable = |i: usize| is_usable(&self.held[i], &self.times[i], self.scene.instance);
            (at + 1..self.held.len()).any(|i| view.now[i] && usable(i))
        };
        if !self.views.iter().all(good_later) {
            return (true, Reason::SafetyNeeded);
        }
        let lines = &self.held[at].known.record.components;
        let frozen = |c: u64| self.rules.iter().flat_map(|r| &r.freezes).find(|f| f.component == c);
        match lines.iter().find_map(|line| frozen(line.number)) {
            Some(freeze) => (true, Reason::Frozen(freeze.kind.clone())),
            None => (false, Reason::SafetyOver),
        }
    }

    fn by_the_rules(&self, at: usize) -> (bool, Vec<Because>) {
        let known = self.held[at].known;
        let number = known.record.components.len();
        if number == 0 {
            return (true, vec![Because::whole(Reason::NoComponents)]);
        }
        let mut why: Vec<(Reason, BTreeSet<u64>)> = Vec::new();
        for (reason, component) in self.rules.iter().filter_map(|r| r.keeps.get(&at)).flatten() {
            match why.iter_mut().find(|(there, _)| there == reason) {
                Some((_, components)) => components.extend([*component]),
                None => why.push((reason.clone(), BTreeSet::from([*component]))),
            }
        }
        if known.delete_asked {
            why.retain(|(reason, _)| matches!(reason, Reason::DeleteRefused { .. }));
            if why.is_empty() {
                return (false, vec![Because::whole(Reason::DeleteAsked)]);
            }
        } else if let Some(tag) =
            known.held_tags.iter().find(|tag| self.scene.policy.keep_tags.contains(*tag))
        {
            why.push((Reason::Tag(tag.clone()), BTreeSet::new()));
        }
        if why.is_empty() {
            return (false, vec![Because::whole(Reason::Expired)]);
        }
        // What holds for all of its components holds for the snapshot.
        let because = |(reason, components): (Reason, BTreeSet<u64>)| match components.len() == number {
            true => Because::whole(reason),
            false => Because { reason, components: components.into_iter().collect() },
        };
        (true, why.into_iter().map(because).collect())
    }

    fn ago(&self, span: SignedDuration) -> Timestamp {
        self.scene.now.saturating_sub(span).unwrap_or(Timestamp::MIN)
    }
}

#[cfg(test)]
mod tests;
