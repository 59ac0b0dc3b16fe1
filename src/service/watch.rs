//! What stopping, starting and judging a service needs beside its commands.

use crate::service::Around;
use std::path::Path;
use std::time::Duration;

/// What stopping, starting and judging a service needs.
pub struct Watch<'a> {
    /// How commands are run.
    pub commands: Around<'a>,
    /// Where what start commands say is kept, a file for each service.
    pub logs: &'a Path,
    /// Time since some fixed moment.
    pub now: &'a dyn Fn() -> Duration,
    /// Lets time go by.
    pub pause: &'a dyn Fn(Duration),
    /// Looks at a SQLite database in a process of its own; says what is wrong with it.
    pub sqlite: &'a dyn Fn(&Path, Duration) -> Result<(), String>,
}
