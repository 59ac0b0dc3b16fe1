//! Row 4: operations, one file each: options in, report out.
//!
//! An operation never prints, never exits and never asks; it reports problems as they happen through [`crate::model::Progress`] and gives
//! them all back at the end.

pub mod abilities;
pub mod assets;
pub mod backup;
mod carry;
mod catchup;
pub mod commit;
pub mod config_edit;
pub mod diff;
pub mod doctor;
pub mod drill;
pub mod error;
pub mod git;
pub mod guard;
mod hooks;
pub mod init;
pub mod interrupt;
pub mod keys;
pub mod kit;
pub mod kit_standing;
pub mod kit_verify;
pub mod layout;
mod ledger;
pub mod left_open;
pub mod lock;
pub mod look;
mod many;
pub mod marking;
pub mod marks;
pub mod objects;
pub mod proofs;
pub mod prune;
pub mod recover;
pub mod recover_files;
pub mod remote;
mod replace;
pub mod restore;
pub mod rhythm;
pub mod rollback;
pub mod select;
pub mod session;
pub mod shape;
mod slots;
pub mod sources;
pub mod space;
pub mod status;
mod stopped;
pub mod stores;
pub mod surroundings;
pub mod sync;
pub mod timetable;
mod union;
pub mod vault;
pub mod verify;
mod versions;
