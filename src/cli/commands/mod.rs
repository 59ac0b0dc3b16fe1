//! One function a command: arguments to options, call, render.

mod agent;
mod compare;
mod drill;
mod guard;
mod health;
mod init;
mod keep;
mod keys;
mod kit;
mod recover;
mod restore;
mod rollback;
mod verify;

use crate::cli::args::{BackupArgs, Cli, Command, GitWord, IdArgs, LsArgs, SyncArgs};
use crate::cli::{Terminal, exit, open, out, render, say};
use crate::model::{Problem, ProblemKind};
use crate::ops::backup::{BackupOptions, GitWish};
use crate::ops::error::{Class, Doing, Result};
use crate::ops::look;
use crate::ops::sync::SyncOptions;
use clap::CommandFactory;
use std::io::Read;
use std::path::Path;

/// Runs a command and gives its exit code.
pub(super) fn run(terminal: &Terminal, command: Command) -> Result<u8> {
    match command {
        Command::Init(args) => init::run(terminal, &args),
        Command::Backup(args) => backup(terminal, args),
        Command::List => list(terminal),
        Command::Show(args) => show_one(terminal, &args),
        Command::Ls(args) => ls(terminal, &args),
        Command::Cat(args) => {
            let session = open::session(terminal)?;
            let mut stdout = std::io::stdout().lock();
            look::cat(&session, &args.id, &args.path, args.untrusted.accept_untrusted, &mut stdout)?;
            Ok(exit::code_of_problems(&session.troubles()))
        }
        Command::Find(args) => compare::find(terminal, args),
        Command::Diff(args) => compare::diff(terminal, args),
        Command::Restore(args) => restore::run(terminal, &args),
        Command::Recover(args) => recover::run(terminal, &args),
        Command::Keys(args) => keys::run(terminal, &args),
        Command::Kit(args) => kit::run(terminal, &args),
        Command::Rollback(args) => rollback::run(terminal, &args),
        Command::Guard(args) => guard::run(terminal, &args),
        Command::Ready => rollback::ready(terminal),
        Command::Verify(args) => verify::run(terminal, args),
        Command::Drill(args) => drill::run(terminal, args),
        Command::Sync(args) => sync(terminal, args),
        Command::Tag(args) => keep::tag(terminal, args),
        Command::Note(args) => keep::note(terminal, args),
        Command::Milestone(args) => keep::milestone(terminal, &args),
        Command::Delete(args) => keep::delete(terminal, &args),
        Command::Prune(args) => keep::prune(terminal, args),
        Command::Settle(args) => keep::settle(terminal, &args),
        Command::Status(args) => health::status(terminal, &args),
        Command::Doctor(args) => health::doctor(terminal, &args),
        Command::Agent(args) => agent::run(terminal, &args),
        Command::Demo(args) => crate::cli::demo::run(terminal, &args),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "backstay", &mut text);
            out(&String::from_utf8_lossy(&text))?;
            Ok(0)
        }
        Command::Man { dir } => man(terminal, &dir),
    }
}

fn show<T: serde::Serialize>(terminal: &Terminal, report: &T, text: impl Fn(&T) -> String) -> Result<()> {
    terminal.shown.end();
    if terminal.global.json { render::json(report) } else { out(&text(report)) }
}

/// Says on standard error what must not be missed, where JSON does not say it.
fn say_after(terminal: &Terminal, texts: &[String]) {
    if !terminal.global.json {
        texts.iter().filter(|text| !text.is_empty()).for_each(|text| say(text));
    }
    crate::durable::crash::point("report shown");
}

/// A note as it was given; `-` is what standard input says.
fn note_of(given: Option<&str>) -> Result<Option<String>> {
    if given != Some("-") {
        return Ok(given.map(str::to_owned));
    }
    let mut text = String::new();
    let read = std::io::stdin().take(1 << 16).read_to_string(&mut text);
    read.doing(Class::Usage, || "the note cannot be read from standard input".into())?;
    Ok(Some(text.trim_end().to_owned()))
}

