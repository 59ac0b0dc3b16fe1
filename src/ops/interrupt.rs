//! Ending a run in an orderly way when a person or the system asks for it; and coming to an end first where there is no other way to be in order.

use crate::ops::error::{Class, OpError, Result};
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Set by a signal handler, looked at between steps. Cheap to clone and to ask.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    signal: Arc<AtomicUsize>,
    asked: Arc<AtomicBool>,
    patience: Arc<OnceLock<Box<dyn Patience>>>,
}

/// Keeps signals from ending the program at once, as a second one else does.
pub trait Patience: Debug + Send + Sync {
    /// From here on no signal ends the program. The first that comes is answered with `why`, if there is something to say.
    fn begin(&self, why: Option<&'static str>);
    /// As it was before.
    fn end(&self);
}

impl Interrupt {
    /// The flag that a signal handler stores the signal's number in; 0 means none.
    pub fn flag(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.signal)
    }

    /// Set once any signal came: a second one may then end the program at once.
    pub fn asked(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asked)
    }

    /// The signal that asked for the end, if any.
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }

    /// Goes on as if no signal had come.
    pub fn forget(&self) {
        self.signal.store(0, Ordering::Relaxed);
        self.asked.store(false, Ordering::Relaxed);
    }

    /// An error once a signal came.
    pub fn check(&self) -> Result<()> {
        match self.signal() {
            None => Ok(()),
            Some(_) => Err(OpError::new(Class::Interrupted, "interrupted")
                .hint("nothing was committed and nothing was changed; run the command again")),
        }
    }

    /// Whoever ends the program at a second signal gives it patience. Only the first is taken.
    pub fn set_patience(&self, patience: Box<dyn Patience>) {
        let _only_the_first = self.patience.set(patience);
    }

    /// Does `work`, in which no signal ends the program at once, however many come; the first is answered with `why`. That one came is still known.
    pub fn patiently<T>(&self, why: Option<&'static str>, work: impl FnOnce() -> T) -> T {
        let _ended = self.patience.get().map(|patience| Begun::new(&**patience, why));
        work()
    }
}

/// Patience ends with it, also on the way out of a panic.
struct Begun<'a>(&'a dyn Patience);

impl<'a> Begun<'a> {
    fn new(patience: &'a dyn Patience, why: Option<&'static str>) -> Self {
        patience.begin(why);
        Self(patience)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
