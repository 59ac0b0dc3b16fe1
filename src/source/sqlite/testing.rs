//! What several tests of this module need.

use std::sync::atomic::{AtomicBool, Ordering};

/// Says that it is over when it is dropped, by a failure, too: else a test that fails waits for ever for threads that go on.
pub(super) struct Ends<'a>(pub(super) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
