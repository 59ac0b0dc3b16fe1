//! References that keep what a snapshot was made of: `refs/backstay/<id>`, and a tag that people can read.

use crate::model::SnapshotId;
use crate::ops::git::look::Found;
use crate::ops::git::run::{Repository, Result};
use serde::Serialize;

/// What was recorded of a working tree, and what keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptTree {
    /// Its folder, relative to that of the configuration.
    pub path: String,
    /// The commit it is at.
    pub commit: String,
    /// The branch, if on one.
    pub branch: Option<String>,
    /// `git describe`.
    pub describe: Option<String>,
    /// Whether anything was not committed.
    pub dirty: bool,
    /// The reference that keeps all of it.
    pub kept: Option<String>,
    /// The tag that was made.
    pub tag: Option<String>,
}

/// The reference of a snapshot's working tree by its place in the list: linked working trees share one repository.
pub fn reference_of(id: &SnapshotId, number: usize) -> String {
    match number {
        0 => format!("refs/backstay/{id}"),
        more => format!("refs/backstay/{id}-{}", more + 1),
    }
}

/// Makes the references. What fails of it is told in words.
pub(super) fn keep(
    found: &Found,
    number: usize,
    id: &SnapshotId,
    wish: Option<&str>,
) -> (KeptTree, Vec<String>) {
    let mut troubles: Vec<String> = found.trouble.iter().cloned().collect();
    let reference = reference_of(id, number);
    let repository = &found.repository;
    let kept = repository.text(["update-ref", "--no-deref", reference.as_str(), found.kept.as_str(), ""]);
    let kept = match kept {
        Ok(_) => Some(reference),
        Err(e) => {
            troubles.push(e.to_string());
            None
        }
    };
    let tag = match wish.map(|wish| tag(repository, &found.state.commit, id, wish)).transpose() {
        Ok(tag) => tag,
        Err(e) => {
            troubles.push(e.to_string());
            None
        }
    };
    let state = found.state.clone();
    let tree = KeptTree {
        path: state.path.unwrap_or_else(|| ".".into()),
        commit: state.commit,
        branch: state.branch,
        describe: state.describe,
        dirty: state.dirty,
        kept,
        tag,
    };
    (tree, troubles)
}

/// An annotated tag `pre-…` of the commit. One of that name that is another's is left alone: then the snapshot's own letters stand behind it.
fn tag(repository: &Repository, commit: &str, id: &SnapshotId, wish: &str) -> Result<String> {
    let id = id.to_string();
    let own = id.rsplit('-').next().unwrap_or_default().to_owned();
    let plain = slug(wish).map_or_else(|| format!("pre-{own}"), |slug| format!("pre-{slug}"));
    let name = match free(repository, &plain)? {
        true => plain,
        false => format!("{plain}-{own}"),
    };
    // The note stays sealed in the snapshot: a tag may be pushed.
    let message = format!("before what came after backstay snapshot {id}");
    repository.text(["tag", "-a", "-m", message.as_str(), "--", name.as_str(), commit])?;
    Ok(name)
}

/// True when a tag of that name can be made: there is none, and none that it would be a folder of, or lie in.
fn free(repository: &Repository, name: &str) -> Result<bool> {
    let listed = repository.text(["for-each-ref", "--format=%(refname)", &format!("refs/tags/{name}")])?;
    Ok(listed.is_empty())
}

/// Letters, digits and `.`, `_`, `-` of a wish, short enough to be read.
fn slug(wish: &str) -> Option<String> {
    let mut slug = String::new();
    for c in wish.trim().to_lowercase().chars() {
        match c {
            _ if c.is_alphanumeric() => slug.push(c),
            '.' | '_' if !slug.is_empty() && !slug.ends_with('.') => slug.push(c),
            _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
        if slug.chars().count() >= 50 {
            break;
        }
    }
    let slug = slug.trim_end_matches(['-', '.', '_']);
    let slug = slug.strip_suffix(".lock").unwrap_or(slug);
    (!slug.is_empty()).then(|| slug.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_becomes_a_name_that_git_takes() {
        for (wish, name) in [
            ("stable", Some("stable")),
            ("Before the  migration!", Some("before-the-migration")),
            ("v1.2..3", Some("v1.2.-3")),
            ("../../x", Some("x")),
            ("a.lock", Some("a")),
            ("-x-", Some("x")),
            ("größer", Some("größer")),
            ("🚀", None),
            ("", None),
        ] {
            assert_eq!(slug(wish).as_deref(), name, "{wish}");
        }
        assert!(slug(&"x".repeat(500)).is_some_and(|s| s.len() <= 50));
    }
}
