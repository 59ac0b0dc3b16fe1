//! Looking at snapshots: list, show, ls, cat. Nothing here changes anything but what this machine remembers of the newest entries.

mod cat;
mod list;
mod ls;

pub use cat::cat;
pub use list::{ComponentRow, ListReport, ShowReport, SnapshotRow, list, show};
pub use ls::{LsReport, LsRow, ls};
