//! Git beside a snapshot: what a working tree was at is recorded and kept by references, and put back with a rollback.
//!
//! Nothing is ever committed for the user, no branch moved, no index or working tree touched by a backup.

mod back;
mod keep;
mod look;
mod lost;
mod run;

pub use back::Moved;
pub(crate) use back::{Move, plan};
pub use keep::{KeptTree, reference_of};
pub use look::Found;
pub(crate) use run::Repository;

use crate::config::{Component, Config, Spec};
use crate::model::{Problem, ProblemKind, SnapshotId};
use crate::ops::error::{Class, Doing, OpError, Result};
use std::path::{Path, PathBuf};

/// The folders of a project that may lie in a repository: that of the configuration first.
fn folders<'c>(config: &'c Config, components: &[&'c Component]) -> Vec<&'c Path> {
    let mut folders = vec![config.dir.as_path()];
    for component in components {
        match &component.spec {
            Spec::Folder { path } => folders.push(path),
            Spec::Paths { paths } => folders.extend(paths.iter().map(PathBuf::as_path)),
            _ => {}
        }
    }
    folders
}

/// The repositories that the project lies in, each once.
fn repositories(config: &Config, components: &[&Component]) -> Result<Vec<Repository>> {
    let mut found: Vec<Repository> = Vec::new();
    for folder in folders(config, components) {
        let one = Repository::around(folder)
            .doing(Class::Failed, || format!("cannot tell what git holds of {}", folder.display()))
            .map_err(|e| e.hint("run backstay as the repository's owner or as root, or leave --git away"))?;
        found.extend(one.filter(|one| !found.contains(one)));
    }
    Ok(found)
}

/// How a repository is called: by its way from the configuration's folder.
fn called(config: &Config, repository: &Repository) -> String {
    let dir = config.dir.canonicalize().unwrap_or_else(|_| config.dir.clone());
    match (repository.top.strip_prefix(&dir), dir.strip_prefix(&repository.top)) {
        (Ok(below), _) if below.as_os_str().is_empty() => ".".into(),
        (Ok(below), _) => below.display().to_string(),
        (_, Ok(above)) => vec![".."; above.components().count()].join("/"),
        _ => repository.top.display().to_string(),
    }
}

/// What the project's working trees are at.
///
/// # Errors
/// Git is not installed, or nothing of the project lies in a repository.
pub(crate) fn record(config: &Config, components: &[&Component]) -> Result<Vec<Found>> {
    let cannot = || "the state of git cannot be recorded".to_owned();
    let leave = "leave --git away to make the snapshot without it";
    let mut all = Vec::new();
    let repositories = repositories(config, components)?;
    if repositories.is_empty() {
        let what = "--git: nothing of this project lies in a git repository";
        return Err(OpError::new(Class::Usage, what).hint(leave));
    }
    for repository in repositories {
        let path = called(config, &repository);
        all.extend(look::look(repository, path).doing(Class::Failed, cannot).map_err(|e| e.hint(leave))?);
    }
    if all.is_empty() {
        let what = "--git: the repository has no commit yet, so there is nothing to record";
        return Err(OpError::new(Class::Usage, what).hint("make a first commit, or leave --git away"));
    }
    Ok(all)
}

/// Keeps what was found by references named after the snapshot, and by tags after `wish` where there is one.
pub(crate) fn keep(found: &[Found], id: &SnapshotId, wish: Option<&str>) -> (Vec<KeptTree>, Vec<Problem>) {
    let (mut trees, mut problems) = (Vec::new(), Vec::new());
    for (number, one) in found.iter().enumerate() {
        let (tree, troubles) = keep::keep(one, number, id, wish);
        problems.extend(troubles.into_iter().map(|what| Problem {
            kind: ProblemKind::Hook,
            component: None,
            subject: format!("git, {}", tree.path),
            what,
            hint: Some("the files are in the snapshot all the same".into()),
        }));
        trees.push(tree);
    }
    (trees, problems)
}

/// The way of each recorded working tree back to its commit. Touches nothing.
pub(crate) fn moves(
    config: &Config,
    states: &[crate::model::index::GitState],
    exchanged: &[PathBuf],
) -> Result<Vec<Move>> {
    let ways = states.iter().map(|state| {
        let path = state.path.as_deref().unwrap_or(".");
        plan(&config.dir.join(path), state, exchanged)
    });
    ways.filter_map(Result::transpose).collect()
}

/// What git itself has to go back to: the newest tags that snapshots left. Without git there is none.
pub(crate) fn ways_back(config: &Config) -> Vec<String> {
    let components: Vec<&Component> = config.components.iter().collect();
    let mut ways = Vec::new();
    for repository in repositories(config, &components).unwrap_or_default() {
        let format = "--format=%(refname:short)";
        let args = ["for-each-ref", "--sort=-creatordate", "--count=2", format, "refs/tags/pre-*"];
        let tags = repository.text(args).unwrap_or_default();
        let top = repository.top.display().to_string();
        ways.extend(tags.lines().map(|tag| format!("git: git -C {top} switch --detach {tag}")));
        let args = ["for-each-ref", "--sort=-refname", "--count=1", "--format=%(refname)", "refs/backstay/"];
        let kept = repository.text(args).unwrap_or_default();
        ways.extend(kept.lines().map(|kept| {
            format!("git, with what was not committed then: git -C {top} switch --detach {kept}")
        }));
    }
    ways
}

/// Writes a bundle of the repository at `top` to standard output: all its branches, tags and what snapshots keep.
pub fn bundle(top: &Path) -> Result<()> {
    let cannot = || format!("cannot bundle the repository {}", top.display());
    let repository = Repository::around(top).doing(Class::Failed, cannot)?;
    let repository = repository
        .ok_or_else(|| OpError::new(Class::Failed, format!("there is no repository at {}", top.display())))?;
    let mut command = repository.git(["bundle", "create", "-q", "-", "--all"]);
    let status = command.stdout(std::process::Stdio::inherit()).status().doing(Class::Failed, cannot)?;
    if status.success() { Ok(()) } else { Err(OpError::new(Class::Failed, cannot())) }
}
