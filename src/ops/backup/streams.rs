//! Databases and the outputs of commands: components that are one file.

use crate::config::{Component, Spec, SqliteCheck};
use crate::model::index::ComponentKind;
use crate::model::record::CheckResult;
use crate::model::{Entry, Kind, RelPath, Timestamp};
use crate::ops::backup::blocks::Content;
use crate::ops::backup::build::Build;
use crate::ops::backup::capture::{BUSY_LIMIT, LOCK_LIMIT, Run, chain_text};
use crate::ops::backup::content::ContentError;
use crate::ops::backup::files::{pack_database, packed_item};
use crate::ops::backup::large::pack_stream;
use crate::ops::backup::manifest::{Stored, store_component};
use crate::ops::backup::reuse::{Facts, bring};
use crate::ops::error::{Class, OpError, Result};
use crate::platform::capture::xattrs_of_path;
use crate::source::command::{CommandLine, CommandOutput, CommandSpec, run as run_command};
use crate::source::postgres::{check_command, dump_command};
use crate::source::sqlite::{CheckPolicy, SqliteCapture, SqliteError, SqliteSpec, capture};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// What the index calls a dump of PostgreSQL. It is the output of a command to readers that know no more of it.
const POSTGRES: &str = "postgres";

/// The configuration's command as the source takes it: the two are of rows that do not know each other.
pub(crate) fn words(command: &crate::config::CommandLine) -> CommandLine {
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

/// Puts the attributes of the database at `path`, which may be a link to it, into `entry`.
fn add_attributes(build: &mut Build<'_>, entry: &mut Entry, path: &Path) {
    match path.canonicalize().and_then(|real| xattrs_of_path(&real)) {
        Ok(found) => {
            found.lost.into_iter().for_each(|lost| build.warn(&entry.path, lost));
            entry.xattrs = found.values.into();
        }
        Err(e) => build.warn(&entry.path, format!("its extended attributes cannot be read: {e}")),
    }
}

/// A component that is one file, captured and not packed yet.
pub(super) enum Stream<'a> {
    /// There is nothing to pack.
    Whole(Box<Build<'a>>),
    /// A database whose transaction has begun.
    Database(Box<Build<'a>>, Box<Entry>, Box<SqliteCapture>, Box<Facts>),
    /// What a command wrote.
    Output(Box<Build<'a>>, Box<Entry>, CommandOutput),
}

impl Stream<'_> {
    /// Packs what was captured.
    pub(super) fn pack(self) -> Result<Stored> {
        let build = match self {
            Self::Whole(build) => build,
            Self::Database(mut build, entry, captured, facts) => {
                let rel = entry.path.clone();
                match pack_database(&mut build, *entry, *captured, *facts) {
                    Ok(item) => build.list(item),
                    Err(ContentError::Run(e)) => return Err(e),
                    Err(ContentError::Read(e)) => {
                        build.alone = false;
                        build.unreadable(&rel, format!("cannot be captured: {e}"));
                    }
                }
                build
            }
            Self::Output(mut build, entry, output) => {
                let rel = entry.path.clone();
                let mut read = |offset: u64, buffer: &mut [u8]| {
                    rustix::io::pread(&output.file, buffer, offset).map_err(io::Error::from)
                };
                match pack_stream(&mut build, &entry, output.size, (Content::File, None), &mut read) {
                    Ok(packed) if packed.size == output.size && matches!(output.is_as_it_was(), Ok(true)) => {
                        build.list(packed_item(*entry, packed, Facts::default()));
                    }
                    Ok(_) => {
                        build.alone = false; // its archive holds what the listing does not know
                        build.unreadable(&rel, CommandOutput::LEFT_RUNNING.into());
                    }
                    Err(ContentError::Run(e)) => return Err(e),
                    Err(ContentError::Read(e)) => {
                        build.alone = false;
                        build.unreadable(&rel, format!("the spooled output cannot be read: {e}"));
                    }
                }
                build
            }
        };
        store_component(*build)
    }
}

impl<'a> Run<'a> {
    /// A database or the output of a command, captured and packed.
    pub(super) fn stream(&self, component: &Component) -> Result<Stored> {
        self.begin_stream(component, false)?.pack()
    }

    /// The same, captured only: it is of this moment, and is packed later. While services are stopped (`down`) nothing is brought from a store before.
    pub(super) fn begin_stream(&self, component: &Component, down: bool) -> Result<Stream<'a>> {
        match &component.spec {
            Spec::Sqlite { path, .. } => self.sqlite(component, path, down),
            _ => self.command(component),
        }
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
            spool: self.pack.scratch.to_owned(),
            busy_limit: BUSY_LIMIT,
        }
    }

    fn sqlite(&self, component: &Component, path: &Path, down: bool) -> Result<Stream<'a>> {
        let mut build = Box::new(self.build(component, ComponentKind::Sqlite, "sqlite-pages"));
        let name = path.file_name().map_or(&b"database"[..], |n| std::os::unix::ffi::OsStrExt::as_bytes(n));
        let rel = RelPath::new(name).map_err(|e| OpError::new(Class::Config, e.to_string()))?;
        let mut entry = Entry::new(rel.clone(), Kind::File);
        match rustix::fs::stat(path) {
            Ok(stat) if crate::platform::capture::kind_of(&stat) == Some(Kind::File) => {
                crate::platform::capture::fill(&mut entry, &stat, &self.session.names);
                add_attributes(&mut build, &mut entry, path);
            }
            Ok(_) => {
                build.unreadable(&rel, format!("{} is not a file", path.display()));
                return Ok(Stream::Whole(build));
            }
            Err(Errno::NOENT) => {
                build.not_captured(&rel, &SqliteError::Missing(path.to_owned()));
                return Ok(Stream::Whole(build));
            }
            Err(e) => {
                build.unreadable(&rel, format!("{} cannot be read: {}", path.display(), io::Error::from(e)));
                return Ok(Stream::Whole(build));
            }
        }
        let facts = Facts::of_database(path, build.settled);
        if let Some(item) = build.unchanged_database(&entry, facts.as_ref()) {
            build.list(item);
            return Ok(Stream::Whole(build));
        }
        if !down {
            bring(&mut build, &rel, facts.as_ref().and_then(|facts| facts.ident.as_ref()))?;
        }
        match capture(&self.sqlite_spec(component, path)) {
            Ok(captured) => {
                (build.method, build.instant) = (captured.method.to_owned(), captured.instant);
                build.packer.archive_size = self.archive_size(captured.size);
                let facts = Box::new(facts.unwrap_or_default());
                Ok(Stream::Database(build, Box::new(entry), Box::new(captured), facts))
            }
            Err(error) => {
                build.not_captured(&rel, &error);
                Ok(Stream::Whole(build))
            }
        }
    }

    /// What is run for a component that is the output of a command, and how that is called.
    fn command_spec(&self, component: &Component) -> Result<Option<(CommandSpec, &'static str)>> {
        let dir = self.session.config()?.dir.clone();
        let name = component.name.to_string();
        Ok(match &component.spec {
            Spec::Command { command, check, env_file, timeout, min_size, .. } => {
                let (command, check) = (words(command), check.as_ref().map(words));
                let (env_file, timeout, min_size) = (env_file.clone(), *timeout, *min_size);
                let spec = CommandSpec { component: name, command, dir, env_file, timeout, min_size, check };
                Some((spec, "command"))
            }
            Spec::Postgres { connection, env_file, timeout } => {
                let (command, check) = (dump_command(connection), Some(check_command()));
                let (env_file, timeout) = (env_file.clone(), *timeout);
                let spec =
                    CommandSpec { component: name, command, dir, env_file, timeout, min_size: 1, check };
                Some((spec, POSTGRES))
            }
            _ => None,
        })
    }

    fn command(&self, component: &Component) -> Result<Stream<'a>> {
        let rel = RelPath::new(b"output").map_err(|e| OpError::new(Class::Failed, e.to_string()))?;
        let Some((spec, method)) = self.command_spec(component)? else {
            return Ok(Stream::Whole(Box::new(self.build(component, ComponentKind::Command, "command"))));
        };
        let mut build = Box::new(self.build(component, ComponentKind::Command, method));
        build.instant = self.session.around.clock.now();
        let interrupt = &self.session.around.interrupt;
        let output = match run_command(&spec, self.pack.scratch, &|| interrupt.signal().is_some()) {
            Ok(output) => output,
            Err(e) => {
                interrupt.check()?;
                let what = chain_text(&e);
                let named = format!("component {}: ", component.name);
                build.unreadable(&rel, what.strip_prefix(&named).unwrap_or(&what).to_owned());
                return Ok(Stream::Whole(build));
            }
        };
        if spec.check.is_some() {
            build.checked(&rel, CheckResult::Passed, &[]);
        }
        build.packer.archive_size = self.archive_size(output.size);
        let mut entry = Entry::new(rel.clone(), Kind::File);
        (entry.mode, entry.mtime) = (0o600, seconds_of(build.instant));
        (entry.uid, entry.gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        (entry.user, entry.group) = (self.session.names.user(entry.uid), self.session.names.group(entry.gid));
        Ok(Stream::Output(build, Box::new(entry), output))
    }
}

fn seconds_of(time: Timestamp) -> (i64, u32) {
    (time.as_second(), u32::try_from(time.subsec_nanosecond()).unwrap_or(0))
}
