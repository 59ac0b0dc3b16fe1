//! Looking at snapshots: list, show, ls, cat.

use crate::archive::Pool;
use crate::keys::Identities;
use crate::model::chain::{KnownSnapshot, Trust};
use crate::model::index::{Index, IndexComponent};
use crate::model::record::{CheckResult, SnapshotKind};
use crate::model::{ContentHash, Entry, Kind, Record, RelPath, SnapshotId, Timestamp};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::objects::SnapshotReader;
use crate::ops::recover_files;
use crate::ops::restore::read::{Piece, Reading, Sink, chain_text};
use crate::ops::restore::{Listing, open};
use crate::ops::select::{self, Selection};
use crate::ops::session::Session;
use crate::ops::shape;
use crate::ops::vault::{BadDocument, Vault, is_trusted};
use crate::store::Key;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

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
    let identities = session.identities()?;
    let hosts = select::hosts(session, &vault)?;
    let wanted = |s: &&KnownSnapshot| hosts.contains(&s.record.host) || !is_trusted(s);
    let mut damaged = vault.bad.clone();
    let rows = vault.snapshots().filter(wanted).map(|s| {
        let (row, bad) = row(session, s, &identities);
        damaged.extend(bad);
        row
    });
    let snapshots = rows.collect();
    damaged.extend(recover_files::check(&*session.store, &vault)?);
    Ok(ListReport {
        store: session.store.name().to_owned(),
        location: session.store.location(),
        snapshots,
        history: select::breaks_of(&vault, &hosts),
        damaged,
        opened: !identities.is_empty(),
    })
}

