//! `rollback` and `ready`: plan, question, transaction.

use crate::cli::args::RollbackArgs;
use crate::cli::{Terminal, ask, exit, open, out, render, say};
use crate::model::record::SnapshotKind;
use crate::ops::error::{Class, OpError, Result};
use crate::ops::look::{self, SnapshotRow};
use crate::ops::rollback::{self, RollbackOptions, RollbackReport};
use crate::ops::session::Session;

/// So many snapshots are shown to choose from.
const SHOWN: usize = 5;

/// Runs `rollback`.
pub(super) fn run(terminal: &Terminal, args: &RollbackArgs) -> Result<u8> {
    let session = open::writing_session(terminal)?;
    if args.resume {
        return resume(terminal, &session);
    }
    if args.undo {
        if !args.yes {
            confirm(
                &session,
                "The last rollback is taken back: what is live now goes into a safety snapshot. Go ahead? [y/N]",
            )?;
        }
        return tell(terminal, &session, &rollback::undo(&session)?);
    }
    let (id, chosen) = match &args.id {
        Some(id) => (id.clone(), false),
        None => (choose(&session)?, true),
    };
    let options = RollbackOptions {
        snapshot: id,
        only: args.only.clone(),
        accept_untrusted: args.untrusted.accept_untrusted,
    };
    let plan = rollback::plan(&session, &options)?;
    if args.dry_run {
        super::show(terminal, &plan.shown, render::rollback_plan)?;
        return Ok(0);
    }
    say(render::rollback_plan(&plan.shown).trim_end());
    // Whoever named a snapshot has decided; on a terminal a question costs nothing.
    let somebody = std::io::IsTerminal::is_terminal(&std::io::stdin());
    if !args.yes && (chosen || somebody) {
        confirm(&session, "Go ahead? [y/N]")?;
    }
    tell(terminal, &session, &plan.apply(&session)?)
}

fn resume(terminal: &Terminal, session: &Session) -> Result<u8> {
    match rollback::resume(session)? {
        Some(report) => tell(terminal, session, &report),
        None => {
            if terminal.global.json {
                render::json(&serde_json::json!({ "unfinished": false }))?;
            } else {
                out("no rollback is unfinished\n")?;
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

fn confirm(session: &Session, question: &str) -> Result<()> {
    match ask(&session.around.interrupt, question).as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        Some(_) => Err(OpError::new(Class::Failed, "not confirmed; nothing was changed")),
        None => Err(OpError::new(Class::Usage, "a rollback changes live data, and nobody is here to ask")
            .hint("look at the plan with --dry-run, then add --yes")),
    }
}

fn usable(row: &&SnapshotRow) -> bool {
    row.trusted && row.void.is_none() && row.kind != SnapshotKind::Partial
}

/// Shows the last snapshots and asks for one.
fn choose(session: &Session) -> Result<String> {
    let report = look::list(session)?;
    let usable = report.snapshots.iter().rev().filter(usable).take(SHOWN).collect::<Vec<_>>();
    if usable.is_empty() {
        return Err(OpError::new(Class::NotFound, "there is no snapshot to go back to"));
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
