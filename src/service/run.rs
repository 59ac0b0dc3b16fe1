//! Running a command of the configuration: in its folder, without backstay's secrets, with a limit, its words kept.

use crate::config::CommandLine;
use crate::model::path::escape;
use crate::platform::child::{Ended, ending, tail_of, wait};
use crate::platform::{environment, shell};
use crate::service::ServiceError;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Children of a command that ended may hold its output open; it is waited for only this long.
const WORDS_WAIT: Duration = Duration::from_secs(1);

/// So much of what a command says on stdout is kept: the beginning.
const SAID_MAX: usize = 256 << 10;

/// What every command of a service or hook is run with.
pub struct Around<'a> {
    /// Where commands run: the folder of the configuration.
    pub dir: &'a Path,
    /// Says when the run is to end.
    pub stopped: &'a dyn Fn() -> bool,
}

/// What came of a command.
pub(super) struct Outcome {
    pub code_zero: bool,
    pub program: String,
    pub status: String,
    /// The end of what it said on stderr, after a colon; or nothing.
    pub words: String,
    /// What it said on stdout.
    pub said: String,
}

/// Runs `line` with `variables` added to its environment.
///
/// # Errors
/// It could not be started, failed, took longer than `limit`, or the run was asked to end.
pub fn run_line(
    around: &Around<'_>,
    subject: &str,
    line: &CommandLine,
    variables: &[(&str, String)],
    limit: Duration,
) -> Result<(), ServiceError> {
    let mut command = command_of(subject, line)?;
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    run_ok(around, subject, command, limit).map(drop)
}

/// The same with `input` as its standard input.
///
/// # Errors
/// As [`run_line`].
pub fn run_line_with(
    around: &Around<'_>,
    subject: &str,
    line: &CommandLine,
    input: File,
    limit: Duration,
) -> Result<(), ServiceError> {
    run_ok_reading(around, subject, command_of(subject, line)?, input, limit)
}

/// The same for a command that is made already.
pub(super) fn run_ok_reading(
    around: &Around<'_>,
    subject: &str,
    command: Command,
    input: File,
    limit: Duration,
) -> Result<(), ServiceError> {
    let outcome = run_reading(around, subject, command, Stdio::from(input), limit)?;
    if outcome.code_zero {
        return Ok(());
    }
    let Outcome { program, status, words, .. } = outcome;
    Err(ServiceError::Failed { subject: subject.to_owned(), program, status, words })
}

pub(super) fn command_of(subject: &str, line: &CommandLine) -> Result<Command, ServiceError> {
    let command = match line {
        CommandLine::Args(args) => shell::program(args),
        CommandLine::Shell(text) => shell::line(text),
    };
    let mut command = command.map_err(|source| ServiceError::Line { subject: subject.to_owned(), source })?;
    environment::without_secrets(&mut command);
    Ok(command)
}

/// A program of the system's.
pub(super) fn system(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    environment::without_secrets(&mut command);
    command.args(args);
    command
}

/// Runs `command`, which must end with 0; gives what it said on stdout.
pub(super) fn run_ok(
    around: &Around<'_>,
    subject: &str,
    command: Command,
    limit: Duration,
) -> Result<String, ServiceError> {
    let outcome = run(around, subject, command, limit)?;
    if outcome.code_zero {
        return Ok(outcome.said);
    }
    let Outcome { program, status, words, .. } = outcome;
    Err(ServiceError::Failed { subject: subject.to_owned(), program, status, words })
}

/// Runs `command` to its end, whatever its exit code is.
pub(super) fn run(
    around: &Around<'_>,
    subject: &str,
    command: Command,
    limit: Duration,
) -> Result<Outcome, ServiceError> {
    run_reading(around, subject, command, Stdio::null(), limit)
}

fn run_reading(
    around: &Around<'_>,
    subject: &str,
    mut command: Command,
    input: Stdio,
    limit: Duration,
) -> Result<Outcome, ServiceError> {
    let subject = || subject.to_owned();
    command.current_dir(around.dir).stdin(input).process_group(0);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = escape(command.get_program().as_encoded_bytes());
    let start = |source| ServiceError::Start { subject: subject(), program: program.clone(), source };
    let mut child = command.spawn().map_err(start)?;
    let words = tail_of(child.stderr.take());
    let said = head_of(child.stdout.take());
    let ended = wait(&mut child, limit, around.stopped).map_err(start)?;
    let words = words.recv_timeout(WORDS_WAIT).unwrap_or_default();
    match ended {
        Ended::Itself(status) => Ok(Outcome {
            code_zero: status.success(),
            status: ending(status),
            said: said.recv_timeout(WORDS_WAIT).unwrap_or_default(),
            program,
            words,
        }),
        Ended::TooLong => Err(ServiceError::TimedOut { subject: subject(), program, limit, words }),
        Ended::Stopped => Err(ServiceError::Interrupted { subject: subject(), program }),
    }
}

/// An empty file, new and locked, for a command to have as its input. The lock belongs to the open file: it lasts as long as the command, or what it
/// started, also when this process is killed.
pub(super) fn held_input(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// True while the last command that got `path` as its input, or what that started, has it still.
pub(super) fn is_held(path: &Path) -> bool {
    let locked =
        |file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK);
    File::open(path).is_ok_and(locked)
}

/// Runs `command`, which starts a service, to its end. What it starts may go on writing: so its output goes to `log`, a file that stays, and
/// never into a pipe that ends with this process.
pub(super) fn run_start(
    around: &Around<'_>,
    subject: &str,
    mut command: Command,
    limit: Duration,
    log: &Path,
) -> Result<(), ServiceError> {
    let subject = || subject.to_owned();
    let program = escape(command.get_program().as_encoded_bytes());
    let start = |source| ServiceError::Start { subject: subject(), program: program.clone(), source };
    let file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(log).map_err(start)?;
    let second = file.try_clone().map_err(start)?;
    let input = held_input(&log.with_extension("starting")).map_err(start)?;
    command.current_dir(around.dir).stdin(input).stdout(file).stderr(second).process_group(0);
    let mut child = command.spawn().map_err(start)?;
    drop(command);
    let ended = wait(&mut child, limit, around.stopped).map_err(start)?;
    let words = || {
        let kept = File::open(log).ok();
        tail_of(kept).recv_timeout(WORDS_WAIT).unwrap_or_default()
    };
    match ended {
        Ended::Itself(status) if status.success() => Ok(()),
        Ended::Itself(status) => {
            Err(ServiceError::Failed { subject: subject(), status: ending(status), words: words(), program })
        }
        Ended::TooLong => Err(ServiceError::TimedOut { subject: subject(), limit, words: words(), program }),
        Ended::Stopped => Err(ServiceError::Interrupted { subject: subject(), program }),
    }
}

/// Reads `stdout` to its end in a thread of its own and gives the beginning of it.
fn head_of(stdout: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (done, said) = channel();
    std::thread::spawn(move || {
        let mut kept: Vec<u8> = Vec::new();
        let mut buffer = [0; 4096];
        let mut stdout = stdout;
        while let Some(Ok(length @ 1..)) = stdout.as_mut().map(|s| s.read(&mut buffer)) {
            let room = SAID_MAX.saturating_sub(kept.len());
            kept.extend_from_slice(&buffer[..length.min(room)]);
        }
        drop(done.send(String::from_utf8_lossy(&kept).into_owned()));
    });
    said
}
