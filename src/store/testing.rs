//! For tests: a store in memory, a store that fails on command, and the contract that every store must keep.
//!
//! This module must never be used by a command.

mod contract;
mod fault;
mod memory;

pub use contract::contract;
pub use fault::{Damage, Fault, FaultStore, Hook, Verb};
pub use memory::MemoryStore;
