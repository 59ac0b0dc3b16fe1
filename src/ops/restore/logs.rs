//! Exchanging a live database, beside which a log or a journal may lie that belongs to the old one alone.
//!
//! Two names cannot change in one step. A log that is gone before its database takes committed rows with it; one that is there after it is replayed over
//! the restored one. So where a log holds something, the old database is first exchanged for a copy of itself in which that is folded: with and without the
//! log that is the same database. Then the log goes aside, then the restored database goes over the copy. Killed anywhere, whoever opens the live name finds
//! the old database with all that was committed, or the restored one.
//!
//! The copy is made where it can be: a database that SQLite does not read (damaged, encrypted), or for which there is no room twice, is exchanged without.
//! What failed is taken back either way, and all that was there is kept.

use crate::archive::extract::{
    At, Copier, Owners, Replaced, replace_in_place, replace_over, set_aside, temporary_name,
};
use crate::durable::crash;
use crate::model::path::escape;
use crate::model::{Entry, Kind, RelPath};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::restore::staging::Staging;
use crate::ops::session::Session;
use crate::platform::at::FileId;
use crate::platform::{at, capture};
use crate::source::folder::is_log_at;
use crate::source::sqlite::fold_copy;
use rustix::fs::{AtFlags, Stat};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const LOG: &[u8] = b"-wal";
const INDEX: &[u8] = b"-shm";
const JOURNAL: &[u8] = b"-journal";

/// A database whose restored file waits beside it.
pub(super) struct Database<'x> {
    pub(super) session: &'x Session,
    /// The folder that it lies in, open and by its path.
    pub(super) dir: BorrowedFd<'x>,
    pub(super) folder: &'x Path,
    pub(super) name: &'x [u8],
    /// The name of the restored file.
    pub(super) temporary: &'x [u8],
    /// The name under which something is kept.
    pub(super) keep_as: &'x dyn Fn(&[u8]) -> Vec<u8>,
    /// What an error here is about.
    pub(super) cannot: &'x dyn Fn() -> String,
}

/// True where a log of SQLite lies beside what has this name now: it must not be replayed over what takes its place.
pub(in crate::ops) fn log_beside(dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    [LOG, JOURNAL].iter().any(|suffix| is_log_at(dir, &[name, suffix].concat()))
}

/// What lies under another name now: the name it had, and the one it has.
pub(in crate::ops) type LogsAside = Vec<(Vec<u8>, Vec<u8>)>;

/// Moves what SQLite keeps beside `name` aside, as far as `takes` it, under names that `keep_as` makes, and notes each in `aside`. The folder is yet to be
/// synced.
pub(in crate::ops) fn logs_aside(
    dir: BorrowedFd<'_>,
    name: &[u8],
    takes: impl Fn(&at::Facts) -> bool,
    keep_as: &dyn Fn(&[u8]) -> Vec<u8>,
    aside: &mut LogsAside,
) -> io::Result<()> {
    for suffix in [LOG, INDEX, JOURNAL] {
        let sidecar = [name, suffix].concat();
        if at::facts_if_any(dir, &sidecar)?.is_some_and(|facts| takes(&facts)) {
            let kept = crash::around("sidecar aside", || set_aside(dir, &sidecar, &keep_as(&sidecar)))?;
            aside.push((sidecar, kept));
        }
    }
    Ok(())
}

