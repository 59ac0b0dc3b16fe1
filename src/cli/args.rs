//! What can be typed. The text of each item is what `--help` shows.

#![expect(missing_docs, reason = "the words for people are in the attributes and shown by --help")]

mod agent;
mod compare;
mod guard;
mod health;
mod keep;
mod rollback;

pub use agent::{AgentArgs, PrintFor};
pub use compare::{DiffArgs, FindArgs};
pub use guard::GuardArgs;
pub use health::{DoctorArgs, StatusArgs};
pub use keep::{DeleteArgs, MilestoneArgs, NoteArgs, PruneArgs, SettleArgs, TagArgs};
pub use rollback::RollbackArgs;

mod keys;

pub use keys::{
    KeysArgs, KeysCommand, KitArgs, KitCommand, NewPassphrase, RecoverArgs, RoleWord, SignerCommand, Yes,
};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
What went wrong?
  a file is gone             backstay find NAME; backstay restore latest COMPONENT/PATH --in-place
  a change went wrong        backstay diff latest; backstay rollback
  one is about to be made    backstay guard -- COMMAND
  the machine is gone        backstay recover KIT_FILE --to NEW_FOLDER
  a store is damaged         backstay sync
  nobody knows               backstay status; backstay doctor
  this program is gone, too  RECOVER.md in the store says how to do without it

ID is a snapshot id or a unique beginning of one, latest, latest~1, latest-good, latest-safety,
tag:NAME or @TIME (@2026-11-17, @-2h): the newest at or before it. With PATH or --only each of them
but an id means one that holds what is named.
PATH is COMPONENT, COMPONENT/PATH, or a path of this machine beginning with ./ or /.
Exit codes: 0 done, 3 done but something could not be read, others failed (docs/exit-codes.md).";

/// Backs up your application, proves it, and brings it back.
#[derive(Debug, Parser)]
#[command(name = "backstay", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of all commands")]
pub struct Global {
    /// Configuration file (else backstay.toml, found upward from here, or $BACKSTAY_CONFIG); `agent` takes several
    #[arg(short, long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "directory", action = clap::ArgAction::Append)]
    pub config: Vec<PathBuf>,
    /// Work as if started in this directory: its backstay.toml is meant, and relative paths are relative to it
    #[arg(short = 'C', long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub directory: Option<PathBuf>,
    /// Identity file that opens snapshots (may be given several times)
    #[arg(short, long = "identity", global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub identities: Vec<PathBuf>,
    /// Recovery kit instead of a configuration: reading commands work from any machine. Beside one, for a machine that has
    /// no identity: `rollback`, `guard` and `restore --in-place`. `init` writes the kit to this file
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub kit: Option<PathBuf>,
    /// Store to read, and no other: a name of the configuration, or the path of a moved store or of a copy, which is
    /// only read. For `recover`: where one store of the kit is now. For `init`: where the new store is to be (may be
    /// given several times); the server of a bucket, where it is not AWS, says AWS_ENDPOINT_URL_S3
    #[arg(long, global = true, value_name = "NAME|PATH", action = clap::ArgAction::Append)]
    pub store: Vec<String>,
    /// Read the stores as they stood at TIME (2026-11-17, 2026-11-17T12:00, -2h): buckets that keep versions, for
    /// reading commands only
    #[arg(long, global = true, value_name = "TIME", allow_hyphen_values = true)]
    pub as_of: Option<String>,
    /// Snapshots of this host (its name among the trusted keys, or a beginning of its id) instead of this one's
    #[arg(long, global = true, value_name = "HOST", conflicts_with = "all_hosts")]
    pub host: Option<String>,
    /// Snapshots of all hosts
    #[arg(long, global = true)]
    pub all_hosts: bool,
    /// One JSON document on standard output (docs/json.md)
    #[arg(long, global = true)]
    pub json: bool,
    /// Only problems and results
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Also say which configuration and store are used
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Wait for another run to end (at most DURATION) instead of failing
    #[arg(long, global = true, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "1h", value_parser = duration)]
    pub wait: Option<std::time::Duration>,
    /// How progress is shown
    #[arg(long, global = true, value_enum, default_value_t = ProgressMode::Auto, value_name = "HOW")]
    pub progress: ProgressMode,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// A bar on a terminal, nothing elsewhere.
    Auto,
    /// Lines of text.
    Plain,
    /// Lines of JSON on standard error.
    Json,
    /// Nothing.
    None,
}

