//! What a store in a bucket does when its server misbehaves: kinds of faults by operations, and what must come of each.
//!
//! Pauses take no time here, and guards run many times faster than the clock on the wall.

pub(crate) mod bed;
mod checksums;
mod keys;
pub(crate) mod matrix;
mod outcomes;
mod server;
mod uploads;
