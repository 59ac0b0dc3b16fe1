//! What can be typed for `guard`.

use clap::Args;
use std::ffi::OsString;

/// `guard`.
#[derive(Debug, Args)]
pub struct GuardArgs {
    /// Only this component goes into the snapshot, and back (may be given several times)
    #[arg(long, value_name = "COMPONENT")]
    pub only: Vec<String>,
    /// A note of the snapshot (else it names the program); `-` is not read from standard input here, which is the command's
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Go back without asking when the command fails or a service is not well after it
    #[arg(long)]
    pub auto: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The command with its arguments, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}
