//! Who has files open.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A process that has something open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// What it is called.
    pub name: String,
    /// What it has open: the first of it.
    pub path: PathBuf,
}

/// The processes, but this one, that have one of `places`, or a file below one, open, or stand in a folder below one. Only those that this user may look at; on systems
/// without `/proc` none.
pub fn holders_below(places: &[PathBuf]) -> Vec<Holder> {
    // The names of files that are open are without links; a folder itself stays where it is.
    let dirs: Vec<PathBuf> = places.iter().filter_map(|place| place.canonicalize().ok()).collect();
    let own = std::process::id();
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid.filter(|pid| *pid != own) else {
            continue;
        };
        let opened = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        let opened = opened.map(|fd| fd.path()).chain([entry.path().join("cwd")]);
        let below =
            |path: &PathBuf| dirs.iter().any(|dir| path.starts_with(dir) && (path != dir || !path.is_dir()));
        if let Some(path) = opened.filter_map(|link| fs::read_link(link).ok()).find(below) {
            found.insert(pid, Holder { pid, name: name_of(&entry.path()), path });
        }
    }
    found.into_values().collect()
}

fn name_of(process: &Path) -> String {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    crate::model::path::escape(name.trim_end().as_bytes())
}

/// True when `pid` is one of `ancestors`, or was started by one of them, directly or not.
pub fn descends_from(pid: u32, ancestors: &[u32]) -> bool {
    let mut at = pid;
    // A table of processes that changes meanwhile must not lead in a circle.
    for _ in 0..1000 {
        if ancestors.contains(&at) {
            return true;
        }
        match parent_of(at) {
            Some(parent @ 2..) => at = parent,
            _ => return false,
        }
    }
    false
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold any character: the fields are counted from its end.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The control groups of a process: of a unit of systemd its name is in them, of a container its id.
pub fn groups_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn who_has_a_file_open_is_named_with_what_it_is() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("file");
        fs::write(&path, "x").unwrap();
        let file = fs::File::open(&path).unwrap();
        let mut child = Command::new("sleep").arg("1000").stdin(Stdio::from(file)).spawn().unwrap();
        let holders = holders_below(&[top.path().to_owned()]);
        let found = holders.iter().find(|holder| holder.pid == child.id()).unwrap();
        assert_eq!((&*found.name, found.path.file_name()), ("sleep", path.file_name()));
        assert!(descends_from(child.id(), &[std::process::id()]) && !descends_from(child.id(), &[1]));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!holders_below(&[top.path().to_owned()]).iter().any(|holder| holder.pid == child.id()));
    }
}
