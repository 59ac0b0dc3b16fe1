//! What this program runs of itself: not for people, so in no help, completion or manual page.

use crate::cli::open;
use crate::cli::{demo, exit};
use crate::model::report::SilentProgress;
use crate::ops::error::{Class, Doing, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::session::{HostChoice, Surroundings};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

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
        crate::agent::LOOK => {
            let path = args.next()?;
            Some(look(Path::new(&path)).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
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

/// Looks at the stores of a project and keeps what was found. Whoever ends it loses nothing but the look.
fn look(path: &Path) -> Result<()> {
    let config = Arc::new(open::load_config(path)?);
    let exe = std::env::current_exe().doing(Class::Failed, || "this program cannot find itself".into())?;
    let around = Surroundings {
        clock: open::clock(),
        progress: Arc::new(SilentProgress),
        interrupt: Interrupt::default(),
        exe,
        identity_files: Vec::new(),
        store: None,
        as_of: None,
        ask: Arc::new(|_: &str| None),
        hosts: HostChoice::Own,
        wait: None,
    };
    crate::ops::status::look(&config, &around)
}
