//! source (to come)
