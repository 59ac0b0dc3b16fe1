//! Git's working trees in a rollback: planned before anything begins, put back once the services are well.

use crate::config::Config;
use crate::model::{Problem, ProblemKind};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::git::{self, Move};
use crate::ops::restore::Opened;
use crate::ops::rollback::site::Site;
use serde::Serialize;
use std::path::PathBuf;

/// A working tree of git that is put back.
#[derive(Debug, Clone, Serialize)]
pub struct ShownMove {
    /// Its top folder.
    pub top: String,
    /// The commit that it is at.
    pub from: String,
    /// The commit that it goes to.
    pub to: String,
}

impl ShownMove {
    pub(super) fn of(way: &Move) -> Self {
        Self { top: way.top.display().to_string(), from: way.from.commit.clone(), to: way.to.commit.clone() }
    }
}

/// The ways of git's working trees back to the commits that were recorded.
pub(super) fn moves(config: &Config, opened: &Opened, sites: &[Site]) -> Result<Vec<Move>> {
    let trees = opened.index.header.working_trees();
    if trees.is_empty() {
        let what = format!("snapshot {} recorded nothing of git", opened.record.snapshot);
        return Err(
            OpError::new(Class::Usage, what).hint("leave --git away; `backstay backup --git` records it")
        );
    }
    let places: Vec<PathBuf> = sites.iter().flat_map(Site::places).collect();
    git::moves(config, &trees, &places)
}

/// The application is back and well; git is not.
pub(super) fn problem(what: &str) -> Problem {
    told(what, "the files are those of the snapshot; put HEAD there yourself: git switch --detach")
}

/// The same of a rollback that was taken back.
pub(super) fn left_behind(what: &str) -> Problem {
    told(what, "the components are as before the rollback; look at `git status`, and put HEAD there yourself")
}

fn told(what: &str, hint: &str) -> Problem {
    Problem {
        kind: ProblemKind::Hook,
        component: None,
        subject: "git".into(),
        what: what.to_owned(),
        hint: Some(hint.into()),
    }
}
