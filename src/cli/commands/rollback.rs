//! `rollback` and `ready`: plan, question, transaction.

use super::whose;
use crate::cli::args::RollbackArgs;
use crate::cli::{Terminal, ask, confirm, exit, open, out, render, say, unlock};
use crate::config::Config;
use crate::model::record::SnapshotKind;
use crate::ops::error::{Class, OpError, Result};
use crate::ops::guard;
use crate::ops::look::{self, SnapshotRow};
use crate::ops::rollback::{self, RollbackOptions, RollbackReport, ShownPlan};
use crate::ops::session::{HostChoice, Session};
use crate::ops::whose::of_several;

/// So many snapshots are shown to choose from.
const SHOWN: usize = 5;

/// Runs `rollback`.
pub(super) fn run(terminal: &Terminal, args: &RollbackArgs) -> Result<u8> {
    if args.resume {
        return resume(terminal, &open::session_for_recovery(terminal)?, args.yes);
    }
    let session = match open::session_going_back(terminal) {
        Ok(session) => session,
        Err(e) => {
            let config = open::config_path(terminal).and_then(|path| open::load_config(&path));
            return Err(match config {
                Ok(config) => ladder(None, &config, None, e),
                Err(_) => e,
            });
        }
    };
    let config = std::sync::Arc::clone(session.config()?);
    if args.undo {
        return undo(terminal, &session, args);
    }
    let session = unlock::asked_for(terminal, session)?;
    let by_hand = if args.dry_run { None } else { Some(guard::by_hand(&session)?) };
    let (id, chosen) = match &args.id {
        Some(id) => (id.clone(), false),
        None => (choose(&session, &args.only).map_err(|e| ladder(Some(&session), &config, None, e))?, true),
    };
    let options = RollbackOptions {
        snapshot: id,
        only: args.only.clone(),
        accept_untrusted: args.untrusted.accept_untrusted,
        git: args.git,
        start: args.start,
    };
    let mut plan = rollback::plan(&session, &options)
        .map_err(|e| unlock::what_to_type(e, &format!("backstay rollback {}", options.snapshot)))
        .map_err(|e| ladder(Some(&session), &config, Some(&options.snapshot), e))?;
    let Some(by_hand) = by_hand else {
        super::show(terminal, &plan.shown, render::rollback_plan)?;
        return Ok(0);
    };
    say(render::rollback_plan(&plan.shown).trim_end());
    if starts(&session, &plan.shown.down, args.yes) {
        plan.start_what_is_down();
    }
    let asked = agreed(&session, &plan.shown, (&options.snapshot, args.yes), chosen)?;
    let going_back = by_hand.hold(chosen || asked)?;
    let report =
        plan.apply(&session).map_err(|e| ladder(Some(&session), &config, Some(&options.snapshot), e))?;
    // Whoever went back by hand has decided what becomes of a guarded command that was cut off.
    going_back.settled()?;
    tell(terminal, &session, &report)
}

/// Whether what is down is to be started: only where somebody is here to say so, for it may have been stopped on purpose.
fn starts(session: &Session, down: &[String], yes: bool) -> bool {
    if yes || down.is_empty() {
        return false;
    }
    let (is, it) =
        if down.len() == 1 { ("service", "is down: start it") } else { ("services", "are down: start them") };
    let question = format!("{is} {} {it} afterwards? [Y/n]", down.join(", "));
    matches!(ask(&session.around.interrupt, &question).as_deref(), Some("" | "y" | "Y" | "yes"))
}

/// Goes on when whoever is here means it; true where somebody was asked.
fn agreed(session: &Session, plan: &ShownPlan, (id, yes): (&str, bool), chosen: bool) -> Result<bool> {
    let somebody = std::io::IsTerminal::is_terminal(&std::io::stdin());
    let interrupt = &session.around.interrupt;
    if !plan.host.own {
        let typed = whose::Typed { id, yes };
        whose::agree(interrupt, (&plan.snapshot, &plan.host), &typed, "backstay rollback")?;
        return Ok(somebody);
    }
    // Whoever named a snapshot has decided, and a script that does is not asked for a yes as well; on a terminal a question costs nothing.
    let asks = !yes && (chosen || somebody);
    if asks {
        go_ahead(session, "Go ahead?")?;
    }
    Ok(asks)
}

/// Takes the last rollback back.
fn undo(terminal: &Terminal, session: &Session, args: &RollbackArgs) -> Result<u8> {
    let by_hand = if args.dry_run { None } else { Some(guard::by_hand(session)?) };
    let mut plan = rollback::plan_undo(session)?;
    if args.start {
        plan.start_what_is_down();
    }
    let Some(by_hand) = by_hand else {
        super::show(terminal, &plan, render::undo_plan)?;
        return Ok(0);
    };
    say(render::undo_plan(&plan).trim_end());
    let start = args.start || starts(session, &plan.down, args.yes);
    if !args.yes {
        go_ahead(session, "Go ahead?")?;
    }
    let _no_guard_begins = by_hand.hold(!args.yes)?;
    tell(terminal, session, &rollback::undo(session, start)?)
}

