//! Row 1: what differs between systems: descriptors, metadata, names of owners, terminals.
//!
//! Nothing here may follow a symbolic link that a caller did not ask to follow.

pub mod apply;
pub mod at;
mod beneath;
pub mod capture;
pub mod child;
pub mod environment;
pub mod filesystem;
pub mod giving;
pub mod holders;
pub mod memory;
pub mod mounts;
pub mod place;
pub mod remove;
pub mod shell;
pub mod signals;
pub mod users;

/// How many processors this process may use, at least 1.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The name of this machine.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
