//! By which of its names a database is captured that has several. SQLite finds a log by the name it opens: by another one it sees neither what is only in the log nor
//! the locks of whoever has it open. Nothing here may decide by the order of names.

use crate::model::RelPath;
use crate::source::folder::databases::says_wal;
use crate::source::folder::scan::Scan;
use rustix::fs::{OFlags, Stat};
use rustix::process::{Flock, FlockType, fcntl_getlk};
use std::collections::HashMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What keeps a database's content outside of it.
const LOGS: [&str; 2] = ["-wal", "-journal"];

/// Never a FIFO that keeps whoever opens it waiting, nor what a link leads to.
const FLAGS: i32 = OFlags::NONBLOCK.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).bits() as i32;

/// The names of databases that have several.
pub struct Groups(HashMap<u64, Vec<usize>>);

/// How a database is to be captured.
#[derive(Debug)]
pub struct InUse<'s> {
    /// By this name.
    pub name: &'s RelPath,
    /// What was found by its first name is still there: what is captured is the content of its other names, too.
    pub shared: bool,
    /// Why this may be the wrong name.
    pub doubt: Option<Doubt>,
}

/// Why what is captured of a database may lack what its log holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Doubt {
    /// There are different logs beside these names of it; the newest is taken for the one in use.
    SeveralLogs(Vec<RelPath>),
    /// It has so many names that were not found, and no log beside any that was.
    Elsewhere(usize),
}

impl Doubt {
    /// In words, and what to do about it.
    pub fn told(&self) -> (String, &'static str) {
        match self {
            Self::SeveralLogs(names) => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                let what = format!(
                    "it is one database with several names and a log beside more than one of them ({}); it was captured with the log that was written last, and may lack what another holds",
                    names.join(", ")
                );
                (what, "remove the names that no program uses, and their logs")
            }
            Self::Elsewhere(count) => {
                let names = if *count == 1 { "another name" } else { "other names" };
                let what = format!(
                    "it has {names} outside of what is backed up here; where a program has it open by such a name, what is still in its log was not captured"
                );
                (
                    what,
                    "remove names that no program uses; one that a program uses can be a component of its own: sqlite = \"PATH\"",
                )
            }
        }
    }
}

impl Scan {
    /// The databases that have several names here.
    pub fn groups(&self) -> Groups {
        let mut groups = HashMap::new();
        for (place, found) in self.entries.iter().enumerate().filter(|(_, found)| found.database) {
            if let Some(link) = found.entry.link {
                groups.entry(link).or_insert_with(Vec::new).push(place);
            }
        }
        Groups(groups)
    }

    /// By which name the database at `place` is to be captured now.
    pub fn in_use(&self, place: usize, groups: &Groups) -> InUse<'_> {
        let found = &self.entries[place];
        let own = |shared| InUse { name: &found.entry.path, shared, doubt: None };
        let Some(stat) = self.stat(&found.entry.path).filter(|stat| found.is(stat)) else {
            return own(false);
        };
        if stat.st_nlink < 2 {
            return own(true);
        }
        let group = found.entry.link.and_then(|link| groups.0.get(&link));
        let places = group.map_or(std::slice::from_ref(&place), Vec::as_slice);
        let names = places.iter().map(|place| &self.entries[*place].entry.path);
        // One that was replaced meanwhile is another database.
        let names: Vec<&RelPath> = names.filter(|name| self.is_name_of(place, name)).collect();
        let mut signs: Vec<(Sign, &RelPath)> =
            names.iter().filter_map(|name| Some((self.sign_at(name)?, *name))).collect();
        signs.sort();
        let Some((newest, name)) = signs.last() else {
            let elsewhere = usize::try_from(stat.st_nlink).unwrap_or(0).saturating_sub(names.len());
            // Without a log of that kind whatever was committed is in the file itself.
            let unseen = elsewhere > 0 && self.tree.open_file(&found.entry.path).is_ok_and(says_wal);
            return InUse { doubt: unseen.then_some(Doubt::Elsewhere(elsewhere)), ..own(true) };
        };
        let logs = || signs.iter().filter(|(sign, _)| sign.holds);
        let several = logs().any(|(sign, _)| sign.inode != newest.inode);
        let names = || logs().map(|(_, name)| (*name).clone()).collect();
        InUse { name, shared: true, doubt: several.then(|| Doubt::SeveralLogs(names())) }
    }

    /// Whether `name` is now one of the file that was found at `place`.
    pub fn is_name_of(&self, place: usize, name: &RelPath) -> bool {
        self.stat(name).is_some_and(|stat| self.entries[place].is(&stat))
    }

    fn stat(&self, name: &RelPath) -> Option<Stat> {
        rustix::fs::lstat(self.tree.real_path(name)).ok()
    }

    /// What says most that a name is in use, if anything does.
    fn sign_at(&self, name: &RelPath) -> Option<Sign> {
        let path = self.tree.real_path(name);
        let beside = |ending: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let log = |ending: &&str| {
            let stat = rustix::fs::lstat(beside(ending)).ok()?;
            let written = (stat.st_mtime as i64, stat.st_mtime_nsec as i64);
            let inode = (stat.st_dev as u64, stat.st_ino as u64);
            Some(Sign { holds: stat.st_size > 0, held: false, written, inode })
        };
        let held = is_held(&beside("-shm"));
        let log = LOGS.iter().filter_map(log).max();
        let bare = Sign { holds: false, held, written: (0, 0), inode: (0, 0) };
        log.map(|log| Sign { held, ..log }).or_else(|| held.then_some(bare))
    }
}

/// Whether somebody has a database open by the name of this index of a log: each connection holds a lock on one byte of it, behind those that say what it does.
fn is_held(index: &Path) -> bool {
    const OPEN: u64 = 128;
    // This process has no lock on it that closing it could end: databases are captured by others.
    let Ok(file) = std::fs::File::options().read(true).custom_flags(FLAGS).open(index) else { return false };
    let mut lock = Flock::from(FlockType::WriteLock);
    (lock.start, lock.length) = (OPEN, 1);
    fcntl_getlk(&file, &lock).is_ok_and(|holder| holder.is_some())
}

/// What lies beside a name. In the order of how sure it is that the name is in use.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sign {
    /// A log that is not empty.
    holds: bool,
    /// Somebody has it open.
    held: bool,
    written: (i64, i64),
    inode: (u64, u64),
}
