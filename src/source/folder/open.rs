//! Opening what a scan found, as it is now.

use crate::model::RelPath;
use crate::model::entry::{Entry, Kind};
use crate::model::path::escape;
use crate::model::report::{Problem, ProblemKind};
use crate::platform::capture::{self, Ident};
use crate::platform::users::Names;
use crate::source::folder::place::OUTSIDE;
use crate::source::folder::scan::Found;
use crate::source::folder::spec::{FolderSpec, SourceError, What};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Why a file that a scan found cannot be read now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is not there any more.
    #[error("{path} vanished before it was read")]
    Vanished {
        /// Which.
        path: RelPath,
    },
    /// Something else is there now: a link, a directory, a FIFO.
    #[error("{path} is not a regular file any more")]
    Changed {
        /// Which.
        path: RelPath,
    },
    /// It cannot be opened or described.
    #[error("cannot read {path}")]
    Unreadable {
        /// Which.
        path: RelPath,
        /// Why.
        source: io::Error,
    },
}

impl OpenError {
    fn of(path: &RelPath, errno: Errno) -> Self {
        let path = path.clone();
        match errno {
            Errno::NOENT => Self::Vanished { path },
            // A link where there was none, or a device without a driver or a socket.
            Errno::LOOP | Errno::NOTDIR | Errno::NXIO => Self::Changed { path },
            other => Self::Unreadable { path, source: other.into() },
        }
    }
}

/// The directory of a component, held open: all its files are opened beneath it.
#[derive(Debug)]
pub struct Tree {
    component: String,
    real_base: PathBuf,
    base: OwnedFd,
    outside: Option<OwnedFd>,
    try_noatime: AtomicBool,
}

/// Flags with which directories are opened. Non-blocking, because what is opened may have become a FIFO.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
pub(super) const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);
/// A longer file is not captured: it is nearly all holes, and the hashes of its blocks alone, which are held at once, would take gigabytes. Those of one of this
/// length take 400 MB.
const FILE_BYTES_MAX: u64 = 1 << 47;
/// Longest path given to the kernel in one piece (its own limit is 4,095 bytes).
const PIECE_MAX: usize = 3000;

