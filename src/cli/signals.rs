//! Signals that ask the program to end: the first asks for an orderly end, a second one is a person's impatience and ends it at once; but not while
//! something must come to its end first.
//!
//! A lost terminal is no impatience, however often the system says so: its signal alone must never end the program in the middle of a step.

use crate::cli::bar::Shown;
use crate::cli::say;
use crate::ops::interrupt::{Interrupt, Patience};
use crate::platform::signals::is_ignored;
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};
use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What is caught, and what it does.
pub(super) struct Caught {
    interrupt: Interrupt,
    /// What takes note of a lost terminal.
    hangup: RefCell<Option<SigId>>,
}

impl Caught {
    /// Catches them. `keeps_hangup`: SIGHUP means something else to this command, which catches it by itself.
    pub(super) fn begin(interrupt: &Interrupt, shown: &Arc<Shown>, keeps_hangup: bool) -> Self {
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
            let (first, mark) = (noted(*signal, interrupt), impatience(*signal, &interrupt.asked()));
            whole &= second.is_ok() && first.is_ok() && mark.is_some();
            marks.extend(mark);
        }
        let hangup = (!keeps_hangup && asks(SIGHUP)).then(|| noted(SIGHUP, interrupt));
        if !whole || hangup.as_ref().is_some_and(Result::is_err) {
            say(
                "warning: signals cannot be caught; an interrupted run leaves unfinished files for the next one to remove",
            );
        }
        let state = State { marks, ..State::default() };
        interrupt.set_patience(Box::new(Impatience {
            asked: interrupt.asked(),
            signals: impatient,
            shown: Arc::clone(shown),
            state: Mutex::new(state),
        }));
        Self { interrupt: interrupt.clone(), hangup: RefCell::new(hangup.and_then(Result::ok)) }
    }

    /// Goes on as if no signal had come, and from here on a lost terminal changes nothing: the system may tell of it several times.
    pub(super) fn forget(&self) {
        if let Some(mark) = self.hangup.take() {
            // Caught it stays, so it does not end the program either.
            unregister(mark);
        }
        self.interrupt.forget();
    }
}

/// The signals of which a second one ends the program, and how that is put off.
struct Impatience {
    asked: Arc<AtomicBool>,
    signals: Vec<i32>,
    shown: Arc<Shown>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How often it was put off and not yet allowed again.
    depth: usize,
    /// What makes a second signal end the program.
    marks: Vec<SigId>,
    /// Who answers the first.
    answer: Option<Answer>,
}

/// Waits for a first signal, to answer it.
struct Answer {
    marks: Vec<SigId>,
    thread: JoinHandle<()>,
}

impl fmt::Debug for Impatience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Impatience").field("signals", &self.signals).finish_non_exhaustive()
    }
}

impl Patience for Impatience {
    fn begin(&self, why: Option<&'static str>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.depth += 1;
        if state.depth == 1 {
            take_away(std::mem::take(&mut state.marks));
            self.asked.store(false, Ordering::Relaxed);
        }
        if let Some(why) = why.filter(|_| state.answer.is_none()) {
            // Without it nothing is said; what must come to its end does all the same.
            state.answer = Answer::begin(&self.signals, &self.shown, why).ok();
        }
    }

    fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.depth = state.depth.saturating_sub(1);
        if state.depth > 0 {
            return;
        }
        let answer = state.answer.take();
        state.marks = self.signals.iter().filter_map(|signal| impatience(*signal, &self.asked)).collect();
        drop(state);
        if let Some(answer) = answer {
            answer.end();
        }
    }
}

impl Answer {
    fn begin(signals: &[i32], shown: &Arc<Shown>, why: &'static str) -> io::Result<Self> {
        let (mut woken, wakes) = UnixStream::pair()?;
        let mut marks = Vec::new();
        for signal in signals {
            match wakes.try_clone().and_then(|end| pipe::register(*signal, end)) {
                Ok(mark) => marks.push(mark),
                Err(e) => {
                    take_away(marks);
                    return Err(e);
                }
            }
        }
        let shown = Arc::clone(shown);
        let wait = move || {
            // When nobody can send any more, nothing came.
            if matches!(woken.read(&mut [0]), Ok(1)) {
                shown.line(why);
            }
        };
        match std::thread::Builder::new().spawn(wait) {
            Ok(thread) => Ok(Self { marks, thread }),
            Err(e) => {
                take_away(marks);
                Err(e)
            }
        }
    }

    fn end(self) {
        // With its mark each signal lets go of its end.
        take_away(self.marks);
        let _said_or_not = self.thread.join();
    }
}

fn take_away(marks: Vec<SigId>) {
    for mark in marks {
        unregister(mark);
    }
}

/// Takes note of `signal` as what asked for the end.
fn noted(signal: i32, interrupt: &Interrupt) -> io::Result<SigId> {
    signal_hook::flag::register_usize(signal, interrupt.flag(), usize::try_from(signal).unwrap_or(0))
}

/// Once `signal` came, a second one ends the program.
fn impatience(signal: i32, asked: &Arc<AtomicBool>) -> Option<SigId> {
    signal_hook::flag::register(signal, Arc::clone(asked)).ok()
}
