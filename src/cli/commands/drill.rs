//! `drill`: what came of it, and the exit code that says so.

use super::{say_after, show};
use crate::cli::args::DrillArgs;
use crate::cli::{Terminal, exit, open, render};
use crate::ops::drill::{self, DrillOptions, DrillReport, Outcome};
use crate::ops::error::Result;

pub(super) fn run(terminal: &Terminal, args: DrillArgs) -> Result<u8> {
    let session = open::session(terminal)?;
    let options =
        DrillOptions { id: args.id, only: args.only, accept_untrusted: args.untrusted.accept_untrusted };
    let report = drill::run(&session, &options)?;
    show(terminal, &report, render::drill)?;
    say_after(terminal, &[render::problems_again(&report.problems)]);
    Ok(code(&report))
}

/// What was not found out is no success.
fn code(report: &DrillReport) -> u8 {
    match (report.outcome, report.not_signed_class) {
        (Outcome::Full, Some(class)) => exit::code_of(class, None),
        (Outcome::Full, None) => exit::code_of_problems(&report.problems),
        (Outcome::Partial | Outcome::Unrecoverable, _) => 13,
        (Outcome::Inconclusive, _) => 1,
    }
}
