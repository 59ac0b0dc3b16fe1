//! What can go wrong with a key or its file. No variant ever holds text of a key.

use crate::keys::passphrase::LockedError;
use crate::model::path::escape;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Trouble with a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no such file.
    #[error("key file {} does not exist", shown(path))]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read key file {}", shown(path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody beside the owner may read or change the file.
    #[error("key file {} is open to others (mode {mode:04o})", shown(path))]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no key.
    #[error("key file {} holds no key", shown(path))]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else, or only a part of a key.
    #[error("key file {} cannot be used: {why}", shown(path))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong; never text of the file.
        why: String,
    },
    /// The key is protected by a passphrase.
    #[error("{} is protected by a passphrase, which {what} cannot be", shown(path))]
    Passphrase {
        /// The file.
        path: PathBuf,
        /// What kind of files: `identity files`, `signing keys`.
        what: &'static str,
    },
    /// The file is protected by a passphrase and does not open.
    #[error("key file {} cannot be opened", shown(path))]
    Locked {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: LockedError,
    },
    /// A key that a plugin would have to use.
    #[error(
        "key file {}, line {line}: the identity belongs to an age plugin; plugins are not supported",
        shown(path)
    )]
    Plugin {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
    },
    /// A key file is there already; none is ever overwritten.
    #[error("key file {} exists already and is not overwritten", shown(path))]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write key file {}", shown(path))]
    Unwritable {
        /// The file, or the folder that it was to be in.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A text that is not a public key of a signer.
    #[error("{text:?} is not an Ed25519 public key (ssh-ed25519 AAAA…)")]
    BadPublicKey {
        /// Its beginning.
        text: String,
    },
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// A signature or key could not be put into its form.
    #[error("cannot {verb} with signing key {id}")]
    Signing {
        /// What was to be done.
        verb: &'static str,
        /// The signer id.
        id: String,
    },
    /// A document could not be put into JSON.
    #[error("cannot write the document as JSON")]
    Json(#[source] serde_json::Error),
}

impl KeyError {
    /// What to do now, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::OpenToOthers { path, .. } => Some(format!("chmod 600 {}", shown(path))),
            Self::Passphrase { .. } => {
                Some("decrypt it into a file that only you can read, and give that".into())
            }
            Self::Locked { source: LockedError::None, .. } => Some(
                "type it on a terminal; or put it into a file that only you can read, and name that: `passphrase_file` in [encryption], or BACKSTAY_PASSPHRASE_FILE".into(),
            ),
            Self::Locked { source: LockedError::Wrong, .. } => {
                Some("mind capital and small letters, and the keyboard's layout".into())
            }
            _ => None,
        }
    }

    /// True when a passphrase protects the file and nobody gave one: nothing is wrong with it.
    pub fn wants_passphrase(&self) -> bool {
        matches!(self, Self::Locked { source: LockedError::None, .. })
    }
}

/// A path as people may see it.
pub(crate) fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}
