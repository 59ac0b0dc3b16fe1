//! Integration tests.

mod sqlite_child;
