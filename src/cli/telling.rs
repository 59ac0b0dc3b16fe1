//! Telling of a command's end, whoever started it: the agent, cron, or a person.

use crate::agent::is_told_by_agent;
use crate::agent::metrics::{self, Run};
use crate::agent::tell::{Outcome, Task, Teller, kit_proved, says_nothing};
use crate::cli::args::Command;
use crate::cli::{Terminal, exit, open, say};
use crate::config::Config;
use crate::model::Timestamp;
use crate::ops::error::{OpError, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::restore::read::chain_text;
use std::fmt::Write as _;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Somebody is told of the end of this command.
pub(super) struct Telling {
    task: Task,
    config: Arc<Config>,
    began: Timestamp,
    /// Tells that the run begins, beside it: whoever hears that may take their time.
    start: Option<JoinHandle<Vec<String>>>,
}

impl Telling {
    /// For `command`, where the configuration names somebody. One that cannot be read names nobody; the command says what is wrong with it.
    pub(super) fn begin(terminal: &Terminal, command: &Command) -> Option<Self> {
        let task = match command {
            Command::Backup(args) if !args.dry_run => Task::Backup(args.only.clone()),
            // Without an ID it makes a snapshot, of everything.
            Command::Milestone(args) if args.id.is_none() => Task::Backup(Vec::new()),
            Command::Sync(_) => Task::Sync,
            Command::Verify(_) => Task::Verify,
            Command::Drill(_) => Task::Drill,
            Command::Prune(args) if !args.dry_run => Task::Prune,
            Command::Rollback(args) if !args.dry_run => Task::Rollback,
            Command::Guard(args) if !args.dry_run => Task::Guard,
            _ => return None,
        };
        // Whoever goes back is at home, kit or not.
        if terminal.global.kit.is_some() && !matches!(task, Task::Rollback | Task::Guard) {
            return None;
        }
        let config = open::load_config(&open::config_path(terminal).ok()?).ok()?;
        let nobody = config.notify.targets.is_empty() && config.notify.ping.is_none();
        if nobody && !metrics::wanted(&config) {
            return None;
        }
        let config = Arc::new(config);
        warn(tell_by(terminal, &config, |teller| teller.begun(&task)));
        // An agent that started this run tells of it itself.
        let heard = config.notify.ping.is_some() && task.is_backup() && !is_told_by_agent();
        let start = heard.then(|| {
            let (config, task, interrupt) = (Arc::clone(&config), task.clone(), terminal.interrupt.clone());
            std::thread::spawn(move || tell_with(&interrupt, &config, |teller| teller.start(&task)))
        });
        Some(Self { task, config, began: open::clock().now(), start })
    }

    /// The command has ended.
    pub(super) fn end(self, terminal: &Terminal, done: &Result<u8>) {
        if done.as_ref().is_err_and(OpError::is_declined) {
            return;
        }
        let code = match done {
            Ok(code) => *code,
            Err(error) => exit::code_of(error.class, terminal.interrupt.signal()),
        };
        let text = match done {
            Ok(0) => String::new(),
            Ok(code) => of_code(terminal, *code),
            Err(error) => of_error(error),
        };
        let run = Run { began: self.began, ended: open::clock().now(), code };
        // Another run, a signal and a wrong word are the end of no backup: how the last one ended stays what it was.
        if !self.task.is_by_hand()
            && !says_nothing(&self.task, code)
            && let Err(e) = metrics::after(&self.config, &self.task.to_string(), run, &text)
        {
            say(&format!("warning: {}", chain_text(&e)));
        }
        let kit_proved = kit_proved(&self.config);
        let shrunk = terminal.shrunk.borrow().clone();
        let outcome = Outcome {
            task: self.task.clone(),
            code,
            text,
            kit_proved,
            kit_stale: terminal.kit_stale.get(),
            shrunk,
            behind: terminal.behind.get(),
        };
        if is_told_by_agent() {
            warn(tell_by(terminal, &self.config, |teller| teller.note(&outcome)));
        } else {
            // The beginning is heard before the end.
            warn(self.start.and_then(|start| start.join().ok()).unwrap_or_default());
            warn(tell_by(terminal, &self.config, |teller| teller.end(&outcome)));
        }
    }
}

fn warn(lines: Vec<String>) {
    for line in lines {
        say(&format!("warning: {line}"));
    }
}

/// Runs `tell` with what it needs.
pub(super) fn tell_by<T>(terminal: &Terminal, config: &Config, tell: impl FnOnce(&Teller<'_>) -> T) -> T {
    tell_with(&terminal.interrupt, config, tell)
}

fn tell_with<T>(interrupt: &Interrupt, config: &Config, tell: impl FnOnce(&Teller<'_>) -> T) -> T {
    let stopped = || interrupt.signal().is_some();
    let pause = |time| crate::ops::lock::pause(interrupt, time);
    let now = open::clock().now();
    tell(&Teller { config, now, stopped: &stopped, pause: &pause })
}

fn of_error(error: &OpError) -> String {
    let mut text = chain_text(error);
    if let Some(hint) = &error.hint {
        let _ = write!(text, "\nhint: {hint}");
    }
    text
}

/// What a run that ended, and not well, met.
fn of_code(terminal: &Terminal, code: u8) -> String {
    let meaning = exit::CODES.iter().find(|(known, _)| *known == code).map_or("", |(_, meaning)| *meaning);
    let mut text = format!("exit code {code}: {meaning}");
    for problem in terminal.shown.failures() {
        let _ = write!(text, "\n{problem}");
    }
    text
}
