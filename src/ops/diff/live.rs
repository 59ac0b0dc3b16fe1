//! The live tree as one side: listed by the rules of a capture, read only where nothing else tells.

use crate::catalog::spool_dir;
use crate::config::{Component, Spec};
use crate::model::{ContentHash, Entry, Problem, ProblemKind, RelPath};
use crate::ops::backup::{BUSY_LIMIT, LOCK_LIMIT, chain_text};
use crate::ops::diff::content::{Judge, Ranges, cover, read_file};
use crate::ops::diff::known::{KnownRows, is_still};
use crate::ops::diff::walk::{Listed, Thing};
use crate::ops::error::{Class, Doing, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::layout::folder_spec;
use crate::ops::session::Session;
use crate::platform::users::Names;
use crate::source::folder::{FolderSpec, Found, OpenError, OpenFile, Scan, What, scan};
use crate::source::sqlite::{CheckPolicy, SqliteSpec, capture};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Why a component of the live tree cannot be compared at all.
pub(super) struct NotOpen {
    pub(super) what: String,
    /// It is a problem, and not in the nature of the component.
    pub(super) problem: Option<Problem>,
}

/// A component of the live tree.
pub(super) struct Live {
    pub(super) scan: Scan,
    pub(super) reader: LiveReader,
}

/// Reads what a scan found.
pub(super) struct LiveReader {
    component: String,
    known: KnownRows,
    names: Arc<Names>,
    interrupt: Interrupt,
    /// For a component that is a database: where it is.
    database: Option<PathBuf>,
    sqlite: SqliteSpec,
}

/// What a file is compared with.
pub(super) struct Wanted<'w> {
    pub(super) size: u64,
    pub(super) hash: Option<ContentHash>,
    /// Where the hashed bytes lie.
    pub(super) cover: &'w mut dyn FnMut() -> Result<Ranges>,
    /// Of a database that differs and has at most so many bytes, a copy is wanted.
    pub(super) copy_up_to: u64,
}

/// What a file turned out to be.
pub(super) struct Looked {
    /// With its attributes, and the size that was read.
    pub(super) entry: Entry,
    pub(super) same: bool,
    /// The bytes of a database.
    pub(super) copy: Option<File>,
}

/// Why there is nothing to compare with.
pub(super) enum Unseen {
    /// It is not there any more.
    Gone,
    /// It cannot be read.
    Problem(Problem),
}

/// A file that changes while it is read is read so often.
const TRIES: usize = 3;

impl Live {
    /// Lists a component.
    pub(super) fn open(
        session: &Session,
        component: &Component,
        known: KnownRows,
        problems: &mut Vec<Problem>,
    ) -> std::result::Result<Self, Box<NotOpen>> {
        let name = component.name.as_str();
        let broken = |what: String| {
            let problem = Problem::at_path(ProblemKind::Unreadable, name, b".", what.clone());
            let problem = problem.hint("is its disk mounted, and is the path in backstay.toml right?");
            Box::new(NotOpen { what, problem: Some(problem) })
        };
        let (spec, database, lock_limit) = match &component.spec {
            Spec::Command { .. } | Spec::Postgres { .. } => {
                let what = "it is the output of a command, and a comparison runs none".to_owned();
                return Err(Box::new(NotOpen { what, problem: None }));
            }
            Spec::Sqlite { path, lock_limit, .. } => {
                let spec = single(component, path).map_err(|e| broken(format!("{}: {e}", path.display())))?;
                (spec, Some(path.clone()), *lock_limit)
            }
            _ => (spec_of(component, session).map_err(|e| broken(chain_text(&e)))?, None, LOCK_LIMIT),
        };
        let mut scan = scan(&spec, &session.names, &mut |problem| problems.push(problem))
            .map_err(|e| broken(chain_text(&e)))?;
        if let Some(path) = &database {
            // It may be named by a link; what was captured bears the name of the configuration.
            let name = path.file_name().and_then(|name| RelPath::new(name.as_bytes()).ok());
            for found in &mut scan.entries {
                found.entry.path = name.clone().unwrap_or_else(|| found.entry.path.clone());
                found.database = true;
            }
        }
        let sqlite = sqlite_spec(session, name, lock_limit).map_err(|e| broken(chain_text(&e)))?;
        let reader = LiveReader {
            component: name.to_owned(),
            known,
            names: Arc::clone(&session.names),
            interrupt: session.around.interrupt.clone(),
            database,
            sqlite,
        };
        Ok(Self { scan, reader })
    }
}