impl Tree {
    /// Opens the base directory. Symbolic links on the way to it, and itself, are followed: the configuration names it.
    pub fn new(spec: &FolderSpec) -> Result<Self, SourceError> {
        let base_path = match &spec.what {
            What::Single(file) => file.parent().unwrap_or(Path::new("/")),
            _ => &spec.base,
        };
        let fail = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => SourceError::Missing { path: base_path.to_owned() },
            io::ErrorKind::NotADirectory => SourceError::NotADirectory { path: base_path.to_owned() },
            _ => SourceError::Unreadable { path: base_path.to_owned(), source: e },
        };
        let real_base = base_path.canonicalize().map_err(fail)?;
        let open = |path: &Path| rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty());
        let base = open(&real_base).map_err(|e| fail(e.into()))?;
        let outside = match &spec.what {
            What::List(_) => Some(open(Path::new("/")).map_err(|e| fail(e.into()))?),
            _ => None,
        };
        let component = spec.component.clone();
        Ok(Self { component, real_base, base, outside, try_noatime: AtomicBool::new(true) })
    }

    /// The base directory without symbolic links.
    pub fn real_base(&self) -> &Path {
        &self.real_base
    }

    /// Where on this machine `path` of the component lies.
    pub fn real_path(&self, path: &RelPath) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let (outside, rest) = self.split(path);
        let top = if outside { Path::new("/") } else { &self.real_base };
        match rest {
            b"." => top.to_owned(),
            rest => top.join(std::ffi::OsStr::from_bytes(rest)),
        }
    }

    /// Whether `path` lies outside the base, and where relative to `/` or to the base.
    fn split<'p>(&self, path: &'p RelPath) -> (bool, &'p [u8]) {
        let bytes = path.as_bytes();
        match bytes.strip_prefix(OUTSIDE) {
            Some(b"") if self.outside.is_some() => (true, b"."),
            Some([b'/', rest @ ..]) if self.outside.is_some() => (true, rest),
            _ => (false, bytes),
        }
    }

    /// Opens the directory `path`.
    pub(super) fn open_dir(&self, path: &RelPath) -> rustix::io::Result<OwnedFd> {
        self.open_with(path, DIRECTORY)
    }

    fn open_with(&self, path: &RelPath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let (outside, rest) = self.split(path);
        let top = if outside { self.outside.as_ref().unwrap_or(&self.base) } else { &self.base };
        open_beneath(top.as_fd(), rest, flags)
    }

    /// Opens the file `path` for reading; its access time stays where the system allows it.
    pub(super) fn open_file(&self, path: &RelPath) -> rustix::io::Result<OwnedFd> {
        self.quietly(|flags| self.open_with(path, flags))
    }

    /// Opens `name` in `dir` for reading, in the same way.
    pub(super) fn open_at(&self, dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
        self.quietly(|flags| rustix::fs::openat(dir, name, flags, Mode::empty()))
    }

    fn quietly(&self, open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>) -> rustix::io::Result<OwnedFd> {
        if self.try_noatime.load(Ordering::Relaxed) {
            match open(FILE | no_atime()) {
                // Only a file's owner and root may ask for it.
                Err(Errno::PERM) => self.try_noatime.store(false, Ordering::Relaxed),
                other => return other,
            }
        }
        open(FILE)
    }

    /// True for a list of paths, some of which may lie outside the base.
    pub(super) fn has_outside(&self) -> bool {
        self.outside.is_some()
    }

    /// Opens a regular file for reading, as it is now. Never blocks and never follows a link.
    pub fn open(&self, found: &Found, names: &Names) -> Result<OpenFile, OpenError> {
        let path = &found.entry.path;
        let fail = |errno| OpenError::of(path, errno);
        let fd = self.open_file(path).map_err(fail)?;
        let stat = rustix::fs::fstat(&fd).map_err(fail)?;
        if capture::kind_of(&stat) != Some(Kind::File) {
            return Err(OpenError::Changed { path: path.clone() });
        }
        let unreadable = |source| OpenError::Unreadable { path: path.clone(), source };
        let size = Ident::of(&stat).size;
        if size > FILE_BYTES_MAX {
            let what = format!("it is {size} bytes long, and no file of more than 128 TiB is captured");
            return Err(unreadable(io::Error::other(what)));
        }
        let mut entry = Entry::new(path.clone(), Kind::File);
        capture::fill(&mut entry, &stat, names);
        // Another file that took its name since is no link to the others of that group: they must not get its content.
        entry.link = found.entry.link.filter(|_| found.is(&stat));
        entry.flags.clone_from(&found.entry.flags);
        let warnings = self.add_xattrs(&mut entry, capture::xattrs_of(&fd));
        let ranges = capture::data_ranges(fd.as_fd(), &stat).map_err(unreadable)?;
        Ok(OpenFile { file: File::from(fd), entry, ident: Ident::of(&stat), ranges, warnings, held: false })
    }

    /// Puts attributes into `entry`; what could not be had of them comes back as warnings.
    pub(super) fn add_xattrs(&self, entry: &mut Entry, found: io::Result<capture::Xattrs>) -> Vec<Problem> {
        let warn = |what: String| {
            Problem::at_path(ProblemKind::Warning, &self.component, entry.path.as_bytes(), what)
        };
        match found {
            Ok(found) => {
                let warnings = found.lost.into_iter().map(warn).collect();
                entry.xattrs = found.values.into();
                warnings
            }
            Err(e) => vec![warn(format!("its extended attributes cannot be read: {e}"))],
        }
    }

    /// Metadata of `name` in `dir`, of a link itself.
    pub(super) fn stat(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Stat> {
        rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW | no_automount())
    }
}