fn backup(terminal: &Terminal, args: BackupArgs) -> Result<u8> {
    let session = open::writing_session(terminal)?;
    let note = note_of(args.note.as_deref())?;
    args.tags.iter().try_for_each(|tag| crate::ops::marking::check_tag(tag))?;
    let BackupArgs { only, tags, milestone, full, git, .. } = args;
    let git = git.map(|what| match what {
        GitWord::State => GitWish::State,
        GitWord::Bundle => GitWish::Bundle,
    });
    let options = BackupOptions { only, note, tags, milestone, full, git, ..BackupOptions::default() };
    if args.dry_run {
        let report = crate::ops::backup::plan(&session, &options)?;
        show(terminal, &report, render::plan)?;
        say_after(terminal, &[render::problems_again(&report.problems)]);
        return Ok(exit::code_of_problems(&report.problems));
    }
    let mut report = crate::ops::backup::run(&session, &options)?;
    terminal.made.set(true);
    let shrunk = report.shrunk.take();
    *terminal.shrunk.borrow_mut() = shrunk.map(|all| all.into_iter().map(|s| (s.component, s.why)).collect());
    show(terminal, &report, render::backup)?;
    let reminder = report.kit.reminder.as_ref().map(|text| format!("reminder: {text}")).unwrap_or_default();
    let reminder = if terminal.global.quiet { String::new() } else { reminder };
    say_after(
        terminal,
        &[render::problems_again(&report.problems), render::history(&report.history), reminder],
    );
    terminal.behind.set(lacks(&report.problems));
    let code = exit::code_of_problems(&report.problems);
    Ok(if report.history.is_empty() { code } else { 13 })
}

/// True when a store lacks something.
fn lacks(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.kind == ProblemKind::Store)
}

fn sync(terminal: &Terminal, args: SyncArgs) -> Result<u8> {
    let session = open::writing_session(terminal)?;
    let options = SyncOptions { from: args.from, to: args.to, read_data: args.read_data };
    let report = crate::ops::sync::run(&session, &options)?;
    show(terminal, &report, render::sync)?;
    say_after(terminal, &[render::problems_again(&report.problems), render::history(&report.history)]);
    terminal.behind.set(lacks(&report.problems));
    let lost = report.stores.iter().any(|store| !store.lost.is_empty());
    let code = exit::code_of_problems(&report.problems);
    Ok(if lost || !report.history.is_empty() { 13 } else { code })
}

fn show_one(terminal: &Terminal, args: &IdArgs) -> Result<u8> {
    let session = open::session(terminal)?;
    let report = look::show(&session, &args.id, args.untrusted.accept_untrusted)?;
    show(terminal, &report, render::show)?;
    Ok(exit::code_of_problems(&session.troubles()))
}

fn list(terminal: &Terminal) -> Result<u8> {
    let session = open::session(terminal)?;
    let report = look::list(&session)?;
    show(terminal, &report, render::list)?;
    say_after(terminal, &[render::unopened(&report), render::history(&report.history)]);
    let damaged = report.damaged.iter().any(|d| !d.too_new) || !report.history.is_empty();
    Ok(if damaged { 13 } else { exit::code_of_problems(&session.troubles()) })
}

fn ls(terminal: &Terminal, args: &LsArgs) -> Result<u8> {
    let session = open::session(terminal)?;
    let report =
        look::ls(&session, &args.id, args.path.as_deref(), args.recursive, args.untrusted.accept_untrusted)?;
    show(terminal, &report, render::ls)?;
    Ok(exit::code_of_problems(&session.troubles()))
}

/// `path` as messages show it: absolute, without `..`.
fn tidy(path: &Path) -> Result<std::path::PathBuf> {
    crate::platform::place::tidy(path)
        .doing(Class::Usage, || format!("{:?} is not a usable path", path.display().to_string()))
}

fn man(terminal: &Terminal, dir: &Path) -> Result<u8> {
    std::fs::create_dir_all(dir).doing(Class::Failed, || format!("cannot make {}", dir.display()))?;
    clap_mangen::generate_to(Cli::command(), dir)
        .doing(Class::Failed, || format!("cannot write manual pages to {}", dir.display()))?;
    let dir = tidy(dir)?;
    if terminal.global.json {
        render::json(&serde_json::json!({ "dir": dir.display().to_string() }))?;
    } else {
        let first = dir.join("backstay.1");
        say(&format!("manual pages are in {}; read one with: man -l {}", dir.display(), first.display()));
    }
    Ok(0)
}
