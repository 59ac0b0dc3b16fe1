//! What the last look at stores found, kept in the state folder: for a page, which must ask no store, and judges it anew by the time that it is read.

use crate::config::Config;
use crate::durable;
use crate::keys::naming::component_number;
use crate::model::chain::KnownSnapshot;
use crate::model::mark::Level;
use crate::model::record::{CheckResult, ObjectRef, SnapshotKind};
use crate::model::{ObjectId, SnapshotId, Timestamp};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::proofs::{Proofs, StoreProof};
use crate::ops::restore::read::chain_text;
use crate::ops::session::{Session, Surroundings};
use crate::ops::status::gather::{Gathered, Look, of_state};
use crate::ops::status::report::{Brief, Concern, Proof, State, StatusReport, StoreStatus};
use crate::ops::status::{StatusOptions, judge};
use crate::ops::vault::is_trusted;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

const FILE: &str = "seen.json";
const FORMAT: u32 = 1;
/// So many of the newest snapshots are kept.
const SNAPSHOTS: usize = 240;
/// So many times of snapshots: enough to know their rhythm.
const TIMES: usize = 400;
/// What is older is worth a word.
const OLD: SignedDuration = SignedDuration::from_hours(24);

/// All that is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    format: u32,
    /// How the state folder and the configuration were before the look: when they are otherwise there may be something new to see.
    pub stamp: String,
    /// What the last look found that reached a store.
    pub found: Option<Found>,
    /// A later look that reached none.
    pub failed: Option<Failed>,
}

/// A look that reached no store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// When it was.
    pub at: Timestamp,
    /// Why.
    pub why: String,
}

/// What a look found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// When it was.
    pub at: Timestamp,
    gathered: Gathered,
    /// This host's newest snapshots, oldest first.
    pub snapshots: Vec<SeenSnapshot>,
    /// So many more there are, which are older.
    pub older: u64,
    /// What is proved of each component.
    pub proven: BTreeMap<String, Proven>,
    /// How each store stood when it was last read.
    pub reached: BTreeMap<String, Reached>,
}

/// The last proofs of a component by their depth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// Stored bytes were read.
    pub read: Option<Proof>,
    /// It was really brought back.
    pub drill: Option<Proof>,
}

/// A store when it was last read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// When.
    pub at: Timestamp,
    /// How it stood.
    pub store: StoreStatus,
}

/// A snapshot of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// When the run began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// What kind it is.
    pub kind: SnapshotKind,
    /// Everything asked for was captured.
    pub complete: bool,
    /// Complete, checked, read back.
    pub good: bool,
    /// Why it is void, if it is.
    pub void: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Retention keeps it for ever.
    pub milestone: bool,
    /// Its components, as far as the configuration names them.
    pub parts: Vec<Part>,
    /// Sum of file sizes in bytes.
    pub size: u64,
    /// Bytes of objects that no older snapshot needs.
    pub added: u64,
    /// What is proved of it, in each store that was read and has it.
    pub proofs: Vec<StoreProof>,
}

/// A component in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Sum of file sizes in bytes.
    pub size: u64,
    /// Everything was captured.
    pub complete: bool,
    /// What the checks said.
    pub check: CheckResult,
}

