//! What a valid configuration is, as the other modules use it.

use crate::config::notify::Notify;
use crate::config::render::show;
use crate::config::retention::Retention;
use crate::config::schedule::Timetable;
use crate::config::settings_agent::AgentSettings;
use crate::config::settings_service::{Hook, Service};
use crate::model::mark::Role;
use crate::model::retention::Policy;
use crate::model::{ComponentName, VaultId};
use jiff::tz::TimeZone;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// A validated configuration. All paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// The directory of the file, which relative paths are relative to.
    pub dir: PathBuf,
    /// The file's text.
    pub text: String,
    /// The project.
    pub project: Project,
    /// What is protected, in the order of the file; may be empty on a host that only verifies.
    pub components: Vec<Component>,
    /// Where snapshots are kept, the primary first; at least one.
    pub stores: Vec<StoreConfig>,
    /// Who can open.
    pub encryption: Encryption,
    /// Who signs and who is believed.
    pub signing: Signing,
    /// How long snapshots are kept where a store says nothing else.
    pub retention: Retention,
    /// How archives are packed.
    pub packing: Packing,
    /// What is stopped and started around a capture or an exchange, in the order of the file.
    pub services: Vec<Service>,
    /// What a user wants run around a step, in the order of the file.
    pub hooks: Vec<Hook>,
    /// How what is stored is proved.
    pub verify: Verify,
    /// What is run by itself, and when; nothing if there is none.
    pub schedule: Option<Timetable>,
    /// Who is told what.
    pub notify: Notify,
    /// How the agent works.
    pub agent: AgentSettings,
    /// Catalog, lock, spool and journal of this host.
    pub state_dir: PathBuf,
}

impl Config {
    /// The component of that name.
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|c| c.name.as_str() == name)
    }

    /// The store of that name.
    pub fn store(&self, name: &str) -> Option<&StoreConfig> {
        self.stores.iter().find(|s| s.name == name)
    }

    /// The retention that holds in `store`.
    pub fn retention_in<'a>(&'a self, store: &'a StoreConfig) -> &'a Retention {
        store.retention.as_ref().unwrap_or(&self.retention)
    }

    /// The same as rules to decide by. A store's table without a time zone has that of the file's, and that this machine's.
    pub fn policy_in(&self, store: &StoreConfig) -> Policy {
        let retention = self.retention_in(store);
        let zone = retention.zone.as_ref().or(self.retention.zone.as_ref());
        // The name was tried when the file was read; should its rules be gone since, days are still days.
        let zone = zone.map_or_else(TimeZone::system, |name| TimeZone::get(name).unwrap_or(TimeZone::UTC));
        retention.policy(zone)
    }
}

/// The project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// `a-z`, `0-9`, `-`, `_`, `.`, the first a letter or digit, at most 64: fit for paths.
    pub name: String,
    /// The vault that the stores must belong to, where the file names it.
    pub vault: Option<VaultId>,
}

/// Something to protect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Its name.
    pub name: ComponentName,
    /// What it is.
    pub spec: Spec,
    /// gitignore patterns, relative to the component's root; also forbidden to rollbacks.
    pub exclude: Vec<String>,
    /// Names of files with further patterns, looked for in every folder of the component.
    pub exclude_from: Vec<String>,
    /// Leaves out folders with a `CACHEDIR.TAG`.
    pub exclude_caches: bool,
    /// Leaves out folders that hold a file of such a name.
    pub exclude_if_present: Vec<String>,
    /// Stays on the file system of the component's root.
    pub one_file_system: bool,
    /// Patterns of what may be unreadable or missing without making the snapshot incomplete.
    pub allow_unreadable: Vec<String>,
    /// A file that changed while it was read makes the snapshot incomplete.
    pub strict: bool,
    /// Patterns of what a rollback leaves as it is.
    pub leave: Vec<String>,
    /// Of files: run by a drill in the restored folder; exit code 0 says that it is sound. Databases and dumps have theirs in [`Spec`].
    pub check: Option<CommandLine>,
    /// The services that work on it are stopped while it is captured.
    pub with_services_stopped: bool,
    /// How often it is packed so that it stands alone; never by itself when `None`.
    pub full_every: Option<Duration>,
}

/// What a component is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// A folder or a single file.
    Folder {
        /// Where.
        path: PathBuf,
    },
    /// A list of files and folders.
    Paths {
        /// Where; at least one, none twice.
        paths: Vec<PathBuf>,
    },
    /// A SQLite database.
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// Whether it is checked at every snapshot.
        check: SqliteCheck,
        /// How long writers may be made to wait.
        lock_limit: Duration,
    },
    /// The output of a command.
    Command {
        /// Writes what is to be kept to its standard output.
        command: CommandLine,
        /// Reads it back from its standard input.
        restore_command: Option<CommandLine>,
        /// Gets the output on its standard input; exit code 0 says that it is sound.
        check: Option<CommandLine>,
        /// `NAME=value` lines added to the environment of these commands.
        env_file: Option<PathBuf>,
        /// The command is ended after this time, and that is a failure.
        timeout: Duration,
        /// Output of fewer bytes is a failure.
        min_size: u64,
    },
    /// A database of a PostgreSQL server.
    Postgres {
        /// How it is reached, as libpq reads it; without a password.
        connection: String,
        /// `NAME=value` lines added to the environment of the server's programs.
        env_file: Option<PathBuf>,
        /// A dump, or reading one in, is ended after this time, and that is a failure.
        timeout: Duration,
    },
}

/// When `quick_check` runs on a captured database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SqliteCheck {
    /// At every snapshot up to 4 GiB, above that in drills.
    #[default]
    Auto,
    /// At every snapshot.
    Always,
    /// Never.
    Never,
}

