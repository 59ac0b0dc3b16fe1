//! Dependencies that stay beside a lock file that goes back: they belong to the other one. Said in the plan, where no `rebuild` makes them fit.

use crate::config::Component;
use crate::model::{ContentHash, Entry, Kind, Problem, ProblemKind, RelPath};
use crate::ops::rollback::left::Left;
use crate::ops::rollback::tree::Leaves as _;
use std::collections::BTreeSet;
use std::path::Path;

/// Lock files, and the folders that are made from them.
const MADE_FROM: [(&str, &[&str]); 9] = [
    ("requirements.txt", &["venv", ".venv"]),
    ("poetry.lock", &["venv", ".venv"]),
    ("uv.lock", &["venv", ".venv"]),
    ("Pipfile.lock", &["venv", ".venv"]),
    ("package-lock.json", &["node_modules"]),
    ("yarn.lock", &["node_modules"]),
    ("pnpm-lock.yaml", &["node_modules"]),
    ("Gemfile.lock", &["vendor"]),
    ("composer.lock", &["vendor"]),
];
/// A lock file is no larger.
const BYTES_MAX: u64 = 64 << 20;

/// What to know of a component of which `left` stays, and of which the snapshot has `entries`.
pub(super) fn warnings(component: &Component, left: &Left, entries: &[Entry]) -> Vec<Problem> {
    let then = entries.iter().filter(|entry| entry.kind == Kind::File).map(|entry| &entry.path);
    // One that only the live version has goes away, and its folder stays.
    let now = left.taken().map(|(path, _)| path);
    let locks: BTreeSet<&RelPath> = then.chain(now).filter(|path| !folders_of(path).is_empty()).collect();
    let locks = locks.into_iter().filter(|lock| !is_covered(component, lock));
    locks.filter_map(|lock| warning(component, left, entries, lock)).collect()
}

/// The folders that are made from `path`, by its name.
fn folders_of(path: &RelPath) -> &'static [&'static str] {
    let made = MADE_FROM.iter().find(|(lock, _)| path.name() == lock.as_bytes());
    made.map_or(&[], |(_, folders)| folders)
}

/// True when a `rebuild` runs for it.
fn is_covered(component: &Component, lock: &RelPath) -> bool {
    component.rebuild.iter().any(|rebuild| rebuild.when.is_empty() || rebuild.when.contains(lock))
}

fn warning(component: &Component, left: &Left, entries: &[Entry], lock: &RelPath) -> Option<Problem> {
    let dir = lock.parent()?;
    let folder = folders_of(lock).iter().find(|folder| {
        dir.join(folder.as_bytes())
            .is_ok_and(|folder| left.real_path(&folder).is_dir() && left.stays(&folder, true))
    })?;
    let place = left.real_path(lock);
    let then = entries.iter().find(|entry| entry.path == *lock).and_then(|entry| entry.hash);
    if left.keeps(lock, false) || then == live(&place) {
        return None;
    }
    Some(Problem {
        kind: ProblemKind::Warning,
        component: Some(component.name.to_string()),
        subject: lock.to_string(),
        what: format!("it becomes another, and {folder} stays as it is: made from the one that is live now"),
        hint: Some(
            "name what makes it anew in `rebuild` of the component, or do it yourself afterwards".into(),
        ),
    })
}

/// The hash of the file; none when there is none to be read.
fn live(path: &Path) -> Option<ContentHash> {
    let facts = path.symlink_metadata().ok().filter(|facts| facts.is_file() && facts.len() <= BYTES_MAX)?;
    let bytes = std::fs::read(path).ok().filter(|bytes| bytes.len() as u64 == facts.len())?;
    Some(ContentHash::of(&bytes))
}
