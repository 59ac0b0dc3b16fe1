//! What a valid configuration says of the agent.

use std::path::PathBuf;

/// `[agent]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentSettings {
    /// A file that gets metrics for Prometheus after every command.
    pub textfile: Option<PathBuf>,
}
