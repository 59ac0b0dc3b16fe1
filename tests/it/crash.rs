//! Kill −9 at every step of the real program: what was reported is whole, nothing listed is broken, the next run needs no help.
//!
//! Every test here counts the points that a command passes (see `durable::crash`), then runs it once for each chosen point with the order to
//! die (or to fail, or to be interrupted) there, from the same saved state. Without `BACKSTAY_LONG=1` points are sampled: the first of
//! every name, and some between.
#![cfg(debug_assertions)]
#![expect(clippy::unwrap_used, reason = "this is a test")]

mod agent;
mod backup;
mod bed;
mod disk;
mod in_place;
mod in_place_logs;
mod incremental;
mod init;
mod keys;
mod power;
mod recover;
mod restore;
mod signals;
mod stores;
mod volumes;
