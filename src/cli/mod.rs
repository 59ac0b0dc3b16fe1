//! Row 6: what people type and see: arguments, questions, rendering, exit codes.
//!
//! Data and JSON go to standard output, everything else to standard error. Nothing below this row prints, asks or exits.

pub mod args;
mod bar;
mod commands;
mod demo;
pub mod exit;
mod internal;
mod open;
mod qr;
pub mod render;
mod secret;
mod signals;
mod telling;
mod unlock;

use crate::agent::Said;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::interrupt::Interrupt;
use args::Cli;
use bar::Shown;
use clap::{CommandFactory, FromArgMatches};
use signals::Caught;
use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Says a line on standard error. A standard error that is closed is no reason to fail.
pub fn say(text: &str) {
    let _unheard = writeln!(io::stderr().lock(), "{text}");
}

/// Writes data to standard output. Whoever reads it may stop when it has enough; a full disk behind it is an error.
pub fn out(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// What became of writing to standard output.
fn written(done: io::Result<()>) -> Result<()> {
    match done {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(OpError::new(Class::Failed, "the result cannot be written to standard output")
                .because(e)
                .hint("what was asked for is done; only its report is lost"))
        }
        _ => Ok(()),
    }
}

/// True when a question would be seen and could be answered.
pub fn somebody_is_here() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question on the terminal; `None` when there is nobody to ask. Nothing is under way meanwhile: a signal ends the program at once. A lost
/// terminal is the end of the input.
pub fn ask(interrupt: &Interrupt, question: &str) -> Option<String> {
    if !somebody_is_here() {
        return None;
    }
    let _unheard = write!(io::stderr().lock(), "{question} ");
    let before = interrupt.asked().swap(true, Ordering::Relaxed);
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    interrupt.asked().store(before, Ordering::Relaxed);
    // The end of the input is no answer.
    (read.ok()? > 0).then(|| answer.trim().to_owned())
}

/// Asks whether to go ahead. Fails with `declined` where somebody does not say yes, and with `nobody` where there is nobody to ask.
pub fn confirm(interrupt: &Interrupt, question: &str, declined: OpError, nobody: OpError) -> Result<()> {
    match ask(interrupt, &format!("{question} [y/N]")).as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        Some(_) => Err(declined),
        None => Err(nobody),
    }
}

/// What a command needs beside its own arguments.
pub struct Terminal {
    /// Global arguments.
    pub global: args::Global,
    /// Shows progress.
    pub shown: Arc<Shown>,
    /// Set by signals.
    pub interrupt: Interrupt,
    /// Components that a backup found to have shrunk, and why that matters; for whoever is told of its end.
    shrunk: RefCell<Option<Vec<(String, String)>>>,
    /// Whether a backup found that keys or stores changed since a recovery kit was proved; none where nobody looked.
    kit_stale: Cell<Option<bool>>,
    /// A store lacks something of what a backup or `sync` made, whatever worse its exit code tells of.
    behind: Cell<bool>,
    /// A backup made its snapshot, whatever came after it.
    made: Cell<bool>,
    /// Signals that ask for the end.
    signals: Caught,
}

/// What `--version` says behind the name: version, commit and features.
fn version(commit: &str) -> String {
    let features: Vec<&str> = [("azure", cfg!(feature = "azure")), ("gcs", cfg!(feature = "gcs"))]
        .iter()
        .filter_map(|(name, there)| there.then_some(*name))
        .collect();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(", ") };
    let commit = commit.get(..12).or(Some(commit)).filter(|c| !c.is_empty()).unwrap_or("unknown");
    format!("{}\ncommit {commit}\nfeatures {features}", env!("CARGO_PKG_VERSION"))
}

/// What was typed.
fn parse(commit: &str) -> std::result::Result<Cli, clap::Error> {
    // clap takes texts that live as long as the program.
    let mut command = Cli::command().long_version(&*version(commit).leak());
    let mut found = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches_mut(&mut found).map_err(|e| e.format(&mut command))
}

/// Runs the program, which was compiled from `commit`; empty where nobody knows.
pub fn main(commit: &str) -> ExitCode {
    if let Some(code) = internal::run() {
        return code;
    }
    let cli = match parse(commit) {
        Ok(cli) => cli,
        Err(e) => return ExitCode::from(refuse(&e)),
    };
    let interrupt = Interrupt::default();
    let json = cli.global.json;
    let shown = Arc::new(Shown::new(cli.global.progress, cli.global.quiet, json));
    let signals = Caught::begin(&interrupt, &shown, matches!(cli.command, args::Command::Agent(_)));
    let terminal = Terminal {
        global: cli.global,
        shown: Arc::clone(&shown),
        interrupt: interrupt.clone(),
        shrunk: RefCell::default(),
        kit_stale: Cell::default(),
        behind: Cell::default(),
        made: Cell::default(),
        signals,
    };
    let mut telling = None;
    let done = go_there(&terminal.global).and_then(|()| {
        telling = telling::Telling::begin(&terminal, &cli.command);
        commands::run(&terminal, cli.command)
    });
    let done = done.map_err(|error| ended_asking(error, &interrupt));
    shown.end();
    let code = match &done {
        Ok(code) => *code,
        Err(error) => fail(error, &interrupt, json),
    };
    let (behind, made) = (terminal.behind.get(), terminal.made.get());
    let said = Said { behind, made, told: telling.is_some() };
    // Whoever waits for the command hears of its end first: others may take their time to answer.
    if let Some(telling) = telling {
        telling.end(&terminal, &done);
    }
    // Last of all: an agent takes what was said here for the end of the run.
    if let Err(error) = crate::agent::note_end(code, said) {
        exit::report(&error, code, false);
    }
    ExitCode::from(code)
}

/// `-C`: everything relative that follows is relative to that directory.
fn go_there(global: &args::Global) -> Result<()> {
    let Some(dir) = &global.directory else {
        return Ok(());
    };
    std::env::set_current_dir(dir).doing(Class::Usage, || format!("cannot work in {} (-C)", dir.display()))
}

/// Says what is wrong with the arguments, or shows the help that was asked for.
fn refuse(error: &clap::Error) -> u8 {
    let _unheard = error.print();
    if !error.use_stderr() {
        return 0;
    }
    if std::env::args_os().skip(1).take_while(|arg| arg != "--").any(|arg| arg == "--json") {
        let text = error.to_string();
        let (what, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
        let what = what.strip_prefix("error: ").unwrap_or(what).trim();
        let usage = rest.lines().find(|line| line.starts_with("Usage: ")).map(str::to_owned);
        exit::document(what, Vec::new(), usage, 2);
    }
    2
}

/// A passphrase was asked for, and the answer was that the program shall end: no trouble with a key.
fn ended_asking(error: OpError, interrupt: &Interrupt) -> OpError {
    if error.class != Class::NoIdentity || interrupt.signal().is_none() {
        return error;
    }
    OpError::new(Class::Interrupted, "interrupted").because(error).hint("run the command again")
}

fn fail(error: &OpError, interrupt: &Interrupt, json: bool) -> u8 {
    let code = exit::code_of(error.class, interrupt.signal());
    exit::report(error, code, json);
    code
}
