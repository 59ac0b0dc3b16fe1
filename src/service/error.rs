//! Why a service or a hook did not do what it should.

use std::io;
use std::time::Duration;

/// Why a service or a hook did not do what it should. `subject` is `service "backend"` or `the hook before backup`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The program could not be started.
    #[error("{subject}: cannot run {program}")]
    Start {
        /// Of what.
        subject: String,
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The line cannot be run at all.
    #[error("{subject}: {source}")]
    Line {
        /// Of what.
        subject: String,
        /// Why.
        source: crate::platform::shell::ShellError,
    },
    /// It ended with an exit code other than 0, or by a signal.
    #[error("{subject}: `{program}` ended with {status}{words}")]
    Failed {
        /// Of what.
        subject: String,
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it said, after a colon; or nothing.
        words: String,
    },
    /// It was ended, with all it had started.
    #[error("{subject}: `{program}` was ended after {} s{words}", limit.as_secs_f32())]
    TimedOut {
        /// Of what.
        subject: String,
        /// The program.
        program: String,
        /// The time it had.
        limit: Duration,
        /// As in `Failed`.
        words: String,
    },
    /// The run was asked to end.
    #[error("{subject}: `{program}` was ended, because the run was")]
    Interrupted {
        /// Of what.
        subject: String,
        /// The program.
        program: String,
    },
    /// It was told to stop, said it had, and runs.
    #[error("{subject} was stopped, and still runs ({what})")]
    StillRuns {
        /// Of what.
        subject: String,
        /// What is known of it.
        what: String,
    },
    /// It was started, and does not run.
    #[error("{subject} was started, and does not run ({what})")]
    DoesNotRun {
        /// Of what.
        subject: String,
        /// What is known of it.
        what: String,
    },
    /// The health check never passed often enough.
    #[error("{subject} is not healthy: {why}")]
    Unhealthy {
        /// Of what.
        subject: String,
        /// What the last answer lacked.
        why: String,
    },
    /// Whether it runs could not be told.
    #[error("{subject}: cannot tell whether it runs: {why}")]
    Unknown {
        /// Of what.
        subject: String,
        /// Why.
        why: String,
    },
}
