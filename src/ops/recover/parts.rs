//! From which snapshot each component comes: a schedule may capture one more often than the others, so the newest snapshot need not hold all.
//!
//! The newest good snapshot gives the configuration and what it holds; what the configuration names beside comes from the newest good one that holds it.
//! A run that was interrupted must go on with the snapshots that it was begun with, whatever is newer meanwhile: these are in what it left.

use super::{Base, Looked};
use crate::keys::NamingKey;
use crate::keys::naming::component_number;
use crate::model::chain::KnownSnapshot;
use crate::model::index::{Index, IndexComponent};
use crate::model::{ComponentName, ObjectId, Problem, ProblemKind, Record, SnapshotId, Timestamp};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::holding::{configured, holds, takeable};
use crate::ops::stores::Away;
use serde::{Deserialize, Serialize};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// The snapshot that a component comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) snapshot: SnapshotId,
    /// SHA-256 of line 1 of its record.
    pub(super) record: ObjectId,
}

/// Components by name, and where they come from.
pub(super) type Origins = BTreeMap<String, Origin>;

/// Which snapshots are taken beside the base.
pub(super) enum How {
    /// None: somebody named the base.
    Named,
    /// Those of an interrupted run; none where an older program began it.
    Begun(Option<Origins>),
    /// The newest good ones.
    Newest,
}

/// What is brought back, put together from one or several snapshots.
pub(super) struct Parts {
    /// The record of the base.
    pub(super) record: Arc<Record>,
    /// SHA-256 of its line 1.
    pub(super) hash: ObjectId,
    /// The index of the base, with what comes from others.
    pub(super) index: Index,
    pub(super) from: Origins,
    /// The snapshots that hold each component, the best first.
    pub(super) holders: BTreeMap<String, Vec<SnapshotId>>,
    /// Components of the configuration that are not brought back.
    pub(super) absent: Vec<String>,
    /// What could not be opened, and what is not good.
    pub(super) problems: Vec<Problem>,
    /// The snapshots that are taken: when each was begun, and why it is not good, if it is not.
    taken: BTreeMap<SnapshotId, (Timestamp, Option<&'static str>)>,
}

/// Puts together what is brought back.
pub(super) fn of(looked: &Looked, base: Base, how: &How) -> Result<Parts> {
    let Base { record, hash, index, passed } = base;
    let own = Origin { snapshot: record.snapshot.clone(), record: hash };
    let from = index.components.iter().map(|c| (c.name.to_string(), own.clone())).collect();
    let key = NamingKey::parse(&index.header.naming_key).or_else(|| looked.kit.naming_key.clone());
    let mut names = configured(&index.header.config);
    names.extend(index.components.iter().map(|c| c.name.clone()));
    if let How::Begun(Some(origins)) = how {
        names.extend(origins.keys().filter_map(|name| name.parse().ok()));
    }
    let (of_each, absent, problems, taken) = Default::default();
    let mut parts = Parts { record, hash, index, from, holders: of_each, absent, problems, taken };
    parts.tell(looked, passed);
    looked.vault.snapshots().filter(|s| s.hash == hash).for_each(|base| parts.taken(looked, base));
    let mut opened = HashMap::new();
    for name in names {
        let holders = key.as_ref().map(|key| holders(looked, component_number(key, &name)));
        let holders = holders.unwrap_or_default();
        let ids = holders.iter().map(|holder| holder.record.snapshot.clone()).collect();
        parts.holders.insert(name.to_string(), ids);
        if parts.from.contains_key(name.as_str()) || parts.absent.iter().any(|n| *n == name.as_str()) {
            continue;
        }
        let candidates = candidates(looked, &name, how, holders)?;
        if !parts.take(looked, &name, &candidates, &mut opened)? {
            parts.absent.push(name.to_string());
        }
    }
    if matches!(how, How::Newest) && looked.options.only.is_empty() {
        parts.take_bundles(looked, &mut opened)?;
    }
    Ok(parts)
}

/// Snapshots that hold a component and may be taken without being named: good ones first, then those in which nothing bad is known of it, then those in
/// which it is complete, the newest first.
fn holders(looked: &Looked, number: u64) -> Vec<&KnownSnapshot> {
    let mut holders: Vec<&KnownSnapshot> =
        takeable(&looked.vault, &looked.host).filter(|s| holds(s, number)).collect();
    // Stable: newest first within each.
    holders.sort_by_key(|s| looked.against.rank_of(s, number));
    holders
}

/// The snapshots that a component which the base lacks may come from, the best first.
fn candidates<'l>(
    looked: &'l Looked,
    name: &ComponentName,
    how: &How,
    holders: Vec<&'l KnownSnapshot>,
) -> Result<Vec<&'l KnownSnapshot>> {
    let only = &looked.options.only;
    match how {
        How::Newest if only.is_empty() || only.iter().any(|n| n == name.as_str()) => Ok(holders),
        How::Newest | How::Named | How::Begun(None) => Ok(Vec::new()),
        How::Begun(Some(origins)) => {
            let Some(origin) = origins.get(name.as_str()) else { return Ok(Vec::new()) };
            let found = looked.vault.snapshots().find(|s| s.hash == origin.record);
            found.map(|known| vec![known]).ok_or_else(|| {
                let what = format!(
                    "snapshot {} is not there any more, from which an interrupted recovery takes component {name}",
                    origin.snapshot
                );
                OpError::new(Class::NotFound, what)
                    .hint("bring the store that has it; or name another new folder with --to")
            })
        }
    }
}

