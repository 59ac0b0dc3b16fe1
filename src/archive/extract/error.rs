//! What stops an extraction.

use crate::model::path::{RelPath, escape};
use rustix::io::Errno;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Why something could not be restored. What does not stop a restore is a [`crate::model::Problem`] instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The place of a restore is taken; another must be chosen.
    #[error("{} is there already and is not an empty folder", shown(path))]
    NotEmpty {
        /// The place.
        path: PathBuf,
    },
    /// The place of a restore cannot be one; another must be chosen.
    #[error("cannot restore to {}: {why}", shown(path))]
    BadPlace {
        /// The place.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// The listing contradicts itself.
    #[error("{path}: {why}")]
    Damaged {
        /// The entry.
        path: RelPath,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something that this restore made is not there any more, or is something else.
    #[error("{path} was moved or exchanged by another process while it was being restored")]
    Exchanged {
        /// What.
        path: RelPath,
    },
    /// A file of a live tree is not replaced, because the way to it leads through a link.
    #[error(
        "{part} is not a real folder but a symbolic link or a file, and links are not followed (on the way to {path})"
    )]
    NotADirectory {
        /// The folder that was to be opened.
        path: RelPath,
        /// The part of it that is a link.
        part: RelPath,
    },
    /// A system call failed.
    #[error("cannot {verb} {subject}")]
    Io {
        /// What was to be done.
        verb: &'static str,
        /// To what; printable.
        subject: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Everything was restored, but not moved to its place.
    #[error("cannot move what was restored to {}; it is complete in {}", shown(place), shown(staging))]
    Unpublished {
        /// Where it was to be.
        place: PathBuf,
        /// Where it is.
        staging: PathBuf,
        /// Why it could not be moved.
        #[source]
        source: io::Error,
    },
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

/// Two entries of one name, as far as this file system can tell.
pub(super) const TWICE: &str =
    "it is listed twice, or this file system cannot tell its name from that of another entry";

/// What was being done when a hard link could not be made.
pub(super) const MAKE_LINK: &str = "make hard link";

impl ExtractError {
    /// True when nothing can have this name in the place of a restore, whatever it is: its file system does not take names of such bytes or length, or has
    /// one already that it cannot tell from it. Everything else may well be restored there.
    pub fn is_of_name(&self) -> bool {
        match self {
            Self::Damaged { why, .. } => *why == TWICE,
            // Only of what makes a name: a size that cannot be set says nothing of it, and has left a file there.
            Self::Io { verb, source, .. } => {
                let refused = matches!(errno(source), Some(Errno::INVAL | Errno::NAMETOOLONG | Errno::ILSEQ));
                verb.starts_with("make ") && refused
            }
            _ => false,
        }
    }

    /// True when the place of a restore has no hard links, or no more of them for this file.
    pub fn is_no_link(&self) -> bool {
        let none = [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK, Errno::XDEV];
        matches!(self, Self::Io { verb, source, .. } if *verb == MAKE_LINK && errno(source).is_some_and(|e| none.contains(&e)))
    }

    /// `verb` failed on a path of the listing.
    pub(super) fn at(verb: &'static str, path: &RelPath) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { verb, subject: path.to_string(), source }
    }

    /// `verb` failed on a path of this machine.
    pub(super) fn on(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { verb, subject: shown(path), source }
    }

    /// `verb` failed on a name in a directory.
    pub(super) fn named(verb: &'static str, name: &[u8]) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { verb, subject: escape(name), source }
    }
}
