//! What can go wrong, and random bytes.

use crate::durable::lock::Holder;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::io;
use std::path::{Path, PathBuf};

/// A file or directory that could not be handled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    /// The system refused; nothing has the final name, unless this says that a directory could not be synced.
    #[error("cannot {verb} {path:?}")]
    Io {
        /// What was to be done.
        verb: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The name is taken; what was there is untouched.
    #[error("{path:?} is there already")]
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// Files cannot be given a name there without the danger of overwriting another.
    #[error("the file system of {path:?} can neither rename without replacing nor make hard links")]
    NoCreateOnly {
        /// The name that was to be given.
        path: PathBuf,
        /// What the last attempt gave.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("busy: {}", match .holder { Some(holder) => holder.to_string(), None => format!("{path:?} is locked by another process") })]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, where that could be read.
        holder: Option<Holder>,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    NoRandom,
}

impl DurableError {
    pub(super) fn io(verb: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { verb, path: path.to_owned(), source: source.into() }
    }

    /// The system's error number, where the system refused.
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::Io { source, .. } | Self::NoCreateOnly { source, .. } => {
                rustix::io::Errno::from_io_error(source)
            }
            _ => None,
        }
    }

    /// True when there is no room left, on the medium or of what this user may have of it.
    pub fn is_full(&self) -> bool {
        matches!(self.errno(), Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT))
    }

    /// True when the file, or a directory on the way to it, is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self.errno(), Some(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR))
    }
}

/// `N` random bytes, from the system's own generator.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], DurableError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| DurableError::NoRandom)?;
    Ok(bytes)
}
