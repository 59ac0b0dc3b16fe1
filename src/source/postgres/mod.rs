//! A database of a PostgreSQL server: how it is dumped, and how a dump becomes the live database without the live one being touched.
//!
//! A dump is read into a new database beside the live one; then the two exchange their names in one transaction of the server. Which of two databases
//! is where is told by their OIDs, which a rename does not change. Everything is done by the server's own programs (`psql`, `pg_dump`, `pg_restore`).
//! This module must never put a password into an argument or a script, never drop a database whose OID is not the one that was asked for, and never
//! rename one that is not where it is said to be.

mod connection;
mod error;
mod properties;
mod run;
mod server;

pub use connection::{database_of_ours, dump_command, with_database};
pub use error::PostgresError;
pub use server::{Live, Names, Server};

use crate::source::command::CommandLine;

/// Reads a dump to its end without a server, and fails when it is not whole.
pub fn check_command() -> CommandLine {
    CommandLine::Args(["pg_restore", "--file=/dev/null"].map(String::from).to_vec())
}