/// How the state folder and the configuration are.
pub fn stamp(config: &Config) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(config.text.as_bytes());
    for name in ["heads.json", "instances.json", "vault.json", "drills.json", "kit.json"] {
        let facts = std::fs::metadata(config.state_dir.join(name)).ok();
        let facts = facts.map(|facts| (facts.mtime(), facts.mtime_nsec(), facts.size(), facts.ino()));
        hasher.update(format!("{facts:?}").as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Looks at the stores, and keeps what was found, durably.
pub fn look(config: &Arc<Config>, around: &Surroundings) -> Result<()> {
    let before = recall(&config.state_dir);
    let (stamp, now) = (stamp(config), around.clock.now());
    let found = match Session::open(Arc::clone(config), around.clone()) {
        Ok(session) => find(&session, before.as_ref().and_then(|seen| seen.found.as_ref())),
        Err(e) => Err(e),
    };
    around.interrupt.check()?;
    let (found, failed) = match found {
        Ok(found) => (Some(found), None),
        Err(e) => (before.and_then(|seen| seen.found), Some(Failed { at: now, why: chain_text(&e) })),
    };
    let path = config.state_dir.join(FILE);
    let cannot = || format!("what stores hold cannot be kept in {}", path.display());
    let seen = Seen { format: FORMAT, stamp, found, failed };
    let bytes = serde_json::to_vec(&seen).doing(Class::Failed, cannot)?;
    durable::replace(&path, &bytes).doing(Class::Failed, cannot)
}

/// What was kept. What cannot be read counts as nothing: the next look writes it anew.
pub fn recall(state_dir: &Path) -> Option<Seen> {
    let bytes = std::fs::read(state_dir.join(FILE)).ok()?;
    let seen: Seen = serde_json::from_slice(&bytes).ok()?;
    (seen.format == FORMAT).then_some(seen)
}

fn find(session: &Session, before: Option<&Found>) -> Result<Found> {
    let (mut gathered, vault) = Gathered::read(session)?;
    let Some(vault) = vault else {
        let why = gathered.unseen.first().cloned().unwrap_or_else(|| "no store could be read".to_owned());
        return Err(OpError::new(Class::Store, why));
    };
    let at = gathered.now;
    let look = Look::new(session, &vault, at);
    let proofs = Proofs::new(&vault);
    let numbers = numbers(session);
    let all = look.host.map(|host| vault.history.snapshots(&host)).unwrap_or_default();
    let shown = |s: &&KnownSnapshot| is_trusted(s) && s.record.kind != SnapshotKind::Partial;
    let mut needed = HashSet::new();
    let mut snapshots: Vec<SeenSnapshot> = Vec::new();
    for known in all.iter().filter(shown) {
        let added = added(&mut needed, &known.record.objects);
        snapshots.push(seen(known, added, &numbers, &proofs));
    }
    let older = snapshots.len().saturating_sub(SNAPSHOTS);
    snapshots.drain(..older);
    let excess = gathered.times.len().saturating_sub(TIMES);
    gathered.times.drain(..excess);
    let mut reached = before.map(|found| found.reached.clone()).unwrap_or_default();
    reached.retain(|name, _| gathered.stores.iter().any(|store| store.name == *name));
    let read = gathered.stores.iter().filter(|store| store.here);
    reached.extend(read.map(|store| (store.name.clone(), Reached { at, store: store.clone() })));
    let proven = proven(&look, &numbers);
    Ok(Found { at, gathered, snapshots, older: older as u64, proven, reached })
}

/// The components of the configuration by their numbers; none where their names cannot be told.
fn numbers(session: &Session) -> BTreeMap<u64, String> {
    let (Some(config), Ok(writer)) = (&session.config, session.writer()) else { return BTreeMap::new() };
    config
        .components
        .iter()
        .map(|c| (component_number(&writer.naming, &c.name), c.name.to_string()))
        .collect()
}

fn proven(look: &Look<'_>, numbers: &BTreeMap<u64, String>) -> BTreeMap<String, Proven> {
    let own = look.own();
    let of = |number: &u64| {
        let holds = |s: &&&KnownSnapshot| s.record.components.iter().any(|line| line.number == *number);
        let holding: Vec<&KnownSnapshot> = own.iter().filter(holds).copied().collect();
        let read = |level| matches!(level, Level::Read | Level::Decrypt);
        Proven {
            read: look.last_proof(&holding, |v| read(v.verdict.level)),
            drill: look.last_proof(&holding, |v| v.verdict.level == Level::Drill),
        }
    };
    numbers.iter().map(|(number, name)| (name.clone(), of(number))).collect()
}

/// Bytes of `objects` that are not among those `needed` before.
fn added(needed: &mut HashSet<ObjectId>, objects: &[ObjectRef]) -> u64 {
    objects
        .iter()
        .filter(|object| needed.insert(object.id))
        .fold(0, |sum, object| sum.saturating_add(object.size))
}

fn seen(
    known: &KnownSnapshot,
    added: u64,
    numbers: &BTreeMap<u64, String>,
    proofs: &Proofs<'_>,
) -> SeenSnapshot {
    let record = &known.record;
    let part = |line: &crate::model::record::ComponentLine| {
        let name = numbers.get(&line.number)?.clone();
        Some(Part { name, size: line.size, complete: line.complete, check: line.check })
    };
    SeenSnapshot {
        id: record.snapshot.clone(),
        started: record.started,
        finished: record.finished,
        kind: record.kind,
        complete: record.complete,
        good: known.good,
        void: known.void.clone(),
        tags: known.tags.iter().cloned().collect(),
        milestone: known.milestone,
        parts: record.components.iter().filter_map(part).collect(),
        size: record.components.iter().fold(0, |sum, c| sum.saturating_add(c.size)),
        added,
        proofs: proofs.of(known),
    }
}

impl Seen {
    /// Before the first look.
    pub fn nothing() -> Self {
        Self { format: FORMAT, stamp: String::new(), found: None, failed: None }
    }

    /// How things stand now, by what the last look found. `busy`: a run is under way, and what it has not ended is no trouble.
    pub fn report(&self, config: &Config, now: Timestamp, busy: bool) -> StatusReport {
        let mut gathered =
            self.found.as_ref().map_or_else(|| Gathered::empty(now), |found| found.gathered.clone());
        gathered.now = now;
        gathered.again(now);
        (gathered.outbox, gathered.unfinished) = (0, Vec::new());
        if !busy {
            match crate::catalog::State::open(&config.state_dir) {
                Ok(state) => of_state(&state, &mut gathered),
                Err(e) => {
                    gathered.unseen.push(format!("the state folder cannot be read: {}", chain_text(&e)));
                }
            }
        }
        judge::report(config, gathered, &StatusOptions::default(), self.doubts(now))
    }

    /// What makes less of what was found.
    fn doubts(&self, now: Timestamp) -> Vec<Concern> {
        let mut doubts = Vec::new();
        if let Some(failed) = &self.failed {
            let what = format!("no store could be read at {:.0}: {}", failed.at, failed.why);
            let way_out =
                Some("bring a store within reach; `backstay doctor` says what is wrong with each".to_owned());
            doubts.push(Concern { state: State::Critical, what, way_out });
        } else if let Some(found) = self.found.as_ref().filter(|found| now.duration_since(found.at) > OLD) {
            let what = format!("what stores hold was last looked at {:.0}", found.at);
            let way_out = Some("is the agent at work? `backstay status` looks now".to_owned());
            doubts.push(Concern { state: State::Warning, what, way_out });
        }
        doubts
    }
}

impl Gathered {
    /// Ages as they are at `now`.
    fn again(&mut self, now: Timestamp) {
        let age = |moment: Timestamp| now.as_second() - moment.as_second();
        let brief = |brief: &mut Option<Brief>| {
            if let Some(brief) = brief {
                brief.age_seconds = age(brief.started);
            }
        };
        let proof = |proof: &mut Option<Proof>| {
            if let Some(proof) = proof {
                proof.age_seconds = age(proof.time);
            }
        };
        for component in &mut self.components {
            brief(&mut component.newest);
            brief(&mut component.newest_good);
            proof(&mut component.last_proof);
        }
        for store in &mut self.stores {
            brief(&mut store.newest);
            brief(&mut store.newest_good);
        }
        proof(&mut self.last_drill);
    }
}
