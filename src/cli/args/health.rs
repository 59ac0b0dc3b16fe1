//! Arguments of the commands that say how things stand.

use clap::Args;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Send a test of each kind to everybody whom the configuration names, and say whether it could be sent
    #[arg(long)]
    pub notify: bool,
    /// End uploads in parts that were begun more than seven days ago below this project's prefix in a bucket, and never ended: they cost room, and are in no listing. Without this they are only named
    #[arg(long)]
    pub abort_uploads: bool,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print one line as monitoring systems read it, and fail (exit code 18) when a person is needed
    #[arg(long)]
    pub check: bool,
    /// The newest good snapshot of every component must not be older than this (26h, 90m)
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    pub max_age: Option<std::time::Duration>,
}