impl Parts {
    /// Takes a component from the first of `candidates` that can be opened. False when it is in none.
    fn take(
        &mut self,
        looked: &Looked,
        name: &ComponentName,
        candidates: &[&KnownSnapshot],
        opened: &mut HashMap<ObjectId, Index>,
    ) -> Result<bool> {
        let mut passed = Vec::new();
        for known in candidates {
            let index = match opened.entry(known.hash) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(free) => match looked.index_of(known) {
                    Ok(index) => free.insert(index),
                    // One from before an exchange of identities is not opened by what is here: no reason to bring nothing.
                    Err(e) if matches!(e.class, Class::Damage | Class::NoIdentity) && !e.is_in_doubt() => {
                        passed.push(passed_over(known, name, &e));
                        continue;
                    }
                    Err(e) => return Err(e),
                },
            };
            let Some(component) = index.component(name.as_str()) else { continue };
            let component = moved(component, index, &self.index);
            self.index.components.push(component);
            let origin = Origin { snapshot: known.record.snapshot.clone(), record: known.hash };
            self.from.insert(name.to_string(), origin);
            self.taken(looked, known);
            passed.extend(looked.against.why(known).map(|why| doubtful(known, name, why)));
            self.tell(looked, passed);
            return Ok(true);
        }
        passed.iter_mut().for_each(|problem| problem.kind = ProblemKind::NotRestored);
        self.tell(looked, passed);
        Ok(false)
    }

    /// Takes the bundles of git's repositories: no configuration names them, and they lie in the snapshot of the code that they belong to.
    fn take_bundles(&mut self, looked: &Looked, opened: &mut HashMap<ObjectId, Index>) -> Result<()> {
        for known in takeable(&looked.vault, &looked.host) {
            let Some(index) = opened.get(&known.hash) else { continue };
            let bundles = index.header.working_trees().into_iter().filter_map(|tree| tree.bundle);
            let bundles: Vec<ComponentName> = bundles.filter_map(|name| name.parse().ok()).collect();
            for name in bundles {
                if !self.from.contains_key(name.as_str()) {
                    self.take(looked, &name, &[known], opened)?;
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, looked: &Looked, problems: Vec<Problem>) {
        problems.iter().for_each(|problem| looked.session.around.progress.problem(problem));
        self.problems.extend(problems);
    }

    fn taken(&mut self, looked: &Looked, known: &KnownSnapshot) {
        let facts = (known.record.started, looked.against.why(known));
        self.taken.insert(known.record.snapshot.clone(), facts);
    }

    /// The newest snapshot that holds a component, by what is known before it is opened.
    pub(super) fn newest(&self, name: &str) -> Option<&SnapshotId> {
        self.holders.get(name)?.first()
    }

    /// The snapshot that a component comes from.
    pub(super) fn snapshot_of(&self, name: &str) -> &SnapshotId {
        self.from.get(name).map_or(&self.record.snapshot, |origin| &origin.snapshot)
    }

    /// For people: where a component comes from, when that is not the base.
    pub(super) fn note(&self, name: &str) -> String {
        let snapshot = self.snapshot_of(name);
        if *snapshot == self.record.snapshot {
            return String::new();
        }
        let doubt = self.taken.get(snapshot).and_then(|(_, why)| *why);
        let doubt = doubt.map(|why| format!(", NOT GOOD: {why}")).unwrap_or_default();
        format!("  (from {snapshot}{doubt})")
    }

    /// In plain words that not all of the components with these `names` are of one snapshot.
    pub(super) fn moments<'n>(&self, names: impl Iterator<Item = &'n str>) -> Option<String> {
        let mut groups: BTreeMap<&SnapshotId, Vec<&str>> = BTreeMap::new();
        names.for_each(|name| groups.entry(self.snapshot_of(name)).or_default().push(name));
        if groups.len() < 2 {
            return None;
        }
        let started = |snapshot: &SnapshotId| self.taken.get(snapshot).map(|(started, _)| *started);
        let mut groups: Vec<_> =
            groups.into_iter().map(|(snapshot, names)| (started(snapshot), names)).collect();
        groups.sort_by_key(|(started, _)| std::cmp::Reverse(*started));
        let time = |started: Option<Timestamp>| started.unwrap_or_default().strftime("%Y-%m-%d %H:%M:%S UTC");
        let group = |(started, names): &(_, Vec<&str>)| format!("{} of {}", names.join(", "), time(*started));
        let groups: Vec<String> = groups.iter().map(group).collect();
        Some(format!(
            "the components are of different moments: {}; look whether they fit together",
            groups.join("; ")
        ))
    }

    /// For people, before anything is done: what is not brought back.
    pub(super) fn left_out(&self) -> impl Iterator<Item = String> {
        self.absent.iter().map(|name| match self.newest(name) {
            Some(snapshot) => format!("{name:<12} is not brought back; the newest is in {snapshot}"),
            None => format!("{name:<12} is in the configuration, and in no snapshot that can be used"),
        })
    }

    /// What a person does about a component that was not brought back.
    pub(super) fn missing(&self, name: &str) -> String {
        match (self.newest(name), self.from.get(name)) {
            (Some(snapshot), _) => not_brought(name, snapshot),
            (None, Some(origin)) => not_brought(name, &origin.snapshot),
            (None, None) => {
                format!(
                    "component {name} is in the configuration, and in no snapshot that can be used: nothing of it can be brought back"
                )
            }
        }
    }
}

/// That the snapshot which was to give the configuration is passed over for the next.
pub(super) fn base_passed_over(snapshot: &SnapshotId, error: &OpError) -> Problem {
    Problem {
        kind: ProblemKind::Damaged,
        component: None,
        subject: format!("snapshot {snapshot}"),
        what: format!("it cannot be opened, and is passed over: {}", Away::from(error).line()),
        hint: Some(
            "what is taken is the next best, which is older: look what is missing; another store, or a copy of this one, may have what is damaged".into(),
        ),
    }
}

fn not_brought(name: &str, snapshot: &SnapshotId) -> String {
    format!(
        "component {name} was not brought back; `backstay restore {snapshot} {name} --to DIR` brings the newest that there is"
    )
}

fn passed_over(known: &KnownSnapshot, name: &ComponentName, error: &OpError) -> Problem {
    Problem {
        kind: ProblemKind::Warning,
        component: Some(name.to_string()),
        subject: format!("snapshot {}", known.record.snapshot),
        what: format!("it cannot be opened, and is passed over: {}", Away::from(error).line()),
        hint: Some(match error.class {
            Class::NoIdentity => {
                "a kit from that time opens it: `backstay --kit OLD restore ID NAME --to DIR`".into()
            }
            _ => "the component comes from an older one, if there is one".into(),
        }),
    }
}

fn doubtful(known: &KnownSnapshot, name: &ComponentName, why: &str) -> Problem {
    Problem {
        kind: ProblemKind::Warning,
        component: Some(name.to_string()),
        subject: format!("snapshot {}", known.record.snapshot),
        what: format!("no good snapshot holds the component, and this one is not good: {why}"),
        hint: Some("look whether all of the component is there".into()),
    }
}

/// The component as if it had been captured when the project lay where it lay in the base.
fn moved(component: &IndexComponent, of: &Index, base: &Index) -> IndexComponent {
    let project = |index: &'_ Index| Path::new(&index.header.config_path).parent().map(Path::to_owned);
    let rest =
        project(of).and_then(|was| Path::new(&component.base).strip_prefix(was).ok().map(Path::to_owned));
    let now = project(base).zip(rest).map(|(now, rest)| match rest.as_os_str().is_empty() {
        true => now,
        false => now.join(rest),
    });
    let now = now.and_then(|path| path.to_str().map(str::to_owned));
    IndexComponent { base: now.unwrap_or_else(|| component.base.clone()), ..component.clone() }
}
