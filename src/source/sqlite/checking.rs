//! `quick_check` of a database that is being captured.

use crate::model::record::CheckResult;
use crate::source::sqlite::check::is_foreign;
use crate::source::sqlite::error::Failure;
use crate::source::sqlite::live::LogWatch;
use crate::source::sqlite::wire::Trailer;
use crate::source::sqlite::{AUTO_CHECK_MAX, CheckPolicy};
use rusqlite::Connection;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// While a check runs, the log is looked at once in so many of SQLite's steps: a page is one.
const STEPS: i32 = 2000;
/// A check says at most so many things.
const MESSAGES_MAX: u32 = 20;

/// What is said of a database of `size` bytes that is not checked; `None` when it is.
pub(super) fn unchecked(policy: CheckPolicy, size: u64) -> Option<CheckResult> {
    match policy {
        CheckPolicy::Never => Some(CheckResult::None),
        CheckPolicy::Auto if size > AUTO_CHECK_MAX => Some(CheckResult::Deferred),
        _ => None,
    }
}

/// The trailer for a database of `size` bytes.
pub(super) fn checked(
    policy: CheckPolicy,
    size: u64,
    check: impl FnOnce() -> rusqlite::Result<Trailer>,
) -> Trailer {
    match unchecked(policy, size) {
        Some(check) => Trailer { check, messages: Vec::new() },
        None => check().unwrap_or_else(|e| verdict_of(&e)),
    }
}

/// The same while others write: the transaction keeps the log from being reset, so the check is broken off, and left to a drill, when that grew too much.
/// It ends, and says nothing of worth, as well when `given_up` is set.
pub(super) fn quick_check_beside(
    connection: &mut Connection,
    log: LogWatch,
    given_up: Arc<AtomicBool>,
) -> rusqlite::Result<Trailer> {
    let grew: Arc<Mutex<Option<Failure>>> = Arc::default();
    let seen = Arc::clone(&grew);
    let look = move || {
        if given_up.load(Ordering::Relaxed) {
            return true;
        }
        let Err(failure) = log.check() else { return false };
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        true
    };
    connection.progress_handler(STEPS, Some(look))?;
    let trailer = quick_check(connection);
    connection.progress_handler(STEPS, None::<fn() -> bool>)?;
    let grew = grew.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(match grew {
        Some(Failure { detail, .. }) => {
            let why = format!("its log grew too much meanwhile: {detail}");
            Trailer { check: CheckResult::Deferred, messages: vec![why] }
        }
        None => trailer,
    })
}

pub(super) fn quick_check(connection: &Connection) -> Trailer {
    let said = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(&format!("PRAGMA quick_check({MESSAGES_MAX})"))?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    match said() {
        Ok(said) if said == ["ok"] => Trailer { check: CheckResult::Passed, messages: Vec::new() },
        Ok(messages) => Trailer { check: CheckResult::Failed, messages },
        Err(e) => verdict_of(&e),
    }
}

/// What an error during a check means: damage, or a schema that needs functions or modules which only its own program has.
fn verdict_of(error: &rusqlite::Error) -> Trailer {
    match is_foreign(error) {
        true => {
            Trailer { check: CheckResult::None, messages: vec![format!("it could not be checked: {error}")] }
        }
        false => Trailer { check: CheckResult::Failed, messages: vec![error.to_string()] },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::sqlite::child::sidecar;
    use std::fs::File;

    #[test]
    fn a_check_ends_when_the_log_grows_too_much_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let rows = "CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB);
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
            INSERT INTO t SELECT i, randomblob(700) FROM n";
        Connection::open(&path).unwrap().execute_batch(rows).unwrap();
        let mut connection = Connection::open(&path).unwrap();
        let watch = LogWatch::new(&path, 0);
        assert_eq!(
            quick_check_beside(&mut connection, watch, Arc::default()).unwrap().check,
            CheckResult::Passed
        );
        // Another name, so that SQLite does not take it for the log of this database.
        let elsewhere = dir.path().join("other.db");
        let log_of = sidecar(&elsewhere, "-wal");
        let watch = LogWatch::new(&elsewhere, 0);
        File::create(log_of).unwrap().set_len(3 << 30).unwrap();
        let trailer = quick_check_beside(&mut connection, watch, Arc::default()).unwrap();
        assert_eq!(trailer.check, CheckResult::Deferred);
        assert!(trailer.messages[0].contains("its log grew too much"), "{trailer:?}");
        assert_eq!(quick_check(&connection).check, CheckResult::Passed, "and the connection is as it was");
        let given_up = Arc::new(AtomicBool::new(true));
        let trailer = quick_check_beside(&mut connection, LogWatch::new(&path, 0), given_up).unwrap();
        assert_ne!(trailer.check, CheckResult::Passed, "nobody waits for it any more: it ended early");
    }

    #[test]
    fn policies_decide_about_checks() {
        let passed = || Ok(Trailer { check: CheckResult::Passed, messages: vec![] });
        assert_eq!(checked(CheckPolicy::Auto, AUTO_CHECK_MAX, passed).check, CheckResult::Passed);
        assert_eq!(checked(CheckPolicy::Auto, AUTO_CHECK_MAX + 1, passed).check, CheckResult::Deferred);
        assert_eq!(checked(CheckPolicy::Always, AUTO_CHECK_MAX + 1, passed).check, CheckResult::Passed);
        assert_eq!(checked(CheckPolicy::Never, 1, passed).check, CheckResult::None);
    }
}
