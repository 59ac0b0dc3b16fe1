//! What this program runs of itself: not for people, so in no help, completion or manual page.

use crate::cli::{demo, exit};
use std::path::Path;
use std::process::ExitCode;

/// Runs an internal command when the first argument names one.
pub(super) fn run() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    match args.next()?.to_str()? {
        "__capture-sqlite" => {
            Some(ExitCode::from(u8::try_from(crate::source::sqlite::child_main()).unwrap_or(1)))
        }
        crate::ops::backup::BUNDLE => {
            let top = args.next()?;
            Some(match crate::ops::git::bundle(Path::new(&top)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    exit::report(&error, 1, false);
                    ExitCode::FAILURE
                }
            })
        }
        "__demo-service" => {
            let (app, port, demo) = (args.next()?, args.next()?, args.next()?);
            let numbers = (port.to_str()?.parse().ok()?, demo.to_str()?.parse().ok()?);
            Some(match demo::serve(Path::new(&app), numbers.0, numbers.1) {
                Ok(code) => ExitCode::from(code),
                Err(error) => {
                    exit::report(&error, 1, false);
                    ExitCode::FAILURE
                }
            })
        }
        _ => None,
    }
}
