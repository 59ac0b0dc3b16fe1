//! Arguments of `agent`.

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Run what is due now, and end with the worst exit code: for cron and timers
    #[arg(long)]
    pub once: bool,
    /// Print what has to be put where so that something runs the schedule, and do nothing
    #[arg(long, value_enum, value_name = "FOR", conflicts_with = "once")]
    pub print: Option<PrintFor>,
}

/// What `agent --print` prints something for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrintFor {
    /// A service of systemd that stays
    Systemd,
    /// A service and a timer of systemd
    Timer,
    /// A line for cron
    Cron,
}
