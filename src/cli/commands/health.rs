//! `status` and `doctor`.

use crate::cli::args::StatusArgs;
use crate::cli::{Terminal, open, render};
use crate::ops::doctor::{self, Severity};
use crate::ops::error::Result;
use crate::ops::status::{self, State, StatusOptions};
use std::sync::Arc;

/// Runs `doctor`.
pub(super) fn doctor(terminal: &Terminal) -> Result<u8> {
    let around = open::surroundings(terminal)?;
    let config = Arc::new(open::load_config(&open::config_path(terminal)?)?);
    let report = doctor::run(&config, &around)?;
    let quiet = terminal.global.quiet;
    super::show(terminal, &report, |report| render::doctor(report, quiet))?;
    Ok(if report.worst == Severity::Problem { 18 } else { 0 })
}

/// Runs `status`.
pub(super) fn status(terminal: &Terminal, args: &StatusArgs) -> Result<u8> {
    let around = open::surroundings(terminal)?;
    let config = Arc::new(open::load_config(&open::config_path(terminal)?)?);
    let report = status::run(&config, &around, &StatusOptions { max_age: args.max_age })?;
    let check = args.check;
    super::show(terminal, &report, |report| match check {
        true => format!("{}\n", report.line),
        false => render::status(report),
    })?;
    Ok(if check && report.state == State::Critical { 18 } else { 0 })
}
