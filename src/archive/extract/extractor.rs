//! Makes the entries of a component below a directory.

use super::dirs::Dirs;
use super::error::{ExtractError, TWICE};
use super::made::{Made, Register, Sort, key};
use super::settle::{Settler, Wanted};
use super::troubles::Troubles;
use crate::durable::crash;
use crate::model::{Entry, Kind, Problem, RelPath};
use crate::platform::apply::{self, Subject};
use crate::platform::at::{self, FileId};
use crate::platform::users::Names;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Whose restored things are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Those they had: by name where this machine has a user of that name, else by number.
    Keep,
    /// Whoever restores. Set-user-id and set-group-id bits then stay only where that is the owner they had.
    Ignore,
}

/// A directory that gets its metadata at the end.
#[derive(Debug)]
struct Later {
    path: RelPath,
    wanted: Wanted,
}

/// Makes entries below one directory; used from several threads at once.
///
/// Directories must be made before what is in them, and every file ended with [`Extractor::finish_file`]; everything with
/// [`Extractor::finish`], without which directories stay closed to everybody but the owner. An extractor only ever opens, links and
/// removes what it made itself: it compares device and inode.
#[derive(Debug)]
pub struct Extractor<'a> {
    root: Arc<OwnedFd>,
    names: &'a Names,
    pub(super) settler: Settler,
    pub(super) made: Register,
    dirs: Dirs,
    later: Mutex<Vec<Later>>,
    root_is_listed: AtomicBool,
}

const NO_PARENT: &str = "it lies in something that is not a directory of this listing";
pub(super) const NOT_A_FILE: &str = "it is not a file that this restore made";

impl<'a> Extractor<'a> {
    /// An extractor into `root`, an open directory that stays where it is until the end. `component` is for problems only.
    pub fn new(
        root: OwnedFd,
        names: &'a Names,
        owners: Owners,
        component: &str,
    ) -> Result<Self, ExtractError> {
        Self::with_dirs(root, names, owners, component, Dirs::new())
    }

