//! A fresh machine: configuration, data, keys and the right to go on with the history, from a recovery kit and a store.
//!
//! The order is that of what could be lost: data first, each component whole in a folder of its own before it is moved to its place; then keys; then
//! the mark by which the kit's key introduces the new one; the configuration last, so that no command takes a half-recovered project for a whole
//! one. Every step can be killed and is taken up by the next run. Nothing is ever written over something that is there.

mod components;
mod config;
mod found;
mod keys;
mod logs;
mod moving;
mod next;
mod parts;
mod place;
mod rank;
mod reach;
mod settle;
mod unread;
mod way;
mod work;

pub use found::{Found, FoundHost, FoundSnapshot, FoundStore};

use crate::durable::crash;
use crate::keys::Kit;
use crate::model::chain::KnownSnapshot;
use crate::model::index::Index;
use crate::model::{HostId, ObjectId, Problem, Record, SnapshotId, Timestamp};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::objects::SnapshotReader;
use crate::ops::restore::known_sources;
use crate::ops::select;
use crate::ops::session::{HostChoice, Session, Surroundings};
use crate::ops::vault::Vault;
use parts::{How, Parts};
use place::Places;
use rank::Against;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use unread::Unread;
use work::{Begun, Restored, Work};

/// What to recover, and where to.
#[derive(Debug, Clone, Default)]
pub struct RecoverOptions {
    /// The project's new folder; none: where it was.
    pub to: Option<PathBuf>,
    /// What lay outside of the project's folder goes back to where it was.
    pub in_place: bool,
    /// Only these components; all when empty.
    pub only: Vec<String>,
    /// This snapshot and no other; none: of each component the newest good one that holds it.
    pub snapshot: Option<String>,
    /// Leave owners as the running user.
    pub ignore_owners: bool,
    /// Where keys of all projects of this user lie.
    pub keys_root: PathBuf,
    /// Where state of all projects of this user lies.
    pub state_root: PathBuf,
}

/// What became of one component.
#[derive(Debug, Clone, Serialize)]
pub struct RecoveredComponent {
    /// Its name.
    pub name: String,
    /// The snapshot that it came from.
    pub snapshot: SnapshotId,
    /// The moment its state is of.
    pub instant: Timestamp,
    /// Where it is now.
    pub to: String,
    /// Whether that is where the configuration looks for it.
    pub at_its_place: bool,
    /// How many files.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Databases whose check passed.
    pub databases_checked: u64,
}

/// What a recovery did.
#[derive(Debug, Clone, Serialize)]
pub struct RecoverReport {
    /// The snapshot that the configuration came from, and every component that it holds.
    pub snapshot: SnapshotId,
    /// That not all components are of one snapshot, in words.
    pub moments: Option<String>,
    /// An earlier run was interrupted, and this one went on from there.
    pub resumed: bool,
    /// The project's folder.
    pub project: String,
    /// The configuration that was written.
    pub config: String,
    /// The components, in the order of the snapshot.
    pub components: Vec<RecoveredComponent>,
    /// The id of the new signing key.
    pub signer: String,
    /// Whether the kit's key introduced it; else a person must tell every reader to trust it.
    pub introduced: bool,
    /// The folder of the new key files.
    pub keys: String,
    /// Whether this machine can open its own snapshots.
    pub identity_here: bool,
    /// What could not be moved to its place because something else is there, and where it is now.
    pub left: Vec<String>,
    /// What is to be done now, in this order.
    pub next: Vec<String>,
    /// Everything worth knowing.
    pub problems: Vec<Problem>,
}

/// A vault that was looked at with a kit, before anything is written.
pub struct Looked {
    kit: Kit,
    session: Session,
    vault: Vault,
    host: HostId,
    options: RecoverOptions,
    begun: Option<Begun>,
    against: Against,
    /// What was found.
    pub found: Found,
}

/// A snapshot that was chosen, opened and proved to be readable; nothing is written yet.
pub struct Chosen {
    looked: Looked,
    parts: Parts,
    places: Places,
}

/// The snapshot that gives the configuration.
struct Base {
    record: Arc<Record>,
    hash: ObjectId,
    index: Index,
    /// That better ones could not be opened.
    passed: Vec<Problem>,
}

