//! Components whose listing is damaged: nothing of them can be brought from the snapshot that was to give them. The rest comes back all the same.

use super::Looked;
use super::parts::Parts;
use super::place::ComponentPlace;
use crate::model::{Problem, ProblemKind, SnapshotId};
use crate::ops::error::{Class, OpError};
use crate::ops::objects::SnapshotReader;
use crate::ops::restore::{Listing, known_sources};
use crate::ops::select::Selection;
use crate::ops::stores::Away;

/// A component that was not brought.
pub(super) struct Unread {
    pub(super) name: String,
    error: OpError,
    /// The next snapshot that has it whole, as far as its listing says.
    next: Option<SnapshotId>,
    /// The snapshot that was to give it.
    snapshot: SnapshotId,
    /// Where it belongs.
    place: String,
}

impl Unread {
    /// Takes an error for what it costs; gives back one that is no damage of this component alone. A store that stopped answering is none, nor is damage
    /// in one store while another cannot be asked: what is left out here is left out for good.
    pub(super) fn of(
        looked: &Looked,
        parts: &Parts,
        place: &ComponentPlace,
        error: OpError,
    ) -> Result<Self, OpError> {
        if !error.is_damaged_listing() {
            return Err(error);
        }
        let (name, next) = (place.name.clone(), next_holder(looked, parts, &place.name));
        let snapshot = parts.snapshot_of(&place.name).clone();
        let unread = Self { name, error, next, snapshot, place: place.to.display().to_string() };
        looked.session.around.progress.problem(&unread.problem());
        Ok(unread)
    }

    /// What is said of it.
    pub(super) fn problem(&self) -> Problem {
        Problem {
            kind: ProblemKind::Damaged,
            component: Some(self.name.clone()),
            subject: ".".to_owned(),
            what: format!("it was not brought back: {}", Away::from(&self.error).line()),
            hint: Some(self.way_out()),
        }
    }

    /// What a person does about it.
    pub(super) fn step(&self) -> String {
        format!(
            "component {} was not brought back, because what lists it is damaged; {}",
            self.name,
            self.way_out()
        )
    }

    fn way_out(&self) -> String {
        let (name, place) = (&self.name, &self.place);
        match &self.next {
            Some(next) => format!(
                "`backstay restore {next} {name} --to DIR` brings it from snapshot {next}: move what is in there to {place} before the next backup"
            ),
            None => format!(
                "no other snapshot in the stores that are here holds it whole; another store, or a copy of this one, may; `backstay restore {} {name} --to DIR` brings what can still be read of it",
                self.snapshot
            ),
        }
    }
}

/// The error where nothing at all could be brought: that of the first.
pub(super) fn nothing_left(unread: Vec<Unread>, parts: &Parts) -> OpError {
    let Some(first) = unread.into_iter().next() else {
        let what = format!("there is nothing in snapshot {} to bring back", parts.record.snapshot);
        return OpError::new(Class::NotFound, what);
    };
    let hint = match &first.next {
        Some(next) => format!("nothing was brought; `--snapshot {next}` brings what that snapshot holds"),
        None => format!("nothing was brought: {}", first.way_out()),
    };
    first.error.hint(hint)
}

/// The next of the snapshots that hold a component whose listing of it can be read: several may share what is damaged.
fn next_holder(looked: &Looked, parts: &Parts, name: &str) -> Option<SnapshotId> {
    let mut others = parts.holders.get(name)?.iter().filter(|id| *id != parts.snapshot_of(name));
    others.find(|id| looked.session.around.interrupt.check().is_ok() && lists(looked, id, name)).cloned()
}

fn lists(looked: &Looked, id: &SnapshotId, name: &str) -> bool {
    let Some(known) = looked.vault.snapshots().find(|s| s.record.snapshot == *id) else {
        return false;
    };
    let sources = known_sources(&looked.session, &looked.vault, known);
    let Ok(identities) = looked.session.identities_needed() else {
        return false;
    };
    let reader = SnapshotReader { store: &sources, record: &known.record, identities: &identities };
    let whole = Selection { component: name.to_owned(), paths: Vec::new() };
    reader.index().and_then(|index| Listing::read(&reader, &index, &whole)).is_ok()
}
