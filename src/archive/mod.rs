//! archive (to come)

pub mod extract;