/// Looks at the stores of `kit`, and at what an interrupted recovery left. Writes nothing.
pub fn look(kit: Kit, around: Surroundings, options: RecoverOptions) -> Result<Looked> {
    if around.hosts != HostChoice::Own {
        return Err(OpError::new(Class::Usage, "a kit recovers the host that it is of")
            .hint("`backstay --kit KIT --host HOST restore ID --to DIR` brings back another host's data"));
    }
    let begun = match &options.to {
        Some(to) => Begun::read(to)?,
        None => None,
    };
    let session = reach::open(&kit, around)?;
    let vault = session.read_vault()?;
    let host = vault.host_of(&crate::model::SignerId(kit.host.0));
    let against = Against::of(&vault);
    let found = found::of(&session, &vault, &kit, (&host, &against));
    Ok(Looked { kit, session, vault, host, options, begun, against, found })
}

impl Looked {
    /// The snapshot that an interrupted run had begun with.
    pub fn resumes(&self) -> Option<&SnapshotId> {
        self.begun.as_ref().map(|begun| &begun.snapshot)
    }

    /// Takes `snapshot`, or the one asked for, or the one of an interrupted run, or the best one found; opens and proves its index.
    pub fn choose(mut self, snapshot: Option<&str>) -> Result<Chosen> {
        let named = snapshot.or(self.options.snapshot.as_deref()).map(str::to_owned);
        let mut base = self.open(named.as_deref())?;
        if self.options.to.is_none() {
            let config_path = std::path::Path::new(&base.index.header.config_path);
            self.begun = Begun::read(config_path.parent().unwrap_or(config_path))?;
        }
        if let Some(begun) = self.begun.clone().filter(|begun| begun.record != base.hash) {
            if named.is_some() {
                let (id, dir) = (&begun.snapshot, begun.dir.display());
                let what = format!("an interrupted recovery of snapshot {id} lies in {dir}");
                return Err(OpError::new(Class::Usage, what)
                    .hint("leave --snapshot away to end it; or name another new folder with --to"));
            }
            base = self.open(Some(&begun.snapshot.to_string()))?;
        }
        let how = match (&self.begun, &named) {
            (Some(begun), _) => How::Begun(begun.components.clone()),
            (None, Some(_)) => How::Named,
            (None, None) => How::Newest,
        };
        let parts = parts::of(&self, base, &how)?;
        let places = Places::of(&self.options, &parts, self.begun.as_ref())?;
        Ok(Chosen { looked: self, parts, places })
    }

    fn open(&self, named: Option<&str>) -> Result<Base> {
        match (named, self.resumes()) {
            (Some(named), _) => self.open_one(named),
            (None, Some(id)) => self.open_one(id.as_str()),
            (None, None) => self.open_best(),
        }
    }

    fn open_one(&self, id: &str) -> Result<Base> {
        let known = select::snapshot(&self.session, &self.vault, id, false)?;
        if known.record.host != self.host {
            let id = &known.record.snapshot;
            let what = format!("snapshot {id} is of another host, and a kit recovers the host that it is of");
            return Err(OpError::new(Class::Usage, what).hint(format!(
                "that host's own kit recovers it; `backstay --kit KIT restore {id} --to DIR` brings its data to a folder"
            )));
        }
        let index = self.index_of(known)?;
        Ok(Base { record: Arc::clone(&known.record), hash: known.hash, index, passed: Vec::new() })
    }

    /// The best one that can be opened. What is damaged in it, when nobody named it, is no reason to bring nothing.
    fn open_best(&self) -> Result<Base> {
        let best = found::best(&self.found)?;
        let (mut passed, mut first) = (Vec::new(), None);
        for id in self.found.in_turn() {
            match self.open_one(id.as_str()) {
                Ok(base) => return Ok(Base { passed, ..base }),
                Err(e) if e.is_damaged_listing() => {
                    passed.push(parts::base_passed_over(id, &e));
                    first.get_or_insert(e);
                }
                Err(e) if e.is_in_doubt() => return Err(or_another_snapshot(e)),
                Err(e) => return Err(e),
            }
        }
        first.map_or_else(|| self.open_one(&best), Err)
    }

    fn index_of(&self, known: &KnownSnapshot) -> Result<Index> {
        let sources = known_sources(&self.session, &self.vault, known);
        let identities = self.session.identities_needed()?;
        let reader = SnapshotReader { store: &sources, record: &known.record, identities: &identities };
        reader.index().map_err(|e| sources.judged(e))
    }
}

impl Chosen {
    /// The snapshot that was chosen.
    pub fn snapshot(&self) -> &SnapshotId {
        &self.parts.record.snapshot
    }

