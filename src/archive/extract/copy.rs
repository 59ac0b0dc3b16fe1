//! Copies of finished entries, for where a rename does not lead: a place on which something else is mounted.

use super::error::ExtractError;
use super::extractor::Owners;
use super::nodes::cannot_be_here;
use super::settle::{Settler, Wanted};
use super::troubles::{Sort, Troubles};
use crate::model::{Entry, Kind, Problem};
use crate::platform::apply::Subject;
use crate::platform::at::FileId;
use crate::platform::users::Names;
use crate::platform::{at, capture};
use rustix::fs::FileType;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;

/// Content is copied in steps of this many bytes.
const STEP: usize = 1 << 20;

/// A name in an open directory.
#[derive(Debug, Clone, Copy)]
pub struct At<'d> {
    /// The directory.
    pub dir: BorrowedFd<'d>,
    /// One part of a path.
    pub name: &'d [u8],
}

/// Makes entries once more, elsewhere. Nothing is followed, and nothing that was there before is replaced.
#[derive(Debug)]
pub struct Copier<'a> {
    names: &'a Names,
    settler: Settler,
}

impl<'a> Copier<'a> {
    /// A copier; `component` is for problems only.
    pub fn new(names: &'a Names, owners: Owners, component: &str) -> Self {
        let troubles = Troubles::new(component, owners, rustix::process::geteuid().is_root());
        // Copies go to many directories, of which any may bequeath an ACL.
        Self { names, settler: Settler::new(owners, troubles, true) }
    }

    /// Makes at `to`, which must not exist, what `entry` says, with the content of the file at `from`, holes and all. Durable when it returns; on an error
    /// nothing is there. `stop` is asked all the time.
    pub fn copy(
        &self,
        entry: &Entry,
        from: At<'_>,
        to: At<'_>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), ExtractError> {
        let failed = |e| ExtractError::at("copy", &entry.path)(e);
        if entry.kind == Kind::File {
            let source = open_source(from).map_err(failed)?;
            let (file, _) = copy_file(&source, to, stop).map_err(failed)?;
            let copied = self.settle(Subject::Open(file.as_fd()), entry).and_then(|()| file.sync_all());
            return copied.map_err(|e| {
                // The error that is told is the first one.
                let _gone = at::unlink(to.dir, to.name);
                failed(e)
            });
        }
        if !self.make_node(entry, to).map_err(failed)? {
            return Ok(());
        }
        self.settle(Subject::Named { dir: to.dir, name: to.name }, entry).map_err(failed)
    }

    /// Gives a file that was changed after it was copied its metadata once more.
    pub fn settle_file(&self, file: &File, entry: &Entry) -> Result<(), ExtractError> {
        self.settle(Subject::Open(file.as_fd()), entry).map_err(ExtractError::at("look at", &entry.path))
    }

    /// What could not be given to the copies.
    pub fn problems(&self) -> Vec<Problem> {
        self.settler.troubles.take()
    }

    fn settle(&self, on: Subject<'_>, entry: &Entry) -> io::Result<()> {
        self.settler.settle(on, &Wanted::of(entry, self.names, self.settler.owners), &entry.path)
    }

    /// False for a device that cannot be there, which is a problem and no error.
    fn make_node(&self, entry: &Entry, to: At<'_>) -> io::Result<bool> {
        let device = |kind| {
            let numbers = entry.dev.unwrap_or_default();
            match at::make_device(to.dir, to.name, kind, numbers) {
                Err(e) if cannot_be_here(&e) => {
                    let what = || format!("device {}:{} not made: {e}", numbers.0, numbers.1);
                    self.settler.troubles.add(Sort::Device, &entry.path, what);
                    Ok(false)
                }
                other => other.map(|()| true),
            }
        };
        match entry.kind {
            Kind::Symlink => at::symlink(entry.target.as_deref().unwrap_or_default(), to.dir, to.name)?,
            Kind::Fifo => at::make_fifo(to.dir, to.name)?,
            Kind::Char => return device(FileType::CharacterDevice),
            Kind::Block => return device(FileType::BlockDevice),
            Kind::File | Kind::Dir | Kind::Socket | Kind::Left => return Ok(false),
        }
        Ok(true)
    }
}

/// Makes at `to`, which must not exist, a file with the content of `source`, holes and all. On an error nothing is there.
pub(super) fn copy_file(source: &File, to: At<'_>, stop: &dyn Fn() -> bool) -> io::Result<(File, FileId)> {
    let (file, facts) = at::create_file(to.dir, to.name)?;
    copy_content(source, &file, stop).inspect_err(|_| {
        // The error that is told is the first one.
        let _gone = at::unlink(to.dir, to.name);
    })?;
    Ok((file, facts.id))
}

/// A finished file may be closed to its own owner.
pub(super) fn open_source(from: At<'_>) -> io::Result<File> {
    match at::open_to_read(from.dir, from.name) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            at::set_mode_at(from.dir, from.name, 0o600)?;
            at::open_to_read(from.dir, from.name)
        }
        other => other,
    }
}

fn copy_content(from: &File, to: &File, stop: &dyn Fn() -> bool) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    // Where both lie on one file system that can do it, nothing is copied at all.
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    to.set_len(capture::Ident::of(&stat).size)?;
    let mut buffer = vec![0; STEP];
    for (mut offset, mut left) in capture::data_ranges(from.as_fd(), &stat)? {
        while left > 0 {
            if stop() {
                return Err(io::Error::other("interrupted"));
            }
            let want = usize::try_from(left).unwrap_or(STEP).min(STEP);
            let got = match from.read_at(&mut buffer[..want], offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            to.write_all_at(&buffer[..got], offset)?;
            (offset, left) = (offset + got as u64, left - got as u64);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RelPath;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn a_copy_has_the_holes_the_mode_and_the_time_of_what_it_is_a_copy_of() {
        let top = tempfile::tempdir().unwrap();
        let dir = at::open_place(top.path()).unwrap();
        let file = File::create(top.path().join("from")).unwrap();
        file.write_all_at(b"in the middle", 20 << 20).unwrap();
        file.set_len(40 << 20).unwrap();
        let entry = Entry {
            mode: 0o000,
            mtime: (1_000_000_000, 7),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            ..Entry::new(RelPath::new(b"a/file").unwrap(), Kind::File)
        };
        file.set_permissions(std::fs::Permissions::from_mode(0o000)).unwrap();
        let names = Names::default();
        let copier = Copier::new(&names, Owners::Keep, "app");
        let at = |name| At { dir: dir.as_fd(), name };
        copier.copy(&entry, at(b"from"), at(b"to"), &|| false).unwrap();
        let facts = std::fs::metadata(top.path().join("to")).unwrap();
        assert_eq!((facts.mode() & 0o7777, facts.mtime(), facts.mtime_nsec()), (0, 1_000_000_000, 7));
        assert_eq!(facts.len(), 40 << 20);
        assert!(facts.blocks() * 512 < 10 << 20, "{} blocks", facts.blocks());
        at::set_mode_at(&dir, b"to", 0o600).unwrap();
        let bytes = std::fs::read(top.path().join("to")).unwrap();
        assert!(bytes[20 << 20..].starts_with(b"in the middle"));
        // Nothing is copied over something, and nothing is left of what was stopped.
        assert!(copier.copy(&entry, at(b"from"), at(b"to"), &|| false).is_err());
        assert!(top.path().join("to").exists());
        let stopped = copier.copy(&entry, at(b"from"), at(b"other"), &|| true);
        assert!(stopped.is_err() != top.path().join("other").exists());
    }
}
