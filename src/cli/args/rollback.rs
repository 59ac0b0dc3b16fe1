//! What can be typed for `rollback`.

use crate::cli::args::Untrusted;
use clap::Args;

/// `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Which snapshot (else the last ones are shown, and you are asked). To name it is enough where there is no terminal: it goes ahead at once there,
    /// without --yes; a snapshot of another host does not
    #[arg(value_name = "ID", conflicts_with_all = ["resume", "undo"])]
    pub id: Option<String>,
    /// Only this component (may be given several times)
    #[arg(long, value_name = "COMPONENT", conflicts_with_all = ["resume", "undo"])]
    pub only: Vec<String>,
    /// Put git's working tree back to the commit that the snapshot recorded, too; refused while something is not committed
    #[arg(long, conflicts_with_all = ["resume", "undo"])]
    pub git: bool,
    /// Show the plan, also that of --undo, and do nothing
    #[arg(long, conflicts_with = "resume")]
    pub dry_run: bool,
    /// Bring a rollback that was killed to its end: all of the new state where its services are well, else all of the old;
    /// and a guarded command whose guard was killed, which goes back with --yes, or if it was to go back without asking
    #[arg(long, conflicts_with = "undo")]
    pub resume: bool,
    /// Take the last rollback back; what is live now goes into a safety snapshot first
    #[arg(long)]
    pub undo: bool,
    /// Start services that are down, too: they must be well on the snapshot like the others, or all of it is undone. Else what is down stays so, unless
    /// you say otherwise when you are asked
    #[arg(long, conflicts_with = "resume")]
    pub start: bool,
    /// Go ahead without asking
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub untrusted: Untrusted,
}