/// The line of a snapshot, and its index when that is damaged. A list tells what it can: an index that cannot be opened costs names and
/// notes only.
fn row(
    session: &Session,
    known: &KnownSnapshot,
    identities: &Identities,
) -> (SnapshotRow, Option<BadDocument>) {
    let record = &known.record;
    let reader = SnapshotReader { store: &*session.store, record, identities };
    let readable = !identities.is_empty() && is_trusted(known) && known.void.is_none();
    let (index, bad) = match readable.then(|| reader.index()) {
        Some(Ok(index)) => (Some(index), None),
        Some(Err(e)) => (None, bad_index(record, &e)),
        None => (None, None),
    };
    let note = sealed_note(known, identities).or_else(|| index.as_ref().and_then(|i| i.header.note.clone()));
    let row = SnapshotRow {
        id: record.snapshot.clone(),
        host: record.host.to_string(),
        hostname: index.as_ref().map(|i| i.header.hostname.clone()),
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
        components: index.map(|i| i.components.iter().map(|c| c.name.to_string()).collect()),
        size: record.components.iter().fold(0, |sum, c| sum.saturating_add(c.size)),
        stored_bytes: record.objects.iter().fold(0, |sum, o| sum.saturating_add(o.size)),
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
    /// Its components.
    pub details: Vec<ComponentRow>,
    /// Who signed.
    pub signer: String,
    /// With what it was made.
    pub agent: String,
    /// Objects it needs.
    pub objects: u64,
    /// Verdicts on it, oldest first, as lines.
    pub verdicts: Vec<String>,
}

/// Shows one snapshot.
pub fn show(session: &Session, selector: &str, accept_untrusted: bool) -> Result<ShowReport> {
    let vault = session.read_vault()?;
    let known = select::snapshot(session, &vault, selector, accept_untrusted)?;
    let identities = session.identities_needed()?;
    let reader = SnapshotReader { store: &*session.store, record: &known.record, identities: &identities };
    let index = reader.index()?;
    Ok(ShowReport {
        row: row(session, known, &identities).0,
        details: index.components.iter().map(component_row).collect(),
        signer: known.record.signer.to_string(),
        agent: known.record.agent.clone(),
        objects: known.record.objects.len() as u64,
        verdicts: verdict_lines(&vault, known),
    })
}

fn verdict_lines(vault: &Vault, known: &KnownSnapshot) -> Vec<String> {
    let here = |v: &&crate::model::chain::KnownVerdict| v.verdict.instance == vault.info.instance;
    let line = |v: &crate::model::chain::KnownVerdict| {
        let level = serde_json::to_string(&v.verdict.level).unwrap_or_default();
        let word = if v.verdict.good { "good" } else { "not good" };
        format!("{} {}: {word}", v.time, level.trim_matches('"'))
    };
    known.verdicts.iter().filter(here).map(line).collect()
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

/// One line of `ls`.
#[derive(Debug, Clone, Serialize)]
pub struct LsRow {
    /// `component/path`, control characters escaped.
    pub path: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Permission bits.
    pub mode: String,
    /// Owner's name or number.
    pub user: String,
    /// Group's name or number.
    pub group: String,
    /// Bytes.
    pub size: u64,
    /// Modification time, seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Where a link points.
    pub target: Option<String>,
    /// Hash of the covered bytes.
    pub hash: Option<ContentHash>,
    /// Flags.
    pub flags: Vec<String>,
    /// Why it was left out, if it was.
    pub why: Option<crate::model::entry::Why>,
}

/// A listing.
#[derive(Debug, Clone, Serialize)]
pub struct LsReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What is there.
    pub entries: Vec<LsRow>,
}

/// Lists a directory of a snapshot; all components when no path is given; everything below with `recursive`.
pub fn ls(
    session: &Session,
    selector: &str,
    path: Option<&str>,
    recursive: bool,
    untrusted: bool,
) -> Result<LsReport> {
    let opened = open(session, selector, untrusted)?;
    let snapshot = opened.record.snapshot.clone();
    let entries = match path {
        None if !recursive => opened.index.components.iter().map(component_as_dir).collect(),
        None => {
            let all = select::paths(session, &opened.index, &[])?;
            let mut rows = Vec::new();
            for selection in &all {
                rows.extend(rows_of(session, &opened, selection, None, true)?);
            }
            rows
        }
        Some(arg) => {
            let (component, path) = select::path(session, &opened.index, arg)?;
            let selection = Selection { component, paths: path.clone().into_iter().collect() };
            rows_of(session, &opened, &selection, path, recursive)?
        }
    };
    Ok(LsReport { snapshot, entries })
}

fn component_as_dir(c: &IndexComponent) -> LsRow {
    LsRow {
        path: format!("{}/", c.name),
        kind: Kind::Dir,
        mode: String::new(),
        user: String::new(),
        group: String::new(),
        size: c.size,
        mtime: (c.instant.as_second(), 0),
        target: None,
        hash: None,
        flags: Vec::new(),
        why: None,
    }
}

fn rows_of(
    session: &Session,
    opened: &crate::ops::restore::Opened,
    selection: &Selection,
    path: Option<RelPath>,
    recursive: bool,
) -> Result<Vec<LsRow>> {
    let entries = entries_of(&opened.reader(session), &opened.index, selection)?;
    let top = path.unwrap_or_else(RelPath::root);
    let is_dir = entries.iter().any(|e| e.path == top && e.kind == Kind::Dir) || top.is_root();
    let shown = |e: &&Entry| match (recursive, is_dir) {
        (true, _) => e.path.is_within(&top),
        (false, true) => e.path.parent().as_ref() == Some(&top),
        (false, false) => e.path == top,
    };
    Ok(entries.iter().filter(shown).map(|e| ls_row(&selection.component, e)).collect())
}

/// Entries of the segments that may hold what is wanted, without their content.
fn entries_of(reader: &SnapshotReader<'_>, index: &Index, selection: &Selection) -> Result<Vec<Entry>> {
    let component = select::component(index, &selection.component)?;
    let mut entries = Vec::new();
    for reference in component.segments.iter().filter(|s| selection.touches(&s.first, &s.last)) {
        let segment = reader.segment(component, reference)?;
        entries.extend(segment.entries.into_iter().filter(|e| selection.wants(&e.path)));
    }
    shape::check(component, &entries)?;
    selection.check_found(&entries)?;
    Ok(entries)
}

fn ls_row(component: &str, e: &Entry) -> LsRow {
    let path = if e.path.is_root() { format!("{component}/") } else { format!("{component}/{}", e.path) };
    LsRow {
        path,
        kind: e.kind,
        mode: format!("{:04o}", e.mode),
        user: e.user.as_deref().map_or_else(|| e.uid.to_string(), str::to_owned),
        group: e.group.as_deref().map_or_else(|| e.gid.to_string(), str::to_owned),
        size: e.size,
        mtime: e.mtime,
        target: e.target.as_deref().map(crate::model::path::escape),
        hash: e.hash,
        flags: e.flags.clone(),
        why: e.why,
    }
}

/// Content up to this many bytes is proved in memory, larger content in a scratch file.
const IN_MEMORY: u64 = 16 << 20;

/// Writes one file's content to `out`, after all of it was proved: nothing unproved is ever let out.
pub fn cat(
    session: &Session,
    selector: &str,
    path: &str,
    untrusted: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let opened = open(session, selector, untrusted)?;
    let (component, wanted) = select::path(session, &opened.index, path)?;
    let wanted = match wanted {
        Some(wanted) => wanted,
        None => single_path(&opened.index, &component)?,
    };
    let selection = Selection { component, paths: vec![wanted.clone()] };
    let listing = Listing::read(&opened.reader(session), &opened.index, &selection)?;
    let place = listing.entries.iter().position(|e| e.path == wanted && e.kind == Kind::File);
    let place = place.ok_or_else(|| {
        OpError::new(Class::Usage, format!("{path} is not a file"))
            .hint("`backstay ls` lists what is in a directory")
    })?;
    let extents = listing.extents.get(&place).cloned().unwrap_or_default();
    let mut gathered = Gather::new(&listing.entries[place])?;
    let pieces = extents.iter().map(|&extent| Piece { extent, file: 0 }).collect();
    let pool = Pool::for_machine();
    let reading = Reading {
        store: &session.store,
        record: &opened.record,
        identities: &opened.identities,
        pool: &pool,
        interrupt: &session.around.interrupt,
    };
    reading.deliver(pieces, &listing.archives, &mut gathered)?;
    let ranges: Vec<(u64, u64)> = extents.iter().map(|e| (e.offset, e.length)).collect();
    gathered.prove(&listing.entries[place], &ranges)?;
    gathered
        .copy_to(out)
        .or_else(|e| {
            // Whoever reads the output may stop when it has enough.
            if e.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) }
        })
        .doing(Class::Failed, || format!("cannot write the content of {path}"))
}

