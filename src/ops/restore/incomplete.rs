//! What a snapshot does not have of what was asked for, because it could not be read when the snapshot was made: a restore must never pass for whole without it.

use super::Listing;
use crate::model::entry::{FLAG_CRASH_CONSISTENT, FLAG_UNSTEADY, Why};
use crate::model::{Entry, Problem, ProblemKind, RelPath};

/// So many paths are named, and the rest counted.
const NAMED_MAX: usize = 100;

const UNREADABLE: &str = "it could not be read when the snapshot was made, so it is not in it";
const AS_BYTES: &str = "a database that SQLite did not give when the snapshot was made: it comes back as the bytes it had, which may be a mixture";
const UNSTEADY: &str = "it changed while it was read when the snapshot was made, so it may be a mixture";

/// What is to be said of `listing`. What the configuration allowed to be unreadable leaves a component complete, and is no problem.
pub(super) fn problems(listing: &Listing) -> Vec<Problem> {
    let component = &listing.component;
    let unreadable = |e: &&Entry| !component.complete && e.why == Some(Why::Unreadable);
    let mut problems = named(listing, unreadable, (ProblemKind::Unreadable, UNREADABLE));
    if !component.complete && listing.is_whole() {
        // Not everything that could not be captured has a path of its own: the root of a component, what a command failed at.
        let what = format!(
            "the component is not complete in this snapshot: {} could not be captured when it was made",
            match component.unreadable {
                1 => "one thing".to_owned(),
                number => format!("{number} things"),
            }
        );
        let problem = Problem::at_path(ProblemKind::Unreadable, component.name.as_str(), b".", what);
        problems.push(problem.hint("`backstay find PATH` lists the snapshots that have a path"));
    }
    let as_bytes = |e: &&Entry| !component.complete && e.has_flag(FLAG_CRASH_CONSISTENT);
    problems.extend(named(listing, as_bytes, (ProblemKind::Warning, AS_BYTES)));
    problems.extend(named(listing, |e| e.has_flag(FLAG_UNSTEADY), (ProblemKind::Warning, UNSTEADY)));
    problems
}

fn named(
    listing: &Listing,
    which: impl Fn(&&Entry) -> bool,
    (kind, what): (ProblemKind, &str),
) -> Vec<Problem> {
    let found: Vec<&RelPath> = listing.entries.iter().filter(which).map(|e| &e.path).collect();
    few(listing.component.name.as_str(), &found, (kind, what))
}

/// The same of each of `paths`: the first are named, and the rest counted.
pub(super) fn few(component: &str, paths: &[&RelPath], (kind, what): (ProblemKind, &str)) -> Vec<Problem> {
    let of = |path: &[u8], what: String| Problem::at_path(kind, component, path, what);
    let first = paths.iter().take(NAMED_MAX);
    let mut problems: Vec<Problem> = first.map(|path| of(path.as_bytes(), what.to_owned())).collect();
    if let Some(more @ 1..) = paths.len().checked_sub(NAMED_MAX) {
        problems.push(of(b".", format!("the same goes for {more} paths more")));
    }
    problems
}
