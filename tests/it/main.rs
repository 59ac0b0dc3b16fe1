//! Integration tests, one binary: each module holds promises of one kind.

mod crash;
mod durable_crash;
mod extract_safety;
