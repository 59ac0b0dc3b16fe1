//! Putting a working tree back to the commit that a snapshot recorded. The files of the components that are exchanged come from the snapshot; this
//! moves HEAD and the index, and the files beside them.
//!
//! Nothing that is not committed is ever lost: with any such change it is refused before anything begins. No branch is moved.

use crate::model::index::GitState;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::git::look::uncommitted;
use crate::ops::git::run::{GitError, Repository};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Where HEAD is, or is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) commit: String,
    /// The branch that it is on; taken up again only while that still is at the commit.
    pub(crate) branch: Option<String>,
}

/// One working tree's way to another commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Move {
    pub(crate) top: PathBuf,
    pub(crate) from: Head,
    pub(crate) to: Head,
    /// Folders and files that are exchanged with the snapshot's: git's files there are left alone.
    pub(crate) exchanged: Vec<PathBuf>,
}

/// What became of a working tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Its top folder.
    pub top: String,
    /// The commit that it is at now.
    pub commit: String,
    /// The branch that it is on now; none when the branch has gone on since.
    pub branch: Option<String>,
}

/// Plans the way of the working tree at `dir` to `state`. Touches nothing.
pub(crate) fn plan(dir: &Path, state: &GitState, exchanged: &[PathBuf]) -> Result<Option<Move>> {
    let commit = &state.commit;
    let gone = |what: String| {
        OpError::new(Class::Failed, what)
            .hint("nothing was changed; `backstay rollback` without --git does not ask git")
    };
    let found = Repository::around(dir).doing(Class::Failed, || "cannot find the repository".into())?;
    let Some(repository) = found else {
        return Err(gone(format!("there is no git repository at {}", dir.display())));
    };
    let failed = || format!("cannot put the repository {} back", repository.top.display());
    let there = repository.text_if_any(["rev-parse", "--verify", "-q", &format!("{commit}^{{commit}}")]);
    if there.doing(Class::Failed, failed)?.is_none() {
        return Err(gone(format!("the repository {} has no commit {commit}", repository.top.display())));
    }
    let head = repository
        .text_if_any(["rev-parse", "--verify", "-q", "HEAD^{commit}"])
        .doing(Class::Failed, failed)?;
    let Some(head) = head else {
        return Err(gone(format!(
            "the repository {} is on a branch without a commit",
            repository.top.display()
        )));
    };
    refuse_unfinished(&repository)?;
    refuse_uncommitted(&repository)?;
    if head == *commit {
        return Ok(None);
    }
    let branch =
        repository.text_if_any(["symbolic-ref", "-q", "--short", "HEAD"]).doing(Class::Failed, failed)?;
    let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    let way = Move {
        top: repository.top.clone(),
        from: Head { commit: head, branch },
        to: Head { commit: commit.clone(), branch: state.branch.clone() },
        exchanged: exchanged.iter().map(real).collect(),
    };
    way.refuse_lost(&repository)?;
    Ok(Some(way))
}

fn refuse_uncommitted(repository: &Repository) -> Result<()> {
    let changed =
        uncommitted(repository).doing(Class::Failed, || "cannot ask git what is not committed".into())?;
    if changed.is_empty() {
        return Ok(());
    }
    let shown = changed.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let more = if changed.len() > 5 { format!(" and {} more", changed.len() - 5) } else { String::new() };
    let what =
        format!("--git would lose what is not committed in {}: {shown}{more}", repository.top.display());
    Err(OpError::new(Class::Failed, what)
        .hint("commit it, or put it away with `git stash`; then try again. Nothing was changed"))
}

/// A merge or the like that waits for a person.
fn refuse_unfinished(repository: &Repository) -> Result<()> {
    for name in ["MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply"] {
        let path = repository.text(["rev-parse", "--path-format=absolute", "--git-path", name]);
        let path = path.doing(Class::Failed, || "cannot ask git what it is at".into())?;
        if Path::new(&path).exists() {
            let what =
                format!("the repository {} is in the middle of something ({name})", repository.top.display());
            return Err(OpError::new(Class::Failed, what)
                .hint("end it or give it up with git; then try again. Nothing was changed"));
        }
    }
    Ok(())
}

/// Files that differ between the two commits and are not exchanged.
#[derive(Default)]
pub(super) struct Beside {
    /// In both.
    pub(super) other: Vec<String>,
    /// Only where it goes to.
    pub(super) new: Vec<String>,
    /// Only where it comes from.
    pub(super) gone: Vec<String>,
}

