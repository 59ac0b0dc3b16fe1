//! `restore`: to a folder, or in place after a plan and a yes.

use super::whose;
use crate::cli::args::RestoreArgs;
use crate::cli::{Terminal, confirm, exit, open, render, say, unlock};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::restore::{
    InPlacePlan, RestoreOptions, RestoreReport, database_warning, plan_in_place, run as restore_to,
};

/// Runs `restore`.
pub(super) fn run(terminal: &Terminal, args: &RestoreArgs) -> Result<u8> {
    let report = match &args.to {
        Some(to) => restore_to(
            &open::session(terminal)?,
            &RestoreOptions {
                snapshot: args.id.clone(),
                paths: args.paths.clone(),
                to: super::tidy(to)?,
                accept_untrusted: args.untrusted.accept_untrusted,
                ignore_owners: args.no_owners,
                salvage: true,
            },
        )?,
        None => in_place(&unlock::asked_for(terminal, open::session_in_place(terminal)?)?, args)?,
    };
    super::show(terminal, &report, render::restore)?;
    super::say_after(terminal, &[render::problems_again(&report.problems)]);
    Ok(exit::code_of_problems(&report.problems))
}

fn in_place(session: &crate::ops::session::Session, args: &RestoreArgs) -> Result<RestoreReport> {
    let plan =
        plan_in_place(session, &args.id, &args.paths, args.untrusted.accept_untrusted, args.no_owners)?;
    tell(&plan);
    if !plan.host.own {
        let typed = whose::Typed { id: &args.id, yes: args.yes };
        let interrupt = &session.around.interrupt;
        whose::agree(interrupt, (&plan.snapshot, &plan.host), &typed, "backstay restore --in-place PATH…")?;
    } else if !args.yes {
        let declined = OpError::new(Class::Failed, "not confirmed; nothing was changed");
        let nobody =
            OpError::new(Class::Usage, "a restore in place changes live files, and nobody is here to ask")
                .hint("look at the plan above, then add --yes");
        confirm(&session.around.interrupt, "Go ahead?", declined, nobody)?;
    }
    plan.apply(session)
}

/// More files than this are counted, not listed.
const LISTED: usize = 20;

fn tell(plan: &InPlacePlan) {
    if !plan.host.own {
        say(&format!("from snapshot {} {}", plan.snapshot, render::whose(&plan.host)));
    }
    for file in plan.files.iter().take(LISTED) {
        let what = if file.replaces { "replace" } else { "create " };
        say(&format!("{what} {}", file.path));
    }
    if plan.files.len() > LISTED {
        say(&format!("… and {} more", plan.files.len() - LISTED));
    }
    for name in &plan.fed {
        say(&format!(
            "feed the dump of {name} to its restore_command, last: not one step; what is there now is dumped first and kept in the state directory"
        ));
    }
    plan.lacking.iter().for_each(|problem| say(&render::problem(problem)));
    if plan.files.is_empty() {
        return;
    }
    say(
        "each file that is replaced is kept beside the restored one, with .before-restore-TIME at its end; snapshots leave it out",
    );
    if let Some(warning) = database_warning(plan) {
        say(&render::problem(&warning));
    }
}
