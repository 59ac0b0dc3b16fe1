//! Writing a listing's entries to disk.
//!
//! Everything happens below an open directory, by descriptors: no symbolic link is followed, nothing outside that directory is touched,
//! and nothing that was there before is replaced, whatever the entries say and whoever renames things meanwhile. The bytes of files are
//! the caller's; this module makes the files, and gives everything its owner, mode, times and attributes.
//!
//! - [`Target`] is the place of a restore: a private directory beside it until all is done, then the place itself.
//! - [`Extractor`] makes the entries of one component below a directory.
//! - [`replace_in_place`] exchanges one file of a live tree for a finished one, and keeps the old.
//! - [`Copier`] makes finished entries once more where a rename does not lead.

mod copy;
mod dirs;
mod error;
mod extractor;
mod inplace;
mod made;
mod nodes;
mod settle;
mod target;
#[cfg(test)]
mod tests;
mod troubles;

pub use copy::{At, Copier};
pub use error::ExtractError;
pub use extractor::{Extractor, Owners};
pub use inplace::{
    LiveDir, Replaced, open_live_dir, replace_in_place, replace_over, set_aside, temporary_name,
};
pub use target::Target;
