//! Lists of snapshots, and one snapshot in full.

use crate::keys::Identities;
use crate::model::chain::{KnownSnapshot, Trust};
use crate::model::index::{GitState, IndexComponent};
use crate::model::record::{CheckResult, SnapshotKind};
use crate::model::{ObjectId, Record, SnapshotId, Timestamp};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::look::names::{Known, Names};
use crate::ops::many::each;
use crate::ops::objects::SnapshotReader;
use crate::ops::proofs::{Proofs, StoreProof};
use crate::ops::recover_files;
use crate::ops::restore::known_sources;
use crate::ops::restore::read::chain_text;
use crate::ops::select;
use crate::ops::session::Session;
use crate::ops::space::{self, Dependency};
use crate::ops::vault::{BadDocument, Vault, is_trusted};
use crate::store::Key;
use serde::Serialize;
use std::collections::HashSet;

/// One snapshot in a list.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotRow {
    /// Its id.
    pub id: SnapshotId,
    /// Its host.
    pub host: String,
    /// The host's name, where an identity opened the index.
    pub hostname: Option<String>,
    /// Place in the host's chain.
    pub number: u64,
    /// `normal`, `safety` or `partial`.
    pub kind: SnapshotKind,
    /// When the run began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Everything asked for was captured.
    pub complete: bool,
    /// Complete, checked, read back.
    pub good: bool,
    /// By a trusted key of its host.
    pub trusted: bool,
    /// Why not, if not.
    pub untrusted_because: Option<String>,
    /// Why it is void, if it is.
    pub void: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Retention keeps it for ever.
    pub milestone: bool,
    /// The note, where an identity opened the index.
    pub note: Option<String>,
    /// Names of components, where an identity opened the index.
    pub components: Option<Vec<String>>,
    /// Sum of file sizes in bytes.
    pub size: u64,
    /// Bytes of the objects it needs.
    pub stored_bytes: u64,
    /// What is proved of it, in each of the stores that were read and have it.
    pub proofs: Vec<StoreProof>,
}

/// What a store holds.
#[derive(Debug, Clone, Serialize)]
pub struct ListReport {
    /// The store.
    pub store: String,
    /// Where it is.
    pub location: String,
    /// Snapshots, oldest first.
    pub snapshots: Vec<SnapshotRow>,
    /// Breaks in the history.
    pub history: Vec<String>,
    /// Documents that cannot be used.
    pub damaged: Vec<BadDocument>,
    /// Whether an identity was here to read names and notes.
    pub opened: bool,
}

/// Lists snapshots of the hosts that are meant. Untrusted ones are shown as such.
pub fn list(session: &Session) -> Result<ListReport> {
    let vault = session.read_vault()?;
    let identities = session.identities_if_open()?;
    let hosts = select::hosts(session, &vault)?;
    let wanted = |s: &&KnownSnapshot| hosts.contains(&s.record.host) || !is_trusted(s);
    let known: Vec<&KnownSnapshot> = vault.snapshots().filter(wanted).collect();
    let proofs = Proofs::new(&vault);
    let before = Known::read(session, &identities);
    let names = each(&known, |s| names_of(session, &vault, s, &identities, &before));
    let new = newly_read(&known, &names, &before);
    let still: HashSet<ObjectId> = vault.snapshots().filter_map(|s| s.record.index).collect();
    before.keep(session, &identities, &still, new);
    let rows = known.iter().zip(names);
    let rows = rows.map(|(s, names)| row(s, names, &identities, &proofs));
    let (snapshots, bad): (Vec<_>, Vec<_>) = rows.unzip();
    let mut damaged = vault.bad.clone();
    damaged.extend(bad.into_iter().flatten());
    let store = vault.views.first().map_or(&session.store, |v| &v.store);
    damaged.extend(recover_files::check(&**store, &vault)?);
    Ok(ListReport {
        store: store.name().to_owned(),
        location: store.location(),
        snapshots,
        history: select::breaks_told(&vault, &hosts),
        damaged,
        opened: !identities.is_empty(),
    })
}

/// The names that the index of a snapshot gives, as they were read before or from the index; none of one that is not to be read, or without
/// an identity.
fn names_of(
    session: &Session,
    vault: &Vault,
    known: &KnownSnapshot,
    identities: &Identities,
    before: &Known,
) -> Option<Result<Names>> {
    if identities.is_empty() || !is_trusted(known) || known.void.is_some() {
        return None;
    }
    if let Some(names) = known.record.index.and_then(|index| before.get(&index)) {
        return Some(Ok(names.clone()));
    }
    let sources = known_sources(session, vault, known);
    let reader = SnapshotReader { store: &sources, record: &known.record, identities };
    Some(reader.index().map(|index| Names::of(&index)))
}

/// What was read of indexes that were not known before.
fn newly_read(
    known: &[&KnownSnapshot],
    names: &[Option<Result<Names>>],
    before: &Known,
) -> Vec<(ObjectId, Names)> {
    let read = |(s, names): (&&KnownSnapshot, &Option<Result<Names>>)| {
        let index = s.record.index.filter(|index| before.get(index).is_none())?;
        Some((index, names.as_ref()?.as_ref().ok()?.clone()))
    };
    known.iter().zip(names).filter_map(read).collect()
}

