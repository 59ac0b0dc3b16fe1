//! Signals that ask the program to end: the first asks for an orderly end, a second one is a person's impatience and ends it at once.
//!
//! A lost terminal is no impatience, however often the system says so: its signal alone must never end the program in the middle of a step.

use crate::cli::say;
use crate::ops::interrupt::Interrupt;
use crate::platform::signals::is_ignored;
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use std::cell::RefCell;
use std::io;
use std::sync::atomic::Ordering;

/// What is caught, and what it does.
pub(super) struct Caught {
    interrupt: Interrupt,
    /// The signals of which a second one ends the program.
    impatient: Vec<i32>,
    /// What makes it end it.
    impatience: RefCell<Vec<SigId>>,
    /// What takes note of a lost terminal.
    hangup: RefCell<Option<SigId>>,
}

impl Caught {
    /// Catches them. `keeps_hangup`: SIGHUP means something else to this command, which catches it by itself.
    pub(super) fn begin(interrupt: &Interrupt, keeps_hangup: bool) -> Self {
        // What began with a signal ignored goes on ignoring it (`nohup`); where that is not told, the signal does what it always does.
        let asks = |signal: i32| is_ignored(signal) == Some(false);
        let mut impatient = vec![SIGINT, SIGTERM];
        impatient.extend(Some(SIGQUIT).filter(|signal| asks(*signal)));
        let mut whole = true;
        let mut marks = Vec::new();
        for signal in &impatient {
            // The conditional shutdown is registered first, so that it sees the flag as it was before this signal.
            let second =
                signal_hook::flag::register_conditional_shutdown(*signal, 128 + *signal, interrupt.asked());
            let (first, mark) = (noted(*signal, interrupt), impatience(*signal, interrupt));
            whole &= second.is_ok() && first.is_ok() && mark.is_some();
            marks.extend(mark);
        }
        let hangup = (!keeps_hangup && asks(SIGHUP)).then(|| noted(SIGHUP, interrupt));
        if !whole || hangup.as_ref().is_some_and(Result::is_err) {
            say(
                "warning: signals cannot be caught; an interrupted run leaves unfinished files for the next one to remove",
            );
        }
        let hangup = RefCell::new(hangup.and_then(Result::ok));
        Self { interrupt: interrupt.clone(), impatient, impatience: RefCell::new(marks), hangup }
    }

    /// Does `work`, in which no signal ends the program, however many come.
    pub(super) fn patiently<T>(&self, work: impl FnOnce() -> T) -> T {
        for mark in self.impatience.take() {
            signal_hook::low_level::unregister(mark);
        }
        self.interrupt.asked().store(false, Ordering::Relaxed);
        let done = work();
        let again = self.impatient.iter().filter_map(|signal| impatience(*signal, &self.interrupt));
        self.impatience.replace(again.collect());
        done
    }

    /// Goes on as if no signal had come, and from here on a lost terminal changes nothing: the system may tell of it several times.
    pub(super) fn forget(&self) {
        if let Some(mark) = self.hangup.take() {
            // Caught it stays, so it does not end the program either.
            signal_hook::low_level::unregister(mark);
        }
        self.interrupt.forget();
    }
}

/// Takes note of `signal` as what asked for the end.
fn noted(signal: i32, interrupt: &Interrupt) -> io::Result<SigId> {
    signal_hook::flag::register_usize(signal, interrupt.flag(), usize::try_from(signal).unwrap_or(0))
}

/// Once `signal` came, a second one ends the program.
fn impatience(signal: i32, interrupt: &Interrupt) -> Option<SigId> {
    signal_hook::flag::register(signal, interrupt.asked()).ok()
}
