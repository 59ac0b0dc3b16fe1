//! What an operation is given beside its configuration: time, people, signals, and what they chose.

use crate::keys::Ask;
use crate::model::{Clock, Progress};
use crate::ops::interrupt::Interrupt;
use std::path::PathBuf;
use std::sync::Arc;

/// What comes from outside of the configuration.
#[derive(Clone)]
pub struct Surroundings {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Hears how far a run is.
    pub progress: Arc<dyn Progress>,
    /// Says when to end.
    pub interrupt: Interrupt,
    /// This program, for children that capture databases.
    pub exe: PathBuf,
    /// Identity files given with `-i`.
    pub identity_files: Vec<PathBuf>,
    /// A store named with `--store`, if any: the name of one, or a path.
    pub store: Option<String>,
    /// Stores are read as they stood at that time.
    pub as_of: Option<jiff::Timestamp>,
    /// Gives the passphrase of what is protected by one.
    pub ask: Arc<Ask>,
    /// Which hosts' snapshots are meant.
    pub hosts: HostChoice,
    /// How long to wait for another run to end.
    pub wait: Option<std::time::Duration>,
}

/// Which hosts' snapshots are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HostChoice {
    /// Those of this host.
    #[default]
    Own,
    /// Those of the host with this name, or this beginning of its id.
    Named(String),
    /// Those of all.
    All,
}
