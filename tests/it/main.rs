//! Integration tests.

mod extract_safety;
