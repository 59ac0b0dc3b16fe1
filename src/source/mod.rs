//! Row 2: capturing components: folders, live SQLite databases, the output of commands.
//!
//! A source reads what is there and says what it could not read. It must never write to what it captures, never follow a symbolic link inside it, never
//! wait for a FIFO or a device, and never call something captured that was not.

pub mod command;
pub mod folder;
pub mod postgres;
pub mod sqlite;
