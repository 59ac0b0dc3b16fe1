//! Exchanging one file of a live tree for a restored one.
//!
//! At every moment there is a whole file under the live name, the old or the new; the old one always stays, under the live name or under
//! the one it is kept by. Nothing is followed on the way.

use super::error::ExtractError;
use super::target::partial_name;
use crate::model::RelPath;
use crate::platform::at;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// An open directory of a live tree.
#[derive(Debug)]
pub struct LiveDir {
    /// The directory.
    pub dir: OwnedFd,
    /// Directories that were not there and were made, private to their owner, the topmost first. The caller gives them their metadata
    /// ([`super::Extractor::finish_dir`]), the last first.
    pub created: Vec<RelPath>,
}

/// Opens directory `path` below `base`, part by part, making what is missing if `create`. A part that is a link or a file is an error
/// that names it.
pub fn open_live_dir(
    base: BorrowedFd<'_>,
    path: &RelPath,
    create: bool,
) -> Result<LiveDir, ExtractError> {
    let opened = base
        .try_clone_to_owned()
        .map_err(ExtractError::at("open", path))?;
    let (mut dir, mut created) = (opened, Vec::new());
    let mut at_path = RelPath::root();
    for name in path.parts() {
        let joined = at_path.join(name).map_err(io::Error::other);
        at_path = joined.map_err(ExtractError::at("open", path))?;
        dir = match at::open_dir(&dir, name) {
            Ok(next) => next,
            Err(e) if at::is_not_a_directory(&e) => {
                return Err(ExtractError::NotADirectory {
                    path: path.clone(),
                    part: at_path,
                });
            }
            Err(e) if create && e.kind() == io::ErrorKind::NotFound => {
                let made = at::create_dir(&dir, name);
                let (next, _) = made.map_err(ExtractError::at("make directory", &at_path))?;
                at::sync_dir(&dir).map_err(ExtractError::at("sync the directory of", &at_path))?;
                created.push(at_path.clone());
                next
            }
            Err(e) => return Err(ExtractError::at("open directory", &at_path)(e)),
        };
    }
    Ok(LiveDir { dir, created })
}

/// A name for a file that is to become `name`: hidden, not to be foreseen, and telling what it is.
pub fn temporary_name(name: &[u8]) -> Result<Vec<u8>, ExtractError> {
    partial_name(name).map_err(ExtractError::named("find a temporary name for", name))
}

/// What [`replace_in_place`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaced {
    /// Nothing was there.
    New,
    /// What was there is kept beside it.
    Kept {
        /// Under this name.
        name: Vec<u8>,
    },
}

/// Programs that write the live file at the same time can make a step fail; after so many the restore gives up.
const TRIES: u32 = 100;
/// So many kept versions of one file are numbered.
const NUMBERS_MAX: u32 = 10_000;

/// Puts the finished file `staged` of directory `dir` under the live `name`, and keeps what was there as `keep_as` (with `-2`, `-3`, …
/// appended if taken). Durable when it returns. On an error the live file is as it was, and `staged` is still there.
///
/// Killed in the middle, it leaves the live file as it was or replaced. A file `keep_as` then holds the one or the other of the two.
pub fn replace_in_place(
    dir: BorrowedFd<'_>,
    name: &[u8],
    staged: &[u8],
    keep_as: &[u8],
) -> Result<Replaced, ExtractError> {
    sync_staged(dir, staged).map_err(ExtractError::named("sync", staged))?;
    for _ in 0..TRIES {
        let there = at::facts_if_any(dir, name).map_err(ExtractError::named("look at", name))?;
        let done = match there {
            None => put_new(dir, name, staged),
            Some(_) => swap(dir, name, staged, keep_as),
        };
        if let Some(done) = done.map_err(ExtractError::named("replace", name))? {
            at::sync_dir(dir).map_err(ExtractError::named("sync the directory of", name))?;
            return Ok(done);
        }
    }
    let busy = io::Error::other("another process keeps making and removing it");
    Err(ExtractError::named("replace", name)(busy))
}

/// A rename can be durable before the content is; after a power cut there would be an empty file under the live name.
fn sync_staged(dir: BorrowedFd<'_>, staged: &[u8]) -> io::Result<()> {
    if !at::facts_at(dir, staged)?.kind.is_file() {
        return Ok(());
    }
    match at::open_to_read(dir, staged) {
        Ok(file) => file.sync_all(),
        // Its mode may forbid even its owner to open it.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => at::sync_file_system(dir),
        Err(e) => Err(e),
    }
}

/// `None` when something appeared under the live name meanwhile.
fn put_new(dir: BorrowedFd<'_>, name: &[u8], staged: &[u8]) -> io::Result<Option<Replaced>> {
    match at::rename_new(dir, staged, name) {
        Err(e) if at::is_unsupported(&e) => {}
        other => return unless_taken(other, Replaced::New),
    }
    match at::link(dir, staged, dir, name) {
        Ok(()) => at::unlink(dir, staged).map(|()| Some(Replaced::New)),
        other => unless_taken(other, Replaced::New),
    }
}

fn unless_taken(result: io::Result<()>, done: Replaced) -> io::Result<Option<Replaced>> {
    match result {
        Ok(()) => Ok(Some(done)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(e) => Err(e),
    }
}

/// The new file first takes the name by which the old is to be kept, then the two are exchanged: so the old one never has a name that
/// looks like something unfinished. `None` when the live file vanished meanwhile.
fn swap(
    dir: BorrowedFd<'_>,
    name: &[u8],
    staged: &[u8],
    keep_as: &[u8],
) -> io::Result<Option<Replaced>> {
    let kept = match first_free(keep_as, |kept| at::rename_new(dir, staged, kept)) {
        Ok(kept) => kept,
        Err(e) if at::is_unsupported(&e) => return swap_by_link(dir, name, staged, keep_as),
        Err(e) => return Err(e),
    };
    let Err(error) = at::exchange(dir, &kept, name) else {
        return Ok(Some(Replaced::Kept { name: kept }));
    };
    at::rename_new(dir, &kept, staged)?;
    match error {
        e if e.kind() == io::ErrorKind::NotFound => Ok(None),
        e if at::is_unsupported(&e) => swap_by_link(dir, name, staged, keep_as),
        e => Err(e),
    }
}

/// Where names cannot be exchanged: a second name for the old file, then the new one over its first name. Neither is ever gone.
fn swap_by_link(
    dir: BorrowedFd<'_>,
    name: &[u8],
    staged: &[u8],
    keep_as: &[u8],
) -> io::Result<Option<Replaced>> {
    let kept = match first_free(keep_as, |kept| at::link(dir, name, dir, kept)) {
        Ok(kept) => kept,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let same =
        at::facts_if_any(dir, name)?.map(|facts| facts.id) == Some(at::facts_at(dir, &kept)?.id);
    let renamed = if same {
        at::rename(dir, staged, name).map(|()| true)
    } else {
        Ok(false)
    };
    if !matches!(renamed, Ok(true)) {
        at::unlink(dir, &kept)?;
    }
    Ok(renamed?.then_some(Replaced::Kept { name: kept }))
}

/// Tries `keep_as`, `keep_as-2`, `keep_as-3`, … until `take` does not find the name taken.
fn first_free(
    keep_as: &[u8],
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let mut name = keep_as.to_vec();
    for number in 2..=NUMBERS_MAX {
        match take(&name) {
            Ok(()) => return Ok(name),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
        name.truncate(keep_as.len());
        name.extend_from_slice(format!("-{number}").as_bytes());
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}
