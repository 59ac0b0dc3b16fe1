//! Bringing a snapshot back: into a new folder, or file by file into the live tree.
//!
//! Everything is written beside its final place and proved first; nothing that is live is ever written over: an old file is kept beside the new one.

mod cursor;
mod early;
mod exchange;
mod feed;
mod incomplete;
mod inplace;
mod lay;
mod listing;
mod litter;
mod logs;
mod made;
pub(crate) mod read;
mod spare;
mod staging;
mod ways;
mod write;

pub(in crate::ops) use feed::Dumping;
pub(in crate::ops) use inplace::stamp;
pub(crate) use lay::lay;
pub(crate) use listing::{Listing, SEGMENTS_AT_ONCE, touched};
pub(in crate::ops) use logs::{LogsAside, log_beside, logs_aside, logs_back};

pub use inplace::{InPlacePlan, database_warning, plan_in_place};

use crate::archive::extract::{Extractor, Owners, Target};
use crate::config::Event;
use crate::durable::crash;
use crate::keys::Identities;
use crate::model::chain::KnownSnapshot;
use crate::model::entry::FLAG_DATABASE;
use crate::model::index::Index;
use crate::model::report::Phase;
use crate::model::{Entry, Problem, ProblemKind, Record, SnapshotId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::holding::named_by;
use crate::ops::hooks::{self, Ran};
use crate::ops::lacking;
use crate::ops::objects::SnapshotReader;
use crate::ops::restore::early::Early;
use crate::ops::select::{self, Selection};
use crate::ops::session::Session;
use crate::ops::sources::Sources;
use crate::ops::stores::Away;
use crate::ops::vault::Vault;
use crate::ops::whose::{self, ShownHost};
use crate::source::sqlite::Checked;
pub(crate) use lay::write_listing;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to bring back.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Which snapshot.
    pub snapshot: String,
    /// Which paths; all components when empty.
    pub paths: Vec<String>,
    /// Where to: must not exist, or be an empty folder.
    pub to: PathBuf,
    /// Use a snapshot by a key that is not trusted.
    pub accept_untrusted: bool,
    /// Leave owners as the running user.
    pub ignore_owners: bool,
    /// Where a part of the listing of a component is lost, bring what can still be brought, and say what cannot; else that is an error, and nothing is brought.
    pub salvage: bool,
}

/// What was brought back.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RestoreReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Where it is now.
    pub to: String,
    /// How many files.
    pub files: u64,
    /// How many entries in all.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Databases whose check passed.
    pub databases_checked: u64,
    /// Old files kept beside restored ones (in place only).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    /// Everything worth knowing.
    pub problems: Vec<Problem>,
}

/// An open snapshot: record and index proved, ready to be read.
pub(crate) struct Opened {
    pub(crate) sources: Arc<Sources>,
    pub(crate) record: Arc<Record>,
    pub(crate) index: Index,
    pub(crate) identities: Arc<Identities>,
}

/// Finds a snapshot, proves it and opens its index. A word that chooses means one that holds all components with these `names`.
pub(crate) fn open(
    session: &Session,
    selector: &str,
    names: &[String],
    accept_untrusted: bool,
) -> Result<Opened> {
    open_in(session, &session.read_vault()?, selector, names, accept_untrusted)
}

/// The same in a vault that was read already.
pub(crate) fn open_in(
    session: &Session,
    vault: &Vault,
    selector: &str,
    names: &[String],
    accept_untrusted: bool,
) -> Result<Opened> {
    open_known(session, vault, select::holding(session, vault, selector, names, accept_untrusted)?)
}

/// Opens a snapshot that is to become live on this machine, and tells whose it is: another host's only where that host was named.
pub(crate) fn open_live(
    session: &Session,
    vault: &Vault,
    selector: &str,
    names: &[String],
    accept_untrusted: bool,
) -> Result<(Opened, ShownHost)> {
    let known = select::holding(session, vault, selector, names, accept_untrusted)?;
    whose::refuse_unnamed(session, vault, known, selector)?;
    let opened = open_known(session, vault, known)?;
    let host = ShownHost::of(session, vault, &opened);
    Ok((opened, host))
}

