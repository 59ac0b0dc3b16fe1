//! What reading remembers of the stores, and what is said when the state folder cannot be written.
//!
//! A failure to write is told once and ends no reading: a restore on the day a disk turned read-only must work. What cannot be read ends everything,
//! because it guards against a store that was rolled back; and so does any failure in a run that writes, which holds the project's lock.

use crate::catalog::StateError;
use crate::model::{Problem, ProblemKind};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::session::Session;
use crate::store::Key;
use std::error::Error as _;
use std::sync::atomic::Ordering;

/// What to do about a state folder that cannot be written.
pub(super) const UNWRITABLE: &str = "let the user who runs backstay own it; a disk that turned read-only by itself had an error: look at `dmesg`";

/// Why a store cannot be used, or was not remembered, by what this machine knows of it. `store`: its name, and perhaps its place.
pub(super) fn recognised(store: &str, error: StateError) -> OpError {
    if error.is_about_the_store() {
        let what = format!("store {store} is not the one seen before: so says its {}", Key::Store);
        let taken = match &error {
            StateError::OtherInstance { store, .. } => Some(format!(
                "bring back the store that was there; if this one of the same vault is to take its place: `backstay init --replace-store {store}`"
            )),
            _ => None,
        };
        let error = OpError::new(Class::Damage, what).because(error);
        return match taken {
            Some(hint) => error.hint(hint),
            None => error,
        };
    }
    match error {
        StateError::Unwritable { .. } => {
            OpError::new(Class::Failed, "it cannot be remembered which stores there are")
                .because(error)
                .hint(UNWRITABLE)
        }
        error => OpError::new(Class::Damage, "cannot read which stores were seen before").because(error),
    }
}

impl Session {
    /// What came of remembering something; for a session that only reads, a state folder that cannot be written is no failure.
    pub(super) fn remembered(&self, done: Result<()>) -> Result<()> {
        let Err(error) = done else { return Ok(()) };
        match error.source().and_then(|cause| cause.downcast_ref::<StateError>()) {
            Some(StateError::Unwritable { dir, source }) if !self.writes.load(Ordering::Relaxed) => {
                let why = source.source().map_or_else(|| source.to_string(), ToString::to_string);
                self.trouble(Problem {
                    kind: ProblemKind::Warning,
                    component: None,
                    subject: format!("state folder {}", dir.display()),
                    what: format!("it cannot be written, so what the stores show is not remembered: {why}"),
                    hint: Some(UNWRITABLE.to_owned()),
                });
                Ok(())
            }
            _ => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::DurableError;
    use crate::model::VaultId;
    use std::io;
    use std::path::PathBuf;

    fn io_error() -> DurableError {
        let source = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        DurableError::Io { verb: "open", path: "/state/.state.lock".into(), source }
    }

    #[test]
    fn only_another_store_is_called_another_store() {
        let vault = |n: u8| VaultId::from_random([n; 17]);
        let other = StateError::OtherInstance {
            path: PathBuf::from("/state/vault.json"),
            store: "local".into(),
            known: vault(1),
            found: vault(2),
        };
        let said = recognised("\"local\"", other);
        assert!(
            said.class == Class::Damage && said.to_string().contains("not the one seen before"),
            "{said}"
        );
        assert!(
            said.hint.as_deref().is_some_and(|hint| hint.contains("init --replace-store local")),
            "{said:?}"
        );
        let unwritable = StateError::Unwritable { dir: "/state".into(), source: io_error() };
        let said = recognised("\"local\"", unwritable);
        assert_eq!((said.class, said.hint.as_deref()), (Class::Failed, Some(UNWRITABLE)));
        assert!(!said.to_string().contains("local"), "{said}");
        let unreadable = recognised("\"local\"", StateError::Durable(io_error()));
        assert!(
            unreadable.class == Class::Damage && unreadable.to_string().contains("cannot read"),
            "{unreadable}"
        );
    }
}
