//! Several threads that walk one tree: whoever has nothing to do gets the later half of what another one has before it.
//!
//! What they find is put together in walk order, as if one had walked alone: nothing here may depend on who was faster.

use crate::platform::processors;
use crate::source::folder::found::Yield;
use crate::source::folder::split::Part;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// More threads wait for the same disk and the same kernel's locks.
const THREADS_MAX: usize = 4;

/// How a tree is walked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hands {
    pub(super) threads: usize,
    /// Parts are given away whether somebody waits for them or not, and walked by whoever comes to them: for tests of every way to split.
    pub(super) eager: bool,
}

impl Hands {
    /// As many as this machine has use for.
    pub(super) fn of_this_machine() -> Self {
        Self { threads: processors().min(THREADS_MAX), eager: false }
    }
}

/// The parts of a tree: which of them wait for a walker, and what was found in which.
pub(super) struct Crew {
    hands: Hands,
    state: Mutex<State>,
    /// There is something to walk, or nothing will come any more.
    changed: Condvar,
    /// So many have nothing to do and nothing waits for them: asked at each step of each walk, so without the lock.
    wanted: AtomicUsize,
}

#[derive(Default)]
struct State {
    waiting: Vec<(usize, Part)>,
    parts: Vec<Link>,
    /// Parts that are not walked yet.
    open: usize,
    idle: usize,
}

#[derive(Default)]
struct Link {
    /// The part that comes after this one in walk order.
    next: Option<usize>,
    found: Yield,
}

/// A part that is being walked. What was found in it is handed in when this goes, also when its thread panics: the others would wait for ever.
pub(super) struct Turn<'c> {
    crew: &'c Crew,
    pub(super) part: usize,
    pub(super) found: Yield,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.crew.state();
        state.parts[self.part].found = std::mem::take(&mut self.found);
        state.open -= 1;
        if state.open == 0 {
            self.crew.changed.notify_all();
        }
    }
}

impl Crew {
    pub(super) fn new(hands: Hands) -> Self {
        let state = Mutex::new(State::default());
        Self { hands, state, changed: Condvar::new(), wanted: AtomicUsize::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first part, of which all others are split off.
    pub(super) fn begin(&self) -> Turn<'_> {
        let mut state = self.state();
        state.parts.push(Link::default());
        state.open = 1;
        Turn { crew: self, part: 0, found: Yield::default() }
    }

    /// Walks the first part with `first` and all others with `walk` until none is left, with the threads that can be had.
    pub(super) fn work(&self, first: impl FnOnce(), walk: impl Fn(Turn<'_>, Part) + Sync) {
        let work = || {
            while let Some((turn, part)) = self.next() {
                walk(turn, part);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.hands.threads {
                let builder = std::thread::Builder::new().name("walk".to_owned());
                // Where no more threads may be started fewer do it.
                drop(builder.spawn_scoped(scope, work));
            }
            first();
            work();
        });
    }

    fn next(&self) -> Option<(Turn<'_>, Part)> {
        let mut state = self.state();
        loop {
            if let Some((part, what)) = state.waiting.pop() {
                self.count(&state);
                return Some((Turn { crew: self, part, found: Yield::default() }, what));
            }
            if state.open == 0 {
                return None;
            }
            state.idle += 1;
            self.count(&state);
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn count(&self, state: &State) {
        self.wanted.store(state.idle.saturating_sub(state.waiting.len()), Ordering::Relaxed);
    }

    /// Whether somebody would walk a part that is split off now.
    pub(super) fn wants(&self) -> bool {
        self.hands.eager || self.wanted.load(Ordering::Relaxed) > 0
    }

    /// True when a few names are worth to be given away.
    pub(super) fn takes_little(&self) -> bool {
        self.hands.eager
    }

    /// Takes `part`, all of which comes after what `giver` still walks, and before what was split off from it earlier.
    pub(super) fn give(&self, giver: usize, part: Part) {
        let mut state = self.state();
        let place = state.parts.len();
        let next = state.parts[giver].next.replace(place);
        state.parts.push(Link { next, found: Yield::default() });
        state.waiting.push((place, part));
        state.open += 1;
        self.count(&state);
        self.changed.notify_one();
    }

    /// What was found, in walk order.
    pub(super) fn into_found(self) -> Vec<Yield> {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (mut found, mut at) = (Vec::with_capacity(state.parts.len()), Some(0));
        while let Some(link) = at.and_then(|at| state.parts.get_mut(at)) {
            found.push(std::mem::take(&mut link.found));
            at = link.next;
        }
        found
    }
}
