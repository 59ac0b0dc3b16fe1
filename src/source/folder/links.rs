//! Hard links: names of one inode get a number that stays the same while the group's first name does.

use crate::model::RelPath;
use crate::model::id::ContentHash;
use std::collections::HashMap;

/// Which inodes with several names were seen, and where their first entry is.
#[derive(Debug, Default)]
pub(super) struct Links {
    first: HashMap<(u64, u64), usize>,
}

impl Links {
    /// The index of the first entry of this inode; when there is none yet, `index` becomes it.
    pub(super) fn first_of(&mut self, inode: (u64, u64), index: usize) -> Option<usize> {
        match self.first.entry(inode) {
            std::collections::hash_map::Entry::Occupied(seen) => Some(*seen.get()),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(index);
                None
            }
        }
    }
}

/// The number of a group whose first entry in walk order is `path`.
pub(super) fn link_number(path: &RelPath) -> u64 {
    let hash = ContentHash::of(path.as_bytes());
    hash.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
