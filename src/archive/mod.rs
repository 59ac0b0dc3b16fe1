//! archive (to come)
