//! A directory as a store (to come)
/// to come
pub struct LocalStore;
