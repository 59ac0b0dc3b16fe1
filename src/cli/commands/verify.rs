//! `verify`: what was found, and the exit code that says how it stands.

use super::{say_after, show};
use crate::cli::args::VerifyArgs;
use crate::cli::{Terminal, exit, open, render};
use crate::ops::error::Result;
use crate::ops::verify::{self, VerifyOptions, VerifyReport};

pub(super) fn run(terminal: &Terminal, args: VerifyArgs) -> Result<u8> {
    let session = open::session(terminal)?;
    let options = VerifyOptions {
        ids: args.ids,
        accept_untrusted: args.untrusted.accept_untrusted,
        read_data: args.read_data,
        decrypt: args.decrypt,
    };
    let report = verify::run(&session, &options)?;
    show(terminal, &report, render::verify)?;
    say_after(terminal, &[render::problems_again(&report.problems), render::history(&report.history)]);
    Ok(code(&report))
}

/// Damage before a store that could not be looked at, that before a verdict that could not be signed.
fn code(report: &VerifyReport) -> u8 {
    if !report.damage.is_empty() || !report.history.is_empty() {
        return 13;
    }
    if report.stores.iter().all(|store| store.problem.is_some()) {
        return 10;
    }
    match (exit::code_of_problems(&report.problems), report.not_signed_class) {
        (0, Some(class)) => exit::code_of(class, None),
        (code, _) => code,
    }
}