/// A command of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// A program and its arguments; at least the program.
    Args(Vec<String>),
    /// A line for `/bin/sh -c`.
    Shell(String),
}

/// A store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// Its own retention, if it has one.
    pub retention: Option<Retention>,
    /// This host deletes in it what retention lets go; otherwise somebody else does, and this host never tries.
    pub prune_here: bool,
}

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A directory.
    Path(PathBuf),
    /// A bucket of a server that speaks S3.
    Url(Box<UrlPlace>),
}

/// Whose protocol a bucket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cloud {
    /// S3, of Amazon and of many others.
    #[default]
    S3,
    /// Google Cloud Storage; in builds with feature `gcs`.
    Gcs,
    /// Azure Blob Storage; in builds with feature `azure`.
    Azure,
}

impl Cloud {
    /// What addresses begin with, before `://`.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

/// A prefix in a bucket, and how it is reached. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPlace {
    /// Whose protocol it speaks.
    pub cloud: Cloud,
    /// For people: `s3://bucket/prefix`, with the names of variables in place of their values.
    pub shown: String,
    /// The bucket; in Azure's words the container.
    pub bucket: String,
    /// What all keys begin with, without `/` at either end; may be empty.
    pub prefix: String,
    /// The server, without `/` at its end; AWS, or Google, if there is none.
    pub endpoint: Option<String>,
    /// The region, if the file names it.
    pub region: Option<String>,
    /// The bucket is named in the path, not in the server's name.
    pub path_style: bool,
    /// The profile that credentials are taken from.
    pub profile: Option<String>,
    /// The file that credentials are taken from, in place of `~/.aws` and the environment.
    pub credentials_file: Option<PathBuf>,
    /// A file of certificates (PEM) that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// The storage class of what is put.
    pub storage_class: Option<String>,
    /// How the server encrypts what it keeps.
    pub sse: Option<Sse>,
    /// Whether puts carry a SHA-256.
    pub checksum: Checksum,
    /// At most so many bytes a second are sent.
    pub limit_upload: Option<u64>,
    /// At most so many bytes a second are fetched.
    pub limit_download: Option<u64>,
    /// A server without TLS is allowed: the file says so, or it is this machine.
    pub allow_http: bool,
}

/// How a server encrypts what it keeps, beside what backstay does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sse {
    /// With keys of the server's.
    Aes256,
    /// With a key of its key service: this one, or the bucket's.
    Kms(Option<String>),
}

/// Whether a put carries the SHA-256 of its bytes for the server to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// If the server takes it.
    #[default]
    Auto,
    /// Always.
    Sha256,
    /// Never.
    Off,
}

/// Who can open the snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encryption {
    /// age recipients (`age1…`); at least one when there are components. Only their shape was checked.
    pub recipients: Vec<String>,
    /// The identity file of this host, if it may open what it stores.
    pub identity_file: Option<PathBuf>,
    /// Where the passphrase of that file is read from: a file that only its owner can read, or a descriptor (`/dev/fd/3`).
    pub passphrase_file: Option<PathBuf>,
}

/// Who signs, and who is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    /// The OpenSSH private key that this host signs with.
    pub key_file: PathBuf,
    /// Public keys that are trusted.
    pub trusted: Vec<Trusted>,
}

/// A trusted public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// `ssh-ed25519 AAAA…`, without a comment.
    pub key: String,
    /// What messages call it.
    pub name: String,
    /// What it may sign; at least one.
    pub roles: Vec<Role>,
}

/// How archives are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Size of an archive in bytes, where it is not to follow from the component's.
    pub archive_size: Option<u64>,
}

impl Default for Packing {
    fn default() -> Self {
        Self { level: 3, archive_size: None }
    }
}

/// How what is stored is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// So long a proof counts.
    pub reverify: Duration,
    /// Where `verify --decrypt` and `drill` lay what they prove, if not in the state directory.
    pub scratch: Option<PathBuf>,
}

impl Default for Verify {
    fn default() -> Self {
        Self { reverify: Duration::from_secs(30 * 86_400), scratch: None }
    }
}

impl Component {
    /// Stable text of what the component captures, for the setup hash of the record: two configurations give the same bytes exactly when
    /// they capture the same things by the same rules. What only tells how to judge, check or restore a capture is not in it.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = String::from("component 1\n");
        let mut line = |key: &str, value: &str| {
            // A JSON string: no value can look like another line.
            let _ = writeln!(out, "{key} {}", serde_json::Value::from(value));
        };
        match &self.spec {
            Spec::Folder { path } => line("path", &show(path)),
            Spec::Paths { paths } => {
                let mut paths: Vec<_> = paths.iter().map(|p| show(p)).collect();
                paths.sort();
                paths.iter().for_each(|p| line("paths", p));
            }
            Spec::Sqlite { path, .. } => line("sqlite", &show(path)),
            Spec::Command { command: CommandLine::Args(args), .. } => {
                args.iter().for_each(|a| line("argument", a));
            }
            Spec::Command { command: CommandLine::Shell(text), .. } => line("shell", text),
            Spec::Postgres { connection, .. } => line("postgres", connection),
        }
        if let Spec::Command { env_file: Some(path), .. } | Spec::Postgres { env_file: Some(path), .. } =
            &self.spec
        {
            line("env_file", &show(path));
        }
        self.exclude.iter().for_each(|p| line("exclude", p));
        self.exclude_from.iter().for_each(|p| line("exclude_from", p));
        self.exclude_if_present.iter().for_each(|p| line("exclude_if_present", p));
        line("exclude_caches", if self.exclude_caches { "true" } else { "false" });
        line("one_file_system", if self.one_file_system { "true" } else { "false" });
        out.into_bytes()
    }
}
