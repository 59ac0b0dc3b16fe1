//! What the way to another commit would lose: asked when it is planned, and again right before it is gone.
//!
//! `git checkout` of paths writes over whatever is there, be it staged, unknown to git, or a whole folder in a file's place. So it must never be run before
//! everything that it will touch was found to be in one of the two commits, byte for byte: a way that was cut off left some of both.

use crate::ops::git::back::{Beside, Move};
use crate::ops::git::look::Copy;
use crate::ops::git::run::{GitError, Repository, Result};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

/// So many paths are given to one command.
const AT_ONCE: usize = 200;

const CHANGED: &str = "was changed, and is not committed";
const IN_THE_WAY: &str = "is in the way: git does not know it, and the commit has a file there";

impl Move {
    /// An error when taking the files to `to` would lose something that is in neither commit.
    pub(super) fn refuse_lost_files(&self, repository: &Repository, beside: &Beside) -> Result<()> {
        let from = changed(repository, &[&self.from.commit])?;
        let to = changed(repository, &[&self.to.commit])?;
        let touched = beside.other.iter().chain(&beside.gone);
        match { touched }.find(|path| from.contains(*path) && to.contains(*path)) {
            Some(path) => Err(lost(repository, path, CHANGED)),
            None => self.refuse_in_the_way(repository, beside),
        }
    }

    /// An error when something is staged that is in neither commit. What is exchanged with the snapshot's does not count: it lies in the safety snapshot.
    pub(super) fn refuse_lost_index(&self, repository: &Repository) -> Result<()> {
        let from = changed(repository, &["--cached", &self.from.commit])?;
        let to = changed(repository, &["--cached", &self.to.commit])?;
        match from.intersection(&to).find(|path| !self.is_exchanged(path)) {
            Some(path) => Err(lost(repository, path, CHANGED)),
            None => Ok(()),
        }
    }

    fn refuse_in_the_way(&self, repository: &Repository, beside: &Beside) -> Result<()> {
        let gone: HashSet<&str> = beside.gone.iter().map(String::as_str).collect();
        let mut there: Vec<&str> = Vec::new();
        for path in &beside.new {
            if let Some(above) = no_folder_above(&repository.top, path, &gone)? {
                return Err(lost(repository, &above, IN_THE_WAY));
            }
            match at(&repository.top.join(path))? {
                Some(facts) if facts.is_dir() => {
                    if let Some(inner) = other_than(&repository.top, path, &gone)? {
                        return Err(lost(repository, &inner, IN_THE_WAY));
                    }
                }
                Some(_) => there.push(path),
                None => {}
            }
        }
        match self.unlike(repository, &there)? {
            Some(path) => Err(lost(repository, &path, IN_THE_WAY)),
            None => Ok(()),
        }
    }

    /// The first of `paths` that is not as in the commit. Compared in an index of that commit's own: git does not compare what its index does not know.
    fn unlike(&self, repository: &Repository, paths: &[&str]) -> Result<Option<String>> {
        if paths.is_empty() {
            return Ok(None);
        }
        let copy = Copy::of_index(repository)?;
        let with_copy = |args: &[&str], paths: &[&str]| {
            let mut command = repository.git(args);
            command.args(paths).env("GIT_INDEX_FILE", &copy.path).env("GIT_LITERAL_PATHSPECS", "1");
            repository.bytes(&mut command)
        };
        with_copy(&["read-tree", &self.to.commit], &[])?;
        for some in paths.chunks(AT_ONCE) {
            let bytes = with_copy(&["diff", "--name-only", "-z", "--no-renames", "--"], some)?;
            if let Some(path) = names(&bytes).next() {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

fn lost(repository: &Repository, path: &str, why: &'static str) -> GitError {
    GitError::Lost { path: repository.top.join(path), why }
}

/// Files that `git diff` with `args` names.
fn changed(repository: &Repository, args: &[&str]) -> Result<HashSet<String>> {
    let diff = ["diff", "--name-only", "-z", "--no-renames", "--ignore-submodules=all"];
    let bytes = repository.bytes(&mut repository.git(diff.iter().chain(args)))?;
    Ok(names(&bytes).collect())
}

fn names(bytes: &[u8]) -> impl Iterator<Item = String> {
    let words = bytes.split(|b| *b == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned())
}

/// What is at `path` itself; none when there is nothing.
fn at(path: &Path) -> Result<Option<std::fs::Metadata>> {
    match path.symlink_metadata() {
        Ok(facts) => Ok(Some(facts)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(GitError::Io { path: path.to_owned(), source }),
    }
}

/// What is no folder and stands where one above `path` is to be, unless it is one of those that go.
fn no_folder_above(top: &Path, path: &str, gone: &HashSet<&str>) -> Result<Option<String>> {
    for (end, _) in path.match_indices('/') {
        let above = &path[..end];
        match at(&top.join(above))? {
            Some(facts) if facts.is_dir() => {}
            Some(_) if !gone.contains(above) => return Ok(Some(above.to_owned())),
            // Nothing of it is there, or it goes.
            Some(_) | None => break,
        }
    }
    Ok(None)
}

/// Something in folder `dir` that is not one of those that go.
fn other_than(top: &Path, dir: &str, gone: &HashSet<&str>) -> Result<Option<String>> {
    let mut waiting = vec![PathBuf::from(dir)];
    while let Some(dir) = waiting.pop() {
        let broken = |source| GitError::Io { path: top.join(&dir), source };
        for entry in std::fs::read_dir(top.join(&dir)).map_err(broken)? {
            let entry = entry.map_err(broken)?;
            let path = dir.join(entry.file_name());
            if entry.file_type().map_err(broken)?.is_dir() {
                waiting.push(path);
            } else if !path.to_str().is_some_and(|path| gone.contains(path)) {
                return Ok(Some(path.display().to_string()));
            }
        }
    }
    Ok(None)
}
