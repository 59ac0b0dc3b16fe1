//! Integration tests, one binary: each module holds promises of one kind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

mod architecture;
mod damage;
mod durable_crash;
mod extract_safety;
#[path = "common/forge.rs"]
mod forge;
mod forged;
mod forged_history;
#[path = "common/lab.rs"]
mod lab;
mod sqlite_child;
