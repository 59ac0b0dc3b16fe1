//! Running git with nothing of the surroundings: no hooks, no prompts, no configuration but the repository's own, and never with more rights than
//! whoever owns the repository.
//!
//! A repository's own configuration can name programs (filters, for one). So as root git runs as the repository's owner, and otherwise a
//! repository of somebody else is refused: this module must never tell git to trust one.

use crate::platform::environment::without_secrets;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Why git did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// There is no such program.
    #[error("git is not installed")]
    NotInstalled,
    /// It belongs to somebody else.
    #[error("the repository {} belongs to another user (number {owner})", top.display())]
    Foreign {
        /// The repository.
        top: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// It failed.
    #[error("git {what} failed in {}: {words}", top.display())]
    Failed {
        /// Which command.
        what: String,
        /// Where.
        top: PathBuf,
        /// What it said.
        words: String,
    },
    /// It would have lost something.
    #[error("{} {why}", path.display())]
    Lost {
        /// What.
        path: PathBuf,
        /// Why it would be lost.
        why: &'static str,
    },
    /// Something of the system did.
    #[error("cannot look at {}", path.display())]
    Io {
        /// At what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

pub(super) type Result<T> = std::result::Result<T, GitError>;

/// Said before every command.
const PINNED: [&str; 18] = [
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
    "-c",
    "commit.gpgSign=false",
    "-c",
    "tag.gpgSign=false",
    "-c",
    "protocol.allow=never",
    "-c",
    "submodule.recurse=false",
    "-c",
    "core.quotePath=false",
];

/// Set for every command: who writes tags and what is kept, and that nobody is there to answer.
const VARIABLES: [(&str, &str); 17] = [
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "false"),
    ("SSH_ASKPASS", "false"),
    ("GIT_EDITOR", "false"),
    ("GIT_PAGER", "cat"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_AUTHOR_NAME", "backstay"),
    ("GIT_AUTHOR_EMAIL", "backstay@localhost"),
    ("GIT_COMMITTER_NAME", "backstay"),
    ("GIT_COMMITTER_EMAIL", "backstay@localhost"),
    ("HOME", "/nonexistent"),
    ("XDG_CONFIG_HOME", "/nonexistent"),
    ("LC_ALL", "C"),
];

/// A working tree of git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    /// Its top folder.
    pub(crate) top: PathBuf,
    /// Who git runs as, where that is not this process's own user.
    owner: Option<(u32, u32)>,
}

impl Repository {
    /// The repository that `dir` lies in; none when it lies in none.
    pub(crate) fn around(dir: &Path) -> Result<Option<Self>> {
        let Ok(real) = dir.canonicalize() else {
            return Ok(None);
        };
        match real.ancestors().find(|dir| dir.join(".git").symlink_metadata().is_ok()) {
            Some(top) => Self::at(top).map(Some),
            None => Ok(None),
        }
    }

    fn at(top: &Path) -> Result<Self> {
        let facts = |path: &Path| {
            path.symlink_metadata().map_err(|source| GitError::Io { path: path.to_owned(), source })
        };
        let (folder, inner) = (facts(top)?, facts(&top.join(".git"))?);
        let own = rustix::process::geteuid().as_raw();
        let foreign = |owner| GitError::Foreign { top: top.to_owned(), owner };
        match inner.uid() {
            owner if owner != folder.uid() => Err(foreign(owner)),
            owner if owner == own => Ok(Self { top: top.to_owned(), owner: None }),
            owner if own == 0 => Ok(Self { top: top.to_owned(), owner: Some((owner, inner.gid())) }),
            owner => Err(foreign(owner)),
        }
    }

    /// `program` with the rights of the repository's owner, in its top folder.
    pub(super) fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        without_secrets(&mut command);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            // `sudo` tells git whose repositories root may trust.
            if text.starts_with("GIT_") || text.starts_with("SUDO_") || text.starts_with("SSH_") {
                command.env_remove(&name);
            }
        }
        command.envs(VARIABLES).current_dir(&self.top).stdin(Stdio::null());
        if let Some((uid, gid)) = self.owner {
            // The standard library takes the other groups away, too.
            command.uid(uid).gid(gid);
        }
        command
    }

    /// A git command.
    pub(super) fn git<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.program("git");
        command.args(PINNED).args(args);
        command
    }

    /// Runs a git command whatever its exit code.
    pub(super) fn output(&self, command: &mut Command) -> Result<Output> {
        command.output().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound if self.top.is_dir() => GitError::NotInstalled,
            _ => GitError::Io { path: self.top.clone(), source },
        })
    }

    /// Runs a git command that must succeed; gives what it wrote.
    pub(super) fn bytes(&self, command: &mut Command) -> Result<Vec<u8>> {
        let output = self.output(command)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let words =
            words.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        let args = command.get_args().skip(PINNED.len()).map(OsStr::to_string_lossy);
        let what = args.take(2).collect::<Vec<_>>().join(" ");
        Err(GitError::Failed { what, top: self.top.clone(), words })
    }

    /// The same as one line of text.
    pub(super) fn text<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        let bytes = self.bytes(&mut self.git(args))?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
    }

    /// The same of a command that fails when there is nothing to tell.
    pub(super) fn text_if_any<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Option<String>> {
        let output = self.output(&mut self.git(args))?;
        let text = String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned();
        Ok(Some(text).filter(|text| output.status.success() && !text.is_empty()))
    }
}