fn open_known(session: &Session, vault: &Vault, known: &KnownSnapshot) -> Result<Opened> {
    let sources = Arc::new(known_sources(session, vault, known));
    let record = known.record.clone();
    let identities = Arc::new(session.identities_needed()?);
    let reader = SnapshotReader { store: &*sources, record: &record, identities: &identities };
    let index = reader.index().map_err(|e| sources.judged(e))?;
    Ok(Opened { sources, record, index, identities })
}

/// Where the objects of a snapshot are read from.
pub(crate) fn known_sources(session: &Session, vault: &Vault, known: &KnownSnapshot) -> Sources {
    Sources::of(session, vault, &(known.record.signer, known.record.number, known.hash))
}

impl Opened {
    pub(crate) fn reader(&self) -> SnapshotReader<'_> {
        SnapshotReader { store: &*self.sources, record: &self.record, identities: &self.identities }
    }
}

/// Restores into a folder of its own.
pub fn run(session: &Session, options: &RestoreOptions) -> Result<RestoreReport> {
    let vault = session.read_vault()?;
    let names = named_by(session, &options.paths);
    let opened = open_in(session, &vault, &options.snapshot, &names, options.accept_untrusted)?;
    let selections = select::paths(session, &opened.index, &options.paths)?;
    let lacking = options.paths.is_empty().then(|| lacking::of_project(&vault, &opened)).flatten();
    lacking.iter().for_each(|problem| session.around.progress.problem(problem));
    let (listings, known) = listings(&opened, &selections, options.salvage)?;
    let Ran { outcome: mut report, problems } =
        with_hooks(session, &listings, || to_folder(session, options, &opened, &listings, known))?;
    report.problems.extend(lacking);
    report.problems.extend(problems);
    Ok(report)
}

/// Reads what is selected, and says what of it the snapshot lacks, or what can be read of it nowhere.
fn listings(
    opened: &Opened,
    selections: &[Selection],
    salvage: bool,
) -> Result<(Vec<Listing>, Vec<Problem>)> {
    let (mut listings, mut problems, mut unread) = (Vec::new(), Vec::new(), None);
    for selection in selections {
        let read = match salvage {
            true => Listing::salvage(opened, selection),
            false => {
                let read = Listing::read(&opened.reader(), &opened.index, selection);
                read.map(|listing| (listing, Vec::new())).map_err(|e| opened.sources.judged(e))
            }
        };
        match read {
            Ok((listing, lost)) => {
                select::refuse_left(selection, &listing.entries)?;
                problems.extend(lost);
                problems.extend(incomplete::problems(&listing));
                listings.push(listing);
            }
            Err(error) if salvage && error.is_lost_listing() => {
                problems.push(not_brought(&selection.component, &error));
                unread.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match unread {
        Some(error) if listings.is_empty() => Err(error),
        _ => Ok((listings, problems)),
    }
}

/// What is said of a component of which nothing could be read.
fn not_brought(component: &str, error: &OpError) -> Problem {
    let what = format!("it was not brought back: {}", Away::from(error).line());
    Problem {
        kind: ProblemKind::Damaged,
        component: Some(component.to_owned()),
        subject: ".".to_owned(),
        what,
        hint: error.hint.clone(),
    }
}

/// Takes `step`, which writes `listings`, with the hooks of a restore around it.
fn with_hooks<'l>(
    session: &Session,
    listings: impl IntoIterator<Item = &'l Listing>,
    step: impl FnOnce() -> Result<RestoreReport>,
) -> Result<Ran<RestoreReport>> {
    let mut names: Vec<String> = listings.into_iter().map(|l| l.component.name.to_string()).collect();
    names.dedup();
    hooks::around(session, Event::Restore, &names, |report| report.snapshot.to_string(), step)
}

/// Writes `listings` into a new folder; `known` is what is known to be lacking.
fn to_folder(
    session: &Session,
    options: &RestoreOptions,
    opened: &Opened,
    listings: &[Listing],
    known: Vec<Problem>,
) -> Result<RestoreReport> {
    let bytes = listings.iter().map(Listing::bytes).sum();
    check_space(&options.to, bytes)?;
    crash::point("restore: begun");
    let target = Target::create(&options.to).map_err(|e| place_error(&options.to, e))?;
    crash::point("restore: staging made");
    session.around.progress.phase(Phase::Restore, Some(bytes));
    let mut report = RestoreReport {
        snapshot: opened.record.snapshot.clone(),
        to: options.to.display().to_string(),
        files: 0,
        entries: 0,
        bytes,
        databases_checked: 0,
        kept: Vec::new(),
        problems: known,
    };
    let owners = if options.ignore_owners { Owners::Ignore } else { Owners::Keep };
    let early = Early::new(target.apart().map_err(|e| place_error(&options.to, e))?);
    for listing in listings {
        let root = target.component(&listing.component.name).map_err(|e| place_error(&options.to, e))?;
        let extractor = extractor(session, root, owners, listing)?;
        write_listing(session, opened, listing, extractor, &|bytes| early.written(bytes), &mut report)?;
        if listing.entries.iter().any(|e| e.has_flag(FLAG_DATABASE)) {
            early.now();
        }
        check_databases(listing, &target.staging_path().join(listing.component.name.as_str()), &mut report);
        crash::point("restore: component whole");
    }
    session.around.interrupt.check()?;
    for problem in &report.problems {
        session.around.progress.problem(problem);
    }
    report.problems.extend(session.troubles());
    // Before the last sync, which would not tell again what this one was told.
    early.end().map_err(|e| place_error(&options.to, target.not_durable(e)))?;
    target.publish().map_err(|e| place_error(&options.to, e))?;
    crash::point("restore: published");
    Ok(report)
}

pub(crate) fn extractor<'a>(
    session: &'a Session,
    root: OwnedFd,
    owners: Owners,
    listing: &Listing,
) -> Result<Extractor<'a>> {
    let component = listing.component.name.as_str();
    Extractor::new(root, &session.names, owners, component)
        .doing(Class::Failed, || format!("cannot begin to restore component {component}"))
}

