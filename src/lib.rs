//! backstay: a backup agent for people who run their own application.
//!
//! Data flows downwards and back: configuration → [`source`] (capture) → [`archive`] (pack, seal) → [`store`] (put) → record
//! (commit) → [`catalog`]; a restore is the same road backwards. [`ops`] wires the steps together, one file an operation, options in and
//! report out; [`cli`] turns words into options and reports into text, JSON and exit codes.
//!
//! Modules lie in rows and use only lower rows; a test holds that:
//!
//! | row | modules |
//! |---|---|
//! | 6 | `cli` |
//! | 5 | `agent` |
//! | 4 | `ops` |
//! | 3 | `catalog` |
//! | 2 | `source`, `archive`, `store`, `service` |
//! | 1 | `config`, `keys`, `durable`, `bridge`, `platform` |
//! | 0 | `model` |

pub mod agent;
pub mod archive;
pub mod bridge;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod durable;
pub mod keys;
pub mod model;
pub mod ops;
pub mod platform;
pub mod service;
#[cfg(test)]
mod skipped_tests;
pub mod source;
pub mod store;
#[cfg(test)]
pub(crate) use skipped_tests::not_run;
