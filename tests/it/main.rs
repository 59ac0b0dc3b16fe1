//! Integration tests.

mod durable_crash;
