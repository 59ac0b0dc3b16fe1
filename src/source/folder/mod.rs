//! Folders and lists of paths: what is in them, in walk order, and how to open it.
//!
//! [`scan`] lists everything with its metadata and reads no content (16 bytes of likely databases and pattern files aside); [`Tree`] opens one file of it for
//! reading. Both work relative to an open directory and never follow a symbolic link, so that nobody who may write in the folder can make
//! them read something outside of it.

mod crew;
mod databases;
mod entries;
mod found;
mod in_use;
mod links;
mod listing;
mod open;
mod place;
mod rules;
mod scan;
mod spec;
mod split;
#[cfg(test)]
mod tests;
mod walk;

pub use crate::platform::capture::Ident;
pub(crate) use databases::{is_database_at, is_log_at, owner_of_sidecar};
pub use in_use::{Doubt, Groups, InUse};
pub use open::{OpenError, OpenFile, Steadiness, Tree};
pub use rules::{BadPattern, Excluded};
pub use scan::{Found, Scan, scan};
pub use spec::{FolderSpec, SourceError, What};