fn place_error(to: &Path, error: crate::archive::extract::ExtractError) -> OpError {
    let class = match error {
        crate::archive::extract::ExtractError::NotEmpty { .. } => Class::Usage,
        _ => Class::Failed,
    };
    let e = OpError::new(class, format!("cannot restore to {}", to.display())).because(error);
    if class == Class::Usage {
        e.hint("name a folder that does not exist yet; nothing is ever restored over something")
    } else if to.parent().is_some_and(|above| !above.exists()) {
        e.hint("make the folder that it is to lie in first")
    } else {
        e
    }
}

fn check_space(to: &Path, bytes: u64) -> Result<()> {
    let near = to.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."));
    let near = if near.as_os_str().is_empty() { Path::new(".") } else { near };
    match crate::durable::free_space(near) {
        Ok(free) if free < bytes => {
            let what =
                format!("not enough room for {}: {bytes} bytes are needed, {free} are free", to.display());
            Err(OpError::new(Class::Failed, what).hint("make room, or restore fewer paths"))
        }
        _ => Ok(()),
    }
}

/// Checks every restored database.
pub(crate) fn check_databases(listing: &Listing, root: &Path, report: &mut RestoreReport) {
    use std::os::unix::ffi::OsStrExt;
    for entry in listing.entries.iter().filter(|e| e.has_flag(FLAG_DATABASE)) {
        let path = root.join(std::ffi::OsStr::from_bytes(entry.path.as_bytes()));
        if !path.exists() {
            continue; // damaged, and said so already
        }
        match crate::source::sqlite::check_file(&path) {
            Checked::Sound => report.databases_checked += 1,
            Checked::Unsound(why) => report.problems.push(database_problem(listing, entry, &why)),
            Checked::Unknown(why) => {
                let name = listing.component.name.as_str();
                let what = format!("restored as it was stored; only its own program can check it: {why}");
                let path = entry.path.as_bytes();
                report.problems.push(Problem::at_path(ProblemKind::Warning, name, path, what));
            }
        }
    }
}

fn database_problem(listing: &Listing, entry: &Entry, what: &str) -> Problem {
    let name = listing.component.name.as_str();
    let what = format!("restored as it was stored, but the database check fails: {what}");
    Problem::at_path(ProblemKind::CheckFailed, name, entry.path.as_bytes(), what)
        .hint("it was so when the snapshot was made; try an older one (`backstay list`)")
}