/// What was killed is brought to its end: first a rollback, then a guarded command.
fn resumed(terminal: &Terminal, session: &Session, yes: bool) -> Result<Option<RollbackReport>> {
    let rollback = rollback::resume(session);
    if rollback.as_ref().is_err_and(|e| e.class != Class::RolledBack) {
        return rollback;
    }
    match guard::cut_off(session)? {
        None => rollback,
        Some(cut) => match rollback {
            // The command was on its way back, and that way is at its end.
            Ok(Some(report)) if report.snapshot == *cut.snapshot() => {
                cut.keep()?;
                Ok(Some(report))
            }
            _ => super::guard::resume(terminal, session, cut, yes),
        },
    }
}

fn resume(terminal: &Terminal, session: &Session, yes: bool) -> Result<u8> {
    match resumed(terminal, session, yes)? {
        Some(report) => tell(terminal, session, &report),
        None => {
            if terminal.global.json {
                render::json(&serde_json::json!({ "unfinished": false }))?;
            } else {
                out("nothing is unfinished any more\n")?;
            }
            Ok(0)
        }
    }
}

fn tell(terminal: &Terminal, session: &Session, report: &RollbackReport) -> Result<u8> {
    super::show(terminal, report, render::rollback)?;
    let mut problems = report.problems.clone();
    problems.extend(session.troubles());
    super::say_after(terminal, &[render::problems_again(&problems)]);
    Ok(exit::code_of_problems(&problems))
}

fn go_ahead(session: &Session, question: &str) -> Result<()> {
    let nobody = OpError::new(Class::Usage, "a rollback changes live data, and nobody is here to ask")
        .hint("look at the plan with --dry-run, then add --yes");
    let declined = OpError::declined("not confirmed; nothing was changed");
    confirm(&session.around.interrupt, question, declined, nobody)
}

/// Where a snapshot cannot be used, the error says what is left to try.
fn ladder(session: Option<&Session>, config: &Config, wanted: Option<&str>, e: OpError) -> OpError {
    let none = match (e.class, session, wanted) {
        (Class::Damage | Class::Store | Class::NoIdentity, ..) => true,
        (Class::NotFound, Some(session), Some(wanted)) => rollback::means_none(session, wanted),
        (Class::NotFound, ..) => true,
        _ => false,
    };
    if !none {
        return e;
    }
    let rungs = rollback::ladder(config, session, wanted);
    let own = e.hint.clone().map(|hint| hint + "\n").unwrap_or_default();
    e.hint(format!("{own}what is left to try, in this order:\n  {}", rungs.join("\n  ")))
}

fn usable(row: &&SnapshotRow) -> bool {
    row.trusted && row.void.is_none() && row.kind != SnapshotKind::Partial
}

/// Shows the last snapshots that hold what is asked for, and asks for one.
fn choose(session: &Session, only: &[String]) -> Result<String> {
    if session.around.hosts == HostChoice::All {
        return Err(of_several());
    }
    let report = look::list(session)?;
    let holds = |row: &&SnapshotRow| match &row.components {
        Some(names) => only.iter().all(|name| names.contains(name)),
        None => true,
    };
    let usable = report.snapshots.iter().rev().filter(usable).filter(holds).take(SHOWN).collect::<Vec<_>>();
    if usable.is_empty() {
        let of = if only.is_empty() { String::new() } else { format!(" for {}", only.join(", ")) };
        return Err(OpError::new(Class::NotFound, format!("there is no snapshot to go back to{of}"))
            .hint("`backstay list` shows what is there"));
    }
    for (number, snapshot) in usable.iter().enumerate() {
        say(&format!("{}  {}", number + 1, render::one_line(snapshot)));
    }
    let question = "Back to which? [number, or Enter for none]";
    match ask(&session.around.interrupt, question) {
        Some(answer) => match answer.parse::<usize>().ok().and_then(|n| usable.get(n.checked_sub(1)?)) {
            Some(snapshot) => Ok(snapshot.id.to_string()),
            None => Err(OpError::new(Class::Failed, "nothing was chosen; nothing was changed")),
        },
        None => Err(OpError::new(
            Class::Usage,
            "a rollback needs to know which snapshot, and nobody is here to ask",
        )
        .hint("name one: backstay rollback latest; `backstay list` shows them")),
    }
}

/// Runs `ready`.
pub(super) fn ready(terminal: &Terminal) -> Result<u8> {
    // At boot no store need be there: only the journal is asked.
    let config = open::load_config(&open::config_path(terminal)?)?;
    let now = open::now();
    let problems = rollback::ready(&config, now, &say)?;
    super::say_after(terminal, &[render::problems_again(&problems)]);
    if terminal.global.json {
        render::json(&serde_json::json!({ "ready": true }))?;
    }
    Ok(0)
}
