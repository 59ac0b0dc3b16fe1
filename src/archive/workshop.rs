//! What writers of archives use one after the other: buffers and zstd contexts. New memory for each archive would cost time, and leave holes where other memory does
//! not fit in.

use crate::archive::error::ArchiveError;
use crate::archive::frames::{CONTENT_MAX, Packer};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a block was and became.
#[derive(Default)]
pub(super) struct Block {
    pub(super) content: Vec<u8>,
    pub(super) frame: Vec<u8>,
}

/// Things that are used again. There are never more than were in use at once.
#[derive(Default)]
pub(super) struct Workshop {
    /// With the level that each was made for.
    packers: Mutex<Vec<(i32, Packer)>>,
    blocks: Mutex<Vec<Block>>,
    batches: Mutex<Vec<Vec<u8>>>,
}

fn lock<T>(shelf: &Mutex<T>) -> MutexGuard<'_, T> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Workshop {
    /// A block with room for a frame's content, and nothing in it.
    pub(super) fn block(&self) -> Block {
        let mut block = lock(&self.blocks).pop().unwrap_or_default();
        block.content.clear();
        block.content.reserve_exact(CONTENT_MAX);
        block
    }

    pub(super) fn give_block(&self, block: Block) {
        lock(&self.blocks).push(block);
    }

    /// A buffer for age chunks; what it holds is of no matter.
    pub(super) fn batch(&self) -> Vec<u8> {
        lock(&self.batches).pop().unwrap_or_default()
    }

    pub(super) fn give_batch(&self, batch: Vec<u8>) {
        lock(&self.batches).push(batch);
    }

    /// Compresses and checks a block.
    pub(super) fn pack(&self, mut block: Block, level: i32) -> Result<Block, ArchiveError> {
        let idle = {
            let mut packers = lock(&self.packers);
            let place = packers.iter().position(|(made_for, _)| *made_for == level);
            place.map(|place| packers.swap_remove(place).1)
        };
        let mut packer = match idle {
            Some(packer) => packer,
            None => Packer::new(level)?,
        };
        packer.pack(&block.content, &mut block.frame)?;
        lock(&self.packers).push((level, packer));
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::keys::text;

    #[test]
    fn what_is_given_back_is_used_again_and_a_level_gets_its_own_context() {
        let workshop = Workshop::default();
        let mut packed = Vec::new();
        for level in [3, 19, 3] {
            let mut block = workshop.block();
            assert!(block.content.is_empty() && block.content.capacity() >= CONTENT_MAX);
            block.content.extend(text(300_000));
            let block = workshop.pack(block, level).unwrap();
            packed.push(block.frame.clone());
            workshop.give_block(block);
        }
        assert_eq!(packed[0], packed[2]);
        assert_ne!(packed[0].len(), packed[1].len());
        assert_eq!((lock(&workshop.packers).len(), lock(&workshop.blocks).len()), (2, 1));
    }
}
