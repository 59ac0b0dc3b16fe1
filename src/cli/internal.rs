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
        "__demo-writer" => {
            let (database, ready) = (args.next()?, args.next()?);
            Some(match demo::writer(Path::new(&database), Path::new(&ready)) {
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
