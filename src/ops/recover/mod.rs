//! A fresh machine: configuration, data, keys and the right to go on with the history, from a recovery kit and a store.
//!
//! The order is that of what could be lost: data first, each component whole in a folder of its own before it is moved to its place; then keys; then
//! the mark by which the kit's key introduces the new one; the configuration last, so that no command takes a half-recovered project for a whole
//! one. Every step can be killed and is taken up by the next run. Nothing is ever written over something that is there.

mod components;
mod config;
mod found;
mod keys;
mod next;
mod place;
mod settle;
mod way;
mod work;

pub use found::{Found, FoundHost, FoundSnapshot, FoundStore};

use crate::durable::crash;
use crate::keys::Kit;
use crate::model::index::Index;
use crate::model::{HostId, ObjectId, Problem, Record, SnapshotId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::objects::SnapshotReader;
use crate::ops::restore::known_sources;
use crate::ops::select;
use crate::ops::session::{HostChoice, Session, Surroundings};
use crate::ops::vault::Vault;
use place::Places;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
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
    /// This snapshot; none: the newest good one.
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
    /// The snapshot.
    pub snapshot: SnapshotId,
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
    /// What was found.
    pub found: Found,
}

/// A snapshot that was chosen, opened and proved to be readable; nothing is written yet.
pub struct Chosen {
    looked: Looked,
    record: Arc<Record>,
    index: Index,
    places: Places,
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
    let session = Session::open_kit(kit.clone(), around)?;
    let vault = session.read_vault()?;
    let host = vault.host_of(&crate::model::SignerId(kit.host.0));
    let found = found::of(&session, &vault, &kit, &host);
    Ok(Looked { kit, session, vault, host, options, begun, found })
}

impl Looked {
    /// The snapshot that an interrupted run had begun with.
    pub fn resumes(&self) -> Option<&SnapshotId> {
        self.begun.as_ref().map(|begun| &begun.snapshot)
    }

    /// Takes `snapshot`, or the one asked for, or the one of an interrupted run, or the best one found; opens and proves its index.
    pub fn choose(mut self, snapshot: Option<&str>) -> Result<Chosen> {
        let named = snapshot.or(self.options.snapshot.as_deref()).map(str::to_owned);
        let (record, hash, index) = self.open(named.as_deref())?;
        let (mut record, mut index) = (record, index);
        if self.options.to.is_none() {
            let config_path = std::path::Path::new(&index.header.config_path);
            self.begun = Begun::read(config_path.parent().unwrap_or(config_path))?;
        }
        if let Some(begun) = self.begun.clone().filter(|begun| begun.record != hash) {
            if named.is_some() {
                let (id, dir) = (&begun.snapshot, begun.dir.display());
                let what = format!("an interrupted recovery of snapshot {id} lies in {dir}");
                return Err(OpError::new(Class::Usage, what)
                    .hint("leave --snapshot away to end it; or name another new folder with --to"));
            }
            (record, _, index) = self.open(Some(&begun.snapshot.to_string()))?;
        }
        let places = Places::of(&self.options, &index, self.begun.as_ref())?;
        Ok(Chosen { looked: self, record, index, places })
    }

    fn open(&self, named: Option<&str>) -> Result<(Arc<Record>, ObjectId, Index)> {
        let id = match (named, self.resumes()) {
            (Some(named), _) => named.to_owned(),
            (None, Some(id)) => id.to_string(),
            (None, None) => found::best(&self.found)?,
        };
        let known = select::snapshot(&self.session, &self.vault, &id, false)?;
        let record = Arc::clone(&known.record);
        let sources = known_sources(&self.session, &self.vault, known);
        let identities = self.session.identities_needed()?;
        let reader = SnapshotReader { store: &sources, record: &record, identities: &identities };
        let index = reader.index()?;
        Ok((record, known.hash, index))
    }
}

impl Chosen {
    /// The snapshot that was chosen.
    pub fn snapshot(&self) -> &SnapshotId {
        &self.record.snapshot
    }

    /// Where each component goes, as lines.
    pub fn plan(&self) -> Vec<String> {
        self.places.lines()
    }

    /// Brings everything back. Safe to be killed at any moment and run again.
    pub fn run(self) -> Result<RecoverReport> {
        let Self { looked, record, index, mut places } = self;
        let hash = looked.vault.snapshots().find(|s| s.record.snapshot == record.snapshot).map(|s| s.hash);
        let hash = hash.ok_or_else(|| OpError::new(Class::NotFound, "the snapshot is gone"))?;
        let resumed = looked.begun.is_some();
        let begun = Begun {
            dir: places.project.clone(),
            vault: looked.kit.vault.clone(),
            host: looked.host,
            snapshot: record.snapshot.clone(),
            record: hash,
            in_place: looked.options.in_place,
            only: looked.options.only.clone(),
        };
        let work = Work::begin(&begun, looked.session.around.clock.now())?;
        crash::point("recover: begun");
        let mut restored = Vec::new();
        for place in &mut places.components {
            looked.session.around.interrupt.check()?;
            let (session, there) = (&looked.session, (&*place, &*places.config));
            let brought = work.bring(session, &looked.options, &record.snapshot, there)?;
            if let Some(beside) = &brought.beside {
                place.put_beside(beside);
            }
            restored.push(brought);
            crash::point("recover: component at its place");
        }
        let config = settle::settle(&looked, &index, &places)?;
        for (name, path) in &config.astray {
            places.components.iter_mut().filter(|c| c.name == *name).for_each(|c| c.looked_for_at(path));
        }
        crash::point("recover: configuration written");
        let left: Vec<String> = restored.iter().flat_map(|r| r.left.iter().cloned()).collect();
        let mut problems: Vec<Problem> = Vec::new();
        let all = restored.iter().flat_map(|r: &Restored| r.problems.iter()).cloned();
        for problem in all.chain(config.problems.iter().cloned()).chain(looked.session.troubles()) {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        problems.extend(left.iter().map(|path| place::left_problem(path)));
        work.end(left.is_empty()).doing(Class::Failed, || "cannot remove what the recovery used".into())?;
        crash::point("recover: ended");
        let components = places.components.iter().zip(&restored).map(|(place, r)| r.report(place)).collect();
        Ok(RecoverReport {
            next: next::steps(&looked, &index, &places, &config, &restored),
            snapshot: record.snapshot.clone(),
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
}
