//! Row 1: what differs between systems: descriptors, metadata, names of owners, terminals.
//!
//! Nothing here may follow a symbolic link that a caller did not ask to follow.

pub mod apply;
pub mod at;
mod beneath;
pub mod remove;
pub mod users;
