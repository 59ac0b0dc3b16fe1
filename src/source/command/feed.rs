//! Commands that get something on their standard input: checks of what was brought back, and what reads a dump in.

use super::env_file::read_env_file;
use super::{CommandError, CommandLine, CommandSpec, One};
use crate::durable::sleep;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// How often it is looked whether a command of a killed run is gone.
const LOOK: Duration = Duration::from_millis(50);

/// A command that is fed.
#[derive(Debug)]
pub struct Feeding {
    /// The component's name, for messages.
    pub component: String,
    /// What it is, for messages: `its check`.
    pub what: &'static str,
    /// What to run.
    pub command: CommandLine,
    /// Where to run it.
    pub dir: PathBuf,
    /// What it gets on its standard input.
    pub input: Option<File>,
    /// Where its standard output goes; nowhere if there is none.
    pub output: Option<File>,
    /// As for the command that is captured.
    pub env_file: Option<PathBuf>,
    /// Added to its environment.
    pub variables: Vec<(OsString, OsString)>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Runs it to its end, and ends it with all it started once `stopped` says so.
pub fn feed(feeding: Feeding, stopped: &dyn Fn() -> bool) -> Result<(), CommandError> {
    let Feeding { component, what, command, dir, input, output, env_file, variables: added, timeout } =
        feeding;
    let spec = CommandSpec { component, command, dir, env_file, timeout, min_size: 0, check: None };
    let mut variables = read_env_file(&spec)?;
    variables.extend(added);
    let one = One { spec: &spec, variables: &variables, stopped };
    let input = input.map_or_else(Stdio::null, Stdio::from);
    let output = output.map_or_else(Stdio::null, Stdio::from);
    one.run(what, &spec.command, input, output).map(drop)
}

/// Opens what a command is to read, locked. The lock belongs to the open file: it lasts as long as any process has it as its input, also when this one is
/// killed, so [`wait_unread`] can tell whether a command outlived the run that started it.
pub fn locked_input(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Waits until no command that a killed run started reads `path` any more; false when `limit` is over and one still does.
pub fn wait_unread(path: &Path, limit: Duration) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    let mut waited = Duration::ZERO;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if waited >= limit => return Ok(false),
            Err(Errno::WOULDBLOCK) => {}
            Err(e) => return Err(e.into()),
        }
        let _whoever_interrupts = sleep(LOOK);
        waited += LOOK;
    }
}

/// A check of what was brought back.
#[derive(Debug)]
pub struct Judging {
    /// The component's name, for messages.
    pub component: String,
    /// What to run; exit code 0 says that it is sound.
    pub command: CommandLine,
    /// Where to run it.
    pub dir: PathBuf,
    /// What it gets on its standard input.
    pub input: Option<File>,
    /// As for the command that is captured.
    pub env_file: Option<PathBuf>,
    /// Where the component lies now: `BACKSTAY_RESTORED`.
    pub restored: PathBuf,
    /// The snapshot it is of: `BACKSTAY_SNAPSHOT`.
    pub snapshot: String,
    /// How long it may take.
    pub timeout: Duration,
}

/// Runs a check of what was brought back, and ends it with all it started once `stopped` says so.
pub fn judge(judging: Judging, stopped: &dyn Fn() -> bool) -> Result<(), CommandError> {
    let Judging { component, command, dir, input, env_file, restored, snapshot, timeout } = judging;
    let variables =
        vec![("BACKSTAY_RESTORED".into(), restored.into()), ("BACKSTAY_SNAPSHOT".into(), snapshot.into())];
    let what = "its check";
    let feeding =
        Feeding { component, what, command, dir, input, output: None, env_file, variables, timeout };
    feed(feeding, stopped)
}
