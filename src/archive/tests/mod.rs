//! Tests that need more than one part of this module, and what tests share.

mod check;
mod hostile;
pub(crate) mod keys;
pub(crate) mod members;
mod oracles;
mod reader;
pub(crate) mod tools;
