//! What `prune` tells: every snapshot with what is to become of it and why, and what was deleted.

use crate::config::StoreConfig;
use crate::keys::NamingKey;
use crate::keys::naming::component_number;
use crate::model::mark::Tombstone;
use crate::model::{HostId, ObjectId, Problem, SnapshotId, Timestamp};
use crate::ops::error::OpError;
use crate::ops::prune::clear::Deleted;
use crate::ops::prune::look::records_in;
use crate::ops::prune::plan::{Announced, Choice, frozen};
use crate::ops::prune::tombstones::{Tombstones, last_pruned};
use crate::ops::session::Session;
use crate::ops::stores::{Away, place_of};
use crate::ops::vault::Vault;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap, HashSet};

/// What is to become of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It stays.
    Stays,
    /// It may go, and an older one goes first.
    Later,
    /// With `--dry-run`: this run would announce it.
    Goes,
    /// It is announced, and goes when the grace is over.
    Waits,
}

/// A snapshot and what is to become of it.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its host.
    pub host: HostId,
    /// What is to become of it.
    pub fate: Fate,
    /// Why, in words.
    pub reasons: Vec<String>,
}

/// A component nothing of which goes.
#[derive(Debug, Clone, Serialize)]
pub struct FrozenComponent {
    /// Its host.
    pub host: HostId,
    /// Its name, where it is known here; else `component` and its number.
    pub component: String,
    /// Why, in words.
    pub why: String,
    /// So many good snapshots end it.
    pub good_needed: u64,
    /// `prune --accept` of this one ends it.
    pub accept: SnapshotId,
}

/// What is announced and not deleted yet.
#[derive(Debug, Clone, Serialize)]
pub struct Waiting {
    /// The tombstone.
    pub tombstone: SnapshotId,
    /// Nothing of it goes before.
    pub not_before: Timestamp,
    /// How many snapshots of those announced still go.
    pub snapshots: u64,
    /// How many objects of those announced nothing needs that stays.
    pub objects: u64,
}

/// Objects that nothing would need any more.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct WouldFree {
    /// How many.
    pub objects: u64,
    /// Sum of their sizes.
    pub bytes: u64,
}

/// A snapshot whose state was accepted.
#[derive(Debug, Clone, Serialize)]
pub struct Accepted {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The components that were frozen.
    pub components: Vec<String>,
}

/// What was planned and done in one store.
#[derive(Debug, Clone, Serialize)]
pub struct PrunedStore {
    /// The store.
    pub name: String,
    /// Where it is.
    pub location: String,
    /// It is pruned by another host, and was left alone.
    pub elsewhere: bool,
    /// When somebody last deleted something there, as far as is known.
    pub last_pruned: Option<Timestamp>,
    /// Every snapshot of the hosts that were looked at, oldest first.
    pub snapshots: Vec<PlannedSnapshot>,
    /// Components nothing of which goes.
    pub frozen: Vec<FrozenComponent>,
    /// Snapshots that stay only because of that.
    pub held_by_freeze: u64,
    /// What was deleted in this run.
    pub deleted: Deleted,
    /// With `--dry-run`: what would be announced.
    pub would_free: Option<WouldFree>,
    /// What is announced.
    pub waiting: Vec<Waiting>,
    /// So many more objects nothing will need: too many for one announcement, and later runs announce them.
    pub objects_later: u64,
    /// Tombstones of other pruners, which block the reuse of what they name.
    pub others_tombstones: Vec<String>,
    /// The store keeps versions: what was deleted is only hidden and takes its place until the bucket's own rules remove it. Null when that
    /// is not known.
    pub keeps_versions: Option<bool>,
    /// Why nothing was done, where something is wrong.
    pub problem: Option<String>,
}

/// What `prune` did.
#[derive(Debug, Clone, Serialize)]
pub struct PruneReport {
    /// Nothing was done.
    pub dry_run: bool,
    /// Snapshots whose state was accepted in this run.
    pub accepted: Vec<Accepted>,
    /// The stores of the configuration.
    pub stores: Vec<PrunedStore>,
    /// Everything worth knowing.
    pub problems: Vec<Problem>,
}

impl PruneReport {
    /// True when something would have gone and is frozen: a person should look.
    pub fn needs_person(&self) -> bool {
        self.stores.iter().any(|store| store.held_by_freeze > 0)
    }
}

impl PrunedStore {
    pub(super) fn new(store: &StoreConfig) -> Self {
        Self {
            name: store.name.clone(),
            location: place_of(store),
            elsewhere: false,
            last_pruned: None,
            snapshots: Vec::new(),
            frozen: Vec::new(),
            held_by_freeze: 0,
            deleted: Deleted::default(),
            would_free: None,
            waiting: Vec::new(),
            objects_later: 0,
            others_tombstones: Vec::new(),
            keeps_versions: None,
            problem: None,
        }
    }

    pub(super) fn failed(store: &StoreConfig, error: &OpError) -> Self {
        Self { problem: Some(Away::from(error).line()), ..Self::new(store) }
    }
}

