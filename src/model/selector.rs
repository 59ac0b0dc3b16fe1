//! Snapshot selectors.
