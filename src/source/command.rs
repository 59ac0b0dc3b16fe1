//! The output of a command: a dump of a database, most often.
//!
//! A command that failed, was killed, ran too long, wrote nothing or too little, or whose output did not pass its check, gives an error and never a capture.

mod env_file;
mod feed;
mod spooled;

pub use feed::{Feeding, Judging, feed, judge, locked_input, wait_unread};

use crate::model::path::escape;
use crate::platform::child::{Ended, ending, tail_of, wait};
use crate::platform::{environment, shell};
use crate::source::command::env_file::read_env_file;
use crate::source::command::spooled::{Spooled, Written};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Children of a command that ended may hold its stderr open; it is waited for only this long.
const WORDS_WAIT: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// A program and its arguments, without a shell.
    Args(Vec<String>),
    /// A line for the shell, which fails when any part of a pipe does.
    Shell(String),
}

/// A command component as plain values.
#[derive(Debug, Clone)]
pub struct CommandSpec {
    /// The component's name, for messages.
    pub component: String,
    /// What to run; its stdout is captured.
    pub command: CommandLine,
    /// Where to run it.
    pub dir: PathBuf,
    /// A file of `NAME=value` lines which the command gets in its environment. Others must not be able to read it.
    pub env_file: Option<PathBuf>,
    /// How long it may take; the check may take as long again.
    pub timeout: Duration,
    /// Fewer bytes are an error. An empty output always is.
    pub min_size: u64,
    /// Gets the output on stdin and says by its exit code whether it is good.
    pub check: Option<CommandLine>,
}

/// What a command wrote.
#[derive(Debug)]
pub struct CommandOutput {
    /// A file without a name, open for reading only, readable by its owner alone, at offset 0.
    pub file: File,
    /// Its length in bytes when the command ended, never 0.
    pub size: u64,
    written: Written,
}

impl CommandOutput {
    /// Why an output that is not as it was is none: it was not whole when its command ended.
    pub const LEFT_RUNNING: &str = "the command ended, and something that it left running wrote to its output afterwards: let it wait for all it starts";

    /// False when something that the command left running wrote to its output since the command ended.
    pub fn is_as_it_was(&self) -> io::Result<bool> {
        Ok(Written::of(&self.file)? == self.written)
    }
}

