//! Which places may not be the same, or one inside the other. Compared by text: symbolic links are for the operations to see.

use crate::config::render::{Found, show};
use std::ops::Range;
use std::path::PathBuf;

/// What lies at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Something to protect.
    Component,
    /// A store.
    Store,
    /// The state directory.
    State,
    /// A private key.
    Key,
    /// Where things are laid for a while that must be backed up nowhere.
    Scratch,
    /// Anything else; never in the way.
    Other,
}

/// A path of the file.
#[derive(Debug, Clone)]
pub(super) struct Sited {
    pub role: Role,
    /// As messages call it: `component "db"`.
    pub label: String,
    pub path: PathBuf,
    pub span: Range<usize>,
}

/// Adds a mistake for every pair of places that are in each other's way, at the later of the two.
pub(super) fn check_places(places: &[Sited], found: &mut Vec<Found>) {
    for (i, later) in places.iter().enumerate() {
        for earlier in &places[..i] {
            let clash = clash(earlier, later).or_else(|| clash(later, earlier));
            if let Some((what, hint)) = clash {
                found.push(Found::at(&later.span, what).hint(hint));
            }
        }
    }
}

/// What is wrong with `inner`, which is `outer` or lies in it.
fn clash(outer: &Sited, inner: &Sited) -> Option<(String, &'static str)> {
    let same = outer.path == inner.path;
    if !inner.path.starts_with(&outer.path) {
        return None;
    }
    let (a, b, path) = (&inner.label, &outer.label, show(&inner.path));
    let in_it = if same { "is the same directory as" } else { "lies inside" };
    match (outer.role, inner.role) {
        (Role::Component, Role::Component) if same && a == b => {
            Some((format!("{path} is listed twice"), "list it once"))
        }
        (Role::Component, Role::Component) if same => {
            Some((format!("{path} is in {b} and in {a}"), "each path belongs to one component"))
        }
        // A component inside a store would be left out with it; the other way round is common and fine.
        (Role::Store, Role::Component) => {
            Some((format!("{a} {in_it} {b}"), "a store needs a directory of its own, such as \"backups\""))
        }
        (Role::State, Role::Component) => {
            Some((format!("{a} {in_it} {b}"), "the state needs a directory of its own"))
        }
        (Role::Store | Role::State, Role::Store | Role::State) => {
            Some((format!("{a} {in_it} {b}"), "each needs a directory of its own"))
        }
        (Role::Store, Role::Key) => Some((
            format!("{a} lies inside {b}: who has the store would have the key"),
            "keep keys outside of every store",
        )),
        (Role::Store | Role::Component, Role::Scratch) => {
            Some((format!("{a} {in_it} {b}"), "name a place outside of everything that is backed up"))
        }
        _ => None,
    }
}
