//! Row 3: what this machine remembers of a project.
//!
//! The catalog may say what to reuse, never that it exists. It can be rebuilt, with one exception: what guards against a store that was
//! rolled back or exchanged ([`state`]), which must never be reset without a person's word.

pub mod known;
pub mod state;

pub use state::{DrillNote, Head, KitMemory, Pending, State, StateError, Trust, spool_dir};