#[cfg(target_os = "linux")]
fn no_atime() -> OFlags {
    OFlags::NOATIME
}
#[cfg(not(target_os = "linux"))]
fn no_atime() -> OFlags {
    OFlags::empty()
}
#[cfg(target_os = "linux")]
fn no_automount() -> AtFlags {
    AtFlags::NO_AUTOMOUNT
}
#[cfg(not(target_os = "linux"))]
fn no_automount() -> AtFlags {
    AtFlags::empty()
}

/// Opens `path` (relative, no `..`) beneath `dir` without following any link.
fn open_beneath(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mut rest = path;
    let mut held: Option<OwnedFd> = None;
    while rest.len() > PIECE_MAX {
        let cut = rest[..PIECE_MAX].iter().rposition(|&b| b == b'/').ok_or(Errno::NAMETOOLONG)?;
        let at = held.as_ref().map_or(dir, OwnedFd::as_fd);
        held = Some(open_piece(at, &rest[..cut], DIRECTORY)?);
        rest = &rest[cut + 1..];
    }
    open_piece(held.as_ref().map_or(dir, OwnedFd::as_fd), rest, flags)
}

#[cfg(target_os = "linux")]
fn open_piece(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve) {
        // Kernels before 5.6, and containers whose filter does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => open_stepwise(dir, path, flags),
        other => other,
    }
}
#[cfg(not(target_os = "linux"))]
fn open_piece(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open_stepwise(dir, path, flags)
}

/// The same, part by part.
fn open_stepwise(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mut held: Option<OwnedFd> = None;
    let mut parts = path.split(|&b| b == b'/').peekable();
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_some() { DIRECTORY } else { flags };
        let at = held.as_ref().map_or(dir, OwnedFd::as_fd);
        held = Some(rustix::fs::openat(at, part, flags, Mode::empty())?);
    }
    held.ok_or(Errno::NOENT)
}

/// A regular file, open for reading at offset 0.
#[derive(Debug)]
pub struct OpenFile {
    /// The descriptor.
    pub file: File,
    /// What it is now, with attributes; content still empty. `size` is the length to read.
    pub entry: Entry,
    /// Which file in which state.
    pub ident: Ident,
    /// Where its data lie: `(offset, length)`; the rest of `entry.size` bytes is zeros.
    pub ranges: Vec<(u64, u64)>,
    /// Attributes that could not be read.
    pub warnings: Vec<Problem>,
    /// The descriptor is of a copy, which nobody changes.
    pub held: bool,
}

/// What happened to a file while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steadiness {
    /// Nothing.
    Same,
    /// It is longer now: if it was only written to at its end, what was read is whole at its announced length.
    Grew,
    /// Anything else: what was read may be of no single moment.
    Changed,
}

impl OpenFile {
    /// Looks again, after the last byte was read.
    pub fn after(&self) -> io::Result<Steadiness> {
        if self.held {
            return Ok(Steadiness::Same);
        }
        let now = Ident::of(&rustix::fs::fstat(&self.file)?);
        Ok(match (now == self.ident, now.size > self.ident.size) {
            (true, _) => Steadiness::Same,
            (false, true) => Steadiness::Grew,
            (false, false) => Steadiness::Changed,
        })
    }

    /// Where data lie now, of the length that was announced.
    pub fn ranges_now(&self) -> io::Result<Vec<(u64, u64)>> {
        let size = self.entry.size;
        let ranges = capture::data_ranges(self.file.as_fd(), &rustix::fs::fstat(&self.file)?)?;
        let within = ranges.into_iter().filter(|(offset, _)| *offset < size);
        Ok(within.map(|(offset, length)| (offset, length.min(size - offset))).collect())
    }

    /// The path as text for people.
    pub fn name(&self) -> String {
        escape(self.entry.path.as_bytes())
    }
}
