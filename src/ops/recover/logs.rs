//! Logs and journals of SQLite where a database comes back. They lie beside its name and belong to whatever had that name before: whoever opens it next
//! would have a stale one replayed over what was restored.
//!
//! Where the name is free they go aside first, under the names that a restore in place gives them, and come back when the database cannot be moved in.

use crate::durable::{crash, own_names};
use crate::model::{Problem, ProblemKind};
use crate::ops::restore::{LogsAside, log_beside, logs_aside, logs_back};
use crate::platform::at;
use crate::source::folder::{is_database_at, is_log_at, owner_of_sidecar};
use rustix::fs::FileType;
use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A log that was moved aside.
pub(super) struct Aside {
    was: PathBuf,
    now: PathBuf,
}

impl Aside {
    /// That it was, for whoever may miss it.
    pub(super) fn problem(&self) -> Problem {
        Problem {
            kind: ProblemKind::Warning,
            component: None,
            subject: self.was.display().to_string(),
            what: format!(
                "it lay beside the place of a database that was not there, and would have been replayed over the recovered one: it is kept as {}",
                self.now.display()
            ),
            hint: Some("snapshots leave it out; remove it when the application is well".into()),
        }
    }
}

/// Moves a file, or whatever has this name, into the folder `to`, which lies at `there`; what a database must not meet there goes aside. None when the
/// name is not free or lies on another file system: then nothing was changed.
pub(super) fn move_without(
    from: BorrowedFd<'_>,
    name: &[u8],
    (to, there): (BorrowedFd<'_>, &Path),
    stamp: &str,
) -> io::Result<Option<Vec<Aside>>> {
    let mut aside = LogsAside::new();
    let moved = put_aside(from, name, to, stamp, &mut aside).and_then(|()| at::move_new(from, name, to));
    if !matches!(moved, Ok(true)) {
        let _stays_aside = logs_back(to, &aside);
        return moved.map(|_| None);
    }
    let path = |name: &[u8]| there.join(OsStr::from_bytes(name));
    Ok(Some(aside.iter().map(|(was, now)| Aside { was: path(was), now: path(now) }).collect()))
}

/// Notes in `aside` what had which name, and has which one now.
fn put_aside(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    stamp: &str,
    aside: &mut LogsAside,
) -> io::Result<()> {
    let is_file = at::facts_at(from, name)?.kind == FileType::RegularFile;
    let is_free = at::facts_if_any(to, name)?.is_none();
    if !is_file || !is_free || !(is_database_at(from, name) || log_beside(to, name)) {
        return Ok(());
    }
    logs_aside(to, name, |facts| !facts.is_dir(), &|sidecar| own_names::kept_as(sidecar, stamp), aside)?;
    if !aside.is_empty() {
        // A power cut must not leave the database with its name and the log with its old one.
        at::sync_dir(to)?;
        crash::point("recover: logs aside");
    }
    Ok(())
}

/// True for a log or journal whose database is still in the folder `from`: something else has the name where that was to go, and must not get this log.
pub(super) fn waits_for_its_database(from: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    let Some(owner) = owner_of_sidecar(name) else {
        return Ok(false);
    };
    let stays = at::facts_if_any(from, owner)?.is_some_and(|facts| facts.kind == FileType::RegularFile);
    Ok(stays && (is_database_at(from, owner) || is_log_at(from, name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    const STAMP: &str = "20261117T103000Z";
    /// The beginning of a write-ahead log.
    const LOG: &[u8] = &[0x37, 0x7f, 0x06, 0x82, 0, 0, 0, 0];

    #[test]
    fn a_stale_log_goes_aside_and_a_database_that_is_there_keeps_its_own() {
        let top = tempfile::tempdir().unwrap();
        let (source, target) = (top.path().join("from"), top.path().join("to"));
        let files: [(&Path, &str, &[u8]); 11] = [
            (&source, "a.db", b"SQLite format 3\0 and more"),
            (&target, "a.db-wal", LOG),
            (&target, "a.db-shm", b"shared"),
            (&source, "sealed", b"no database that can be told"),
            (&source, "sealed-wal", LOG),
            (&target, "sealed-journal", b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"),
            (&source, "live.db", b"SQLite format 3\0 restored"),
            (&source, "live.db-wal", LOG),
            (&target, "live.db", b"live"),
            (&source, "notes", b"text"),
            (&target, "notes-wal", b"text"),
        ];
        for (dir, name, text) in files {
            std::fs::create_dir_all(dir).unwrap();
            std::fs::write(dir.join(name), text).unwrap();
        }
        let (from, to) = (at::open_place(&source).unwrap(), at::open_place(&target).unwrap());
        let move_in = |name: &str| {
            move_without(from.as_fd(), name.as_bytes(), (to.as_fd(), &target), STAMP)
                .unwrap()
                .map(|a| a.len())
        };
        let waits = |name: &str| waits_for_its_database(from.as_fd(), name.as_bytes()).unwrap();
        assert_eq!((move_in("a.db"), move_in("notes")), (Some(2), Some(0)));
        assert_eq!(
            (move_in("sealed"), waits("sealed-wal"), move_in("sealed-wal")),
            (Some(1), false, Some(0))
        );
        assert_eq!((move_in("live.db"), waits("live.db-wal")), (None, true));
        let kept = |name: &str| target.join(format!("{name}.before-restore-{STAMP}"));
        assert_eq!(std::fs::read(kept("a.db-wal")).unwrap(), LOG);
        assert!(kept("a.db-shm").exists() && kept("sealed-journal").exists());
        for gone in ["a.db-wal", "a.db-shm", "sealed-journal", "live.db-wal"] {
            assert!(!target.join(gone).exists(), "{gone}");
        }
        assert!(target.join("notes-wal").exists() && target.join("sealed-wal").exists());
        assert_eq!(std::fs::read(target.join("live.db")).unwrap(), b"live");
    }
}
