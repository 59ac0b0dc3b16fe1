//! Whether two trees are the same in everything that a backup must keep.

use crate::ops::error::{Class, Doing, OpError, Result};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Fails at the first difference in names, kinds, contents, modes, owners, times, link targets or hard links. Times of directories are
/// compared where nothing was taken out of the expected tree after it was copied.
pub(super) fn trees(expected: &Path, found: &Path) -> Result<()> {
    let (one, other) = (listing(expected)?, listing(found)?);
    for path in one.keys().chain(other.keys()) {
        let place = || found.join(path).display().to_string();
        match (one.get(path), other.get(path)) {
            (Some(a), Some(b)) => same(&expected.join(path), a, &found.join(path), b)?,
            (Some(_), None) => return Err(different(&place(), "did not come back")),
            _ => return Err(different(&place(), "came back, and was not there")),
        }
    }
    if links(&one) == links(&other) {
        Ok(())
    } else {
        Err(different(&found.display().to_string(), "hard links differ"))
    }
}

fn different(place: &str, what: &str) -> OpError {
    OpError::new(Class::Failed, format!("{place}: {what}"))
}

fn listing(top: &Path) -> Result<BTreeMap<PathBuf, Metadata>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let whole = top.join(&path);
        let doing = || format!("cannot look at {}", whole.display());
        let facts = fs::symlink_metadata(&whole).doing(Class::Failed, doing)?;
        if facts.is_dir() {
            for entry in fs::read_dir(&whole).doing(Class::Failed, doing)? {
                waiting.push(path.join(entry.doing(Class::Failed, doing)?.file_name()));
            }
        }
        found.insert(path, facts);
    }
    Ok(found)
}

fn same(a: &Path, fa: &Metadata, b: &Path, fb: &Metadata) -> Result<()> {
    let place = b.display().to_string();
    if fa.mode() != fb.mode() {
        return Err(different(&place, "its kind or mode differs"));
    }
    if (fa.uid(), fa.gid()) != (fb.uid(), fb.gid()) {
        return Err(different(&place, "its owner differs"));
    }
    if !fa.is_dir() && (fa.mtime(), fa.mtime_nsec()) != (fb.mtime(), fb.mtime_nsec()) {
        return Err(different(&place, "its time differs"));
    }
    let doing = || format!("cannot read {place}");
    if fa.is_symlink() {
        let targets =
            (fs::read_link(a).doing(Class::Failed, doing)?, fs::read_link(b).doing(Class::Failed, doing)?);
        if targets.0 != targets.1 {
            return Err(different(&place, "it points elsewhere"));
        }
    } else if fa.is_file()
        && fs::read(a).doing(Class::Failed, doing)? != fs::read(b).doing(Class::Failed, doing)?
    {
        return Err(different(&place, "its content differs"));
    }
    Ok(())
}

/// Which paths are names of one file.
fn links(listing: &BTreeMap<PathBuf, Metadata>) -> Vec<Vec<&PathBuf>> {
    let mut groups: HashMap<(u64, u64), Vec<&PathBuf>> = HashMap::new();
    for (path, facts) in listing.iter().filter(|(_, f)| f.is_file() && f.nlink() > 1) {
        groups.entry((facts.dev(), facts.ino())).or_default().push(path);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort();
    groups
}
