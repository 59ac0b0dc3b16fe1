//! Integration tests, one binary: each module holds promises of one kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

mod architecture;
mod cli;
mod cli_errors;
mod cli_init;
mod commit;
mod common;
mod docs;
mod durable_crash;
mod extract_safety;
mod golden;
mod memory;
mod roundtrip;
mod roundtrip_random;
mod sqlite_child;
mod stock;
