//! Exchanging one file of a live tree for a restored one.
//!
//! At every moment there is a whole file under the live name, the old or the new; the old one always stays, under the live name or under
//! the one it is kept by. Nothing is followed on the way.

use super::error::ExtractError;
use super::target::partial_name;
use crate::durable::crash;
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
pub fn open_live_dir(base: BorrowedFd<'_>, path: &RelPath, create: bool) -> Result<LiveDir, ExtractError> {
    let opened = base.try_clone_to_owned().map_err(ExtractError::at("open", path))?;
    let (mut dir, mut created) = (opened, Vec::new());
    let mut at_path = RelPath::root();
    for name in path.parts() {
        let joined = at_path.join(name).map_err(io::Error::other);
        at_path = joined.map_err(ExtractError::at("open", path))?;
        dir = match at::open_dir(&dir, name) {
            Ok(next) => next,
            Err(e) if at::is_not_a_directory(&e) => {
                return Err(ExtractError::NotADirectory { path: path.clone(), part: at_path });
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
            crash::point("exchange: done");
            at::sync_dir(dir).map_err(ExtractError::named("sync the directory of", name))?;
            return Ok(done);
        }
    }
    let busy = io::Error::other("another process keeps making and removing it");
    Err(ExtractError::named("replace", name)(busy))
}

/// Puts the finished file `staged` of directory `dir` over the live `name`, which is not kept: for what is only a copy of something that is kept. Durable when
/// it returns. On an error the live file is as it was, and `staged` is still there.
pub fn replace_over(dir: BorrowedFd<'_>, name: &[u8], staged: &[u8]) -> Result<(), ExtractError> {
    sync_staged(dir, staged).map_err(ExtractError::named("sync", staged))?;
    crash::around("exchange over", || at::rename(dir, staged, name))
        .map_err(ExtractError::named("replace", name))?;
    at::sync_dir(dir).map_err(ExtractError::named("sync the directory of", name))
}

/// Keeps the live `name` of directory `dir` as `keep_as` (with `-2`, `-3`, … appended if taken), and gives the name that it has now.
pub fn set_aside(dir: BorrowedFd<'_>, name: &[u8], keep_as: &[u8]) -> io::Result<Vec<u8>> {
    first_free(keep_as, |kept| match at::move_new_as(dir, name, dir, kept)? {
        true => Ok(()),
        false => Err(io::ErrorKind::AlreadyExists.into()),
    })
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
    match crash::around("put new in place", || at::rename_new(dir, staged, name)) {
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
fn swap(dir: BorrowedFd<'_>, name: &[u8], staged: &[u8], keep_as: &[u8]) -> io::Result<Option<Replaced>> {
    let kept = match first_free(keep_as, |kept| at::rename_new(dir, staged, kept)) {
        Ok(kept) => kept,
        Err(e) if at::is_unsupported(&e) => return swap_by_link(dir, name, staged, keep_as),
        Err(e) => return Err(e),
    };
    crash::point("exchange: new file has the kept name");
    let Err(error) = crash::around("exchange", || at::exchange(dir, &kept, name)) else {
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
    let same = at::facts_if_any(dir, name)?.map(|facts| facts.id) == Some(at::facts_at(dir, &kept)?.id);
    let renamed = if same { at::rename(dir, staged, name).map(|()| true) } else { Ok(false) };
    if !matches!(renamed, Ok(true)) {
        at::unlink(dir, &kept)?;
    }
    Ok(renamed?.then_some(Replaced::Kept { name: kept }))
}

/// Tries `keep_as`, `keep_as-2`, `keep_as-3`, … until `take` does not find the name taken.
fn first_free(keep_as: &[u8], mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Vec<u8>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    fn content(dir: &Path) -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(&path).unwrap_or_else(|e| e.kind().to_string()))
        });
        entries.collect()
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn kept(name: &str) -> Option<Replaced> {
        Some(Replaced::Kept { name: name.as_bytes().to_vec() })
    }

    type Way = fn(BorrowedFd<'_>, &[u8], &[u8], &[u8]) -> io::Result<Option<Replaced>>;
    const WAYS: [Way; 2] = [swap, swap_by_link];

    #[test]
    fn the_old_file_is_kept_under_a_name_of_its_own_by_either_way() {
        for way in WAYS {
            let top = tempfile::tempdir().unwrap();
            let dir = at::open_place(top.path()).unwrap();
            for (name, text) in [("f", "old"), (".new", "new"), ("f.kept", "mine")] {
                std::fs::write(top.path().join(name), text).unwrap();
            }
            let done = way(dir.as_fd(), b"f", b".new", b"f.kept").unwrap();
            assert_eq!(done, kept("f.kept-2"));
            let expected = map(&[("f", "new"), ("f.kept", "mine"), ("f.kept-2", "old")]);
            assert_eq!(content(top.path()), expected);
        }
    }

    #[test]
    fn a_live_file_that_vanished_leaves_everything_as_it_was() {
        for way in WAYS {
            let top = tempfile::tempdir().unwrap();
            let dir = at::open_place(top.path()).unwrap();
            std::fs::write(top.path().join(".new"), "new").unwrap();
            assert_eq!(way(dir.as_fd(), b"f", b".new", b"f.kept").unwrap(), None);
            assert_eq!(content(top.path()), map(&[(".new", "new")]));
        }
    }

    #[test]
    fn where_nothing_was_nothing_is_kept_and_where_something_appears_it_is_not_lost() {
        let top = tempfile::tempdir().unwrap();
        let dir = at::open_place(top.path()).unwrap();
        std::fs::write(top.path().join(".new"), "new").unwrap();
        let done = replace_in_place(dir.as_fd(), b"f", b".new", b"kept").unwrap();
        assert_eq!(done, Replaced::New);
        std::fs::write(top.path().join(".new"), "newer").unwrap();
        assert_eq!(put_new(dir.as_fd(), b"f", b".new").unwrap(), None);
        assert_eq!(content(top.path()), map(&[("f", "new"), (".new", "newer")]));
    }

    #[test]
    fn a_reader_always_sees_a_whole_file_by_either_way() {
        for way in WAYS {
            let top = tempfile::tempdir().unwrap();
            let live = top.path().join("f");
            std::fs::write(&live, "0".repeat(5000)).unwrap();
            let dir = at::open_place(top.path()).unwrap();
            let (done, reads) = (AtomicBool::new(false), AtomicU32::new(0));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let text = std::fs::read_to_string(&live).unwrap();
                        assert_eq!(text.len(), 5000);
                        assert!(text.bytes().all(|b| b == text.as_bytes()[0]));
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                });
                let mut round = 0;
                while round < 200 || reads.load(Ordering::Relaxed) < 200 {
                    let digit = char::from(b'0' + (round % 10) as u8).to_string();
                    std::fs::write(top.path().join(".new"), digit.repeat(5000)).unwrap();
                    let replaced = way(dir.as_fd(), b"f", b".new", b"kept").unwrap();
                    let Some(Replaced::Kept { name }) = replaced else { panic!("not kept") };
                    at::unlink(&dir, &name).unwrap();
                    round += 1;
                }
                done.store(true, Ordering::Relaxed);
            });
        }
    }

    #[test]
    fn a_link_is_replaced_itself_and_a_closed_file_too() {
        let top = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("target"), "theirs").unwrap();
        let dir = at::open_place(top.path()).unwrap();
        symlink(outside.path().join("target"), top.path().join("f")).unwrap();
        std::fs::write(top.path().join(".new"), "new").unwrap();
        let closed = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(top.path().join(".new"), closed).unwrap();
        replace_in_place(dir.as_fd(), b"f", b".new", b"f.kept").unwrap();
        assert!(top.path().join("f.kept").is_symlink());
        assert!(!top.path().join("f").is_symlink());
        assert_eq!(std::fs::read_to_string(outside.path().join("target")).unwrap(), "theirs");
    }

    #[test]
    fn the_way_to_a_live_file_leads_through_no_link() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join("a/real")).unwrap();
        symlink("real", top.path().join("a/link")).unwrap();
        std::fs::write(top.path().join("a/file"), "").unwrap();
        let base = at::open_place(top.path()).unwrap();
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        for part in ["a/link", "a/file"] {
            let wanted = path(&format!("{part}/b"));
            let error = open_live_dir(base.as_fd(), &wanted, true).unwrap_err();
            let ExtractError::NotADirectory { part: found, .. } = &error else { panic!("{error}") };
            assert_eq!(found.to_string(), part);
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(!top.path().join("a/real/b").exists());
        let missing = open_live_dir(base.as_fd(), &path("a/new/er"), false).unwrap_err();
        assert!(matches!(missing, ExtractError::Io { .. }));
        let live = open_live_dir(base.as_fd(), &path("a/new/er"), true).unwrap();
        assert_eq!(live.created, [path("a/new"), path("a/new/er")]);
        let made = std::fs::metadata(top.path().join("a/new/er")).unwrap();
        assert_eq!(made.permissions().mode() & 0o7777, 0o700);
        let root = open_live_dir(base.as_fd(), &RelPath::root(), false).unwrap();
        assert_eq!(at::facts(&root.dir).unwrap().id, at::facts(&base).unwrap().id);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let top = tempfile::tempdir().unwrap();
        let dir = at::open_place(top.path()).unwrap();
        for name in ["f", ".new"] {
            std::fs::write(top.path().join(name), name).unwrap();
        }
        for wrong in ["../f", "/f", "..", ".", "", "a/b"] {
            let wrong = wrong.as_bytes();
            assert!(replace_in_place(dir.as_fd(), wrong, b".new", b"kept").is_err());
            assert!(replace_in_place(dir.as_fd(), b"f", wrong, b"kept").is_err());
            assert!(replace_in_place(dir.as_fd(), b"f", b".new", wrong).is_err());
        }
        assert_eq!(content(top.path()), map(&[("f", "f"), (".new", ".new")]));
    }
}
