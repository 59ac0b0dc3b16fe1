//! Row 1: writing files so that they survive a kill and a power cut.
//!
//! A file gets its name only when its bytes are on the medium: temporary name, write, fsync, rename, fsync of the directory. A name
//! that was given once is never given to other bytes, except by [`replace`] and [`replace_in`], which are for state files.
//!
//! This module must never try a failed fsync again: Linux marks the pages clean after the first failure, so a second fsync reports
//! success for bytes that are lost. Whoever gets an error writes the file anew from its source. It must never
//! overwrite what it was not told to replace, and never follow a symbolic link below a directory that it was given.

pub mod crash;
mod dir;
mod error;
mod file;
mod lock;
pub mod own_names;
mod room;
mod scratch;
mod sweep;

pub use dir::{Dir, Info, create_dirs, free_space, sync_dir};
pub use error::{DurableError, random_bytes};
pub use file::{NewFile, move_new, remove, replace, write_new, write_passing};
pub use lock::{FileLock, Held, Holder, sleep};
pub use room::{replace_in, reserve};
pub use scratch::scratch_file;
pub use sweep::{Swept, is_temp_name, sweep};

use std::path::Path;

/// The directory that `path` lies in; `.` for a bare name.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
mod tests;