    pub(super) fn with_dirs(
        root: OwnedFd,
        names: &'a Names,
        owners: Owners,
        component: &str,
        dirs: Dirs,
    ) -> Result<Self, ExtractError> {
        let facts = at::facts(&root).map_err(ExtractError::at("look at", &RelPath::root()))?;
        let troubles = Troubles::new(component, owners, rustix::process::geteuid().is_root());
        let settler = Settler::new(owners, troubles, apply::bequeaths_acl(&root));
        let made = Register::default();
        made.add(key(b"."), facts.id, Sort::Dir);
        let (later, root_is_listed) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { root: Arc::new(root), names, settler, made, dirs, later, root_is_listed })
    }

    /// Makes whatever `entry` is. A file comes back open, for the caller to fill and finish; sockets and what was left out are passed over.
    pub fn make(&self, entry: &Entry) -> Result<Option<File>, ExtractError> {
        match entry.kind {
            Kind::File => return self.create_file(entry).map(Some),
            Kind::Dir => self.make_dir(entry)?,
            Kind::Symlink => self.symlink(entry)?,
            Kind::Fifo => self.fifo(entry)?,
            Kind::Char | Kind::Block => self.device(entry)?,
            Kind::Socket | Kind::Left => {}
        }
        Ok(None)
    }

    /// Makes a directory, for now open to its owner alone. For the root only its metadata are remembered.
    pub fn make_dir(&self, entry: &Entry) -> Result<(), ExtractError> {
        if entry.path.is_root() {
            if self.root_is_listed.swap(true, Ordering::Relaxed) {
                return Err(ExtractError::Damaged { path: entry.path.clone(), why: TWICE });
            }
        } else {
            let dir = self.parent_of(&entry.path)?;
            let made = crash::around("make restored directory", || at::create_dir(&*dir, entry.path.name()));
            let (fd, facts) = made.map_err(|e| cannot_make("make directory", entry, e))?;
            let key = key(entry.path.as_bytes());
            self.made.add(key, facts.id, Sort::Dir);
            self.dirs.put(key, Arc::new(fd));
        }
        let later = Later { path: entry.path.clone(), wanted: self.wanted(entry) };
        self.later.lock().unwrap_or_else(PoisonError::into_inner).push(later);
        Ok(())
    }

    /// Makes a file of the entry's size without content, accessible to its owner alone, open for reading and writing. What is not
    /// written stays a hole.
    pub fn create_file(&self, entry: &Entry) -> Result<File, ExtractError> {
        let dir = self.parent_of(&entry.path)?;
        let made = crash::around("make restored file", || at::create_file(&*dir, entry.path.name()));
        let (file, facts) = made.map_err(|e| cannot_make("make file", entry, e))?;
        // Where extents reach the end, writing them gives the size; a call less for every small file.
        let reached = entry.extents.last().map_or(0, |e| e.offset.saturating_add(e.length));
        if reached != entry.size {
            let sized = file.set_len(entry.size);
            sized.map_err(ExtractError::at("set the size of", &entry.path))?;
        }
        self.made.add(key(entry.path.as_bytes()), facts.id, Sort::File);
        Ok(file)
    }

    /// Opens a file of this extractor again for reading and writing. Must come before [`Extractor::finish_file`], after which the mode may forbid it.
    pub fn reopen_file(&self, path: &RelPath) -> Result<File, ExtractError> {
        let made = self.made_at(path, |made| made.sort == Sort::File, NOT_A_FILE)?;
        let dir = self.parent_of(path)?;
        let file = at::open_file(&*dir, path.name()).map_err(ExtractError::at("open", path))?;
        let facts = at::facts(&file).map_err(ExtractError::at("look at", path))?;
        if facts.id == made.id { Ok(file) } else { Err(exchanged(path)) }
    }

    /// Gives a written file its metadata. Content must be complete: writing later changes the time again.
    pub fn finish_file(&self, file: &File, entry: &Entry) -> Result<(), ExtractError> {
        self.settle(Subject::Open(file.as_fd()), entry)?;
        crash::point("restored file finished");
        Ok(())
    }

    /// Lets go of a finished file that has no second name and is not to be opened or removed any more: a million of them need not be known.
    pub fn forget(&self, path: &RelPath) {
        self.made.remove(&key(path.as_bytes()));
    }

    /// Removes a file that this extractor made: its content turned out to be damaged.
    pub fn discard(&self, path: &RelPath) -> Result<(), ExtractError> {
        let made = self.made_at(path, |made| made.sort != Sort::Dir, NOT_A_FILE)?;
        let dir = self.parent_of(path)?;
        self.expect_at(&dir, path, made.id)?;
        at::unlink(&*dir, path.name()).map_err(ExtractError::at("remove", path))?;
        self.made.remove(&key(path.as_bytes()));
        Ok(())
    }

    /// Gives an open directory the metadata of `entry` at once: for one that [`super::open_live_dir`] made.
    pub fn finish_dir(&self, dir: impl AsFd, entry: &Entry) -> Result<(), ExtractError> {
        self.settle(Subject::Open(dir.as_fd()), entry)
    }

    /// Gives directories their metadata, the deepest first, so that their times are right and a closed one closes last. Returns what could not be restored.
    pub fn finish(self) -> Result<Vec<Problem>, ExtractError> {
        let later = std::mem::take(&mut *self.later.lock().unwrap_or_else(PoisonError::into_inner));
        let (shares, last) = shares_of(later, threads());
        std::thread::scope(|scope| {
            let helpers: Vec<_> =
                shares.iter().skip(1).map(|share| scope.spawn(|| self.settle_all(share))).collect();
            let own = shares.first().map_or(Ok(()), |share| self.settle_all(share));
            let gone =
                |_| Err(ExtractError::at("look at", &RelPath::root())(io::Error::other("a thread ended")));
            helpers.into_iter().fold(own, |done, helper| done.and(helper.join().unwrap_or_else(gone)))
        })?;
        self.settle_all(&last)?;
        Ok(self.settler.troubles.take())
    }

    fn settle_all(&self, later: &[Later]) -> Result<(), ExtractError> {
        for Later { path, wanted } in later {
            let dir = self.dir(path.as_bytes(), path)?;
            let settled = self.settler.settle(Subject::Open(dir.as_fd()), wanted, path);
            settled.map_err(ExtractError::at("look at", path))?;
        }
        Ok(())
    }

    fn wanted(&self, entry: &Entry) -> Wanted {
        Wanted::of(entry, self.names, self.settler.owners)
    }

    pub(super) fn settle(&self, on: Subject<'_>, entry: &Entry) -> Result<(), ExtractError> {
        let settled = self.settler.settle(on, &self.wanted(entry), &entry.path);
        settled.map_err(ExtractError::at("look at", &entry.path))
    }

    pub(super) fn made_at(
        &self,
        path: &RelPath,
        is_right: impl FnOnce(&Made) -> bool,
        why: &'static str,
    ) -> Result<Made, ExtractError> {
        let made = self.made.get(&key(path.as_bytes())).filter(is_right);
        made.ok_or_else(|| ExtractError::Damaged { path: path.clone(), why })
    }

    pub(super) fn expect_at(&self, dir: &OwnedFd, path: &RelPath, id: FileId) -> Result<(), ExtractError> {
        let facts = at::facts_at(dir, path.name()).map_err(ExtractError::at("look at", path))?;
        if facts.id == id { Ok(()) } else { Err(exchanged(path)) }
    }

    /// The directory that `path` lies in, open.
    pub(super) fn parent_of(&self, path: &RelPath) -> Result<Arc<OwnedFd>, ExtractError> {
        if path.is_root() {
            return Err(ExtractError::Damaged { path: path.clone(), why: "the root is a directory" });
        }
        let bytes = path.as_bytes();
        let parent = bytes.iter().rposition(|&b| b == b'/').map_or(&b"."[..], |slash| &bytes[..slash]);
        self.dir(parent, path)
    }

    /// The directory at `dir`, for the sake of `path`: one that this extractor made, and still that one.
    fn dir(&self, dir: &[u8], path: &RelPath) -> Result<Arc<OwnedFd>, ExtractError> {
        if dir == b"." {
            return Ok(Arc::clone(&self.root));
        }
        let key = key(dir);
        if let Some(fd) = self.dirs.get(&key) {
            return Ok(fd);
        }
        let made = self.made.get(&key).filter(|made| made.sort == Sort::Dir);
        let made = made.ok_or_else(|| ExtractError::Damaged { path: path.clone(), why: NO_PARENT })?;
        let (from, below) = match anchor(dir) {
            Some(slash) => (self.dir(&dir[..slash], path)?, &dir[slash + 1..]),
            None => (Arc::clone(&self.root), dir),
        };
        let fd = match at::open_dir_beneath(from.as_fd(), below) {
            Ok(fd) => fd,
            Err(e) if at::is_not_a_directory(&e) || e.kind() == io::ErrorKind::NotFound => {
                return Err(exchanged(path));
            }
            Err(e) => return Err(ExtractError::at("open the directory of", path)(e)),
        };
        let facts = at::facts(&fd).map_err(ExtractError::at("look at", path))?;
        if facts.id != made.id {
            return Err(exchanged(path));
        }
        let fd = Arc::new(fd);
        self.dirs.put(key, Arc::clone(&fd));
        Ok(fd)
    }
}

