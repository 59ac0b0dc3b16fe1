//! Arguments of the commands that compare and search.

use crate::cli::args::Untrusted;
use clap::Args;

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The older snapshot
    #[arg(value_name = "A")]
    pub from: String,
    /// The newer snapshot (else the live tree)
    #[arg(value_name = "B")]
    pub to: Option<String>,
    /// What of both to compare (else everything); may stand in the place of B
    #[arg(value_name = "PATH")]
    pub path: Option<String>,
    /// Read every live file whatever is remembered of it, and count changed pages of databases of any size
    #[arg(long)]
    pub read_data: bool,
    #[command(flatten)]
    pub untrusted: Untrusted,
}

#[derive(Debug, Args)]
pub struct FindArgs {
    /// A pattern as in `exclude`, over COMPONENT/PATH; or a path of this machine beginning with ./ or /
    #[arg(value_name = "PATTERN")]
    pub pattern: String,
    /// Only in this component (may be given several times)
    #[arg(long, value_name = "COMPONENT")]
    pub only: Vec<String>,
}
