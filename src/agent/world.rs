//! What the agent needs of the world: time, children, somebody who listens. Tests put their own in its place.

use crate::agent::tell::Task;
use crate::agent::untold::Untold;
use crate::config::Config;
use crate::model::Timestamp;
use crate::ops::error::Result;
use crate::ops::left_open::Unfinished;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A job to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The project's configuration.
    pub config: PathBuf,
    /// Its state folder.
    pub state_dir: PathBuf,
    /// What it is, for whoever is told of it.
    pub task: Task,
    /// The command and its arguments.
    pub args: Vec<String>,
    /// What tells this run from every other one of the project.
    pub token: String,
    /// What it gets beyond the usual time, when it is asked to end while services are down for its capture.
    pub patience: Duration,
}

/// What is known of a run that was begun before this agent was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphan {
    /// It is still under way.
    Running,
    /// It ended with this code.
    Ended(u8),
    /// It is gone, and said nothing.
    Gone,
}

/// What a run said of its end, beside its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// A store lacks something of it, whatever worse its code tells of.
    #[serde(default)]
    pub behind: bool,
    /// It made a snapshot. An older program does not say so.
    #[serde(default)]
    pub made: bool,
    /// It told whoever is to be told, or noted it for them. An older program does not say so, and did.
    #[serde(default = "yes")]
    pub told: bool,
}

fn yes() -> bool {
    true
}

/// A job that runs.
pub trait Work {
    /// Its exit code, once it has ended.
    fn poll(&mut self) -> Option<u8>;
    /// Asks it to end; it has soon, or once the services run again that are down for its capture.
    fn stop(&mut self);
}

/// The world of the agent.
pub trait World {
    /// The time.
    fn now(&self) -> Timestamp;
    /// Starts a job; [`Class::Busy`](crate::ops::error::Class::Busy) while another one of the project runs.
    fn start(&mut self, order: &Order) -> Result<Box<dyn Work>>;
    /// What became of a job that an agent before this one started.
    fn orphan(&mut self, order: &Order) -> Result<Orphan>;
    /// What the run of `order`, which has ended, said of its end.
    fn said(&mut self, order: &Order) -> Option<Said>;
    /// The rollback of the project that is not at its end.
    fn unfinished(&mut self, order: &Order) -> Option<Unfinished>;
    /// The job of `order` was started.
    fn begun(&mut self, config: &Arc<Config>, order: &Order);
    /// A run ended, or was not begun, and told nobody. Must not wait for whoever is told.
    fn untold(&mut self, config: &Arc<Config>, untold: &Untold);
    /// A job has ended: there may be something to tell. Must not wait for whoever is told.
    fn ended(&mut self, config: &Arc<Config>);
    /// Looks, from time to time, whether a project has been without a good backup for too long, and tells what could not be told before. Must not wait for
    /// whoever is told: the service manager hears from the loop that the agent lives.
    fn watch(&mut self, config: &Arc<Config>);
    /// Tells people how it goes, unless they want to hear of problems and results alone.
    fn say(&mut self, text: &str);
    /// Tells people of a problem.
    fn warn(&mut self, text: &str);
    /// The agent that stays begins its work with these configurations.
    fn begin(&mut self, configs: &[Arc<Config>]);
    /// It is to go on with these. An error refuses them, and all is as it was.
    fn change(&mut self, configs: &[Arc<Config>]) -> Result<()>;
    /// It ends.
    fn end(&mut self);
    /// Waits until `until`, or until something happens. `busy`: a job runs.
    fn wait(&mut self, until: Option<Timestamp>, busy: bool);
}