impl Database<'_> {
    /// Exchanges it, and gives the names under which what was there is kept. On an error everything has its name again, or the hint says what has not.
    pub(super) fn exchange(&self) -> Result<Vec<Vec<u8>>> {
        let restored = at::facts_at(self.dir, self.temporary).doing(Class::Failed, self.cannot)?.id;
        let old = self.make_whole();
        let mut aside = LogsAside::new();
        match self.sidecars_aside(&mut aside).and_then(|()| self.put(old.is_some())) {
            Ok(replaced) => {
                let old = old.or(match replaced {
                    Replaced::Kept { name } => Some(name),
                    Replaced::New => None,
                });
                Ok(old.into_iter().chain(aside.into_iter().map(|(_, kept)| kept)).collect())
            }
            // What failed may have been to make it durable: the restored one must not get the log of the old one back.
            Err(e) if self.is_live(restored) => {
                let kept = escape(&(self.keep_as)(self.name));
                Err(e.hint(format!("the restored database is in its place; the old one is kept as {kept}, and what lay beside it under such names, too")))
            }
            Err(e) => Err(self.back(&aside, old.as_deref(), e)),
        }
    }

    fn is_live(&self, id: FileId) -> bool {
        at::facts_if_any(self.dir, self.name).is_ok_and(|facts| facts.is_some_and(|facts| facts.id == id))
    }

    fn put(&self, over: bool) -> Result<Replaced> {
        crash::point("in place: sidecars aside");
        let (dir, name) = (self.dir, self.name);
        if over {
            let replaced = replace_over(dir, name, self.temporary).map(|()| Replaced::New);
            return replaced.doing(Class::Failed, self.cannot);
        }
        let keep_as = (self.keep_as)(name);
        replace_in_place(dir, name, self.temporary, &keep_as).doing(Class::Failed, self.cannot)
    }

    fn sidecars_aside(&self, aside: &mut LogsAside) -> Result<()> {
        let moved = logs_aside(self.dir, self.name, |_| true, self.keep_as, aside);
        moved.and_then(|()| at::sync_dir(self.dir)).doing(Class::Failed, self.cannot)
    }

    /// Gives everything its name again after `error`. What is in the way of that is told: without it the live database is not what it was.
    fn back(&self, aside: &LogsAside, old: Option<&[u8]>, error: OpError) -> OpError {
        let lost = logs_back(self.dir, aside);
        if let Some(old) = old {
            // Over its own copy. Where even that fails, the copy stays, which is the same database.
            let _same = at::rename(self.dir, old, self.name);
        }
        let _durable = at::sync_dir(self.dir);
        if lost.is_empty() {
            return error;
        }
        let before = error.hint.as_ref().map(|hint| format!("{hint}; ")).unwrap_or_default();
        let lost = lost.join(", ");
        error.hint(format!(
            "{before}the live database is not whole without what was moved away from it and could not be moved back: before any program opens it, \
             rename in {} {lost}",
            escape(self.folder.as_os_str().as_bytes())
        ))
    }

    /// Exchanges the live database for a copy of itself in which its logs are folded, and gives the name that it is kept by. `None` when there is nothing
    /// to fold, or when it cannot be done: then it is the live one.
    fn make_whole(&self) -> Option<Vec<u8>> {
        let holds = |suffix: &&[u8]| self.file(suffix).is_some_and(|(_, entry)| entry.size > 0);
        let logs: Vec<&[u8]> = [LOG, JOURNAL].into_iter().filter(holds).collect();
        if logs.is_empty() {
            return None;
        }
        let copy = self.folded_copy(&logs)?;
        crash::point("in place: old database copied");
        match replace_in_place(self.dir, self.name, &copy, &(self.keep_as)(self.name)) {
            Ok(Replaced::Kept { name }) => Some(name),
            Ok(Replaced::New) => None,
            Err(_) => {
                let _gone = at::unlink(self.dir, &copy);
                None
            }
        }
    }

    /// Makes the copy, and gives its name.
    fn folded_copy(&self, logs: &[&[u8]]) -> Option<Vec<u8>> {
        let hidden = Staging::make(self.folder, &[]).ok()?;
        // It is to be whose the old one is, whatever is asked for the restored one.
        let copier = Copier::new(&self.session.names, Owners::Keep, "");
        let stop = || self.session.around.interrupt.signal().is_some();
        for suffix in std::iter::once(&b""[..]).chain(logs.iter().copied()) {
            let (name, entry) = self.file(suffix)?;
            let (from, to) =
                (At { dir: self.dir, name: &name }, At { dir: hidden.root.as_fd(), name: &name });
            copier.copy(&entry, from, to, &stop).ok()?;
        }
        fold_copy(&hidden.path.join(OsStr::from_bytes(self.name))).ok()?;
        let (_, entry) = self.file(b"")?;
        let file = at::open_to_read(&hidden.root, self.name).ok()?;
        copier.settle_file(&file, &entry).ok()?;
        let copy = temporary_name(self.name).ok()?;
        at::move_new_as(&hidden.root, self.name, self.dir, &copy).ok()?.then_some(copy)
    }

    /// The live file that is called as the database with `suffix`, if that is a file.
    fn file(&self, suffix: &[u8]) -> Option<(Vec<u8>, Entry)> {
        let name = [self.name, suffix].concat();
        let c_name = CString::new(name.clone()).ok()?;
        let stat: Stat = rustix::fs::statat(self.dir, &c_name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let kind = capture::kind_of(&stat).filter(|kind| *kind == Kind::File)?;
        let mut entry = Entry::new(RelPath::new(&name).ok()?, kind);
        capture::fill(&mut entry, &stat, &self.session.names);
        entry.xattrs = capture::xattrs_at(self.dir, &c_name).unwrap_or_default().values.into();
        Some((name, entry))
    }
}

/// Gives what was moved aside its names again, and says of what cannot have it what it is called and was called.
pub(in crate::ops) fn logs_back(dir: BorrowedFd<'_>, aside: &LogsAside) -> Vec<String> {
    let is_lost = |(sidecar, kept): &&(Vec<u8>, Vec<u8>)| {
        // Something new under the name is a program's that opened the database meanwhile.
        !at::move_new_as(dir, kept, dir, sidecar).unwrap_or(false)
    };
    let lost = aside.iter().rev().filter(is_lost);
    lost.map(|(sidecar, kept)| format!("{} as {}", escape(kept), escape(sidecar))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_have_its_name_again_is_named_and_nothing_is_lost_for_it() {
        let top = tempfile::tempdir().unwrap();
        let dir = at::open_place(top.path()).unwrap();
        for (name, text) in [("db-wal.kept", "old"), ("db-shm.kept", "old"), ("db-wal", "new")] {
            std::fs::write(top.path().join(name), text).unwrap();
        }
        let aside: LogsAside =
            ["db-wal", "db-shm"].map(|name| (name.into(), format!("{name}.kept").into())).to_vec();
        assert_eq!(logs_back(dir.as_fd(), &aside), ["db-wal.kept as db-wal"]);
        let text = |name: &str| std::fs::read_to_string(top.path().join(name)).unwrap();
        assert_eq!(
            (text("db-wal"), text("db-wal.kept"), text("db-shm")),
            ("new".into(), "old".into(), "old".into())
        );
    }
}