fn single_path(index: &Index, component: &str) -> Result<RelPath> {
    let component = select::component(index, component)?;
    let first = component.segments.first().filter(|_| component.single).map(|s| s.first.clone());
    first.ok_or_else(|| {
        OpError::new(Class::Usage, format!("{} is not one file; name a path in it", component.name))
    })
}

/// Gathers one file's content where it can be proved before it is let out.
struct Gather {
    scratch: Scratch,
    lost: Option<String>,
}

enum Scratch {
    Memory(Vec<u8>),
    File(File),
}

impl Gather {
    fn new(entry: &Entry) -> Result<Self> {
        let scratch = if entry.size <= IN_MEMORY {
            Scratch::Memory(vec![0; usize::try_from(entry.size).unwrap_or(0)])
        } else {
            let make = || -> io::Result<File> {
                let file = crate::durable::scratch_file(&std::env::temp_dir())?;
                file.set_len(entry.size)?;
                Ok(file)
            };
            Scratch::File(make().doing(Class::Failed, || "cannot make a scratch file".into())?)
        };
        Ok(Self { scratch, lost: None })
    }

    fn prove(&mut self, entry: &Entry, ranges: &[(u64, u64)]) -> Result<()> {
        let damaged = |why: &str| {
            OpError::new(Class::Damage, format!("{} cannot be had", entry.path)).because(why.to_owned())
        };
        if let Some(why) = &self.lost {
            return Err(damaged(why));
        }
        let mut hasher = blake3::Hasher::new();
        for &(offset, length) in ranges {
            self.range(offset, length, &mut |bytes| {
                hasher.update(bytes);
                Ok(())
            })
            .doing(Class::Failed, || "cannot read a scratch file".into())?;
        }
        if entry.hash.is_some_and(|h| h.as_bytes() == hasher.finalize().as_bytes()) {
            return Ok(());
        }
        Err(damaged("its content is not what its listing says"))
    }

    fn range(
        &mut self,
        offset: u64,
        length: u64,
        each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match &mut self.scratch {
            Scratch::Memory(bytes) => {
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
                each(bytes.get(place(offset)..place(offset + length)).unwrap_or(&[]))
            }
            Scratch::File(file) => {
                file.seek(SeekFrom::Start(offset))?;
                let mut rest = file.take(length);
                let mut buffer = vec![0; 1 << 20];
                loop {
                    match rest.read(&mut buffer)? {
                        0 => return Ok(()),
                        got => each(&buffer[..got])?,
                    }
                }
            }
        }
    }

    fn copy_to(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let size = match &self.scratch {
            Scratch::Memory(bytes) => bytes.len() as u64,
            Scratch::File(file) => file.metadata()?.len(),
        };
        self.range(0, size, &mut |bytes| out.write_all(bytes))?;
        out.flush()
    }
}

impl Sink for Gather {
    fn bytes(&mut self, _: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let write = |scratch: &mut Scratch| match scratch {
            Scratch::Memory(all) => {
                let at = usize::try_from(offset).unwrap_or(usize::MAX);
                let room = all.get_mut(at..at.saturating_add(bytes.len()));
                room.map(|room| room.copy_from_slice(bytes)).ok_or_else(|| io::Error::other("past the end"))
            }
            Scratch::File(file) => {
                file.seek(SeekFrom::Start(offset))?;
                file.write_all(bytes)
            }
        };
        write(&mut self.scratch).doing(Class::Failed, || "cannot write a scratch file".into())
    }

    fn lost(&mut self, _: usize, why: &str) -> Result<()> {
        self.lost.get_or_insert_with(|| why.to_owned());
        Ok(())
    }
}
