//! `diff` and `find`.

use crate::cli::args::{DiffArgs, FindArgs};
use crate::cli::{Terminal, exit, open, render, say};
use crate::ops::diff::{self, DiffOptions};
use crate::ops::error::Result;
use crate::ops::look::{self, FindOptions};

/// Runs `diff`.
pub(super) fn diff(terminal: &Terminal, args: DiffArgs) -> Result<u8> {
    let session = open::session(terminal)?;
    let DiffArgs { from, to, path, read_data, untrusted } = args;
    let rest = to.into_iter().chain(path).collect();
    let options = DiffOptions { from, rest, read_data, accept_untrusted: untrusted.accept_untrusted };
    let report = diff::run(&session, &options)?;
    super::show(terminal, &report, render::diff)?;
    super::say_after(terminal, &[render::problems_again(&report.problems)]);
    Ok(exit::code_of_problems(&report.problems))
}

/// Runs `find`.
pub(super) fn find(terminal: &Terminal, args: FindArgs) -> Result<u8> {
    let session = open::session(terminal)?;
    let FindArgs { pattern, only } = args;
    let report = look::find(&session, &FindOptions { pattern, only })?;
    super::show(terminal, &report, render::find)?;
    super::say_after(terminal, &[render::problems_again(&report.problems), render::history(&report.history)]);
    if !terminal.global.json && !terminal.global.quiet && !report.paths.is_empty() {
        say("one of them back in its place: backstay restore ID COMPONENT/PATH --in-place");
    }
    let code = exit::code_of_problems(&report.problems);
    Ok(if report.history.is_empty() { code } else { 13 })
}
