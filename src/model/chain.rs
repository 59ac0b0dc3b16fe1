//! Verification of chains.