pub(in crate::cli) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is not a duration such as 30s, 10m or 2h"))?;
    std::time::Duration::try_from(span).map_err(|_| "a duration cannot be negative".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    number
        .filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .ok_or_else(|| format!("{text:?} is not a part of 100: give a number above 0 and at most 100"))
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at a project, propose what to back up, write configuration, keys and recovery kit
    ///
    /// Can be run again at any time: it makes what the configuration names and lacks, and changes nothing else.
    Init(InitArgs),
    /// Make a snapshot
    Backup(BackupArgs),
    /// List snapshots
    #[command(alias = "snapshots")]
    List,
    /// Show one snapshot in full
    Show(IdArgs),
    /// List a directory of a snapshot
    Ls(LsArgs),
    /// Find the versions of a path in all snapshots
    ///
    /// Each content is told once, newest first, with the snapshots that hold it.
    Find(FindArgs),
    /// Tell what differs between two snapshots, or between a snapshot and the live tree
    ///
    /// The live tree is looked at by the rules of `backup`: what it would leave out is left out here. Differences are no failure: the exit code is 0
    /// with and without them.
    Diff(DiffArgs),
    /// Write one file of a snapshot to standard output, after all of it was proved
    #[command(alias = "dump")]
    Cat(CatArgs),
    /// Bring a snapshot or some paths of it back, to a new folder or in place
    ///
    /// Nothing is ever restored over something. With --in-place each file is exchanged for the restored one, and the old one is kept beside it.
    Restore(RestoreArgs),
    /// Put the live application back to a snapshot, with its services; undone by itself when they are not well on it
    ///
    /// Everything is fetched and proved before anything is stopped. What is live now goes into a safety snapshot, is exchanged, and is kept beside
    /// the new state for a week. What is excluded, and what `leave` names, stays as it is.
    Rollback(RollbackArgs),
    /// Run a command with a way back: a snapshot, the command, health checks, and a rollback when it fails
    ///
    /// The command gets the terminal as it is, and is not run unless the snapshot is good. It has failed when its exit code is not 0 or a service
    /// that ran before is not well after it. Then you are asked; --auto goes back at once. Credentials of stores are taken out of its environment.
    Guard(GuardArgs),
    /// Succeed unless a rollback stopped half-way: a gate for services, as ExecStartPre
    Ready,
    /// Prove what the stores hold, without a key as far as that goes
    ///
    /// Every signature and every chain is checked and every object looked at. What is found is signed, so that `list` shows it everywhere. Damage
    /// is named with what it costs and the way out, and nothing is changed.
    #[command(alias = "check")]
    Verify(VerifyArgs),
    /// Really bring a snapshot back, into a scratch place, check it, time it, and take it away again
    ///
    /// Databases get an integrity check, components their own `check`. Nothing live is touched. The result is signed, so that `list` and `show` tell
    /// when the last drill was.
    Drill(DrillArgs),
    /// Bring to each store what it lacks or holds damaged and another store has
    ///
    /// First of all to a store that is new or was away. What is there already is not sent again.
    #[command(alias = "copy")]
    Sync(SyncArgs),
    /// Bring a lost machine back from its recovery kit: configuration, data, keys, and the right to go on with its history
    ///
    /// Shows what it found and asks; elsewhere than on a terminal it needs --yes. Nothing is ever written over something. A run that was
    /// interrupted is ended by the same command. --store PATH|URL says where one store of the kit is now, and the others are read, too.
    Recover(RecoverArgs),
    /// Give a snapshot tags, or take them away
    Tag(TagArgs),
    /// Replace the note of a snapshot; notes are sealed, never public
    Note(NoteArgs),
    /// Make a snapshot one that retention never removes, or end that
    Milestone(MilestoneArgs),
    /// Ask for snapshots to be deleted: the next prune announces them, and one a day later deletes them
    ///
    /// Never a milestone, and never the newest good snapshot of a component. What another snapshot needs, too, stays in the store
    /// (docs/retention.md, *Asked to go*).
    Delete(DeleteArgs),
    /// Delete what retention lets go and nothing needs: announced first, deleted a day later
    ///
    /// Never asks. --dry-run shows every snapshot and what it is kept for (docs/retention.md).
    #[command(alias = "forget")]
    Prune(PruneArgs),
    /// Accept that entries of the history are lost, or say which of two histories stands, so that `latest` and `prune` go on
    ///
    /// Find out first why they are missing, and whether another store, or an older version in the bucket, still has them. What is wrong is shown
    /// and asked about; nothing is deleted. No key may settle what it signed itself: `backstay keys signer rotate` makes another one.
    Settle(SettleArgs),
    /// Say how things stand: how old and how well proved the backups are, store by store, and whether a person is needed
    ///
    /// Works without a network, and then says what could not be seen.
    Status(StatusArgs),
    /// Examine the project: configuration, keys, clock, stores, history, room; each finding with its way out
    ///
    /// Nothing is changed but throw-away probe objects, which are removed. The exit code is 18 when something is a problem now.
    Doctor(DoctorArgs),
    /// Run what the schedule of the configuration says, at its time: as a daemon, or once for cron and timers
    ///
    /// A time that was missed is made up for once. SIGHUP reads the configuration again; SIGTERM ends it, and what it was doing is taken up again.
    Agent(AgentArgs),
    /// Print the recovery kit: everything a fresh machine needs to open these backups
    ///
    /// It holds private keys. It is printed on a terminal or to a file that only you can read, never into a pipe.
    Kit(KitArgs),
    /// Show, add, remove and exchange keys: who can open what is made from now on, and who is believed
    ///
    /// What was sealed or signed before is never changed; each command says what it means for it. Changes of the configuration are shown first,
    /// and the old file is kept beside it.
    Keys(KeysArgs),
    /// Show the whole story on a throw-away application, with the real commands
    Demo(DemoArgs),
    /// Print shell completions
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages to a directory
    Man {
        /// Where to
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The project's folder (else the current one)
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// Encrypt to this age recipient (age1…) that you hold the identity of; no identity is then made
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    pub recipients: Vec<String>,
    /// Keep the identity only in the recovery kit: this machine then cannot open its own backups
    #[arg(long)]
    pub offline_identity: bool,
    /// Make a new store in the place of this one of the configuration, which is lost for good; or take the one of the same vault that is there now
    #[arg(long, value_name = "NAME")]
    pub replace_store: Option<String>,
    /// Make the bucket of a store that is a URL, where it is not there
    #[arg(long)]
    pub create_bucket: bool,
    /// Take everything that is proposed
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Default, Args)]
pub struct BackupArgs {
    /// Only this component (may be given several times)
    #[arg(long, value_name = "COMPONENT")]
    pub only: Vec<String>,
    /// A note on what changes next; `-` reads it from standard input
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// A public tag
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Never to be removed by retention
    #[arg(long)]
    pub milestone: bool,
    /// Record what git's working trees are at, keep that by references and a tag `pre-…`, and commit nothing; `bundle` puts
    /// the repository into the snapshot, too
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "state")]
    pub git: Option<GitWord>,
    /// Say what would be captured, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Store everything anew, so that the snapshot needs nothing older
    #[arg(long, visible_alias = "standalone")]
    pub full: bool,
}

