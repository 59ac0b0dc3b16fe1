//! ops (to come)