    /// Where each component goes and from which snapshot, and which cannot be brought, as lines.
    pub fn plan(&self) -> Vec<String> {
        let mut lines = self.places.lines(&|name| self.parts.note(name));
        lines.extend(moments(&self.parts, &self.places));
        lines.extend(self.parts.left_out());
        lines
    }

    /// Brings everything back. Safe to be killed at any moment and run again.
    pub fn run(self) -> Result<RecoverReport> {
        let begun = self.begun();
        let Self { looked, parts, mut places } = self;
        let resumed = looked.begun.is_some();
        let work = Work::begin(&begun, looked.session.around.clock.now())?;
        crash::point("recover: begun");
        let (restored, unread) = bring_all(&looked, &parts, &mut places, &work)?;
        if restored.is_empty() && !unread.is_empty() {
            // What cannot be brought must not bind the next run to the same snapshots.
            work.end(true).doing(Class::Failed, cannot_end)?;
            return Err(unread::nothing_left(unread, &parts));
        }
        let config = settle::settle(&looked, &parts.index, &places)?;
        for (name, path) in &config.astray {
            places.components.iter_mut().filter(|c| c.name == *name).for_each(|c| c.looked_for_at(path));
        }
        crash::point("recover: configuration written");
        let left: Vec<String> = restored.iter().flat_map(|r| r.left.iter().cloned()).collect();
        let mut problems = parts.problems.clone();
        problems.extend(unread.iter().map(Unread::problem));
        let all = restored.iter().flat_map(|r: &Restored| r.problems.iter()).cloned();
        for problem in all.chain(config.problems.iter().cloned()).chain(looked.session.troubles()) {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        problems.extend(left.iter().map(|path| moving::left_problem(path)));
        work.end(left.is_empty()).doing(Class::Failed, cannot_end)?;
        crash::point("recover: ended");
        let components =
            places.components.iter().zip(&restored).map(|(place, r)| r.report(place, &parts)).collect();
        Ok(RecoverReport {
            next: next::steps(&looked, &parts, &places, &config, (&restored, &unread)),
            snapshot: parts.record.snapshot.clone(),
            moments: moments(&parts, &places),
            resumed,
            project: places.project.display().to_string(),
            config: places.config.display().to_string(),
            components,
            signer: config.signer.to_string(),
            introduced: config.introduced,
            keys: config.keys.display().to_string(),
            identity_here: config.identity_here,
            left,
            problems,
        })
    }

    /// What this recovery is begun with, or was.
    fn begun(&self) -> Begun {
        let (looked, parts) = (&self.looked, &self.parts);
        let components = match &looked.begun {
            Some(begun) => begun.components.clone(),
            None => Some(parts.from.clone()),
        };
        Begun {
            dir: self.places.project.clone(),
            vault: looked.kit.vault.clone(),
            host: looked.host,
            snapshot: parts.record.snapshot.clone(),
            record: parts.hash,
            in_place: looked.options.in_place,
            only: looked.options.only.clone(),
            components,
        }
    }
}

/// Nobody has named one yet.
fn or_another_snapshot(mut error: OpError) -> OpError {
    let hint = error.hint.take().unwrap_or_default();
    error.hint(format!("{hint}; or take another snapshot with --snapshot ID"))
}

fn cannot_end() -> String {
    "cannot remove what the recovery used".into()
}

fn moments(parts: &Parts, places: &Places) -> Option<String> {
    parts.moments(places.components.iter().map(|place| place.name.as_str()))
}

/// Brings the components, each to its place. Those of which nothing can be read are taken out of `places`, and the others come all the same.
fn bring_all(
    looked: &Looked,
    parts: &Parts,
    places: &mut Places,
    work: &Work,
) -> Result<(Vec<Restored>, Vec<Unread>)> {
    let (mut restored, mut unread) = (Vec::new(), Vec::new());
    for place in &mut places.components {
        looked.session.around.interrupt.check()?;
        let snapshot = parts.snapshot_of(&place.name);
        match work.bring(&looked.session, &looked.options, snapshot, (&*place, &*places.config)) {
            Ok(brought) => {
                if let Some(beside) = &brought.beside {
                    place.put_beside(beside, brought.denied);
                }
                restored.push(brought);
            }
            Err(error) => unread.push(Unread::of(looked, parts, place, error)?),
        }
        crash::point("recover: component at its place");
    }
    places.components.retain(|place| !unread.iter().any(|unread| unread.name == place.name));
    Ok((restored, unread))
}
