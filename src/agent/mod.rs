//! Row 5: the agent: runs what the schedule says, at its time, once, and tells how it ended.
//!
//! Each job is a child process, the same command that a person would run: it takes the project's lock, and what it does survives the agent's end. What
//! was begun is remembered before, what came of it after ([`crate::ops::timetable`]), so that a kill at any moment leaves nothing undone and nothing done twice.
//!
//! This module must never run two jobs of a project at once, never take a job for done that did not say so, and never end before its children have.

mod child;
mod daemon;
mod ends;
mod herald;
mod look;
pub mod metrics;
mod orders;
pub mod page;
mod print;
mod progress;
mod project;
mod runs;
mod socket;
pub mod tell;
mod twins;
mod untold;
mod world;

pub use child::{Children, ENDED, RUN, is_told_by_agent, note_end};
pub use daemon::{Agent, Ask, Options};
pub use ends::worst;
pub use herald::Heralds;
pub use look::{LOOK, Looks};
pub use print::{Form, With, print};
pub use progress::Note;
pub use project::Project;
pub use socket::Socket;
pub use twins::twins;
pub use untold::Untold;
pub use world::{Order, Orphan, Said, Work, World};

#[cfg(test)]
mod tests;
