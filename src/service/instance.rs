//! Which process it is: what tells a service that runs from one that was started anew.
//!
//! A number alone does not: numbers are given again. So a process is its number and the moment it began.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Clocks are set right while a machine starts.
const SLACK: Duration = Duration::from_secs(60);

/// One life of a service, from its start to its end. Two are equal only when nothing was started anew in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance(String);

impl Instance {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// One that was written down before, by its words.
    pub fn from_journal(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The process whose number stands in `pid_file`: its number and when it began, in ticks since boot; none when it is not there.
///
/// # Errors
/// Why that cannot be told: the file cannot be read, or holds no number of a process.
pub(super) fn of_pid_file(pid_file: &Path) -> Result<Option<Instance>, String> {
    let shown = pid_file.display();
    let text = match std::fs::read_to_string(pid_file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("cannot read {shown}: {e}")),
    };
    // A number from before this machine was started is of no process of now, whatever has it; nor is what a power cut left of it.
    if before_boot(pid_file) {
        return Ok(None);
    }
    let word = text.split_ascii_whitespace().next().unwrap_or_default();
    match word.parse::<u32>() {
        // 0 would mean this process's own group to whoever sends signals, and 1 is never an application.
        Ok(pid @ 2..) => Ok(of_pid(pid)),
        _ => Err(format!("{shown} holds no number of a process")),
    }
}

/// True when the file was last written before this machine was started; false where that cannot be told.
fn before_boot(file: &Path) -> bool {
    let written = std::fs::metadata(file).and_then(|facts| facts.modified()).ok();
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let booted = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    let booted = booted.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    matches!((written, booted), (Some(written), Some(booted)) if written + SLACK < booted)
}

/// The process `pid`, unless it is gone or only waits to be collected.
pub(super) fn of_pid(pid: u32) -> Option<Instance> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold any character: the fields are counted from its end.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    // Field 22 of the line: the moment it began.
    let began = fields.nth(18)?;
    (!matches!(state, "Z" | "X")).then(|| Instance::new(format!("process {pid}, begun at {began}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_number_and_its_beginning() {
        let own = of_pid(std::process::id()).unwrap();
        assert_eq!(of_pid(std::process::id()), Some(own.clone()));
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let other = of_pid(child.id()).unwrap();
        assert_ne!(other, own);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(of_pid(child.id()), None);
    }

    #[test]
    fn a_pid_file_that_is_missing_means_down_and_one_without_a_number_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app.pid");
        assert_eq!(of_pid_file(&file), Ok(None));
        for text in ["", "0\n", "1\n", "-4", "abc", "99999999999"] {
            std::fs::write(&file, text).unwrap();
            assert!(of_pid_file(&file).is_err(), "{text:?}");
        }
        std::fs::write(&file, format!("{}\n", std::process::id())).unwrap();
        assert_eq!(of_pid_file(&file), Ok(of_pid(std::process::id())));
    }

    #[test]
    fn a_pid_file_from_before_this_machine_was_started_is_of_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.pid");
        for text in [format!("{}\n", std::process::id()), String::new()] {
            std::fs::write(&path, text).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
            assert_eq!(of_pid_file(&path), Ok(None));
        }
    }
}
