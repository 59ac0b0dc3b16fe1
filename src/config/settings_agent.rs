//! How the agent works, as the other modules use it.

use crate::config::notify::Secret;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `[agent]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentSettings {
    /// A file that gets metrics for Prometheus after every command.
    pub textfile: Option<PathBuf>,
    /// Where an agent that stays shows how things stand.
    pub page: Option<Page>,
}

/// The status page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where it is.
    pub at: PageAt,
    /// Whoever asks must show it; always there where others than this machine can ask.
    pub token: Option<Secret>,
}

/// Where a page is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageAt {
    /// At an address of this machine.
    Tcp(SocketAddr),
    /// At a socket in the file system: who may open it may read the page.
    Unix(PathBuf),
}

impl PageAt {
    /// Only processes of this machine reach it.
    pub fn is_here(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

/// As the file says it.
impl fmt::Display for PageAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
