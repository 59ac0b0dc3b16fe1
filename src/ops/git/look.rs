//! What a working tree is at: commit, branch, description, and whether anything of it is not committed. Nothing of it is touched: not the index either.

use crate::model::index::GitState;
use crate::ops::git::run::{GitError, Repository, Result};
use std::path::{Path, PathBuf};

/// A working tree as it was found, with the commit that keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub(crate) repository: Repository,
    pub(crate) state: GitState,
    /// A commit that holds all of it: what is not committed in one that `git stash create` made, or the commit itself.
    pub(crate) kept: String,
    /// Something that is not committed could not be kept.
    pub(crate) trouble: Option<String>,
}

/// Looks at `repository`, which is called `path` in the snapshot; none while it has no commit yet.
pub(crate) fn look(repository: Repository, path: String) -> Result<Option<Found>> {
    let Some(commit) = repository.text_if_any(["rev-parse", "--verify", "-q", "HEAD^{commit}"])? else {
        return Ok(None);
    };
    let branch = repository.text_if_any(["symbolic-ref", "-q", "--short", "HEAD"])?;
    let describe = repository.text_if_any(["describe", "--tags", "--always"])?;
    let changed = uncommitted(&repository)?;
    let dirty = !changed.is_empty();
    let (mut kept, mut trouble) = (commit.clone(), None);
    if dirty {
        match stash(&repository) {
            Ok(Some(stash)) => kept = stash,
            Ok(None) => {
                trouble = Some(
                    "what is not committed lies in a submodule, and git keeps nothing of that here".into(),
                );
            }
            Err(e) => trouble = Some(format!("what is not committed could not be kept in git: {e}")),
        }
    }
    let state = GitState {
        commit,
        branch,
        describe,
        dirty,
        path: Some(path),
        kept: (dirty && trouble.is_none()).then(|| kept.clone()),
        bundle: None,
    };
    Ok(Some(Found { repository, state, kept, trouble }))
}

/// Files that git knows and that are not as in the commit.
pub(super) fn uncommitted(repository: &Repository) -> Result<Vec<String>> {
    let args = [
        "status",
        "--porcelain=v1",
        "-z",
        "--no-renames",
        "--untracked-files=no",
        "--ignore-submodules=none",
    ];
    let bytes = repository.bytes(&mut repository.git(args))?;
    let entries = bytes.split(|b| *b == 0).filter(|entry| entry.len() > 3);
    Ok(entries.map(|entry| String::from_utf8_lossy(&entry[3..]).into_owned()).collect())
}

/// A commit of what is not committed, without a reference; none when git sees nothing to put into one.
fn stash(repository: &Repository) -> Result<Option<String>> {
    // Making it refreshes the index: in a copy, so that the user's own stays as it is, byte for byte.
    let copy = Copy::of_index(repository)?;
    let mut command = repository.git(["stash", "create", "backstay"]);
    command.env("GIT_INDEX_FILE", &copy.path);
    let bytes = repository.bytes(&mut command)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// A copy of an index, beside it. Made and removed with the rights of the repository's owner, whose folder it is.
pub(super) struct Copy<'a> {
    repository: &'a Repository,
    pub(super) path: PathBuf,
}

impl<'a> Copy<'a> {
    /// Makes one of the working tree's index.
    pub(super) fn of_index(repository: &'a Repository) -> Result<Self> {
        let index = repository.text(["rev-parse", "--path-format=absolute", "--git-path", "index"])?;
        Self::of(repository, Path::new(&index))
    }

    fn of(repository: &'a Repository, index: &Path) -> Result<Self> {
        let path = index.with_file_name(format!("backstay-index-{}", std::process::id()));
        let copy = Self { repository, path };
        let mut cp = repository.program("cp");
        let output = repository.output(cp.arg("--").arg(index).arg(&copy.path))?;
        if output.status.success() {
            return Ok(copy);
        }
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(GitError::Failed { what: "(copying its index)".into(), top: repository.top.clone(), words })
    }
}

impl Drop for Copy<'_> {
    fn drop(&mut self) {
        // A copy that stays does no harm, and is written over by the next.
        let _left = self.repository.program("rm").arg("-f").arg("--").arg(&self.path).output();
    }
}