impl Move {
    fn beside(&self, repository: &Repository) -> std::result::Result<Beside, GitError> {
        let args =
            ["diff-tree", "-r", "-z", "--no-renames", "--name-status", &self.from.commit, &self.to.commit];
        let bytes = repository.bytes(&mut repository.git(args))?;
        let mut words = bytes.split(|b| *b == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        let mut beside = Beside::default();
        while let (Some(kind), Some(path)) = (words.next(), words.next()) {
            if self.is_exchanged(&path) {
                continue;
            }
            match kind.as_str() {
                "A" => beside.new.push(path),
                "D" => beside.gone.push(path),
                _ => beside.other.push(path),
            }
        }
        Ok(beside)
    }

    pub(super) fn is_exchanged(&self, path: &str) -> bool {
        let full = self.top.join(path);
        self.exchanged.iter().any(|place| full.starts_with(place))
    }

    /// An error when going it now would lose what is not committed, or a merge or the like waits for a person. Touches nothing.
    pub(crate) fn refuse_loss(&self) -> Result<()> {
        let cannot = || format!("cannot ask git what would be lost in {}", self.top.display());
        let repository = self.repository().doing(Class::Failed, cannot)?;
        refuse_unfinished(&repository)?;
        self.refuse_lost(&repository)
    }

    fn refuse_lost(&self, repository: &Repository) -> Result<()> {
        let beside = self.beside(repository);
        let lost = beside.and_then(|beside| self.refuse_lost_files(repository, &beside));
        match lost.and_then(|()| self.refuse_lost_index(repository)) {
            Err(e @ GitError::Lost { .. }) => Err(OpError::new(Class::Failed, e.to_string())
                .hint("move it away, or commit it; then try again. Nothing was changed")),
            other => other.doing(Class::Failed, || {
                format!("cannot ask git what would be lost in {}", self.top.display())
            }),
        }
    }

    /// Goes it. May be called again after a kill at any moment.
    pub(crate) fn go(&self) -> Result<Moved> {
        let failed =
            || format!("the repository {} could not be put back to {}", self.top.display(), self.to.commit);
        self.try_it().doing(Class::Failed, failed)
    }

    /// True when HEAD is where this goes to.
    pub(crate) fn is_there(&self) -> bool {
        self.head().is_ok_and(|head| head == self.to.commit)
    }

    /// True when HEAD is where this comes from: nothing of it was done.
    pub(crate) fn is_to_be_gone(&self) -> bool {
        self.head().is_ok_and(|head| head == self.from.commit)
    }

    fn head(&self) -> std::result::Result<String, GitError> {
        head_of(&self.repository()?)
    }

    fn repository(&self) -> std::result::Result<Repository, GitError> {
        let gone = || self.failed("rev-parse", "it is no repository any more".into());
        Repository::around(&self.top)?.filter(|r| r.top == self.top).ok_or_else(gone)
    }

    fn failed(&self, what: &str, words: String) -> GitError {
        GitError::Failed { what: what.into(), top: self.top.clone(), words }
    }

    /// The same the other way round.
    pub(crate) fn back(&self) -> Self {
        Self { from: self.to.clone(), to: self.from.clone(), ..self.clone() }
    }

    fn try_it(&self) -> std::result::Result<Moved, GitError> {
        let repository = self.repository()?;
        let head = head_of(&repository)?;
        if head != self.from.commit && head != self.to.commit {
            let words = format!("HEAD is at {head} meanwhile, so it stays there");
            return Err(self.failed("checkout", words));
        }
        // What was written since the plan, or since a kill in here, is not in git either.
        self.refuse_lost_index(&repository)?;
        if head == self.from.commit {
            let beside = self.beside(&repository)?;
            self.refuse_lost_files(&repository, &beside)?;
            for_paths(&repository, &["rm", "-q", "--ignore-unmatch"], &beside.gone)?;
            let there: Vec<String> = beside.other.into_iter().chain(beside.new).collect();
            for_paths(&repository, &["checkout", "-q", &self.to.commit], &there)?;
        }
        let branch = self.to.branch.clone();
        let at = |branch: &String| {
            repository.text_if_any([
                "rev-parse",
                "--verify",
                "-q",
                &format!("refs/heads/{branch}^{{commit}}"),
            ])
        };
        let branch = match branch {
            Some(branch) if at(&branch)?.as_ref() == Some(&self.to.commit) => Some(branch),
            _ => None,
        };
        match &branch {
            Some(branch) => repository.text([
                "symbolic-ref",
                "-m",
                "backstay rollback",
                "HEAD",
                &format!("refs/heads/{branch}"),
            ])?,
            None => {
                // Written into HEAD itself: the branch that it was on stays where it is.
                repository.text([
                    "update-ref",
                    "--no-deref",
                    "-m",
                    "backstay rollback",
                    "HEAD",
                    &self.to.commit,
                ])?
            }
        };
        repository.text(["read-tree", &self.to.commit])?;
        // It fails when something differs from the commit, as the snapshot's files may.
        repository.text_if_any(["update-index", "-q", "--refresh"])?;
        Ok(Moved { top: self.top.display().to_string(), commit: self.to.commit.clone(), branch })
    }
}

fn head_of(repository: &Repository) -> std::result::Result<String, GitError> {
    repository.text(["rev-parse", "--verify", "-q", "HEAD^{commit}"])
}

/// Runs a git command on `paths`, which are names and no patterns.
fn for_paths(repository: &Repository, args: &[&str], paths: &[String]) -> std::result::Result<(), GitError> {
    if paths.is_empty() {
        return Ok(());
    }
    let mut command = repository.git(args);
    command.args(["--pathspec-from-file=-", "--pathspec-file-nul"]).env("GIT_LITERAL_PATHSPECS", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let broken = |source| GitError::Io { path: repository.top.clone(), source };
    let mut child = command.spawn().map_err(broken)?;
    let list = paths.join("\0");
    let given = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(list.as_bytes()));
    let output = child.wait_with_output().map_err(broken)?;
    if output.status.success() {
        return given.map_err(broken);
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(GitError::Failed { what: args[0].into(), top: repository.top.clone(), words })
}