fn spec_of(component: &Component, session: &Session) -> Result<FolderSpec> {
    folder_spec(component, &session.config()?.components, session)
}

fn single(component: &Component, path: &Path) -> io::Result<FolderSpec> {
    let real = path.canonicalize()?;
    let base = real.parent().unwrap_or(Path::new("/")).to_owned();
    Ok(FolderSpec { what: What::Single(real), ..FolderSpec::tree(component.name.as_str(), base) })
}

fn sqlite_spec(session: &Session, component: &str, lock_limit: Duration) -> Result<SqliteSpec> {
    Ok(SqliteSpec {
        component: component.to_owned(),
        database: PathBuf::new(),
        no_links: false,
        exe: session.around.exe.clone(),
        lock_limit,
        check: CheckPolicy::Never,
        spool: spool_dir(&session.config()?.state_dir),
        busy_limit: BUSY_LIMIT,
    })
}

impl LiveReader {
    /// Compares a file with what is wanted.
    pub(super) fn look(
        &mut self,
        scan: &Scan,
        found: &Found,
        wanted: &mut Wanted<'_>,
    ) -> Result<std::result::Result<Looked, Unseen>> {
        let database = self.database_of(scan, found);
        if let Some(looked) = self.remembered(found, database.as_deref(), wanted)? {
            return Ok(Ok(looked));
        }
        match database {
            Some(path) => self.captured(found, path, wanted),
            None => self.read(scan, found, wanted),
        }
    }

    fn database_of(&self, scan: &Scan, found: &Found) -> Option<PathBuf> {
        let own = || self.database.clone().unwrap_or_else(|| scan.tree.real_path(&found.entry.path));
        found.database.then(own)
    }

    /// What is remembered of a file that is as it was.
    fn remembered(
        &mut self,
        found: &Found,
        database: Option<&Path>,
        wanted: &mut Wanted<'_>,
    ) -> Result<Option<Looked>> {
        let row = self.known.seek(found.entry.path.as_bytes());
        let Some(row) = row.filter(|row| is_still(row, found.ident(), database)) else {
            return Ok(None);
        };
        let entry = row.entry;
        let alike = entry.size == wanted.size && entry.hash == wanted.hash;
        let same = alike && cover(&entry.extents) == (wanted.cover)()?;
        let copy_wanted = database.is_some() && !same && entry.size <= wanted.copy_up_to;
        Ok((!copy_wanted).then_some(Looked { entry, same, copy: None }))
    }

    fn read(
        &self,
        scan: &Scan,
        found: &Found,
        wanted: &mut Wanted<'_>,
    ) -> Result<std::result::Result<Looked, Unseen>> {
        let mut looked = None;
        for _ in 0..TRIES {
            let open = match scan.tree.open(found, &self.names) {
                Ok(open) => open,
                Err(error) => return Ok(Err(self.unseen(found, &error))),
            };
            if open.entry.size != wanted.size {
                return Ok(Ok(Looked { entry: open.entry, same: false, copy: None }));
            }
            let ranges = (wanted.cover)()?;
            let mut judge = Judge::new(&ranges);
            match read_file(&open, &self.interrupt, &mut judge) {
                Ok(still) => {
                    let same = still && judge.is(wanted.hash.as_ref());
                    looked = Some(Looked { entry: open.entry, same, copy: None });
                    if still {
                        break;
                    }
                }
                Err(e) => {
                    self.interrupt.check()?;
                    return Ok(Err(self.problem(found, format!("cannot be read: {e}"))));
                }
            }
        }
        Ok(looked.ok_or(Unseen::Gone))
    }

    fn unseen(&self, found: &Found, error: &OpenError) -> Unseen {
        match error {
            OpenError::Vanished { .. } => Unseen::Gone,
            other => self.problem(found, chain_text(other)),
        }
    }

