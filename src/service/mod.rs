//! Row 2: services: stopping, starting, and telling whether they work.
//!
//! A health check that cannot tell is a failure.
//!
//! This module must never take an answer of the process before for one of the process after, and never wait without a limit.

mod compose;
mod control;
mod error;
mod health;
mod instance;
mod probe;
mod run;
mod watch;

pub use control::{
    State, another_has_its_number, let_commands_end, order_start, start, start_in_words, state, stop,
};
pub use error::ServiceError;
pub use health::{Judgement, answers, wait_healthy};
pub use instance::{Instance, of_pid as life_of, process_in};
pub use run::{Around, run_line, run_line_with};
pub use watch::Watch;
