//! Names of one file in the listings of a component: a restore refuses a component in which they say different things, so that must be found.
//!
//! Only this is kept of a listing: one that several snapshots share is read once.

use crate::model::path::escape;
use crate::model::{Entry, Kind, ObjectId, RelPath};
use std::collections::HashMap;

/// One name of a file that has several: the file's number, what is said of it, and the name.
struct Name {
    link: u64,
    says: [u8; 16],
    path: String,
}

/// Names of files that have several, by the listings that they stand in.
#[derive(Default)]
pub(super) struct Names(HashMap<ObjectId, Vec<Name>>);

impl Names {
    /// Keeps what `entries`, those of the listing `object`, say.
    pub(super) fn note(&mut self, object: ObjectId, entries: &[Entry]) {
        let name = |entry: &Entry| {
            let (link, path) = (entry.link?, escape(entry.path.as_bytes()));
            Some(Name { link, says: said(entry), path })
        };
        let names: Vec<Name> = entries.iter().filter_map(name).collect();
        if !names.is_empty() {
            self.0.insert(object, names);
        }
    }

    /// The first name in `listings`, those of one component, that says something else than another name of its file.
    pub(super) fn at_odds(&self, listings: impl Iterator<Item = ObjectId>) -> Option<&str> {
        let mut firsts: HashMap<u64, [u8; 16]> = HashMap::new();
        let mut names = listings.filter_map(|id| self.0.get(&id)).flatten();
        names.find(|name| *firsts.entry(name.link).or_insert(name.says) != name.says).map(|name| &*name.path)
    }
}

/// What all names of a file must agree on: the same as in `ops::shape`.
fn said(entry: &Entry) -> [u8; 16] {
    let mut same = Entry::new(RelPath::root(), entry.kind);
    if entry.kind == Kind::File {
        same = Entry { path: same.path, ..entry.clone() };
    } else {
        (same.target, same.dev) = (entry.target.clone(), entry.dev);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(format!("{same:?}").as_bytes()).as_bytes()[..16]);
    short
}
