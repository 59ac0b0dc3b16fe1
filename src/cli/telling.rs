//! Telling of a command's end, whoever started it: the agent, cron, or a person.

use crate::agent::metrics::{self, Run};
use crate::agent::tell::{Outcome, Task, Teller};
use crate::catalog::State;
use crate::cli::args::Command;
use crate::cli::{Terminal, exit, open, say};
use crate::config::Config;
use crate::model::Timestamp;
use crate::ops::error::{OpError, Result};
use crate::ops::restore::read::chain_text;
use std::fmt::Write as _;

/// Somebody is told of the end of this command.
pub(super) struct Telling {
    task: Task,
    config: Config,
    began: Timestamp,
}

impl Telling {
    /// For `command`, where the configuration names somebody. One that cannot be read names nobody; the command says what is wrong with it.
    pub(super) fn begin(terminal: &Terminal, command: &Command) -> Option<Self> {
        let task = match command {
            Command::Backup(args) if !args.dry_run => Task::Backup(args.only.clone()),
            Command::Sync(_) => Task::Sync,
            Command::Verify(_) => Task::Verify,
            Command::Drill(_) => Task::Drill,
            Command::Prune(args) if !args.dry_run => Task::Prune,
            _ => return None,
        };
        if terminal.global.kit.is_some() {
            return None;
        }
        let config = open::load_config(&open::config_path(terminal).ok()?).ok()?;
        let nobody = config.notify.targets.is_empty() && config.notify.ping.is_none();
        if nobody && !metrics::wanted(&config) {
            return None;
        }
        let telling = Self { task, config, began: open::clock().now() };
        telling.with(terminal, |teller| teller.begin(&telling.task));
        Some(telling)
    }

    /// The command has ended.
    pub(super) fn end(self, terminal: &Terminal, done: &Result<u8>) {
        let code = match done {
            Ok(code) => *code,
            Err(error) => exit::code_of(error.class, terminal.interrupt.signal()),
        };
        let text = match done {
            Ok(0) => String::new(),
            Ok(code) => of_code(terminal, *code),
            Err(error) => of_error(error),
        };
        // What cannot be read is no proof that a kit was proved.
        let state = State::open(&self.config.state_dir);
        let kit_proved = state.is_ok_and(|state| state.kit_memory().proved.is_some());
        let outcome = Outcome { task: self.task.clone(), code, text: text.clone(), kit_proved };
        self.with(terminal, |teller| teller.end(&outcome));
        let run = Run { began: self.began, ended: open::clock().now(), code };
        if let Err(e) = metrics::after(&self.config, &self.task.to_string(), run, &text) {
            say(&format!("warning: {}", chain_text(&e)));
        }
    }

    fn with(&self, terminal: &Terminal, tell: impl FnOnce(&Teller<'_>) -> Vec<String>) {
        for line in tell_by(terminal, &self.config, tell) {
            say(&format!("warning: {line}"));
        }
    }
}

/// Runs `tell` with what it needs.
pub(super) fn tell_by<T>(terminal: &Terminal, config: &Config, tell: impl FnOnce(&Teller<'_>) -> T) -> T {
    let stopped = || terminal.interrupt.signal().is_some();
    let pause = |time| crate::ops::lock::pause(&terminal.interrupt, time);
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
