//! Hard links: names of one inode get a number that stays the same while the group's first name does.

use crate::model::RelPath;
use crate::model::id::ContentHash;
use crate::source::folder::scan::Found;
use std::collections::HashMap;

/// An entry that has other names, here or elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Several {
    /// Its place among the entries.
    place: usize,
    /// Bytes that there are to read of it.
    allocated: u64,
}

impl Several {
    pub(super) fn new(place: usize, allocated: u64) -> Self {
        Self { place, allocated }
    }

    /// The same behind so many other entries.
    pub(super) fn behind(self, before: usize) -> Self {
        Self { place: self.place + before, ..self }
    }
}

/// Gives the names of each inode among `entries` one number and one description: that of the first, whatever happened to it between the two looks. `several` are in
/// walk order. What the further ones have allocated comes back.
pub(super) fn number(entries: &mut [Found], several: &[Several]) -> u64 {
    let mut first_of = HashMap::with_capacity(several.len());
    let mut again = 0_u64;
    for &Several { place, allocated } in several {
        let ident = entries[place].ident();
        let first = *first_of.entry((ident.dev, ident.ino)).or_insert(place);
        if first == place {
            continue;
        }
        let entry = &mut entries[first].entry;
        entry.link.get_or_insert_with(|| link_number(&entry.path));
        let mut same = entries[first].clone();
        std::mem::swap(&mut same.entry.path, &mut entries[place].entry.path);
        entries[place] = same;
        again = again.saturating_add(allocated);
    }
    again
}

/// The number of a group whose first entry in walk order is `path`.
fn link_number(path: &RelPath) -> u64 {
    let hash = ContentHash::of(path.as_bytes());
    hash.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
