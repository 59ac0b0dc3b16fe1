//! What a valid configuration says of services and hooks.

use crate::config::settings::CommandLine;
use crate::model::RelPath;
use std::path::PathBuf;
use std::time::Duration;

/// Something that is stopped and started around a capture or an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The components that it works on; all when empty.
    pub components: Vec<String>,
    /// Services that must be up before it; it is stopped before them.
    pub after: Vec<String>,
    /// How it is stopped and started.
    pub control: Control,
    /// A stop that takes longer has failed.
    pub stop_within: Duration,
    /// A start that takes longer has failed.
    pub start_within: Duration,
    /// How it is told that it works; none: it is believed when it runs.
    pub health: Option<Health>,
}

/// How a service is stopped and started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// A unit of the system's systemd, with its suffix.
    Systemd {
        /// `tsushin-backend.service`.
        unit: String,
    },
    /// Services of a compose file.
    Compose(Compose),
    /// Commands of the user's.
    Commands {
        /// Stops it; 0 when it is down.
        stop: CommandLine,
        /// Starts it and returns.
        start: CommandLine,
        /// Holds the number of its process.
        pid_file: Option<PathBuf>,
    },
}

/// Services of a compose file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compose {
    /// The file.
    pub file: PathBuf,
    /// The project, where it is not named after the file's folder.
    pub project: Option<String>,
    /// Which services; all when empty.
    pub services: Vec<String>,
}

/// How it is told that a service works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is asked.
    pub probe: Probe,
    /// Passes that come later do not count.
    pub within: Duration,
    /// So many in a row, all from the same process; at least 1.
    pub passes: u64,
    /// Between two questions.
    pub interval: Duration,
    /// An answer that takes longer is a failure.
    pub timeout: Duration,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A page, over HTTP.
    Url {
        /// Without a user or password.
        url: String,
        /// The one status that is well; any from 200 to 299 if there is none.
        status: Option<u16>,
        /// A text that the page must hold.
        contains: Option<String>,
    },
    /// A port that takes connections.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// A command that ends with 0.
    Command {
        /// What to run.
        command: CommandLine,
    },
    /// A SQLite database that opens, has a schema and passes `quick_check`.
    Sqlite {
        /// The database file.
        path: PathBuf,
    },
}

/// What a hook stands around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Making a snapshot.
    Backup,
    /// Writing files of a snapshot.
    Restore,
    /// Putting the live application back.
    Rollback,
}

/// Commands of the user's around a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Which step.
    pub on: Event,
    /// Only when one of these components is concerned; any when empty.
    pub components: Vec<String>,
    /// What is run.
    pub commands: HookCommands,
    /// A command that takes longer is ended and has failed.
    pub within: Duration,
}

/// What a hook runs, and when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HookCommands {
    /// Before the step; its failure stops the step.
    pub before: Option<CommandLine>,
    /// After the step succeeded.
    pub after: Option<CommandLine>,
    /// After the step failed.
    pub failed: Option<CommandLine>,
    /// At the end, whatever happened.
    pub finally: Option<CommandLine>,
}

/// Run after an exchange, before services are started: what was left (dependencies) is made fit for what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    /// Only when one of these files of the component became another; always when empty.
    pub when: Vec<RelPath>,
    /// What is run, in the component's folder.
    pub run: CommandLine,
    /// A command that takes longer is ended and has failed.
    pub within: Duration,
}
