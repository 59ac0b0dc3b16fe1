//! Capturing all components in the right order: databases and dumps first, then folders, in which databases come before files.

use crate::archive::About;
use crate::config::{Component, Spec, SqliteCheck};
use crate::keys::naming::{component_number, setup};
use crate::model::index::ComponentKind;
use crate::model::record::CheckResult;
use crate::model::report::Phase;
use crate::model::{Entry, Kind, Problem, ProblemKind, RelPath, Timestamp};
use crate::ops::backup::build::{Build, Item};
use crate::ops::backup::content::{Content, ContentError, pack};
use crate::ops::backup::files::{pack_database, pack_file, pack_found};
use crate::ops::backup::manifest::{Stored, store_component};
use crate::ops::backup::packer::{PackRun, Packer, archive_size_for};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::layout::{base_of, folder_spec};
use crate::ops::session::{Session, Writer};
use crate::ops::vault::Vault;
use crate::source::command::{CommandLine, CommandSpec, run as run_command};
use crate::source::folder::{Excluded, Scan, SourceError, scan};
use crate::source::sqlite::{CheckPolicy, SqliteError, SqliteSpec, capture};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a busy database is waited for.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// How long writers of a database in rollback-journal mode may be made to wait.
const LOCK_LIMIT: Duration = Duration::from_secs(2);

/// The configuration's command as the source takes it: the two are of rows that do not know each other.
fn words(command: &crate::config::CommandLine) -> CommandLine {
    match command {
        crate::config::CommandLine::Args(args) => CommandLine::Args(args.clone()),
        crate::config::CommandLine::Shell(line) => CommandLine::Shell(line.clone()),
    }
}

fn policy(check: SqliteCheck) -> CheckPolicy {
    match check {
        SqliteCheck::Auto => CheckPolicy::Auto,
        SqliteCheck::Always => CheckPolicy::Always,
        SqliteCheck::Never => CheckPolicy::Never,
    }
}

struct Run<'a> {
    session: &'a Session,
    writer: &'a Writer,
    vault: &'a Vault,
    pack: &'a PackRun<'a>,
    all: &'a [Component],
}

/// Captures `components` and puts all their data objects. Fails when nothing at all could be captured.
pub(super) fn all<'a>(
    session: &'a Session,
    writer: &'a Writer,
    vault: &'a Vault,
    components: &[&Component],
    pack: &'a PackRun<'a>,
) -> Result<Vec<Stored>> {
    let config = session.config()?;
    let run = Run { session, writer, vault, pack, all: &config.components };
    let mut stored: Vec<Option<Stored>> = components.iter().map(|_| None).collect();
    pack.progress.phase(Phase::Capture, None);
    for (slot, component) in stored.iter_mut().zip(components) {
        if matches!(component.spec, Spec::Sqlite { .. } | Spec::Command { .. }) {
            *slot = Some(run.stream(component)?);
        }
    }
    pack.progress.phase(Phase::Scan, None);
    let mut scans = Vec::new();
    for (place, component) in components.iter().enumerate() {
        if stored[place].is_none() {
            scans.push((place, run.scan(component)?));
        }
    }
    let bytes = scans.iter().filter_map(|(_, (_, scan))| scan.as_ref()).map(|s| s.bytes).sum();
    pack.progress.phase(Phase::Pack, Some(bytes));
    let mut databases = Vec::new();
    for (_, (build, scan)) in &mut scans {
        databases.push(match scan {
            Some(scan) => run.databases(build, scan)?,
            None => HashMap::new(),
        });
    }
    for ((place, (mut build, scan)), databases) in scans.into_iter().zip(databases) {
        if let Some(scan) = &scan {
            pack_found(&mut build, scan, databases)?;
        }
        drop(scan);
        stored[place] = Some(store_component(build)?);
    }
    let stored: Vec<Stored> = stored.into_iter().flatten().collect();
    if stored.iter().all(|s| s.index.entries == 0) {
        let causes: Vec<String> =
            stored.iter().flat_map(|s| &s.problems).map(|p| format!("{}: {}", p.place(), p.what)).collect();
        return Err(OpError::new(Class::Failed, "nothing at all could be captured, so no snapshot was made")
            .because(causes.join("; "))
            .hint("is a disk not mounted? older snapshots are untouched"));
    }
    Ok(stored)
}

