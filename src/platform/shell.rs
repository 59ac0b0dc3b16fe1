//! Commands as the configuration writes them: a program with its arguments, or a line for a shell that fails with any part of a pipe.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why a line cannot be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShellError {
    /// A pipe needs a shell that notices when its first part fails.
    #[error("the command has a pipe, and bash, which notices when any part of it fails, is not installed")]
    NoBash,
    /// There is nothing to run.
    #[error("the command is empty")]
    Nothing,
}

/// A program and its arguments, without a shell.
pub fn program(args: &[String]) -> Result<Command, ShellError> {
    let (program, rest) = args.split_first().ok_or(ShellError::Nothing)?;
    let mut command = Command::new(program);
    command.args(rest);
    Ok(command)
}

/// A shell for `text`: bash, where a pipe fails when any part of it does. The plain `sh` of many systems cannot do that.
pub fn line(text: &str) -> Result<Command, ShellError> {
    line_in(text, bash().as_deref())
}

fn line_in(text: &str, bash: Option<&Path>) -> Result<Command, ShellError> {
    if text.trim().is_empty() {
        return Err(ShellError::Nothing);
    }
    match bash {
        Some(bash) => {
            let mut command = Command::new(bash);
            command.args(["-o", "pipefail", "-c", text]);
            Ok(command)
        }
        // `||` alone is no pipe.
        None if text.replace("||", "").contains('|') => Err(ShellError::NoBash),
        None => {
            let mut command = Command::new("sh");
            command.args(["-c", text]);
            Ok(command)
        }
    }
}

/// Where bash is, if anywhere.
pub fn bash() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/bin", "/usr/bin", "/usr/local/bin"].map(PathBuf::from);
    let mut dirs = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).chain(usual);
    dirs.find_map(|dir| Some(dir.join("bash")).filter(|file| file.is_file()))
}

/// The program that a shell would run for `name`: itself when it is a path, else the first of that name in PATH that can be run.
pub fn find_program(name: &OsStr) -> Option<PathBuf> {
    let runs = |file: &PathBuf| {
        let mode =
            file.metadata().ok().filter(std::fs::Metadata::is_file).map(|facts| facts.permissions().mode());
        mode.is_some_and(|mode| mode & 0o111 != 0)
    };
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(runs);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_bash_a_pipe_is_refused_and_other_lines_run_in_sh() {
        assert!(matches!(line_in("a | b", None), Err(ShellError::NoBash)));
        assert_eq!(line_in("a || b", None).unwrap().get_program(), "sh");
        assert!(matches!(line_in(" ", None), Err(ShellError::Nothing)));
        assert!(matches!(program(&[]), Err(ShellError::Nothing)));
    }
}