/// Why there is no output to capture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The program could not be started.
    #[error("component {component}: cannot start {program}")]
    Start {
        /// The component.
        component: String,
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A pipe needs a shell that notices when its first part fails.
    #[error(
        "component {component}: the command has a pipe, and bash, which notices when any part of it fails, is not installed"
    )]
    NoBash {
        /// The component.
        component: String,
    },
    /// An empty list of arguments.
    #[error("component {component}: the command is empty")]
    NoCommand {
        /// The component.
        component: String,
    },
    /// It ended with an exit code other than 0, or by a signal.
    #[error("component {component}: {what} ended with {status}{words}")]
    Failed {
        /// The component.
        component: String,
        /// `the command` or `its check`.
        what: &'static str,
        /// How it ended.
        status: String,
        /// The end of what it said on stderr, after a colon; or nothing.
        words: String,
    },
    /// It was stopped, with all it had started.
    #[error("component {component}: {what} was stopped after {} s{words}", limit.as_secs_f32())]
    TimedOut {
        /// The component.
        component: String,
        /// `the command` or `its check`.
        what: &'static str,
        /// The time it had.
        limit: Duration,
        /// As in `Failed`.
        words: String,
    },
    /// The run was asked to end.
    #[error("component {component}: {what} was ended, because the run was")]
    Stopped {
        /// The component.
        component: String,
        /// `the command` or `its check`.
        what: &'static str,
    },
    /// It succeeded and wrote nothing.
    #[error("component {component}: the command succeeded, but wrote nothing{words}")]
    Empty {
        /// The component.
        component: String,
        /// As in `Failed`.
        words: String,
    },
    /// It wrote less than the configuration asks for.
    #[error("component {component}: the command wrote {size} bytes, fewer than min_size = {min_size}")]
    TooSmall {
        /// The component.
        component: String,
        /// How many bytes it wrote.
        size: u64,
        /// How many it should at least.
        min_size: u64,
    },
    /// Others may read the file with its secrets.
    #[error("component {component}: env_file {} may be read by others (mode {mode:04o})", path.display())]
    EnvFileOpen {
        /// The component.
        component: String,
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A line of it is not `NAME=value`. The line is not shown: it may hold a secret.
    #[error("component {component}: line {line} of env_file {} is not NAME=value", path.display())]
    EnvFileLine {
        /// The component.
        component: String,
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
    },
    /// A file could not be made or read.
    #[error("component {component}: {what} {}", path.display())]
    Io {
        /// The component.
        component: String,
        /// What could not be done: `cannot read`.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Runs the command, and its check, and gives what it wrote. The output is kept in `spool`, in a file without a name: it is gone when the
/// file is closed. Once `stopped` says so, what runs is ended with all it started.
pub fn run(
    spec: &CommandSpec,
    spool: &Path,
    stopped: &dyn Fn() -> bool,
) -> Result<CommandOutput, CommandError> {
    let component = || spec.component.clone();
    let io_error = |what, path: &Path, source| CommandError::Io {
        component: component(),
        what,
        path: path.to_owned(),
        source,
    };
    let variables = read_env_file(spec)?;
    let spooled = |source| io_error("cannot keep the output in", spool, source);
    let Spooled { write, read: mut file } = Spooled::create(spool).map_err(spooled)?;
    let one = One { spec, variables: &variables, stopped };
    let words = one.run("the command", &spec.command, Stdio::null(), Stdio::from(write))?;
    let written = Written::of(&file).map_err(spooled)?;
    let size = written.size;
    if size == 0 {
        return Err(CommandError::Empty { component: component(), words });
    }
    if size < spec.min_size {
        return Err(CommandError::TooSmall { component: component(), size, min_size: spec.min_size });
    }
    if let Some(check) = &spec.check {
        let input = Stdio::from(file.try_clone().map_err(spooled)?);
        one.run("its check", check, input, Stdio::null())?;
        // The check shared our offset.
        file.rewind().map_err(spooled)?;
    }
    Ok(CommandOutput { file, size, written })
}

impl CommandError {
    /// True when a command was run and said no; false when it could not be run, or not to its end.
    pub fn is_verdict(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// What every command of a component is run with.
struct One<'a> {
    spec: &'a CommandSpec,
    variables: &'a [(OsString, OsString)],
    stopped: &'a dyn Fn() -> bool,
}

impl One<'_> {
    /// Runs one command to its end; gives the end of what it said on stderr.
    fn run(
        &self,
        what: &'static str,
        line: &CommandLine,
        input: Stdio,
        output: Stdio,
    ) -> Result<String, CommandError> {
        let spec = self.spec;
        let component = || spec.component.clone();
        let mut command = command_of(&spec.component, line)?;
        environment::without_secrets(&mut command).envs(self.variables.iter().cloned());
        command.current_dir(&spec.dir).stdin(input).stdout(output).stderr(Stdio::piped()).process_group(0);
        let program = escape(command.get_program().as_encoded_bytes());
        let started = command.spawn();
        // The command holds our copies of the output's descriptor until it is dropped.
        drop(command);
        let start = |source| CommandError::Start { component: component(), program: program.clone(), source };
        let mut child = started.map_err(start)?;
        let words = tail_of(child.stderr.take());
        let ended = wait(&mut child, spec.timeout, self.stopped).map_err(start)?;
        let words = words.recv_timeout(WORDS_WAIT).unwrap_or_default();
        match ended {
            Ended::Itself(status) if status.success() => Ok(words),
            Ended::Itself(status) => {
                Err(CommandError::Failed { component: component(), what, status: ending(status), words })
            }
            Ended::TooLong => {
                Err(CommandError::TimedOut { component: component(), what, limit: spec.timeout, words })
            }
            Ended::Stopped => Err(CommandError::Stopped { component: component(), what }),
        }
    }
}

fn command_of(component: &str, line: &CommandLine) -> Result<Command, CommandError> {
    let command = match line {
        CommandLine::Args(args) => shell::program(args),
        CommandLine::Shell(text) => shell::line(text),
    };
    let component = component.to_owned();
    command.map_err(|e| match e {
        shell::ShellError::NoBash => CommandError::NoBash { component },
        shell::ShellError::Nothing => CommandError::NoCommand { component },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    fn spec(text: &str) -> CommandSpec {
        CommandSpec {
            component: "orders".into(),
            command: CommandLine::Shell(text.into()),
            dir: "/".into(),
            env_file: None,
            timeout: Duration::from_secs(60),
            min_size: 1,
            check: None,
        }
    }
    fn output(spec: &CommandSpec) -> Result<String, CommandError> {
        let spool = tempfile::tempdir().unwrap();
        let mut output = run(spec, spool.path(), &|| false)?;
        assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
        assert_eq!(output.file.metadata().unwrap().permissions().mode() & 0o077, 0);
        let mut text = String::new();
        output.file.read_to_string(&mut text).unwrap();
        assert_eq!(text.len() as u64, output.size);
        Ok(text)
    }
    fn error(spec: &CommandSpec) -> CommandError {
        output(spec).unwrap_err()
    }

    #[test]
    fn what_a_command_writes_is_captured() {
        assert_eq!(output(&spec("printf 'a\\nb'; echo noise >&2")).unwrap(), "a\nb");
        let args = CommandLine::Args(["echo", "a b", "$HOME"].map(String::from).to_vec());
        assert_eq!(output(&CommandSpec { command: args, ..spec("") }).unwrap(), "a b $HOME\n");
        assert_eq!(output(&CommandSpec { dir: "/usr".into(), ..spec("pwd") }).unwrap(), "/usr\n");
    }

    #[test]
    fn an_exit_code_is_an_error_with_the_last_words() {
        let error = error(&spec("echo data; printf 'old\\n%05000d\\nlast\\033[2J words\\n' 0 >&2; exit 3"));
        let text = error.to_string();
        assert!(matches!(error, CommandError::Failed { .. }) && text.contains("exit code 3"), "{text}");
        assert!(
            text.ends_with("last\\u{1b}[2J words") && !text.contains("old") && text.len() < 5000,
            "{text}"
        );
    }

    #[test]
    fn a_signal_is_an_error() {
        let text = error(&spec("echo data; kill -9 $$")).to_string();
        assert!(text.contains("signal 9"), "{text}");
    }

    #[test]
    fn a_pipe_fails_with_any_of_its_parts() {
        if shell::bash().is_none() {
            crate::not_run("pipes that fail in the middle (no bash)");
            return;
        }
        assert!(matches!(error(&spec("(echo data; exit 5) | cat")), CommandError::Failed { .. }));
        assert_eq!(output(&spec("echo data | cat")).unwrap(), "data\n");
    }

    #[test]
    fn nothing_or_too_little_is_an_error() {
        assert!(matches!(error(&spec("true")), CommandError::Empty { .. }));
        let small = CommandSpec { min_size: 10, ..spec("printf 123456789") };
        assert!(matches!(error(&small), CommandError::TooSmall { size: 9, min_size: 10, .. }));
        assert!(output(&CommandSpec { min_size: 9, ..small }).is_ok());
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let sign = dir.path().join("sign");
        // A child of the command, which holds the write end until it is ended.
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &sign,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let opened = std::thread::spawn({
            let sign = sign.clone();
            move || std::fs::read(sign).map(|bytes| bytes.len())
        });
        let text = format!("(exec 9>'{}'; sleep 1000) & echo data; sleep 1000", sign.display());
        let begin = Instant::now();
        let error = error(&CommandSpec { timeout: Duration::from_millis(500), ..spec(&text) });
        assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(100));
        // The read ends only when the last holder of the write end is gone.
        assert_eq!(opened.join().unwrap().unwrap(), 0);
    }

    #[test]
    fn a_command_ends_when_the_run_does() {
        let dir = tempfile::tempdir().unwrap();
        let begin = Instant::now();
        let error = run(&spec("echo data; sleep 1000"), dir.path(), &|| true).unwrap_err();
        assert!(matches!(error, CommandError::Stopped { .. }), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(100));
    }

    #[test]
    fn a_check_gets_the_output_and_decides() {
        let checked =
            |check: &str| CommandSpec { check: Some(CommandLine::Shell(check.into())), ..spec("echo data") };
        assert_eq!(output(&checked("grep -q data")).unwrap(), "data\n");
        let text = error(&checked("cat >&2; exit 1")).to_string();
        assert!(text.contains("its check ended with exit code 1: data"), "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let missing = CommandLine::Args(vec!["no-such-program-here".into()]);
        let error = error(&CommandSpec { command: missing, ..spec("") });
        assert!(
            matches!(error, CommandError::Start { .. }) && error.to_string().contains("no-such-program-here")
        );
        assert!(matches!(
            self::error(&CommandSpec { command: CommandLine::Args(vec![]), ..spec("") }),
            CommandError::NoCommand { .. }
        ));
    }

    #[test]
    fn an_env_file_is_given_and_must_be_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "# comment\n\nPGPASSWORD=a=b c\nexport QUOTED=\"x y\"\nAWS_OWN='k'\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let spec =
            CommandSpec { env_file: Some(path.clone()), ..spec("echo \"$PGPASSWORD,$QUOTED,$AWS_OWN\"") };
        mode(0o640);
        assert_eq!(output(&spec).unwrap(), "a=b c,x y,k\n");
        mode(0o644);
        assert!(matches!(error(&spec), CommandError::EnvFileOpen { mode: 0o644, .. }));
        mode(0o600);
        std::fs::write(&path, "A=1\nsecret words\n").unwrap();
        let text = error(&spec).to_string();
        assert!(text.contains("line 2") && !text.contains("secret"), "{text}");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(error(&spec), CommandError::Io { .. }));
    }

    #[test]
    fn what_a_command_leaves_running_never_writes_over_its_output() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["go", "done"] {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, at(name), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }
        let (go, done) = (at("go"), at("done"));
        let straggler =
            format!("{{ cat '{}'; printf XX; echo >'{}'; }} 2>/dev/null &", go.display(), done.display());
        // Its check reads to the end of it, too.
        let check = Some(CommandLine::Shell("test \"$(cat)\" = aaaa".into()));
        let spec = CommandSpec { check, ..spec(&format!("printf aaaa; {straggler}")) };
        let mut output = run(&spec, dir.path(), &|| false).unwrap();
        assert!(output.is_as_it_was().unwrap());
        std::fs::write(&go, b"").unwrap();
        assert_eq!(std::fs::read(&done).unwrap(), b"\n");
        let mut text = String::new();
        output.file.read_to_string(&mut text).unwrap();
        assert_eq!((&*text, output.size), ("aaaaXX", 4));
        assert!(!output.is_as_it_was().unwrap());
    }
}
