//! The BLAKE3 of a whole file from the hashes of its groups, so that these, which workers make in parallel, are all the hashing that unchanged content costs.

use crate::model::ContentHash;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// Groups are this long, and aligned: long enough for BLAKE3's widest instructions, short enough that few other blocks are hashed because one of them changed.
pub(super) const GROUP: usize = 16 << 10;

/// The hash of the group at `offset` of the file: a node of the whole file's BLAKE3 tree. It depends on the offset.
pub(super) fn group_hash(offset: u64, bytes: &[u8]) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset);
    hasher.update(bytes).finalize_non_root()
}

/// Merges groups that come in order.
pub(super) struct Tree {
    /// Subtrees that await their right neighbour, largest first.
    waiting: Vec<ChainingValue>,
    groups: u64,
    /// The root, should the first group stay the only one: a root is hashed in another way than a node.
    alone: blake3::Hash,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { waiting: Vec::new(), groups: 0, alone: blake3::hash(b"") }
    }

    /// The next group's hash. `bytes` is the group; only that of the first is looked at.
    pub(super) fn push(&mut self, group: ChainingValue, bytes: &[u8]) {
        if self.groups == 0 {
            self.alone = blake3::hash(bytes);
        }
        // Only now is it known that what waits is not the end: complete subtrees of equal size become one.
        while self.waiting.len() > self.groups.count_ones() as usize {
            self.merge();
        }
        self.waiting.push(group);
        self.groups += 1;
    }

    fn merge(&mut self) {
        if let (Some(right), Some(left)) = (self.waiting.pop(), self.waiting.pop()) {
            self.waiting.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
    }

    pub(super) fn finish(mut self) -> ContentHash {
        while self.waiting.len() > 2 {
            self.merge();
        }
        let root = match self.waiting[..] {
            [left, right] => merge_subtrees_root(&left, &right, Mode::Hash),
            _ => self.alone,
        };
        ContentHash(*root.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_groups_gives_the_hash_of_the_whole() {
        let bytes: Vec<u8> = (0..GROUP * 21).map(|i| (i * 7 % 251) as u8).collect();
        for groups in 0..=20 {
            for extra in [0, 1, 1024, 5000, GROUP - 1] {
                let content = &bytes[..groups * GROUP + extra];
                let mut tree = Tree::new();
                for (at, group) in content.chunks(GROUP).enumerate() {
                    tree.push(group_hash((at * GROUP) as u64, group), group);
                }
                assert_eq!(
                    tree.finish().0,
                    *blake3::hash(content).as_bytes(),
                    "{groups} groups, {extra} bytes"
                );
            }
        }
    }
}
