//! What is known of a command that is guarded, while it is: one small file, so that after a kill it is plain what it was and what can be done.

use crate::durable::{self, crash};
use crate::model::{SnapshotId, Timestamp};
use crate::ops::error::{Class, Doing, OpError, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How far it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "lowercase")]
pub(super) enum Stage {
    /// The snapshot is made; the command is about to be started, or was.
    Starting,
    /// It runs, as this process.
    Running {
        /// Its number.
        pid: u32,
        /// Which life of that number, where that could be told.
        life: Option<String>,
    },
    /// It ended with 0; services are asked for their health.
    Judging,
    /// It failed, and it is decided that everything goes back.
    Back {
        /// Why.
        why: String,
    },
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GuardJournal {
    pub(super) format: u32,
    pub(super) snapshot: SnapshotId,
    pub(super) begun: Timestamp,
    pub(super) components: Vec<String>,
    /// The program alone: its arguments may be secrets.
    pub(super) program: String,
    pub(super) auto: bool,
    /// Services that ran before it.
    pub(super) services: Vec<String>,
    #[serde(flatten)]
    pub(super) stage: Stage,
}

pub(super) const FORMAT: u32 = 1;
const FILE: &str = "guard.json";

pub(super) fn path(state: &Path) -> PathBuf {
    state.join(FILE)
}

impl GuardJournal {
    /// Goes on to `stage`, durably, before anything of it is done.
    pub(super) fn turn(&mut self, state: &Path, stage: Stage) -> Result<()> {
        self.stage = stage;
        let path = path(state);
        let cannot = || format!("cannot write {}", path.display());
        let text = serde_json::to_vec(self).doing(Class::Failed, cannot)?;
        durable::replace(&path, &text).doing(Class::Failed, cannot)?;
        crash::point("guard: journal written");
        Ok(())
    }

    /// What is open; none when nothing is.
    pub(super) fn open(state: &Path) -> Result<Option<Self>> {
        let path = path(state);
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.doing(Class::Failed, || format!("cannot read {}", path.display()))?,
        };
        let read = serde_json::from_slice::<Self>(&bytes).map_err(|e| e.to_string());
        let read = read.and_then(|journal| match journal.format {
            FORMAT => Ok(journal),
            other => Err(format!("it has format {other}, and this program knows {FORMAT}")),
        });
        read.map(Some).map_err(|why| {
            let what = format!("what is known of a guarded command cannot be read: {}", path.display());
            OpError::new(Class::Person, what).because(why).hint(
                "look whether the application is well; if not: `backstay rollback` to the snapshot made before; then move the file away",
            )
        })
    }

    /// Ends it.
    pub(super) fn close(state: &Path) -> Result<()> {
        let path = path(state);
        durable::remove(&path).doing(Class::Failed, || format!("cannot remove {}", path.display()))?;
        crash::point("guard: journal closed");
        Ok(())
    }
}
