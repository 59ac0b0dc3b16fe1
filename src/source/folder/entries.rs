//! Making entries of what the walk comes by.

use crate::model::RelPath;
use crate::model::entry::{Entry, FLAG_CRASH_CONSISTENT, Kind, Why};
use crate::model::report::{Problem, ProblemKind};
use crate::platform::capture::{self, Xattrs};
use crate::source::folder::databases;
use crate::source::folder::links::Several;
use crate::source::folder::scan::Found;
use crate::source::folder::walk::Walker;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

impl Walker<'_, '_> {
    /// Adds an entry with its attributes.
    pub(super) fn add(&mut self, mut entry: Entry, stat: &Stat, xattrs: io::Result<Xattrs>) {
        self.give(&mut entry, xattrs);
        self.push(Found::new(entry, stat), stat, 0);
    }

    /// Puts attributes into `entry`, and says what could not be had of them.
    fn give(&mut self, entry: &mut Entry, xattrs: io::Result<Xattrs>) {
        for warning in self.around.tree.add_xattrs(entry, xattrs) {
            self.turn.found.problems.push(warning);
        }
    }

    /// The attributes of what is not opened for them.
    fn attributes_of_name(&mut self, dir: &OwnedFd, name: &CStr) -> io::Result<Xattrs> {
        let xattrs = capture::xattrs_at(dir.as_fd(), name);
        if xattrs.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            self.note_missing_proc();
            return Ok(Xattrs::default());
        }
        xattrs
    }

    /// A regular file: its metadata, and whether it is a database.
    pub(super) fn file(&mut self, path: RelPath, name: &CStr, dir: &OwnedFd, stat: &Stat) {
        let Some(frame) = self.stack.last() else {
            return;
        };
        let owner = databases::owner_of_sidecar(name.to_bytes());
        if owner.is_some_and(|owner| frame.databases.iter().any(|d| d == owner)) {
            return self.left(path, Why::Sidecar);
        }
        let mut raw = owner.is_some_and(|owner| frame.opaque.iter().any(|d| d == owner));
        let ident = capture::Ident::of(stat);
        let database = databases::size_fits(ident.size)
            && self.around.tree.open_at(dir.as_fd(), name).is_ok_and(databases::has_sqlite_header);
        if database {
            self.remember_database(name);
        } else if self.is_opaque_database(name, dir) {
            raw = true;
            if let Some(frame) = self.stack.last_mut() {
                frame.opaque.push(name.to_bytes().to_vec());
            }
            let what = "it looks like an encrypted database in use; it is packed as bytes with its log";
            let hint = "dump it with a command, or stop its program while backups run";
            self.problem(ProblemKind::Warning, &path, what, Some(hint));
        }
        let mut entry = Entry::new(path, Kind::File);
        capture::fill(&mut entry, stat, self.around.names);
        if raw {
            entry.flags.push(FLAG_CRASH_CONSISTENT.to_owned());
        }
        if database {
            // Other files give theirs when they are opened; SQLite alone opens this one.
            let xattrs = self.attributes_of_name(dir, name);
            self.give(&mut entry, xattrs);
        }
        let mut found = Found::new(entry, stat);
        found.database = database;
        self.push(found, stat, capture::allocated(stat));
    }

    /// Adds what may be another name of something that is listed already, here or in another part of the walk.
    fn push(&mut self, found: Found, stat: &Stat, allocated: u64) {
        let yielded = &mut self.turn.found;
        if stat.st_nlink > 1 && found.entry.kind != Kind::Dir {
            yielded.several.push(Several::new(yielded.len(), allocated));
        }
        yielded.allocated = yielded.allocated.saturating_add(allocated);
        yielded.push(found);
    }

    /// A file that is named like a database, is none that can be read, and has a SQLite log beside it.
    fn is_opaque_database(&self, name: &CStr, dir: &OwnedFd) -> bool {
        let Some(frame) = self.stack.last() else {
            return false;
        };
        let log = [name.to_bytes(), b"-wal"].concat();
        databases::named_like_a_database(name.to_bytes())
            && frame.has(&log)
            && std::ffi::CString::new(log).is_ok_and(|log| {
                self.around.tree.open_at(dir.as_fd(), &log).is_ok_and(databases::has_wal_header)
            })
    }

    /// A symbolic link, FIFO, device or socket: never opened. `inside`: of a directory that is taken whole.
    pub(super) fn special(
        &mut self,
        path: RelPath,
        name: &CStr,
        dir: &OwnedFd,
        stat: &Stat,
        (kind, inside): (Kind, bool),
    ) {
        let mut entry = Entry::new(path, kind);
        capture::fill(&mut entry, stat, self.around.names);
        if kind == Kind::Symlink {
            match rustix::fs::readlinkat(dir, name, Vec::new()) {
                Ok(target) => entry.target = Some(target.into_bytes().into()),
                // As with what is gone before it was described.
                Err(Errno::NOENT) if inside => return,
                Err(e) => return self.unreadable(entry.path, e, None),
            }
        }
        let xattrs = self.attributes_of_name(dir, name);
        self.add(entry, stat, xattrs);
    }

    /// It is said once of the whole walk, when its parts are put together.
    fn note_missing_proc(&mut self) {
        let found = &mut self.turn.found;
        found.no_proc = found.no_proc || !std::path::Path::new("/proc/self/fd").exists();
    }

    /// Lists `path` as something that was not captured, on purpose.
    pub(super) fn left(&mut self, path: RelPath, why: Why) {
        let mut entry = Entry::new(path, Kind::Left);
        entry.why = Some(why);
        self.turn.found.push(Found::left(entry));
    }

    /// Lists `path` as something that should have been captured, and says so, unless that is allowed.
    pub(super) fn unreadable(&mut self, path: RelPath, what: impl ToString, hint: Option<&str>) {
        if !self.around.allow.covers(&path, true) && !self.around.allow.covers(&path, false) {
            self.problem(ProblemKind::Unreadable, &path, what, hint);
        }
        self.left(path, Why::Unreadable);
    }

    pub(super) fn problem(
        &mut self,
        kind: ProblemKind,
        path: &RelPath,
        what: impl ToString,
        hint: Option<&str>,
    ) {
        let problem = Problem::at_path(kind, &self.around.spec.component, path.as_bytes(), what);
        self.turn.found.problems.push(hint.into_iter().fold(problem, Problem::hint));
    }
}
