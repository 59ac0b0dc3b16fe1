//! How things stand: what is backed up, where, how old, how well proved; and whether a person is needed.
//!
//! Nothing is written. What could not be seen is said to be unseen, and never taken for well.

mod gather;
mod judge;
mod report;
mod seen;

pub use report::{Brief, ComponentStatus, Concern, Proof, State, StatusReport, StoreStatus};
pub use seen::{Failed, Found, Part, Proven, Reached, Seen, SeenSnapshot, look, recall, stamp};

use crate::config::Config;
use crate::ops::error::Result;
use crate::ops::session::{Session, Surroundings};
use gather::Gathered;
use std::sync::Arc;
use std::time::Duration;

/// What is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct StatusOptions {
    /// The newest good snapshot of every component must not be older.
    pub max_age: Option<Duration>,
}

/// Looks how things stand.
pub fn run(config: &Arc<Config>, around: &Surroundings, options: &StatusOptions) -> Result<StatusReport> {
    let gathered = match Session::open(Arc::clone(config), around.clone()) {
        Ok(session) => Gathered::online(&session)?,
        Err(e) => Gathered::offline(config, around.clock.now(), &e),
    };
    around.interrupt.check()?;
    Ok(judge::report(config, gathered, options, Vec::new()))
}
