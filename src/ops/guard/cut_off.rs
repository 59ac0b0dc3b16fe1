//! A guarded command whose guard was killed: what is known of it, and how it is brought to an end.

use crate::durable::{Held, crash};
use crate::model::SnapshotId;
use crate::ops::error::{Class, OpError, Result};
use crate::ops::guard::journal::{GuardJournal, Stage};
use crate::ops::guard::{Ended, ROLLBACK, Verdict, decide, end, hold, judge, patient};
use crate::ops::rollback::{self, RollbackOptions, RollbackReport};
use crate::ops::session::Session;
use crate::service;
use std::path::PathBuf;

/// A guarded command that nobody guards any more.
pub struct CutOff<'a> {
    session: &'a Session,
    state: PathBuf,
    journal: GuardJournal,
    _held: Held,
}

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It ended well, and the services are well: it stays.
    Well,
    /// It failed, or nobody knows how it ended; it was said before, or just now, that it goes back then.
    Back(String),
    /// The same, but nobody said what is to become of it.
    Undecided(String),
}

/// The guarded command that was cut off, if there is one.
///
/// # Errors
/// [`Class::Busy`]: it still runs, or its guard does.
pub fn cut_off(session: &Session) -> Result<Option<CutOff<'_>>> {
    let state = session.state()?.dir().to_owned();
    if GuardJournal::open(&state)?.is_none() {
        return Ok(None);
    }
    let held = hold(session, ROLLBACK)?;
    let Some(journal) = GuardJournal::open(&state)? else {
        return Ok(None);
    };
    refuse_running(&journal)?;
    Ok(Some(CutOff { session, state, journal, _held: held }))
}

/// Fails while the command of a guard that is no more still runs.
pub(super) fn refuse_running(journal: &GuardJournal) -> Result<()> {
    let Stage::Running { pid, life } = &journal.stage else {
        return Ok(());
    };
    let now = service::life_of(*pid).map(|life| life.to_string());
    if now.is_some() && (life.is_none() || now == *life) {
        let what = format!("`{}`, which was guarded, still runs (process {pid})", journal.program);
        return Err(OpError::new(Class::Busy, what)
            .hint("wait for it to end, or end it; then backstay rollback --resume again"));
    }
    Ok(())
}

impl CutOff<'_> {
    /// The snapshot from before the command.
    pub fn snapshot(&self) -> &SnapshotId {
        &self.journal.snapshot
    }

    /// The program.
    pub fn program(&self) -> &str {
        &self.journal.program
    }

    /// What is known of it; asks the services again where the command had ended well. `decided`: whoever asks wants it to go back.
    pub fn known(&mut self, decided: bool) -> Result<Known> {
        let program = &self.journal.program;
        let why = match &self.journal.stage {
            Stage::Back { why } => return Ok(Known::Back(why.clone())),
            Stage::Starting => {
                format!("nobody can tell whether `{program}` was started before its guard was killed")
            }
            Stage::Running { .. } => format!("nobody knows how `{program}` ended: its guard was killed"),
            Stage::Judging => match judge(self.session, &self.state, &mut self.journal, &Ended::Well) {
                Verdict::Well => return Ok(Known::Well),
                Verdict::Failed(_, why) => why,
            },
        };
        // Started or not cannot be told for sure, nor whether it runs: that is for a person to look at.
        let sure = self.journal.stage != Stage::Starting;
        Ok(if decided || (self.journal.auto && sure) { Known::Back(why) } else { Known::Undecided(why) })
    }

    /// What the command did stays.
    pub fn keep(self) -> Result<()> {
        GuardJournal::close(&self.state)
    }

    /// Everything goes back.
    pub fn back(mut self, why: &str) -> Result<RollbackReport> {
        decide(&self.state, &mut self.journal, why)?;
        crash::point("guard: going back");
        let options = RollbackOptions {
            snapshot: self.journal.snapshot.to_string(),
            only: self.journal.components.clone(),
            ..RollbackOptions::default()
        };
        let report = rollback::plan(self.session, &options).and_then(|mut plan| {
            plan.must_run.clone_from(&self.journal.services);
            plan.apply(&patient(self.session))
        });
        end(&self.state, &self.journal, report)
    }
}
