//! What can be typed after `recover`, `kit` and `keys`.

#![expect(missing_docs, reason = "the words for people are in the attributes and shown by --help")]

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// The recovery kit: a file
    #[arg(value_name = "KIT", value_hint = ValueHint::FilePath)]
    pub kit_file: PathBuf,
    /// The project's new folder: must not exist yet, or be empty
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, required_unless_present = "in_place")]
    pub to: Option<PathBuf>,
    /// Put what lay outside of the project's folder back where it was; without --to the project, too
    #[arg(long)]
    pub in_place: bool,
    /// Only this component (may be given several times)
    #[arg(long, value_name = "COMPONENT")]
    pub only: Vec<String>,
    /// This snapshot and no other (else the newest good one, and for what it lacks the newest good one that holds it)
    #[arg(long, value_name = "ID")]
    pub snapshot: Option<String>,
    /// Do not try to give files their owners
    #[arg(long)]
    pub no_owners: bool,
    /// Go ahead without asking
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct KitArgs {
    /// Write it to this new file; .html and .svg also hold codes that a telephone reads
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Show it on the terminal as codes that a telephone reads, too
    #[arg(long, conflicts_with = "output")]
    pub qr: bool,
    #[command(flatten)]
    pub protect: NewPassphrase,
    #[command(subcommand)]
    pub command: Option<KitCommand>,
}

#[derive(Debug, Args)]
pub struct NewPassphrase {
    /// Protect it with a passphrase, which is asked for twice
    #[arg(long)]
    pub passphrase: bool,
    /// Protect it with the passphrase in the first line of this file, which only you can read (or /dev/fd/N)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "passphrase")]
    pub new_passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum KitCommand {
    /// Prove that this very kit opens the newest snapshot in each of its stores
    ///
    /// Give what was typed in or scanned from paper: then the print is proved. Run in the project's folder it is remembered, and reminders stop.
    Verify {
        /// The kit
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    pub command: KeysCommand,
}

#[derive(Debug, Args)]
pub struct Yes {
    /// Go ahead without asking
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List recipients and signing keys
    List,
    /// Add a recipient: snapshots made from the next one on open with its identity, too
    Add {
        /// age1…
        recipient: String,
        #[command(flatten)]
        yes: Yes,
    },
    /// Remove a recipient: snapshots made from the next one on do not open with its identity any more
    Remove {
        /// age1…
        recipient: String,
        #[command(flatten)]
        yes: Yes,
    },
    /// Make a new identity in the place of this machine's; the old one is kept for older snapshots
    Rotate {
        /// The recipient that it takes the place of, where that is not clear
        #[arg(long, value_name = "RECIPIENT")]
        replace: Option<String>,
        #[command(flatten)]
        protect: NewPassphrase,
        #[command(flatten)]
        yes: Yes,
    },
    /// Protect this machine's identity file with a passphrase, change that, or take it away
    Passphrase {
        /// Take the passphrase away
        #[arg(long, conflicts_with = "new_passphrase_file")]
        remove: bool,
        /// The new passphrase is the first line of this file, which only you can read (or /dev/fd/N)
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        new_passphrase_file: Option<PathBuf>,
        #[command(flatten)]
        yes: Yes,
    },
    /// Signing keys: who is believed
    Signer {
        #[command(subcommand)]
        command: SignerCommand,
    },
}

#[derive(Debug, Subcommand)]
pub enum SignerCommand {
    /// Believe a key on this machine, with these roles
    Trust {
        /// "ssh-ed25519 AAAA…"
        key: String,
        /// What messages call it (else the comment of the key)
        #[arg(long, default_value = "")]
        name: String,
        /// What it may do
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<RoleWord>,
        #[command(flatten)]
        yes: Yes,
    },
    /// Introduce a key as one of this host's to everybody who trusts this host
    Add {
        /// "ssh-ed25519 AAAA…"
        key: String,
        #[command(flatten)]
        yes: Yes,
    },
    /// End a key, such as that of a lost machine: what it signs from now on is untrusted
    Retire {
        /// Its id or the beginning of it, its name, or the key itself
        key: String,
        /// Its last entry that still counts (else its newest): for a key that somebody stole before
        #[arg(long, value_name = "NUMBER")]
        last: Option<u64>,
        #[command(flatten)]
        yes: Yes,
    },
    /// Make a new signing key for this host, introduced by the old one, which is then retired
    Rotate {
        #[command(flatten)]
        yes: Yes,
    },
}

/// What a signing key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleWord {
    /// Sign snapshots of its own host.
    Host,
    /// Give verdicts that count for other hosts.
    Verify,
    /// Delete, end milestones, retire keys.
    Prune,
}