impl<'a> Run<'a> {
    fn build(&self, component: &Component, kind: ComponentKind, method: &str, bytes: u64) -> Build<'a> {
        let now = self.session.around.clock.now();
        let about = About {
            vault: self.vault.info.vault.clone(),
            host: self.vault.host_of(&self.writer.signer.id()),
            component: component.name.clone(),
        };
        let configured = self.session.config.as_ref().and_then(|c| c.packing.archive_size);
        let size = configured.unwrap_or_else(|| archive_size_for(bytes));
        let (base, single) = base_of(component, self.session.config.as_deref());
        Build {
            name: component.name.clone(),
            number: component_number(&self.writer.naming, &component.name),
            setup: setup(&self.writer.naming, &component.canonical()),
            kind,
            base: base.display().to_string(),
            single,
            method: method.to_owned(),
            started: now,
            instant: now,
            complete: true,
            check: CheckResult::None,
            unreadable_count: 0,
            rules: Vec::new(),
            strict: component.strict,
            allow: Excluded::from_rules(&component.allow_unreadable).0,
            alone: true,
            items: Vec::new(),
            packer: Packer::new(self.pack.clone(), about, size),
            names: &self.session.names,
            problems: Vec::new(),
        }
    }

    /// A database or the output of a command.
    fn stream(&self, component: &Component) -> Result<Stored> {
        let build = match &component.spec {
            Spec::Sqlite { path, .. } => self.sqlite(component, path)?,
            _ => self.command(component)?,
        };
        store_component(build)
    }

    fn sqlite_spec(&self, component: &Component, path: &Path) -> SqliteSpec {
        let (check, lock_limit) = match &component.spec {
            Spec::Sqlite { check, lock_limit, .. } => (*check, *lock_limit),
            _ => (SqliteCheck::Auto, LOCK_LIMIT),
        };
        SqliteSpec {
            no_links: false,
            component: component.name.to_string(),
            database: path.to_owned(),
            exe: self.session.around.exe.clone(),
            lock_limit,
            check: policy(check),
            spool: self.pack.spool.to_owned(),
            busy_limit: BUSY_LIMIT,
        }
    }

    fn sqlite(&self, component: &Component, path: &Path) -> Result<Build<'a>> {
        let mut build = self.build(component, ComponentKind::Sqlite, "sqlite-pages", 0);
        let name = path.file_name().map_or(&b"database"[..], |n| std::os::unix::ffi::OsStrExt::as_bytes(n));
        let rel = RelPath::new(name).map_err(|e| OpError::new(Class::Config, e.to_string()))?;
        let mut entry = Entry::new(rel.clone(), Kind::File);
        match rustix::fs::stat(path) {
            Ok(stat) if crate::platform::capture::kind_of(&stat) == Some(Kind::File) => {
                crate::platform::capture::fill(&mut entry, &stat, &self.session.names);
            }
            Ok(_) => {
                build.unreadable(&rel, format!("{} is not a file", path.display()));
                return Ok(build);
            }
            Err(Errno::NOENT) => {
                build.not_captured(&rel, &SqliteError::Missing(path.to_owned()));
                return Ok(build);
            }
            Err(e) => {
                build.unreadable(&rel, format!("{} cannot be read: {}", path.display(), io::Error::from(e)));
                return Ok(build);
            }
        }
        match capture(&self.sqlite_spec(component, path)) {
            Ok(captured) => {
                (build.method, build.instant) = (captured.method.to_owned(), captured.instant);
                match pack_database(&mut build, entry, captured) {
                    Ok(item) => build.items.push(item),
                    Err(ContentError::Run(e)) => return Err(e),
                    Err(ContentError::Read(e)) => {
                        build.alone = false;
                        build.unreadable(&rel, format!("cannot be captured: {e}"));
                    }
                }
            }
            Err(error) => build.not_captured(&rel, &error),
        }
        Ok(build)
    }

    fn command(&self, component: &Component) -> Result<Build<'a>> {
        let mut build = self.build(component, ComponentKind::Command, "command", 0);
        let rel = RelPath::new(b"output").map_err(|e| OpError::new(Class::Failed, e.to_string()))?;
        let Spec::Command { command, check, env_file, timeout, min_size, .. } = &component.spec else {
            return Ok(build);
        };
        let spec = CommandSpec {
            component: component.name.to_string(),
            command: words(command),
            dir: self.session.config()?.dir.clone(),
            env_file: env_file.clone(),
            timeout: *timeout,
            min_size: *min_size,
            check: check.as_ref().map(words),
        };
        build.instant = self.session.around.clock.now();
        let interrupt = &self.session.around.interrupt;
        let output = match run_command(&spec, self.pack.spool, &|| interrupt.signal().is_some()) {
            Ok(output) => output,
            Err(e) => {
                interrupt.check()?;
                let what = chain_text(&e);
                let named = format!("component {}: ", component.name);
                build.unreadable(&rel, what.strip_prefix(&named).unwrap_or(&what).to_owned());
                return Ok(build);
            }
        };
        if check.is_some() {
            build.checked(&rel, CheckResult::Passed, &[]);
        }
        let mut entry = Entry::new(rel.clone(), Kind::File);
        (entry.mode, entry.mtime) = (0o600, seconds_of(build.instant));
        (entry.uid, entry.gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        (entry.user, entry.group) = (self.session.names.user(entry.uid), self.session.names.group(entry.gid));
        let mut read = |offset: u64, buffer: &mut [u8]| {
            rustix::io::pread(&output.file, buffer, offset).map_err(io::Error::from)
        };
        let mut content = Content { size: output.size, ranges: &[(0, output.size)], read: &mut read };
        match pack(&mut build.packer, &entry, &mut content) {
            Ok(packed) if packed.size == output.size => {
                (entry.size, entry.hash) = (packed.size, Some(packed.hash));
                build.items.push(Item { extents: packed.extents, ..Item::bare(entry) });
            }
            Ok(_) => build.unreadable(&rel, "the spooled output was cut short".into()),
            Err(ContentError::Run(e)) => return Err(e),
            Err(ContentError::Read(e)) => {
                build.unreadable(&rel, format!("the spooled output cannot be read: {e}"));
            }
        }
        Ok(build)
    }

    /// Walks a folder or a list of paths.
    fn scan(&self, component: &Component) -> Result<(Build<'a>, Option<Scan>)> {
        let kind = match component.spec {
            Spec::Paths { .. } => ComponentKind::Paths,
            _ => ComponentKind::Folder,
        };
        let spec = folder_spec(component, self.all, self.session)?;
        let mut build = self.build(component, kind, "files", 0);
        let mut problems = Vec::new();
        let scanned = scan(&spec, &self.session.names, &mut |problem| problems.push(problem));
        for problem in problems {
            if problem.kind == ProblemKind::Unreadable {
                (build.complete, build.unreadable_count) = (false, build.unreadable_count + 1);
            }
            build.problem(problem);
        }
        match scanned {
            Ok(scan) => {
                build.rules.clone_from(&scan.rules);
                if self.session.config.as_ref().is_none_or(|c| c.packing.archive_size.is_none()) {
                    build.packer.archive_size = archive_size_for(scan.bytes);
                }
                Ok((build, Some(scan)))
            }
            Err(error) => {
                build.root_failed(&error);
                Ok((build, None))
            }
        }
    }

    /// Captures the databases that a walk found, before any file of it is read.
    fn databases(&self, build: &mut Build<'a>, scan: &Scan) -> Result<HashMap<usize, Item>> {
        let mut done = HashMap::new();
        let mut linked = HashSet::new();
        for (place, found) in scan.entries.iter().enumerate().filter(|(_, f)| f.database) {
            if found.entry.link.is_some_and(|link| linked.contains(&link)) {
                continue; // another name of one that is captured: it becomes a link to that
            }
            let path = scan.tree.real_path(&found.entry.path);
            let spec = SqliteSpec { component: build.name.to_string(), ..self.found_spec(path) };
            let item = match capture(&spec) {
                Ok(captured) => match pack_database(build, found.entry.clone(), captured) {
                    Ok(item) => Some(item),
                    Err(ContentError::Run(e)) => return Err(e),
                    Err(ContentError::Read(e)) => {
                        build.alone = false;
                        build
                            .unreadable(&found.entry.path, format!("cannot be captured through SQLite: {e}"));
                        pack_file(build, scan, found)?
                    }
                },
                Err(error) => self.as_bytes(build, scan, place, &error, &mut done)?,
            };
            if let Some(item) = item {
                linked.extend(found.entry.link);
                done.insert(place, item);
            }
        }
        Ok(done)
    }

    fn found_spec(&self, database: PathBuf) -> SqliteSpec {
        SqliteSpec {
            no_links: true,
            component: String::new(),
            database,
            exe: self.session.around.exe.clone(),
            lock_limit: LOCK_LIMIT,
            check: CheckPolicy::Auto,
            spool: self.pack.spool.to_owned(),
            busy_limit: BUSY_LIMIT,
        }
    }

    /// A database that SQLite would not give: its bytes and sidecars as they lie there.
    fn as_bytes(
        &self,
        build: &mut Build<'a>,
        scan: &Scan,
        place: usize,
        error: &SqliteError,
        done: &mut HashMap<usize, Item>,
    ) -> Result<Option<Item>> {
        let found = &scan.entries[place];
        let path = &found.entry.path;
        let what = format!(
            "cannot be captured through SQLite ({}); its bytes were packed as they lie there",
            chain_text(error)
        );
        if matches!(error, SqliteError::NotADatabase { .. }) {
            build.warn(path, what);
        } else {
            build.unreadable(path, what);
        }
        for part in scan.as_bytes(path, &self.session.names) {
            let place = scan.entries.binary_search_by(|f| f.entry.path.cmp(&part.entry.path));
            let Some(item) = pack_file(build, scan, &part)? else {
                continue;
            };
            match place {
                Ok(place) => drop(done.insert(place, item)),
                // A sidecar that was not there when the folder was listed.
                Err(_) => build.items.push(item),
            }
        }
        Ok(done.remove(&place))
    }
}

impl Build<'_> {
    fn not_captured(&mut self, path: &RelPath, error: &SqliteError) {
        let what = format!("the database cannot be captured: {}", chain_text(error));
        self.unreadable_count += 1;
        self.complete = false;
        let mut problem =
            Problem::at_path(ProblemKind::Unreadable, self.name.as_str(), path.as_bytes(), what);
        problem.hint = error.hint().map(str::to_owned);
        self.problem(problem);
    }

    fn root_failed(&mut self, error: &SourceError) {
        self.unreadable_count += 1;
        self.complete = false;
        let what = chain_text(error);
        let problem = Problem::at_path(ProblemKind::Unreadable, self.name.as_str(), b".", what);
        self.problem(problem.hint("is its disk mounted, and is the path in backstay.toml right?"));
    }
}

fn seconds_of(time: Timestamp) -> (i64, u32) {
    (time.as_second(), u32::try_from(time.subsec_nanosecond()).unwrap_or(0))
}

/// An error and its causes on one line.
pub(crate) fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
