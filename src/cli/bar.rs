//! How far a run is: a bar on a terminal, lines elsewhere when asked for.

use crate::agent::Note;
use crate::cli::args::ProgressMode;
use crate::model::report::Phase;
use crate::model::{Problem, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shows progress on standard error.
pub struct Shown {
    mode: ProgressMode,
    quiet: bool,
    bar: ProgressBar,
    state: Mutex<State>,
    done: AtomicU64,
    /// Problems that make a run less than it should be, the first few.
    failures: Mutex<Vec<String>>,
    /// For the page of the agent that started this process.
    note: Option<Note>,
}

struct State {
    phase: &'static str,
    total: Option<u64>,
    told: Instant,
}

/// So many problems are kept for a message.
const KEPT: usize = 8;
/// Lines come at most this often.
const EVERY: Duration = Duration::from_secs(5);

impl Shown {
    /// Decides by `mode` and by what standard error is.
    pub fn new(mode: ProgressMode, quiet: bool, json: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = match mode {
            ProgressMode::Auto if terminal && !quiet && !json => {
                ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
            }
            _ => ProgressBar::hidden(),
        };
        let state = State { phase: "", total: None, told: Instant::now() };
        Self {
            mode,
            quiet,
            bar,
            state: Mutex::new(state),
            done: AtomicU64::new(0),
            failures: Mutex::default(),
            note: Note::from_environment(),
        }
    }

    /// Says a line above the bar.
    pub(in crate::cli) fn line(&self, text: &str) {
        self.bar.suspend(|| super::say(text));
    }

    fn tell(&self, state: &State, done: u64) {
        let total = state.total;
        if self.mode == ProgressMode::Json {
            let line = serde_json::json!({"progress": state.phase, "bytes": done, "total_bytes": total});
            self.line(&line.to_string());
        } else if self.mode == ProgressMode::Plain {
            let of = total.map(|t| format!(" of {}", super::render::size(t))).unwrap_or_default();
            self.line(&format!("{}: {}{of}", state.phase, super::render::size(done)));
        }
    }

    /// The first few problems of this run.
    pub(in crate::cli) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Takes the bar away; nothing is shown after.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Capture => "capturing databases",
        Phase::Scan => "listing files",
        Phase::Pack => "packing",
        Phase::ReadBack => "reading back",
        Phase::Restore => "restoring",
        Phase::Fetch => "fetching",
        Phase::Verify => "verifying",
        Phase::Open => "opening",
    }
}

impl Progress for Shown {
    fn phase(&self, phase: Phase, total_bytes: Option<u64>) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (state.phase, state.total, state.told) = (word(phase), total_bytes, Instant::now());
        self.done.store(0, Ordering::Relaxed);
        let template = match total_bytes {
            Some(_) => "{msg:20} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{spinner} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.set_message(state.phase);
        self.bar.set_length(total_bytes.unwrap_or(0));
        self.bar.reset();
        self.tell(&state, 0);
        if let Some(note) = &self.note {
            note.tell(state.phase, 0, total_bytes, true);
        }
    }

    fn no_phase(&self) {
        // The next phase shows it again.
        self.bar.finish_and_clear();
    }

    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bar.inc(bytes);
        if let Some(note) = &self.note {
            let state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            note.tell(state.phase, done, state.total, false);
        }
        if matches!(self.mode, ProgressMode::Plain | ProgressMode::Json) {
            let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if state.told.elapsed() >= EVERY {
                state.told = Instant::now();
                self.tell(&state, done);
            }
        }
    }

    fn problem(&self, problem: &Problem) {
        if problem.is_failure() {
            let mut kept = self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if kept.len() < KEPT {
                kept.push(super::render::problem(problem));
            }
        }
        if self.mode == ProgressMode::Json {
            if let Ok(line) = serde_json::to_string(&serde_json::json!({"problem": problem})) {
                self.line(&line);
            }
        } else {
            self.line(&super::render::problem(problem));
        }
    }

    fn note(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }
}
