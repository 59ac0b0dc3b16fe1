//! Working trees of git as text.

use super::plain;
use crate::model::SnapshotId;
use crate::model::index::GitState;
use crate::ops::git::{KeptTree, reference_of};

fn place(path: &str) -> String {
    if path == "." { String::new() } else { format!("{}: ", plain(path)) }
}

/// A line of `show`.
pub(super) fn working_tree(tree: &GitState, number: usize, id: &SnapshotId) -> String {
    let mut text = place(tree.path.as_deref().unwrap_or("."));
    text.push_str(&plain(&tree.commit));
    match &tree.branch {
        Some(branch) => text.push_str(&format!(" on {}", plain(branch))),
        None => text.push_str(", on no branch"),
    }
    if let Some(describe) = tree.describe.as_ref().filter(|d| !tree.commit.starts_with(d.as_str())) {
        text.push_str(&format!(" ({})", plain(describe)));
    }
    if tree.dirty {
        let kept = if tree.kept.is_some() {
            format!(", kept in {}", reference_of(id, number))
        } else {
            String::new()
        };
        text.push_str(&format!(", with what was not committed{kept}"));
    }
    if let Some(bundle) = &tree.bundle {
        text.push_str(&format!("; bundle in component {}", plain(bundle)));
    }
    text
}

/// A line of what `backup --git` did.
pub(super) fn kept_tree(tree: &KeptTree) -> String {
    let short = tree.commit.get(..12).unwrap_or(&tree.commit);
    let dirty = if tree.dirty { ", with what is not committed" } else { "" };
    let kept = tree.kept.iter().map(|name| format!(", kept in {name}"));
    let tag = tree.tag.iter().map(|tag| format!(", tag {tag}"));
    format!("git {}{short}{dirty}{}", place(&tree.path), kept.chain(tag).collect::<String>())
}
