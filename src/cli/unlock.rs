//! What opens snapshots, for a machine that keeps nothing that does: the recovery kit or an identity file, asked for first, before there is anything to
//! wait for.

use crate::cli::{Terminal, ask, open};
use crate::keys::{Kit, KitError};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::session::Session;
use std::path::PathBuf;

/// Asks whoever sits at the terminal, where `session` has nothing that opens a snapshot. Where nobody is there it goes on without, and what needs it says so.
pub(super) fn asked_for(terminal: &Terminal, mut session: Session) -> Result<Session> {
    if session.has_identities() {
        return Ok(session);
    }
    let question = "No identity is on this machine, and this needs one. Path of the recovery kit, or of an identity file:";
    let Some(answer) = ask(&terminal.interrupt, question).filter(|answer| !answer.is_empty()) else {
        return Ok(session);
    };
    let path = crate::platform::place::tidy(&of_home(&answer))
        .doing(Class::Usage, || format!("{answer:?} is not a usable path"))?;
    match Kit::load_asking(&path, &*crate::cli::secret::asker()) {
        Ok(kit) => session.with_kit(kit),
        Err(KitError::NoBlock) => {
            session.around.identity_files.push(path);
            Ok(session)
        }
        Err(e) => Err(open::kit_error(&path, e)),
    }
}

/// No shell looks at what is typed here.
fn of_home(answer: &str) -> PathBuf {
    match (answer.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(below), Some(home)) => PathBuf::from(home).join(below),
        _ => answer.into(),
    }
}

/// The error of `command`, with what to type in its place where nothing here opens a snapshot.
pub(super) fn what_to_type(error: OpError, command: &str) -> OpError {
    if error.class != Class::NoIdentity {
        return error;
    }
    let own = error.hint.clone().map(|hint| hint + "; ").unwrap_or_default();
    error.hint(format!("{own}with the recovery kit: {command} --kit FILE"))
}
