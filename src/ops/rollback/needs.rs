//! Whether there is room for what a rollback writes, looked at before anything is stopped.
//!
//! What is fetched is known, and without room for it there is no rollback. How long the journal gets is known only when the steps are found, which a folder with
//! nothing left in it has one of, whatever is in it; and how much the safety snapshot of what was made or changed since adds to a store on the same disk is
//! only guessed. That is said, and refuses nothing: both are taken before anything is stopped.

use crate::config::{Config, Place};
use crate::model::{Problem, ProblemKind};
use crate::ops::error::{Class, OpError, Result};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A step of the journal takes 300 bytes, and a new journal is written beside the old one, while services are down.
const JOURNAL_PER_ENTRY: u64 = 600;
/// A journal is no larger, so two are not.
const JOURNAL_MOST: u64 = 512 << 20;
/// Whatever else is written: folders, numbers of processes, what start commands say.
const LEAST: u64 = 1 << 20;

/// What is needed on each file system.
#[derive(Debug, Default)]
pub(super) struct Needs(BTreeMap<u64, Need>);

/// What is needed on one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Need {
    place: PathBuf,
    surely: u64,
    perhaps: u64,
}

impl Needs {
    /// What is fetched to `place`.
    pub(super) fn fetched(&mut self, place: &Path, bytes: u64) {
        self.add(place, bytes, 0);
    }

    /// The journal: if all `entries` were exchanged one by one, which is the worst.
    pub(super) fn journal(&mut self, state: &Path, entries: u64) {
        self.add(state, LEAST, entries.saturating_mul(JOURNAL_PER_ENTRY).min(JOURNAL_MOST));
    }

    /// The safety snapshot of `changed` bytes: in each store that is a folder, or where it is prepared.
    pub(super) fn safety(&mut self, config: &Config, spool: &Path, changed: u64) {
        let places = config.stores.iter().filter_map(|store| match &store.place {
            Place::Path(path) => Some(path.as_path()),
            Place::Url(_) => None,
        });
        let places: Vec<&Path> = places.collect();
        // On one file system it gets from the one to the other by its name.
        let apart = !places.iter().any(|place| device(place).is_some() && device(place) == device(spool));
        places.into_iter().chain(apart.then_some(spool)).for_each(|place| self.add(place, 0, changed));
    }

    fn add(&mut self, place: &Path, surely: u64, perhaps: u64) {
        // What cannot be asked is not judged: the system says it when it is written.
        let Some(device) = device(place) else { return };
        let need = Need { place: place.to_owned(), surely: 0, perhaps: 0 };
        let need = self.0.entry(device).or_insert(need);
        need.surely = need.surely.saturating_add(surely);
        need.perhaps = need.perhaps.saturating_add(perhaps);
    }

    /// Refuses what there surely is no room for, and warns of what there may be none for.
    pub(super) fn judge(&self) -> Result<Vec<Problem>> {
        let mut warnings = Vec::new();
        for need in self.0.values() {
            if let Ok(free) = crate::durable::free_space(&need.place) {
                warnings.extend(need.judge(free)?);
            }
        }
        Ok(warnings)
    }
}

impl Need {
    fn judge(&self, free: u64) -> Result<Option<Problem>> {
        let (place, surely) = (self.place.display(), self.surely);
        if free < surely {
            let what = format!(
                "not enough room in {place}: {surely} bytes are needed for what is fetched and for notes of the way, and {free} are free"
            );
            return Err(OpError::new(Class::Failed, what)
                .hint("make room, or roll back fewer components with --only"));
        }
        if free >= surely.saturating_add(self.perhaps) {
            return Ok(None);
        }
        Ok(Some(Problem {
            kind: ProblemKind::Warning,
            component: None,
            subject: place.to_string(),
            what: format!(
                "there may be too little room: {free} bytes are free, {surely} are needed for what is fetched, and up to {} for the journal and the safety snapshot",
                self.perhaps
            ),
            hint: Some("make room; if it is not enough, nothing is stopped or changed".into()),
        }))
    }
}

/// The file system that `place` is on, or will be on.
fn device(place: &Path) -> Option<u64> {
    place.ancestors().find_map(|place| place.metadata().ok()).map(|facts| facts.dev())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fetched_is_needed_and_the_journal_and_the_safety_snapshot_are_only_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Needs::default();
        all.fetched(dir.path(), 1000);
        all.fetched(dir.path(), 500);
        all.journal(&dir.path().join("not/there/yet"), 10);
        all.add(dir.path(), 0, 200);
        let needs: Vec<&Need> = all.0.values().collect();
        assert_eq!(needs.len(), 1, "{all:?}");
        let need = needs[0];
        let (surely, perhaps) = (1500 + LEAST, 200 + 10 * JOURNAL_PER_ENTRY);
        assert_eq!((need.surely, need.perhaps), (surely, perhaps));
        assert_eq!(need.judge(surely + perhaps).unwrap(), None);
        let warned = need.judge(surely + perhaps - 1).unwrap().unwrap();
        assert!(warned.what.contains("up to 6200 for the journal and the safety snapshot"), "{warned:?}");
        assert!(need.judge(surely).unwrap().is_some());
        let refused = need.judge(surely - 1).unwrap_err();
        assert!(refused.to_string().contains("not enough room in"), "{refused}");
        let mut vast = Needs::default();
        vast.journal(dir.path(), u64::MAX);
        let vast = vast.0.values().next().unwrap();
        assert_eq!((vast.surely, vast.perhaps), (LEAST, JOURNAL_MOST), "no number of files alone refuses");
    }
}
