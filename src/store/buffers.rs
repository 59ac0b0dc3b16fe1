//! Buffers for what is sent from memory: parts of uploads, and objects that go in one piece and are hashed before.
//!
//! They are kept for the next one. Given back to the system's allocator, blocks of this size stay with it, in a place of its own for each thread that ever asked for
//! one: a backup of 20 GB came to hold 466 MB so, where 64 are in use at a time.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Bytes of a buffer that is kept. What is larger, parts of objects of 160 GB and more, is not.
const SIZE: usize = 16 << 20;
/// So many are kept, as many as there are threads that put objects.
const SPARE_MAX: usize = 4;

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A number of bytes to be filled. It goes back to be used again when it is dropped.
pub(in crate::store) struct Buffer {
    bytes: Vec<u8>,
    length: usize,
}

impl Buffer {
    /// One of `length` bytes, whatever they are.
    pub(in crate::store) fn of(length: usize) -> Self {
        let spare = || SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = match length {
            // No page of it is touched before it is filled.
            ..=SIZE => spare().unwrap_or_else(|| vec![0; SIZE]),
            _ => vec![0; length],
        };
        Self { bytes, length }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if self.bytes.len() == SIZE && spare.len() < SPARE_MAX {
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_the_length_that_was_asked_for_and_few_are_kept() {
        for length in [0, 1, SIZE - 1, SIZE, SIZE + 1] {
            let mut buffer = Buffer::of(length);
            buffer.fill(7);
            assert_eq!((buffer.len(), buffer.as_ref().len()), (length, length));
        }
        let many: Vec<Buffer> = (0..3 * SPARE_MAX).map(|_| Buffer::of(100)).collect();
        drop(many);
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(spare.len() <= SPARE_MAX && spare.iter().all(|kept| kept.len() == SIZE));
    }
}
