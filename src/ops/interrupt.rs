//! Ending a run in an orderly way when a person or the system asks for it.

use crate::ops::error::{Class, OpError, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Set by a signal handler, looked at between steps. Cheap to clone and to ask.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicUsize>, Arc<AtomicBool>);

impl Interrupt {
    /// The flag that a signal handler stores the signal's number in; 0 means none.
    pub fn flag(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0)
    }

    /// Set once any signal came: a second one may then end the program at once.
    pub fn asked(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.1)
    }

    /// The signal that asked for the end, if any.
    pub fn signal(&self) -> Option<i32> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }

    /// Goes on as if no signal had come.
    pub fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
        self.1.store(false, Ordering::Relaxed);
    }

    /// An error once a signal came.
    pub fn check(&self) -> Result<()> {
        match self.signal() {
            None => Ok(()),
            Some(_) => Err(OpError::new(Class::Interrupted, "interrupted")
                .hint("nothing was committed and nothing was changed; run the command again")),
        }
    }
}
