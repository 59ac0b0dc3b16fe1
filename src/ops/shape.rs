//! What the entries of a component must be together (section 6.4 of the format): a listing that could lead a reader astray is refused whole.

use crate::model::index::IndexComponent;
use crate::model::{Entry, Kind, RelPath};
use crate::ops::error::{Class, OpError, Result};
use std::collections::{HashMap, HashSet};

/// Checks `entries`: those of a whole component, or some of them with every directory on the way.
///
/// Fails with [`Class::Damage`] and the path at fault.
pub fn check(component: &IndexComponent, entries: &[Entry]) -> Result<()> {
    let wrong = if component.single { single(entries) } else { nested(entries) };
    match wrong.or_else(|| links(entries)) {
        None => Ok(()),
        Some((path, why)) => {
            let what = format!("the listing of component {} is damaged", component.name);
            Err(OpError::new(Class::Damage, what).because(format!("{path}: {why}")).of_a_listing())
        }
    }
}

type Wrong<'e> = Option<(&'e RelPath, &'static str)>;

fn single(entries: &[Entry]) -> Wrong<'_> {
    let fits = |e: &Entry| matches!(e.kind, Kind::File | Kind::Left) && e.path.parts().count() == 1;
    let wrong = entries.iter().find(|e| !fits(e)).or(entries.get(1))?;
    Some((&wrong.path, "the component is a single file"))
}

fn nested(entries: &[Entry]) -> Wrong<'_> {
    let mut dirs: HashSet<&[u8]> = HashSet::new();
    let mut last: Option<&RelPath> = None;
    for entry in entries {
        if last.is_some_and(|last| last >= &entry.path) {
            return Some((&entry.path, "it is out of order or listed twice"));
        }
        let parent = entry.path.parent();
        if parent.is_some_and(|parent| !dirs.contains(parent.as_bytes())) {
            return Some((&entry.path, "what it lies in is not listed as a directory"));
        }
        if entry.kind == Kind::Dir {
            dirs.insert(entry.path.as_bytes());
        }
        last = Some(&entry.path);
    }
    None
}

/// All names of one inode must say the same: only the first is read.
fn links(entries: &[Entry]) -> Wrong<'_> {
    let mut firsts: HashMap<u64, &Entry> = HashMap::new();
    for entry in entries {
        let Some(link) = entry.link else { continue };
        if entry.kind == Kind::Dir {
            return Some((&entry.path, "it is a directory, which has one name only"));
        }
        let first = *firsts.entry(link).or_insert(entry);
        let same = match entry.kind {
            Kind::File => *first == Entry { path: first.path.clone(), ..entry.clone() },
            // Nothing but these is made once for all names; times may have changed between two looks.
            kind => (first.kind, &first.target, first.dev) == (kind, &entry.target, entry.dev),
        };
        if !same {
            return Some((&entry.path, "it is another name of a file, and says something else of it"));
        }
    }
    None
}
