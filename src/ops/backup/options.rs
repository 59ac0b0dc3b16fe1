//! What a snapshot is to be.

use crate::ops::git::Found;

/// What to record of git.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitWish {
    /// What working trees are at.
    State,
    /// That, and a bundle of each repository in the snapshot.
    Bundle,
}

/// What to make.
#[derive(Debug, Clone, Default)]
pub struct BackupOptions {
    /// Only these components; all when empty.
    pub only: Vec<String>,
    /// A note for people.
    pub note: Option<String>,
    /// Public tags.
    pub tags: Vec<String>,
    /// Retention must keep it for ever.
    pub milestone: bool,
    /// Refer to nothing older: the snapshot stands alone.
    pub full: bool,
    /// A rollback makes it, of what it is about to put away: it is never `latest`.
    pub safety: bool,
    /// What to record of git; nothing when there is none.
    pub git: Option<GitWish>,
    /// What was found of it; the backup itself fills it.
    pub trees: Vec<Found>,
}
