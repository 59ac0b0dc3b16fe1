//! `status` and `doctor`.

use crate::cli::args::{DoctorArgs, StatusArgs};
use crate::cli::{Terminal, open, render, telling};
use crate::config::Config;
use crate::ops::doctor::{self, Area, DoctorOptions, DoctorReport, Severity};
use crate::ops::error::Result;
use crate::ops::status::{self, State, StatusOptions};
use std::sync::Arc;

/// Runs `doctor`.
pub(super) fn doctor(terminal: &Terminal, args: &DoctorArgs) -> Result<u8> {
    let around = open::surroundings(terminal)?;
    let config = Arc::new(open::load_config(&open::config_path(terminal)?)?);
    let mut report = doctor::run(&config, &around, DoctorOptions { abort_uploads: args.abort_uploads })?;
    if args.notify {
        notified(terminal, &config, &mut report);
    }
    let quiet = terminal.global.quiet;
    super::show(terminal, &report, |report| render::doctor(report, quiet))?;
    Ok(if report.worst == Severity::Problem { 18 } else { 0 })
}

/// Sends a test of each kind to each; what came of it is among the findings. The dead-man service is left alone: a beat that means nothing is a lie.
#[expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method is not general enough over both lifetimes"
)]
fn notified(terminal: &Terminal, config: &Config, report: &mut DoctorReport) {
    for (target, tell, sent) in telling::tell_by(terminal, config, |teller| teller.test()) {
        let kind = tell.word();
        match sent {
            Ok(()) => report.well(Area::Notify, &target, &format!("the test of {kind:?} was sent")),
            Err(why) => report.problem(
                Area::Notify,
                &target,
                &format!("the test of {kind:?} could not be sent: {why}"),
                "correct [notify], then run `backstay doctor --notify` again",
            ),
        }
    }
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