    fn problem(&self, found: &Found, what: String) -> Unseen {
        let path = found.entry.path.as_bytes();
        Unseen::Problem(Problem::at_path(ProblemKind::Unreadable, &self.component, path, what))
    }

    /// Reads a database through SQLite, in a child process of its own like every capture.
    fn captured(
        &self,
        found: &Found,
        database: PathBuf,
        wanted: &mut Wanted<'_>,
    ) -> Result<std::result::Result<Looked, Unseen>> {
        let no_links = self.database.is_none();
        let spec = SqliteSpec { database, no_links, ..self.sqlite.clone() };
        let mut captured = match capture(&spec) {
            Ok(captured) => captured,
            Err(e) => return Ok(Err(self.problem(found, chain_text(&e)))),
        };
        let size = captured.size;
        let ranges = if size == wanted.size { (wanted.cover)()? } else { Ranges::new() };
        let copy = (size <= wanted.copy_up_to).then(scratch).transpose()?;
        let mut judge = Judge::new(&ranges);
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            self.interrupt.check()?;
            let got = match captured.read(&mut buffer) {
                Ok(0) => break,
                Ok(got) => got,
                Err(e) => return Ok(Err(self.problem(found, format!("cannot be captured: {e}")))),
            };
            judge.bytes(at, &buffer[..got]);
            if let Some(copy) = &copy {
                let written = copy.write_all_at(&buffer[..got], at);
                written.doing(Class::Failed, || "cannot write a scratch file".into())?;
            }
            at += got as u64;
        }
        if let Err(e) = captured.finish() {
            return Ok(Err(self.problem(found, chain_text(&e))));
        }
        let mut entry = found.entry.clone();
        entry.size = size;
        let same = size == wanted.size && judge.is(wanted.hash.as_ref());
        Ok(Ok(Looked { entry, same, copy: copy.filter(|_| !same) }))
    }

    /// The hash of a file that is new, and where its bytes lie; of a database only what is remembered. `None` where it cannot be had.
    pub(super) fn hash(&mut self, scan: &Scan, found: &Found) -> Result<Option<(ContentHash, Ranges)>> {
        let database = self.database_of(scan, found);
        let row = self.known.seek(found.entry.path.as_bytes());
        if let Some(row) = row.filter(|row| is_still(row, found.ident(), database.as_deref())) {
            return Ok(row.entry.hash.map(|hash| (hash, cover(&row.entry.extents))));
        }
        if database.is_some() {
            return Ok(None);
        }
        let Ok(open) = scan.tree.open(found, &self.names) else { return Ok(None) };
        let hashed = hash_of(&open, &self.interrupt);
        self.interrupt.check()?;
        Ok(hashed)
    }

    /// Begins again with the first of what is remembered.
    pub(super) fn rewind(&mut self) {
        self.known.rewind();
    }
}

fn hash_of(open: &OpenFile, interrupt: &Interrupt) -> Option<(ContentHash, Ranges)> {
    let mut judge = Judge::new(&open.ranges);
    let still = read_file(open, interrupt, &mut judge).ok()?;
    let hash = judge.hash();
    still.then(|| (hash, open.ranges.clone()))
}

/// A file without a name.
pub(super) fn scratch() -> Result<File> {
    crate::durable::scratch_file(&std::env::temp_dir())
        .doing(Class::Failed, || "cannot make a scratch file".into())
}

/// A scan as a listing.
pub(super) struct LiveListing<'s> {
    found: std::iter::Enumerate<std::slice::Iter<'s, Found>>,
    top: RelPath,
}

impl<'s> LiveListing<'s> {
    /// What of `scan` lies at or below `top`.
    pub(super) fn new(scan: &'s Scan, top: &RelPath) -> Self {
        Self { found: scan.entries.iter().enumerate(), top: top.clone() }
    }
}

impl<'s> Listed<'s> for LiveListing<'s> {
    fn next(&mut self) -> Result<Option<Thing<'s>>> {
        let top = &self.top;
        Ok(self.found.find(|(_, f)| f.entry.path.is_within(top)).map(|(place, f)| Thing::Live(place, f)))
    }
}