/// Fewer directories than this are not worth a thread.
const SHARE_MIN: usize = 256;
const THREADS_MAX: usize = 4;

fn threads() -> usize {
    crate::platform::processors().min(THREADS_MAX)
}

/// Directories in shares that may be settled at the same time, each the deepest first, and those to be settled after all shares: what a directory holds must never
/// be settled after it.
fn shares_of(mut later: Vec<Later>, threads: usize) -> (Vec<Vec<Later>>, Vec<Later>) {
    later.sort_unstable_by(|a, b| b.path.cmp(&a.path));
    let share = later.len().div_ceil(threads.max(1)).max(SHARE_MIN);
    // What a directory holds stands directly before it. Where a share ends, only what leads to its end may have something in two shares.
    let mut above: HashSet<RelPath> = HashSet::new();
    for end in later.chunks(share).filter_map(<[Later]>::last) {
        above.extend(std::iter::successors(end.path.parent(), RelPath::parent));
    }
    let mut shares: Vec<Vec<Later>> = Vec::new();
    let mut last = Vec::new();
    for (at, dir) in later.into_iter().enumerate() {
        if at % share == 0 {
            shares.push(Vec::new());
        }
        match shares.last_mut() {
            Some(share) if !above.contains(&dir.path) => share.push(dir),
            _ => last.push(dir),
        }
    }
    (shares, last)
}

/// A deep directory is opened from one that is at most so many parts above it and stays open, not from the root each time.
const ANCHOR_EVERY: usize = 64;

/// The slash that ends the longest true prefix of `dir` whose number of parts is a multiple of [`ANCHOR_EVERY`].
fn anchor(dir: &[u8]) -> Option<usize> {
    let slashes = dir.iter().enumerate().filter(|(_, b)| **b == b'/');
    slashes.skip(ANCHOR_EVERY - 1).step_by(ANCHOR_EVERY).last().map(|(place, _)| place)
}

pub(super) fn exchanged(path: &RelPath) -> ExtractError {
    ExtractError::Exchanged { path: path.clone() }
}

pub(super) fn cannot_make(verb: &'static str, entry: &Entry, error: io::Error) -> ExtractError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => ExtractError::Damaged { path: entry.path.clone(), why: TWICE },
        _ => ExtractError::at(verb, &entry.path)(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_directory_holds_is_settled_before_it_whatever_the_shares() {
        let mut later = Vec::new();
        let mut add = |path: String| {
            let entry = Entry::new(RelPath::new(path.as_bytes()).unwrap(), Kind::Dir);
            let wanted = Wanted::of(&entry, &Names::default(), Owners::Ignore);
            later.push(Later { path: entry.path, wanted });
        };
        add(".".into());
        for a in 0..40 {
            add(format!("d{a}"));
            for b in 0..30 {
                add(format!("d{a}/e{b}"));
                add(format!("d{a}/e{b}/f"));
            }
        }
        let count = later.len();
        for threads in [1, 2, 3, 4] {
            let copy =
                later.iter().map(|l| Later { path: l.path.clone(), wanted: l.wanted.clone() }).collect();
            let (shares, last) = shares_of(copy, threads);
            assert!(shares.len() <= threads && last.len() < 20, "{threads}");
            assert_eq!(shares.iter().map(Vec::len).sum::<usize>() + last.len(), count);
            let share_of = |path: &RelPath| shares.iter().position(|s| s.iter().any(|l| l.path == *path));
            for list in shares.iter().chain([&last]) {
                assert!(list.windows(2).all(|w| w[0].path > w[1].path));
            }
            for dir in &later {
                let Some(parent) = dir.path.parent() else { continue };
                let (own, above) = (share_of(&dir.path), share_of(&parent));
                assert!(above.is_none() || own == above, "{} in {own:?}, its parent in {above:?}", dir.path);
            }
        }
    }
}
