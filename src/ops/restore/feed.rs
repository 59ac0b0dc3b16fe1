//! Dumps restored in place: fed to their `restore_command`, after the present one was dumped and kept.

use crate::config::{CommandLine, Component, Spec};
use crate::durable::{self, NewFile};
use crate::ops::backup::{chain_text, words};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::restore::{Listing, Opened, lay};
use crate::ops::session::Session;
use crate::source::command::{CommandOutput, CommandSpec, Feeding, feed, locked_input, run};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder of the state directory in which dumps of before are kept.
const KEPT: &str = "replaced";

/// A dump that is to be fed.
pub(super) struct Fed {
    /// The component.
    pub(super) name: String,
    pub(super) listing: Listing,
    command: CommandLine,
    restore: CommandLine,
    check: Option<CommandLine>,
    env_file: Option<PathBuf>,
    timeout: Duration,
}

/// The dump of the snapshot, and the present one.
pub(super) struct Ready {
    dump: PathBuf,
    pub(super) kept: PathBuf,
    /// Where the dump lies meanwhile.
    folder: PathBuf,
}

impl Drop for Ready {
    fn drop(&mut self) {
        // What a killed run left is taken away by the next one.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// What dumps a component as it is now.
pub(in crate::ops) struct Dumping<'a> {
    name: &'a str,
    command: &'a CommandLine,
    check: Option<&'a CommandLine>,
    env_file: Option<&'a Path>,
    timeout: Duration,
    min_size: u64,
}

impl<'a> Dumping<'a> {
    /// That of a component which is the output of a command.
    pub(in crate::ops) fn of(component: &'a Component) -> Option<Self> {
        let Spec::Command { command, check, env_file, timeout, min_size, .. } = &component.spec else {
            return None;
        };
        Some(Self {
            name: component.name.as_str(),
            command,
            check: check.as_ref(),
            env_file: env_file.as_deref(),
            timeout: *timeout,
            min_size: *min_size,
        })
    }

    /// Runs it in `dir`, until `stopped` says that it is to end; gives the dump, whole and checked, in a new file of the folder `to`.
    pub(in crate::ops) fn dump(
        &self,
        dir: &Path,
        to: &Path,
        stopped: &dyn Fn() -> bool,
    ) -> std::result::Result<NewFile, Box<dyn std::error::Error + Send + Sync>> {
        let spec = CommandSpec {
            component: self.name.to_owned(),
            command: words(self.command),
            dir: dir.to_owned(),
            env_file: self.env_file.map(Path::to_owned),
            timeout: self.timeout,
            min_size: self.min_size,
            check: self.check.map(words),
        };
        let mut output = run(&spec, to, stopped)?;
        let file = NewFile::create_in(to)?;
        let copied = io::copy(&mut output.file, &mut file.file())?;
        if copied != output.size || !output.is_as_it_was()? {
            return Err(CommandOutput::LEFT_RUNNING.into());
        }
        Ok(file)
    }
}

impl Fed {
    /// What `listing`, the output of a command, is fed to.
    pub(super) fn of(session: &Session, listing: Listing) -> Result<Self> {
        let name = listing.component.name.to_string();
        let spec = session.config.as_ref().and_then(|config| config.component(&name)).map(|c| c.spec.clone());
        match spec {
            Some(Spec::Command {
                command, restore_command: Some(restore), check, env_file, timeout, ..
            }) => Ok(Self { name, listing, command, restore, check, env_file, timeout }),
            Some(Spec::Postgres { .. }) => {
                let what =
                    format!("component {name} is a database of a server, which goes back by a rollback");
                Err(OpError::new(Class::Usage, what)
                    .hint(format!("backstay rollback ID --only {name}; or restore the dump with --to DIR")))
            }
            _ => {
                let what = format!(
                    "component {name} is the output of a command and lies nowhere on this machine, and it has no `restore_command`"
                );
                Err(OpError::new(Class::Usage, what).hint("restore it with --to DIR"))
            }
        }
    }

    /// Brings the dump, and dumps what is there now. Nothing is changed.
    pub(super) fn prepare(&self, session: &Session, opened: &Opened, stamp: &str) -> Result<Ready> {
        let state = session.state()?.dir();
        let cannot = || format!("cannot keep dumps of component {} in {}", self.name, state.display());
        let folder = state.join(KEPT).join(format!(".new-{}", self.name));
        if folder.exists() {
            std::fs::remove_dir_all(&folder).doing(Class::Failed, cannot)?;
        }
        durable::create_dirs(&folder, 0o700).doing(Class::Failed, cannot)?;
        let kept = state.join(KEPT).join(format!("{}.before-restore-{stamp}", self.name));
        let mut ready = Ready { dump: folder.clone(), kept, folder };
        let report = lay(session, opened, &self.listing, &ready.folder)?;
        if let Some(problem) = report.problems.first() {
            let what = format!("the dump of component {} is not whole: {}", self.name, problem.what);
            return Err(OpError::new(Class::Damage, what).hint("nothing was changed; take another snapshot"));
        }
        let entry = self.listing.entries.iter().find(|e| !e.path.is_root());
        let file = entry.map_or_else(|| "output".to_owned(), |e| e.path.to_string());
        ready.dump.push(file);
        self.keep_present(session, &ready.kept)?;
        Ok(ready)
    }

    fn keep_present(&self, session: &Session, to: &Path) -> Result<()> {
        let dir = to.parent().unwrap_or(Path::new("."));
        let cannot =
            || format!("cannot keep the present dump of component {} as {}", self.name, to.display());
        durable::create_dirs(dir, 0o700).doing(Class::Failed, cannot)?;
        let interrupt = &session.around.interrupt;
        let dumping = Dumping {
            name: &self.name,
            command: &self.command,
            check: self.check.as_ref(),
            env_file: self.env_file.as_deref(),
            timeout: self.timeout,
            min_size: 1,
        };
        let dumped = dumping.dump(&session.config()?.dir, dir, &|| interrupt.signal().is_some());
        interrupt.check()?;
        let dumped = dumped.map_err(|e| {
            let what =
                format!("component {} could not be dumped as it is now, so nothing was changed", self.name);
            OpError::new(Class::Failed, what)
                .because(chain_text(e.as_ref()))
                .hint("its dump is the only way back")
        })?;
        dumped.finish_new(to, 0o600).doing(Class::Failed, cannot)
    }

    /// Feeds it. There is no way back but the dump that was kept.
    pub(super) fn feed(&self, session: &Session, ready: &Ready, snapshot: &str) -> Result<()> {
        let failed = || {
            format!(
                "component {} could not be read in, and may be half of the one and half of the other; what it was before lies in {}",
                self.name,
                ready.kept.display()
            )
        };
        let feeding = Feeding {
            component: self.name.clone(),
            what: "its restore_command",
            command: words(&self.restore),
            dir: session.config()?.dir.clone(),
            input: Some(locked_input(&ready.dump).doing(Class::Failed, failed)?),
            output: None,
            env_file: self.env_file.clone(),
            variables: vec![("BACKSTAY_SNAPSHOT".into(), snapshot.to_owned().into())],
            timeout: self.timeout,
        };
        feed(feeding, &|| false).doing(Class::Failed, failed)
    }
}
