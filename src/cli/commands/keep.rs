//! `tag`, `note`, `milestone`, `delete`, `prune`, `settle`.

use crate::cli::args::{BackupArgs, DeleteArgs, MilestoneArgs, NoteArgs, PruneArgs, SettleArgs, TagArgs};
use crate::cli::{Terminal, confirm, exit, open, render, say};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::marking::{self, MarkReport, Saying};
use crate::ops::prune::{self, PruneOptions};
use crate::ops::session::Session;
use crate::ops::settle;

/// The code of a run that deleted nothing of what retention lets go, because something looks wrong: a person must look.
const NEEDS_A_PERSON: u8 = 18;

/// Runs `tag`.
pub(super) fn tag(terminal: &Terminal, args: TagArgs) -> Result<u8> {
    let TagArgs { id, tags, remove } = args;
    let what = if remove { "tags taken away" } else { "tagged" };
    mark(terminal, &id, &Saying::Tag { tags, remove }, what)
}

/// Runs `note`.
pub(super) fn note(terminal: &Terminal, args: NoteArgs) -> Result<u8> {
    let NoteArgs { id, text } = args;
    let text = super::note_of(Some(&text))?.unwrap_or_default();
    mark(terminal, &id, &Saying::Note(text), "noted")
}

/// Runs `milestone`.
pub(super) fn milestone(terminal: &Terminal, args: &MilestoneArgs) -> Result<u8> {
    let Some(id) = &args.id else {
        // Only a new snapshot can be packed so that it stands alone.
        let wanted = BackupArgs { milestone: true, full: true, ..BackupArgs::default() };
        return super::backup(terminal, wanted);
    };
    let (saying, what) = match (args.standalone, args.remove) {
        (true, _) => (
            Saying::MilestoneAlone,
            "a milestone that stands alone: it needs no archive of an earlier snapshot, and retention never removes it",
        ),
        (false, true) => (Saying::Milestone(false), "no longer a milestone"),
        (false, false) => (Saying::Milestone(true), "a milestone: retention never removes it"),
    };
    mark(terminal, id, &saying, what)
}

fn mark(terminal: &Terminal, id: &str, saying: &Saying, what: &str) -> Result<u8> {
    let session = open::writing_session(terminal)?;
    let report = marking::say(&session, id, saying)?;
    super::show(terminal, &report, |report| render::marked(report, what))?;
    super::say_after(terminal, &[render::problems_again(&report.problems)]);
    Ok(exit::code_of_problems(&report.problems))
}

/// Runs `delete`: shows what goes, asks, marks.
pub(super) fn delete(terminal: &Terminal, args: &DeleteArgs) -> Result<u8> {
    let session = open::writing_session(terminal)?;
    let plan = marking::plan_delete(&session, &args.ids)?;
    if !terminal.global.json {
        say(render::deletions(&plan).trim_end());
    }
    let refused = plan.snapshots.iter().any(|row| row.stays_because.is_some());
    if !args.yes && !refused {
        agreed(&session, "Delete?", "this asks for snapshots to be deleted")?;
    }
    // What cannot go is refused there, with the reason.
    let report: MarkReport = marking::delete(&session, &args.ids)?;
    super::show(terminal, &report, |report| {
        render::marked(
            report,
            "is asked to go: the next `backstay prune` announces it, and one a day later deletes it",
        )
    })?;
    super::say_after(terminal, &[render::problems_again(&report.problems)]);
    Ok(exit::code_of_problems(&report.problems))
}

fn agreed(session: &Session, question: &str, what: &str) -> Result<()> {
    let declined = OpError::new(Class::Failed, "not confirmed; nothing was marked");
    let nobody = OpError::new(Class::Usage, format!("{what}, and nobody is here to confirm it"));
    let nobody = nobody.hint("look at the plan above, then add --yes");
    confirm(&session.around.interrupt, question, declined, nobody)
}

/// Runs `settle`: shows what is wrong and what would be accepted, asks, signs.
pub(super) fn settle(terminal: &Terminal, args: &SettleArgs) -> Result<u8> {
    let session = open::writing_session(terminal)?;
    let plan = settle::plan(&session, &args.keep)?;
    if plan.report.histories.is_empty() {
        super::show(terminal, &plan.report, render::settled)?;
        super::say_after(terminal, &[render::problems_again(&plan.report.problems)]);
        return Ok(exit::code_of_problems(&plan.report.problems));
    }
    if !terminal.global.json {
        say(render::settlement(&plan.report).trim_end());
    }
    if !args.yes {
        agreed(&session, "Accept this?", "this accepts that entries of the history are lost")?;
    }
    let report = settle::run(&session, &args.keep, &plan)?;
    super::show(terminal, &report, render::settled)?;
    super::say_after(terminal, &[render::problems_again(&report.problems)]);
    let code = exit::code_of_problems(&report.problems);
    Ok(if report.left.is_empty() { code } else { exit::code_of(Class::Damage, None) })
}

/// Runs `prune`. It never asks.
pub(super) fn prune(terminal: &Terminal, args: PruneArgs) -> Result<u8> {
    let session = open::writing_session(terminal)?;
    let PruneArgs { dry_run, now, accept, ignore } = args;
    let options = PruneOptions { dry_run, now, accept, ignore: ignore.into_iter().collect() };
    let report = prune::run(&session, &options)?;
    let verbose = terminal.global.verbose || dry_run;
    super::show(terminal, &report, |report| render::prune(report, verbose))?;
    super::say_after(terminal, &[render::problems_again(&report.problems)]);
    let code = exit::code_of_problems(&report.problems);
    Ok(if code == 0 && report.needs_person() { NEEDS_A_PERSON } else { code })
}