impl Deleted {
    pub(super) fn add(&mut self, more: &Self) {
        self.snapshots += more.snapshots;
        self.marks += more.marks;
        self.objects += more.objects;
        self.bytes += more.bytes;
        self.objects_kept += more.objects_kept;
    }
}

/// What components are called.
pub(super) struct Naming(HashMap<u64, String>);

impl Naming {
    /// The names of the configuration, where the key is here that their numbers are made with.
    pub(super) fn of(session: &Session) -> Self {
        let Some(config) = &session.config else { return Self(HashMap::new()) };
        let key = NamingKey::load(&crate::ops::init::naming_path(&config.signing.key_file)).ok();
        let named = |key: NamingKey| {
            config.components.iter().map(|c| (component_number(&key, &c.name), c.name.to_string())).collect()
        };
        Self(key.map(named).unwrap_or_default())
    }

    pub(super) fn name(&self, _host: &HostId, component: u64) -> String {
        self.0.get(&component).cloned().unwrap_or_else(|| format!("component {component}"))
    }
}

/// All that a report is made of.
pub(super) struct Shown<'a> {
    pub(super) store: &'a StoreConfig,
    pub(super) vault: &'a Vault,
    pub(super) view: usize,
    pub(super) choice: &'a Choice,
    pub(super) tombstones: &'a Tombstones,
    pub(super) naming: &'a Naming,
}

impl Shown<'_> {
    /// With what this run would announce.
    pub(super) fn planned(&self, announced: &Announced) -> PrunedStore {
        let goes: BTreeSet<&SnapshotId> = announced.snapshots.iter().map(|g| &g.snapshot).collect();
        let mut report = self.report(Deleted::default());
        for row in &mut report.snapshots {
            if goes.contains(&row.id) {
                row.fate = Fate::Goes;
            }
        }
        report.would_free =
            Some(WouldFree { objects: announced.objects.len() as u64, bytes: announced.bytes });
        report.objects_later = announced.later;
        report
    }

    pub(super) fn report(&self, deleted: Deleted) -> PrunedStore {
        let view = &self.vault.views[self.view];
        PrunedStore {
            last_pruned: last_pruned(self.vault, &view.info.instance),
            snapshots: self.rows(),
            frozen: self.frozen(),
            held_by_freeze: frozen(self.choice).len() as u64,
            deleted,
            waiting: self.waiting(),
            others_tombstones: self.tombstones.others.clone(),
            keeps_versions: view.store.keeps_versions(),
            ..PrunedStore::new(self.store)
        }
    }

    fn rows(&self) -> Vec<PlannedSnapshot> {
        let waits: BTreeSet<&SnapshotId> =
            self.tombstones.own.iter().flat_map(|own| &own.tombstone.snapshots).map(|row| &row.0).collect();
        let mut rows = Vec::new();
        for plan in &self.choice.hosts {
            for decision in &plan.verdicts.decisions {
                let id = &decision.snapshot;
                let fate = match decision.keep {
                    true => Fate::Stays,
                    false if waits.contains(id) => Fate::Waits,
                    false => Fate::Later,
                };
                let words = |b: &crate::model::retention::Because| {
                    b.words(&|component| self.naming.name(&plan.host, component))
                };
                let reasons = decision.because.iter().map(words).collect();
                rows.push(PlannedSnapshot { id: id.clone(), host: plan.host, fate, reasons });
            }
        }
        rows
    }

    /// What still goes of what was announced: a snapshot may have become a milestone since, and an object be needed again.
    fn waiting(&self) -> Vec<Waiting> {
        let own = || self.tombstones.own.iter().map(|own| &own.tombstone);
        let going: HashSet<ObjectId> = self.choice.going.iter().map(|going| going.record).collect();
        let leaving: HashSet<ObjectId> = own()
            .flat_map(|t| &t.snapshots)
            .map(|row| row.1)
            .filter(|record| going.contains(record))
            .collect();
        let stay = records_in(self.vault, &self.vault.views[self.view]);
        let stay = { stay }.filter(|(_, hash)| !leaving.contains(hash));
        let needed: HashSet<ObjectId> =
            stay.flat_map(|(record, _)| record.objects.iter().map(|object| object.id)).collect();
        let waiting = |tombstone: &Tombstone| Waiting {
            tombstone: tombstone.id.clone(),
            not_before: tombstone.not_before,
            snapshots: tombstone.snapshots.iter().filter(|row| leaving.contains(&row.1)).count() as u64,
            objects: tombstone.objects.iter().filter(|row| !needed.contains(&row.1)).count() as u64,
        };
        own().map(waiting).collect()
    }

    fn frozen(&self) -> Vec<FrozenComponent> {
        let of = |host: HostId, freeze: &crate::model::retention::Freeze| FrozenComponent {
            host,
            component: self.naming.name(&host, freeze.component),
            why: freeze.kind.to_string(),
            good_needed: freeze.good_needed as u64,
            accept: freeze.accept.clone(),
        };
        let hosts = self.choice.hosts.iter();
        hosts
            .flat_map(|plan| plan.verdicts.freezes.iter().map(|f| of(plan.host, f)).collect::<Vec<_>>())
            .collect()
    }
}
