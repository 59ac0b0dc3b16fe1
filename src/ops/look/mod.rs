//! Looking at snapshots: list, show, ls, cat, find. Nothing here changes anything but what this machine remembers.

mod cat;
mod find;
mod list;
mod ls;
mod names;

pub use cat::cat;
pub(in crate::ops) use cat::small_file;
pub use find::{FindOptions, FindReport, FoundPath, Version, find};
pub use list::{ComponentRow, ListReport, ShowReport, SnapshotRow, list, show};
pub use ls::{LsReport, LsRow, ls};
