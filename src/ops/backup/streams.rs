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
use crate::ops::backup::reuse::Facts;
use crate::ops::error::{Class, OpError, Result};
use crate::source::command::{CommandLine, CommandSpec, run as run_command};
use crate::source::sqlite::{CheckPolicy, SqliteError, SqliteSpec, capture};
use rustix::io::Errno;
use std::io;
use std::path::Path;

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

impl<'a> Run<'a> {
    /// A database or the output of a command.
    pub(super) fn stream(&self, component: &Component) -> Result<Stored> {
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
        let facts = Facts::of_database(path, build.settled);
        if let Some(item) = build.unchanged_database(&entry, facts.as_ref()) {
            build.list(item);
            return Ok(build);
        }
        match capture(&self.sqlite_spec(component, path)) {
            Ok(captured) => {
                (build.method, build.instant) = (captured.method.to_owned(), captured.instant);
                match pack_database(&mut build, entry, captured, facts.unwrap_or_default()) {
                    Ok(item) => build.list(item),
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
        match pack_stream(&mut build, &entry, output.size, Content::File, &mut read) {
            Ok(packed) if packed.size == output.size => {
                build.list(packed_item(entry, packed, Facts::default()));
            }
            Ok(_) => build.unreadable(&rel, "the spooled output was cut short".into()),
            Err(ContentError::Run(e)) => return Err(e),
            Err(ContentError::Read(e)) => {
                build.unreadable(&rel, format!("the spooled output cannot be read: {e}"));
            }
        }
        Ok(build)
    }
}

fn seconds_of(time: Timestamp) -> (i64, u32) {
    (time.as_second(), u32::try_from(time.subsec_nanosecond()).unwrap_or(0))
}
