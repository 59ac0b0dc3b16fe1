//! Names and notes that indexes hold, remembered, so that a list of ten thousand snapshots need not open ten thousand objects each time.
//!
//! What is remembered of an index goes by its SHA-256, which a signed record names: it cannot be another's. It tells names, and never that an
//! index is there or whole, which is for `verify` to say. It is sealed to the very identities that opened the indexes, so that the state
//! directory tells nobody more than the store does.

use crate::archive::{open_manifest, seal_manifest};
use crate::keys::{Identities, RecipientSet};
use crate::model::ObjectId;
use crate::model::index::Index;
use crate::ops::session::Session;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// What a list shows of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Names {
    pub(super) hostname: String,
    pub(super) note: Option<String>,
    pub(super) components: Vec<String>,
}

impl Names {
    pub(super) fn of(index: &Index) -> Self {
        Self {
            hostname: index.header.hostname.clone(),
            note: index.header.note.clone(),
            components: index.components.iter().map(|c| c.name.to_string()).collect(),
        }
    }
}

/// What indexes were found to say, by their objects.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    format: u32,
    names: BTreeMap<ObjectId, Names>,
}

const FORMAT: u32 = 1;

impl Known {
    /// What an earlier list remembered for one of `identities`; nothing when there is nothing that they open.
    pub(super) fn read(session: &Session, identities: &Identities) -> Self {
        let sealed =
            session.state.as_ref().filter(|_| !identities.is_empty()).and_then(crate::catalog::State::shown);
        let opened = sealed.and_then(|sealed| open_manifest(&sealed, identities).ok());
        let known = opened.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        known.filter(|known| known.format == FORMAT).unwrap_or_default()
    }

    pub(super) fn get(&self, index: &ObjectId) -> Option<&Names> {
        self.names.get(index)
    }

    /// Remembers what was read now beside what is known, as long as a snapshot has that index (`still`). Trouble with that is no trouble of
    /// the list: it costs the next one time.
    pub(super) fn keep(
        mut self,
        session: &Session,
        identities: &Identities,
        still: &HashSet<ObjectId>,
        new: Vec<(ObjectId, Names)>,
    ) {
        let Some(state) = session.state.as_ref().filter(|_| !new.is_empty()) else { return };
        self.format = FORMAT;
        self.names.extend(new);
        self.names.retain(|index, _| still.contains(index));
        let sealed = RecipientSet::parse(&identities.public()).ok().and_then(|recipients| {
            let bytes = serde_json::to_vec(&self).ok()?;
            seal_manifest(&bytes, &recipients).ok()
        });
        if let Some((_, sealed)) = sealed {
            let _next_time = state.keep_shown(&sealed);
        }
    }
}
