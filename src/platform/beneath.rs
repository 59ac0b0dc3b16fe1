//! Opening directories below an open one, at any depth.
//!
//! Must never follow a link or leave the directory it starts from. The kernel sees to that where it has `openat2`; elsewhere the path is
//! walked part by part, with the same result.

use crate::platform::at::{self, DIRECTORY, part};
use rustix::fs::{Mode, ResolveFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The system call takes at most 4,095 bytes of a path; longer ones are opened in stretches.
const STRETCH_MAX: usize = 4000;

/// Opens the directory at `path` (parts separated by `/`; `.` alone is `base`) below `base`. A symbolic link or a `..` anywhere in it is
/// an error: `ELOOP` or `ENOTDIR`.
pub fn open_dir_beneath(base: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    if path == b"." {
        return base.try_clone_to_owned();
    }
    let mut at: Option<OwnedFd> = None;
    let mut rest = path;
    loop {
        let (stretch, after) = first_stretch(rest);
        let from = at.as_ref().map_or(base, AsFd::as_fd);
        let next = open_stretch(from, stretch)?;
        match after {
            None => return Ok(next),
            Some(after) => (at, rest) = (Some(next), after),
        }
    }
}

fn first_stretch(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    if path.len() <= STRETCH_MAX {
        return (path, None);
    }
    let slash = path[..STRETCH_MAX].iter().rposition(|&b| b == b'/');
    slash.map_or((path, None), |slash| (&path[..slash], Some(&path[slash + 1..])))
}

/// Set once the kernel (or a container's filter) turned out not to have `openat2`.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

fn open_stretch(base: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    for name in path.split(|&b| b == b'/') {
        part(name)?;
    }
    if NO_OPENAT2.load(Ordering::Relaxed) {
        return walk(base, path);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(base, path, DIRECTORY, Mode::empty(), resolve) {
        // Old container filters answer a call that they do not know with EPERM.
        Err(Errno::NOSYS | Errno::PERM) => {
            NO_OPENAT2.store(true, Ordering::Relaxed);
            walk(base, path)
        }
        Err(Errno::AGAIN) => walk(base, path),
        other => Ok(other?),
    }
}

/// What `openat2` does, part by part.
fn walk(base: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let mut at: Option<OwnedFd> = None;
    for name in path.split(|&b| b == b'/') {
        let from = at.as_ref().map_or(base, AsFd::as_fd);
        at = Some(at::open_dir(from, name)?);
    }
    at.ok_or_else(|| Errno::INVAL.into())
}

/// Opens directory `name` in `dir` unless something is mounted there (`EXDEV`).
pub fn open_dir_here(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match rustix::fs::openat2(dir, part(name)?, DIRECTORY, Mode::empty(), resolve) {
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {}
        other => return Ok(other?),
    }
    let opened = at::open_dir(dir, name)?;
    if at::facts(&opened)?.id.dev == at::facts(dir)?.id.dev { Ok(opened) } else { Err(Errno::XDEV.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink as link_to;

    type Way = fn(BorrowedFd<'_>, &[u8]) -> io::Result<OwnedFd>;

    /// Every way of opening must refuse the same.
    fn ways() -> [Way; 2] {
        [open_dir_beneath, |base, path| {
            for name in path.split(|&b| b == b'/') {
                part(name)?;
            }
            walk(base, path)
        }]
    }

    #[test]
    fn no_path_leads_out_of_its_directory_by_either_way() {
        let top = tempfile::tempdir().unwrap();
        let base = top.path().join("base");
        std::fs::create_dir_all(base.join("a/b")).unwrap();
        std::fs::write(base.join("a/file"), "").unwrap();
        link_to("..", base.join("a/up")).unwrap();
        link_to("/", base.join("a/abs")).unwrap();
        link_to("b", base.join("a/inside")).unwrap();
        let base = at::open_place(&base).unwrap();
        for open in ways() {
            assert!(open(base.as_fd(), b"a/b").is_ok());
            for wrong in ["..", "a/..", "a/../..", "/", "/etc", "a//b", "a/b/", "", "a/./b", "./a"] {
                assert!(open(base.as_fd(), wrong.as_bytes()).is_err(), "{wrong:?}");
            }
            for link in ["a/up", "a/abs", "a/inside", "a/abs/etc", "a/inside/x", "a/file"] {
                let error = open(base.as_fd(), link.as_bytes()).unwrap_err();
                assert!(at::is_not_a_directory(&error), "{link}: {error}");
            }
        }
    }

    #[test]
    fn paths_longer_than_the_system_takes_are_opened() {
        let top = tempfile::tempdir().unwrap();
        let base = at::open_place(top.path()).unwrap();
        let name = vec![b'n'; 200];
        let mut at = base.try_clone().unwrap();
        let mut path = Vec::new();
        for _ in 0..60 {
            at = at::create_dir(&at, &name).unwrap().0;
            path.extend_from_slice(&name);
            path.push(b'/');
        }
        path.pop();
        let deepest = at::facts(&at).unwrap().id;
        for open in ways() {
            assert_eq!(at::facts(open(base.as_fd(), &path).unwrap()).unwrap().id, deepest);
        }
        assert_eq!(at::facts(walk(base.as_fd(), &path).unwrap()).unwrap().id, deepest);
        crate::platform::remove::remove_tree(base.as_fd(), &name).unwrap();
        assert!(at::is_empty(&base).unwrap());
    }
}
