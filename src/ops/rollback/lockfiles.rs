//! Dependencies that stay beside a lock file that goes back: they belong to the other one. Said in the plan, where no `rebuild` makes them fit.

use crate::config::Component;
use crate::model::{ContentHash, Entry, Problem, ProblemKind};
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

/// What to know of a component whose folder is `base`, in which `stays` stays, and of which the snapshot has `entries`.
pub(super) fn warnings(
    component: &Component,
    base: &Path,
    stays: &[String],
    entries: &[Entry],
) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for (lock, folders) in MADE_FROM {
        let Some(folder) = folders.iter().find(|folder| stays.iter().any(|name| name == *folder)) else {
            continue;
        };
        let then = entries.iter().find(|entry| entry.path.as_bytes() == lock.as_bytes()).and_then(|e| e.hash);
        let covered = component
            .rebuild
            .iter()
            .any(|r| r.when.is_empty() || r.when.iter().any(|p| p.as_bytes() == lock.as_bytes()));
        if stays.iter().any(|name| name == lock) || then == live(&base.join(lock)) || covered {
            continue;
        }
        warnings.push(Problem {
            kind: ProblemKind::Warning,
            component: Some(component.name.to_string()),
            subject: lock.to_owned(),
            what: format!(
                "it becomes another, and {folder} stays as it is: made from the one that is live now"
            ),
            hint: Some(
                "name what makes it anew in `rebuild` of the component, or do it yourself afterwards".into(),
            ),
        });
    }
    warnings
}

/// The hash of the file; none when there is none to be read.
fn live(path: &Path) -> Option<ContentHash> {
    let facts = path.symlink_metadata().ok().filter(|facts| facts.is_file() && facts.len() <= BYTES_MAX)?;
    let bytes = std::fs::read(path).ok().filter(|bytes| bytes.len() as u64 == facts.len())?;
    Some(ContentHash::of(&bytes))
}
