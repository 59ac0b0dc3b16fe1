//! Removing a tree by descriptors.
//!
//! Must never follow a link, enter a mount, or touch anything outside the tree, even when somebody moves directories meanwhile.

use crate::platform::at::{self, FileId};
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A directory on the way down.
struct Level {
    name: Vec<u8>,
    id: FileId,
    /// Directories in it that are still to be removed.
    below: Vec<Vec<u8>>,
}

/// Removes `name` in `dir` with everything in it, at any depth, holding two descriptors at a time. Directories that their mode closes
/// are opened first. Fails on a mount point, leaving it and what is mounted as they are.
pub fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    if !at::facts_at(dir, name)?.is_dir() {
        return at::unlink(dir, name);
    }
    let (mut here, first) = enter(dir, name)?;
    let mut levels = vec![first];
    while let Some(level) = levels.last_mut() {
        if let Some(child) = level.below.pop() {
            let (fd, level) = enter(here.as_fd(), &child)?;
            levels.push(level);
            here = fd;
            continue;
        }
        let done = levels.pop().map(|level| level.name).unwrap_or_default();
        let Some(up) = levels.last() else {
            return at::remove_dir(dir, &done);
        };
        // Going up by ".." keeps few descriptors open, and is safe because the directory must be the one we came from.
        let parent = at::open_parent(&here)?;
        if at::facts(&parent)?.id != up.id {
            return Err(Errno::STALE.into());
        }
        at::remove_dir(&parent, &done)?;
        here = parent;
    }
    Ok(())
}

/// Opens directory `name`, and removes everything in it but directories.
fn enter(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<(OwnedFd, Level)> {
    let fd = match at::open_dir_here(dir, name) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            at::set_mode_at(dir, name, 0o700)?;
            at::open_dir_here(dir, name)?
        }
        other => other?,
    };
    let facts = at::facts(&fd)?;
    if facts.mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o700))?;
    }
    let mut below = Vec::new();
    for (child, kind) in at::names(&fd)? {
        let is_dir = match kind {
            FileType::Unknown => at::facts_at(&fd, &child)?.is_dir(),
            kind => kind == FileType::Directory,
        };
        if is_dir {
            below.push(child);
        } else {
            at::unlink(&fd, &child)?;
        }
    }
    Ok((fd, Level { name: name.to_vec(), id: facts.id, below }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn links_are_removed_and_not_followed() {
        let top = tempfile::tempdir().unwrap();
        let kept = top.path().join("kept");
        std::fs::create_dir_all(kept.join("in")).unwrap();
        std::fs::write(kept.join("in/file"), "x").unwrap();
        let gone = top.path().join("gone");
        std::fs::create_dir_all(gone.join("a/b")).unwrap();
        symlink(&kept, gone.join("a/link")).unwrap();
        symlink(kept.join("in/file"), gone.join("file")).unwrap();
        std::fs::hard_link(kept.join("in/file"), gone.join("hard")).unwrap();
        let base = at::open_place(top.path()).unwrap();
        remove_tree(base.as_fd(), b"gone").unwrap();
        assert!(!gone.exists());
        assert_eq!(std::fs::read_to_string(kept.join("in/file")).unwrap(), "x");
        symlink(&kept, &gone).unwrap();
        remove_tree(base.as_fd(), b"gone").unwrap();
        assert!(kept.join("in/file").exists() && !gone.is_symlink());
    }

    #[test]
    fn closed_directories_are_removed() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join("t/a/b")).unwrap();
        std::fs::write(top.path().join("t/a/b/f"), "x").unwrap();
        for dir in ["t/a/b", "t/a", "t"] {
            let closed = std::fs::Permissions::from_mode(0o000);
            std::fs::set_permissions(top.path().join(dir), closed).unwrap();
        }
        let base = at::open_place(top.path()).unwrap();
        remove_tree(base.as_fd(), b"t").unwrap();
        assert!(at::is_empty(&base).unwrap());
    }

    #[test]
    fn a_tree_of_any_depth_is_removed() {
        let top = tempfile::tempdir().unwrap();
        let base = at::open_place(top.path()).unwrap();
        let mut dir = base.try_clone().unwrap();
        for _ in 0..5000 {
            dir = at::create_dir(&dir, b"deep").unwrap().0;
            at::create_file(&dir, b"f").unwrap();
        }
        remove_tree(base.as_fd(), b"deep").unwrap();
        assert!(at::is_empty(&base).unwrap());
    }
}
