//! How long the other state of a rollback is kept: a week, and until a good snapshot was made after it.
//!
//! A snapshot that is committed must never be called failed because of what is removed after it: what stays is a warning, and the next one tries again.

use crate::model::{Problem, ProblemKind, Timestamp};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::rollback::dumps;
use crate::ops::rollback::journal::Journal;
use crate::ops::rollback::run::words_of;
use crate::ops::rollback::site::remove_staging;
use jiff::SignedDuration;
use std::path::{Path, PathBuf};

/// At least so long.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What became of the other states of rollbacks that are a week old.
#[derive(Debug, Default)]
pub struct Swept {
    /// Folders that are gone now.
    pub removed: Vec<PathBuf>,
    /// What stays because it could not be removed, and why; the next good snapshot tries again.
    pub problems: Vec<Problem>,
}

/// Removes the other states of rollbacks that are a week old. To be called after a good snapshot, begun at `started`, with the lock held.
pub fn sweep(state: &Path, started: Timestamp) -> Swept {
    let mut swept = Swept::default();
    let kept = Journal::each_kept(state).unwrap_or_else(|e| {
        swept.stays(&state.join(Journal::KEPT), &e, "make it readable for this user");
        Vec::new()
    });
    for (path, journal) in kept {
        match journal {
            // A clock that ran backwards keeps more, never less.
            Ok(journal) if started.duration_since(journal.begun) < KEPT => {}
            Ok(mut journal) => swept.one(state, &path, &mut journal),
            Err(e) => {
                let way = "where it lies in folders named .backstay-rollback-… of the components, remove these when you need them no more, then this file";
                swept.stays(&path, &e, way);
            }
        }
    }
    swept
}

impl Swept {
    /// Removes what `journal`, kept as `path`, tells of. The journal goes last: what is left is known by it.
    fn one(&mut self, state: &Path, path: &Path, journal: &mut Journal) {
        if let Err(e) = journal.about_to_sweep(path) {
            return self.stays(path, &e, "this user must be able to write it");
        }
        let before = self.problems.len();
        for site in &journal.sites {
            let folder = site.base.join(&site.staging);
            match remove_staging(&site.base, &site.staging) {
                Ok(true) => self.removed.push(folder),
                Ok(false) => {}
                Err(e) => {
                    let way = "nothing needs it any more: remove it by hand, as root where this user may not";
                    self.stays(&folder, &e, way);
                }
            }
        }
        if let Err(e) = dumps::sweep(journal, state) {
            self.stays(path, &e, "it tells of databases and dumps; is their server up?");
        }
        if self.problems.len() == before
            && let Err(e) = forget(path)
        {
            self.stays(path, &e, "nothing needs it any more: remove it by hand");
        }
    }

    fn stays(&mut self, place: &Path, error: &OpError, way: &str) {
        self.problems.push(Problem {
            kind: ProblemKind::Warning,
            component: None,
            subject: place.display().to_string(),
            what: format!("what a rollback put away more than a week ago is kept: {}", words_of(error)),
            hint: Some(format!("{way}; each good backup tries again")),
        });
    }
}

fn forget(path: &Path) -> Result<()> {
    crate::durable::remove(path)
        .map(drop)
        .doing(Class::Failed, || format!("cannot remove {}", path.display()))
}
