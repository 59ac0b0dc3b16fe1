//! `guard`: a snapshot, the command on its own terminal, health, and the question whether it goes back.

use crate::cli::args::GuardArgs;
use crate::cli::{Terminal, ask, exit, open, render, say, unlock};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::guard::{self, CutOff, Ended, GuardOptions, Guarded, Known, Verdict};
use crate::ops::rollback::RollbackReport;
use crate::ops::session::Session;
use crate::platform::child::{ending, wait_and_pass_on};
use crate::platform::environment::without_secrets;
use crate::platform::shell::find_program;
use serde::Serialize;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What `guard` tells when what the command did stays.
#[derive(Serialize)]
struct Kept<'a> {
    program: &'a str,
    snapshot: &'a str,
    problems: &'a [crate::model::Problem],
}

/// Runs `guard`.
pub(super) fn run(terminal: &Terminal, args: &GuardArgs) -> Result<u8> {
    let Some(first) = args.command.first() else {
        return Err(OpError::new(Class::Usage, "there is no command to guard").hint("backstay guard -- CMD"));
    };
    let found = find_program(first).ok_or_else(|| {
        let what = format!("there is no program {:?}, so nothing was done", first.to_string_lossy());
        OpError::new(Class::Usage, what)
            .hint("the command stands after `--`, as in a shell without quotes around all of it")
    })?;
    let session = open::session_going_back(terminal)?;
    let program = Path::new(first).file_name().unwrap_or(first).to_string_lossy().into_owned();
    let options = GuardOptions { only: args.only.clone(), note: args.note.clone(), program, auto: args.auto };
    if args.dry_run {
        super::show(terminal, &guard::plan(&session, &options)?, render::guard_plan)?;
        return Ok(0);
    }
    let session = unlock::asked_for(terminal, session)?;
    let mut guarded = guard::begin(&session, &options)?;
    let snapshot = guarded.snapshot.snapshot.to_string();
    terminal.shown.end();
    if !terminal.global.quiet {
        say(&format!("snapshot {snapshot}; running {}", options.program));
    }
    let mut command = Command::new(found);
    command.arg0(first).args(args.command.iter().skip(1));
    without_secrets(&mut command).env("BACKSTAY_SNAPSHOT", &snapshot);
    if terminal.global.json {
        // Standard output is for the one document.
        command.stdout(Stdio::from(std::io::stderr()));
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(e) => {
            guarded.not_started()?;
            let what = format!("cannot run {}; nothing was changed", options.program);
            return Err(OpError::new(Class::Failed, what).because(e));
        }
    };
    crate::durable::crash::point("guard: started");
    let ended = watch(terminal, &mut guarded, child)?;
    match guarded.judge(&ended) {
        Verdict::Well => {
            let problems = guarded.snapshot.problems.clone();
            guarded.keep()?;
            let kept = Kept { program: &options.program, snapshot: &snapshot, problems: &problems };
            super::show(terminal, &kept, |k| {
                format!("{} went well; the snapshot from before is {}\n", k.program, k.snapshot)
            })?;
            super::say_after(terminal, &[render::problems_again(&problems)]);
            Ok(exit::code_of_problems(&problems))
        }
        Verdict::Failed(class, why) => failed(terminal, guarded, (class, why), &options),
    }
}

/// Waits for the command. Whatever signal comes meanwhile is the command's, too, and never ends its guard.
fn watch(terminal: &Terminal, guarded: &mut Guarded<'_>, mut child: Child) -> Result<Ended> {
    let status = terminal.interrupt.patiently(None, || {
        guarded.started(child.id());
        // A terminal sends its own signals to the command by itself; another process sends them to the guard alone.
        let own = !std::io::IsTerminal::is_terminal(&std::io::stdin());
        wait_and_pass_on(&mut child, &|| terminal.interrupt.signal(), own)
    });
    let status = status.doing(Class::Failed, || "cannot wait for the command".into())?;
    Ok(if status.success() { Ended::Well } else { Ended::Badly(ending(status)) })
}

/// It failed: back, or as it is when nobody wants that.
fn failed(
    terminal: &Terminal,
    guarded: Guarded<'_>,
    (class, why): (Class, String),
    options: &GuardOptions,
) -> Result<u8> {
    let snapshot = guarded.snapshot.snapshot.to_string();
    say(&why);
    let question = format!("Roll back to {snapshot}, the state before it? [y/N]");
    let wanted =
        options.auto || matches!(ask(&terminal.interrupt, &question).as_deref(), Some("y" | "Y" | "yes"));
    if !wanted {
        guarded.keep()?;
        let class = if terminal.interrupt.signal().is_some() { Class::Interrupted } else { class };
        return Err(OpError::new(class, format!("{why}; what it did was left as it is"))
            .hint(format!("to go back: backstay rollback {snapshot}; `guard --auto` does it by itself")));
    }
    // What ended the command does not end the way back.
    terminal.signals.forget();
    let report = guarded.back(&why)?;
    Err(rolled_back(&why, &report))
}

/// The error of a command that was taken back.
fn rolled_back(why: &str, report: &RollbackReport) -> OpError {
    let what = format!("{why}; everything was rolled back to {}", report.snapshot);
    let e = OpError::new(Class::RolledBack, what);
    match &report.safety {
        Some(safety) => e.hint(format!("what it had done is in safety snapshot {safety}")),
        None => e,
    }
}

/// Brings a guarded command whose guard was killed to an end. `yes`: it goes back without a question.
pub(super) fn resume(
    terminal: &Terminal,
    session: &Session,
    mut cut: CutOff<'_>,
    yes: bool,
) -> Result<Option<RollbackReport>> {
    let snapshot = cut.snapshot().clone();
    match cut.known(yes)? {
        Known::Well => {
            session.note(&format!("`{}` ended well, and the services are well: it stays", cut.program()));
            cut.keep()?;
            Ok(None)
        }
        Known::Back(why) => cut.back(&why).map(Some),
        Known::Undecided(why) => {
            say(&why);
            match ask(&terminal.interrupt, &format!("Roll back to {snapshot}, the state before it? [y/N]")).as_deref() {
                Some("y" | "Y" | "yes") => cut.back(&why).map(Some),
                Some(_) => {
                    session.note("what it did was left as it is");
                    cut.keep()?;
                    Ok(None)
                }
                None => Err(OpError::new(Class::Person, why).hint(format!(
                    "look at the application; then `backstay rollback --resume` on a terminal, or `backstay rollback --resume --yes` to go back to {snapshot}"
                ))),
            }
        }
    }
}