/// The line of a snapshot, and its index when that is damaged. A list tells what it can: an index that cannot be opened costs names
/// and notes only.
fn row(
    known: &KnownSnapshot,
    names: Option<Result<Names>>,
    identities: &Identities,
    proofs: &Proofs<'_>,
) -> (SnapshotRow, Option<BadDocument>) {
    let record = &known.record;
    let (names, bad) = match names {
        Some(Ok(names)) => (Some(names), None),
        Some(Err(e)) => (None, bad_index(record, &e)),
        None => (None, None),
    };
    let note = sealed_note(known, identities).or_else(|| names.as_ref().and_then(|n| n.note.clone()));
    let row = SnapshotRow {
        id: record.snapshot.clone(),
        host: record.host.to_string(),
        hostname: names.as_ref().map(|n| n.hostname.clone()),
        number: record.number,
        kind: record.kind,
        started: record.started,
        finished: record.finished,
        complete: record.complete,
        good: known.good,
        trusted: is_trusted(known),
        untrusted_because: match &known.trusted {
            Trust::Trusted => None,
            Trust::Untrusted(why) => Some(why.to_string()),
        },
        void: known.void.clone(),
        tags: known.tags.iter().cloned().collect(),
        milestone: known.milestone,
        note,
        components: names.map(|n| n.components),
        size: record.components.iter().fold(0, |sum, c| sum.saturating_add(c.size)),
        stored_bytes: record.objects.iter().fold(0, |sum, o| sum.saturating_add(o.size)),
        proofs: proofs.of(known),
    };
    (row, bad)
}

fn bad_index(record: &Record, error: &OpError) -> Option<BadDocument> {
    let index = record.index.filter(|_| error.class == Class::Damage)?;
    let (key, why) = (Key::Manifest(index).to_string(), chain_text(error));
    Some(BadDocument { key, why, too_new: error.is_too_new() })
}

/// The note that a mark gave it later, if an identity here opens it.
fn sealed_note(known: &KnownSnapshot, identities: &Identities) -> Option<String> {
    let sealed = data_encoding::BASE64.decode(known.note_sealed.as_ref()?.as_bytes()).ok()?;
    let plain = crate::archive::payload::open_all(&sealed, identities).ok()?;
    String::from_utf8(plain).ok()
}

/// One component of a snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct ComponentRow {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: crate::model::index::ComponentKind,
    /// Where it was.
    pub base: String,
    /// How it was captured.
    pub method: String,
    /// The moment its state is of.
    pub instant: Timestamp,
    /// Everything was captured.
    pub complete: bool,
    /// What the checks said.
    pub check: CheckResult,
    /// Number of entries.
    pub entries: u64,
    /// Number of files.
    pub files: u64,
    /// Sum of file sizes in bytes.
    pub size: u64,
    /// Every byte lies in archives of this snapshot.
    pub alone: bool,
    /// How many archives it needs.
    pub archives: u64,
    /// How many things could not be read.
    pub unreadable: u64,
}

/// A snapshot in full.
#[derive(Debug, Clone, Serialize)]
pub struct ShowReport {
    /// As in a list.
    #[serde(flatten)]
    pub row: SnapshotRow,
    /// What git's working trees were at, where that was recorded.
    pub git: Vec<GitState>,
    /// Its components.
    pub details: Vec<ComponentRow>,
    /// Who signed.
    pub signer: String,
    /// With what it was made.
    pub agent: String,
    /// Objects it needs.
    pub objects: u64,
    /// Older snapshots whose objects it needs, oldest first.
    pub depends_on: Vec<Dependency>,
    /// Verdicts on it, oldest first, as lines.
    pub verdicts: Vec<String>,
}

/// Shows one snapshot.
pub fn show(session: &Session, selector: &str, accept_untrusted: bool) -> Result<ShowReport> {
    let vault = session.read_vault()?;
    let known = select::snapshot(session, &vault, selector, accept_untrusted)?;
    let identities = session.identities_needed()?;
    let sources = known_sources(session, &vault, known);
    let reader = SnapshotReader { store: &sources, record: &known.record, identities: &identities };
    let index = reader.index()?;
    Ok(ShowReport {
        row: row(known, Some(Ok(Names::of(&index))), &identities, &Proofs::new(&vault)).0,
        git: index.header.working_trees(),
        details: index.components.iter().map(component_row).collect(),
        signer: known.record.signer.to_string(),
        agent: known.record.agent.clone(),
        objects: known.record.objects.len() as u64,
        depends_on: space::dependencies(&vault, &known.record),
        verdicts: verdict_lines(&vault, known),
    })
}

fn verdict_lines(vault: &Vault, known: &KnownSnapshot) -> Vec<String> {
    let of = |v: &crate::model::chain::KnownVerdict| {
        vault.views.iter().find(|view| view.info.instance == v.verdict.instance)
    };
    let line = |v: &crate::model::chain::KnownVerdict| {
        let level = serde_json::to_string(&v.verdict.level).unwrap_or_default();
        let word = if v.verdict.good { "good" } else { "not good" };
        let place = of(v).filter(|_| vault.views.len() > 1);
        let place = place.map(|view| format!(" in {}", view.store.name())).unwrap_or_default();
        format!("{} {}{place}: {word}", v.time, level.trim_matches('"'))
    };
    known.verdicts.iter().filter(|v| of(v).is_some()).map(line).collect()
}

fn component_row(c: &IndexComponent) -> ComponentRow {
    ComponentRow {
        name: c.name.to_string(),
        kind: c.kind,
        base: c.base.clone(),
        method: c.method.clone(),
        instant: c.instant,
        complete: c.complete,
        check: c.check,
        entries: c.entries,
        files: c.files,
        size: c.size,
        alone: c.alone,
        archives: c.archives.len() as u64,
        unreadable: c.unreadable,
    }
}
