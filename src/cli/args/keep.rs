//! Arguments of the commands that say what stays and what goes.

use clap::Args;

#[derive(Debug, Args)]
pub struct TagArgs {
    /// Which snapshot
    #[arg(value_name = "ID")]
    pub id: String,
    /// Tags; they are public
    #[arg(value_name = "TAG", required = true)]
    pub tags: Vec<String>,
    /// Take these tags away
    #[arg(long)]
    pub remove: bool,
}

#[derive(Debug, Args)]
pub struct NoteArgs {
    /// Which snapshot
    #[arg(value_name = "ID")]
    pub id: String,
    /// The note that takes the place of the one before; `-` reads it from standard input, an empty one takes it away
    #[arg(value_name = "TEXT")]
    pub text: String,
}

#[derive(Debug, Args)]
pub struct MilestoneArgs {
    /// Which snapshot; with --standalone and without an ID a new one is made
    #[arg(value_name = "ID", required_unless_present = "standalone")]
    pub id: Option<String>,
    /// No longer a milestone: retention may remove it
    #[arg(long)]
    pub remove: bool,
    /// One that stands alone: it needs no archive of an earlier snapshot. Without an ID a snapshot is made now, with everything stored anew, as by
    /// `backup --full --milestone`. One that exists is refused unless it stands alone already
    #[arg(long, conflicts_with = "remove")]
    pub standalone: bool,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Which snapshots
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// Go ahead without asking
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct SettleArgs {
    /// What stands, where there are two histories: a snapshot of one, or an entry as `settle` names it (entry:HASH). Snapshots of the other become untrusted (may be given several times)
    #[arg(long, value_name = "ID")]
    pub keep: Vec<String>,
    /// Go ahead without asking
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Say what is kept and why, and what would go; do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Delete at once instead of a day later; only where every store that is pruned from here is a directory
    #[arg(long)]
    pub now: bool,
    /// You looked at this snapshot, and its state is right: ends a freeze (may be given several times)
    #[arg(long, value_name = "ID")]
    pub accept: Vec<String>,
    /// Pass over the record of this snapshot, which cannot be read or is gone; what it names stays (may be given several times)
    #[arg(long, value_name = "ID", value_parser = snapshot_id)]
    pub ignore: Vec<crate::model::SnapshotId>,
}

fn snapshot_id(text: &str) -> Result<crate::model::SnapshotId, String> {
    text.parse().map_err(|_| format!("{text:?} is no whole snapshot id, such as 20261123T080000Z-abcdefgh"))
}
