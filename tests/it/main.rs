//! Integration tests, one binary: each module holds promises of one kind.

mod common;
mod durable_crash;
mod extract_safety;
mod golden;
mod memory;
mod roundtrip;
mod roundtrip_random;
mod stock;