/// What of git.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GitWord {
    /// Commit, branch, description, and whether something is not committed.
    State,
    /// That, and a bundle of the whole repository as a component of the snapshot.
    Bundle,
}

#[derive(Debug, Args)]
pub struct Untrusted {
    /// Use the snapshot although no trusted key of its host signed it
    #[arg(long)]
    pub accept_untrusted: bool,
}

#[derive(Debug, Args)]
pub struct IdArgs {
    /// Which snapshot
    #[arg(value_name = "ID", default_value = "latest")]
    pub id: String,
    #[command(flatten)]
    pub untrusted: Untrusted,
}

#[derive(Debug, Args)]
pub struct LsArgs {
    /// Which snapshot
    #[arg(value_name = "ID")]
    pub id: String,
    /// What to list (else the components)
    #[arg(value_name = "PATH")]
    pub path: Option<String>,
    /// Everything below, too
    #[arg(short, long)]
    pub recursive: bool,
    #[command(flatten)]
    pub untrusted: Untrusted,
}

#[derive(Debug, Args)]
pub struct CatArgs {
    /// Which snapshot
    #[arg(value_name = "ID")]
    pub id: String,
    /// Which file
    #[arg(value_name = "PATH")]
    pub path: String,
    #[command(flatten)]
    pub untrusted: Untrusted,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["to", "in_place"]))]
pub struct RestoreArgs {
    /// Which snapshot
    #[arg(value_name = "ID")]
    pub id: String,
    /// What of it (else everything)
    #[arg(value_name = "PATH")]
    pub paths: Vec<String>,
    /// A folder that does not exist yet, or is empty
    #[arg(long, alias = "target", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub to: Option<PathBuf>,
    /// Put files back where they were; each old file is kept beside the restored one
    #[arg(long)]
    pub in_place: bool,
    /// Do not try to give files their owners
    #[arg(long)]
    pub no_owners: bool,
    /// Go ahead without asking
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub untrusted: Untrusted,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Which snapshots (else all of this host that are held; --host and --all-hosts for others)
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Read so much of all bytes and compare it, those with the oldest proofs first: 5 a day comes round in 20 days
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, require_equals = true, default_missing_value = "100", value_parser = percent)]
    pub read_data: Option<f64>,
    /// Read everything, open it with the identity, and compare every file and check every database
    #[arg(long)]
    pub decrypt: bool,
    #[command(flatten)]
    pub untrusted: Untrusted,
}

#[derive(Debug, Args)]
pub struct DrillArgs {
    /// Which snapshot (else of each component of the configuration the newest good one that holds it)
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Only this component (may be given several times)
    #[arg(long, value_name = "COMPONENT")]
    pub only: Vec<String>,
    #[command(flatten)]
    pub untrusted: Untrusted,
}

#[derive(Debug, Args)]
pub struct SyncArgs {
    /// Only from this store (else from any that has it)
    #[arg(long, value_name = "STORE")]
    pub from: Option<String>,
    /// Only to this store (else to all); needed for one that shows less than it did before
    #[arg(long, value_name = "STORE")]
    pub to: Option<String>,
    /// Read every object and compare it, not only those that are missing or of another size
    #[arg(long)]
    pub read_data: bool,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep the throw-away folder and say where it is
    #[arg(long)]
    pub keep: bool,
}
