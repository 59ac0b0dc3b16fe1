//! Dumps that are made while the services are down: of what is about to be fed over, with all that was written until then.
//!
//! What is live makes them, so they come before any step.

use crate::durable::crash;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::restore::Dumping;
use crate::ops::rollback::dumps::{FeedRecord, OLD};
use crate::ops::rollback::journal::Turn;
use crate::ops::rollback::run::{Way, words_of};
use std::path::Path;

/// Beside what is to become live and what was: what was live until a rollback was taken back.
const UNDONE: &str = "undone";

impl Way<'_> {
    /// Dumps what is to be fed once more, now that its services are down: what was written since the safety snapshot would else come back with nothing.
    pub(super) fn dump_again(&self) -> Result<()> {
        self.journal.feeds.iter().try_for_each(|feed| {
            self.dump_to(feed, OLD, "nothing was exchanged", || {
                "its `command` must work while the services that use it are stopped, as its `restore_command` must".into()
            })
        })
    }

    /// Dumps what an undo is about to feed over: what was written since the rollback is in its safety snapshot, but for the last of it, and nowhere else.
    pub(super) fn dump_what_is_undone(&self) -> Result<()> {
        // After it, in a run that was killed, what is live is half of another state.
        if !self.journal.undo || self.journal.turn != Turn::Halting {
            return Ok(());
        }
        self.journal.feeds.iter().try_for_each(|feed| {
            self.dump_to(feed, UNDONE, "nothing was taken back", || {
                format!(
                    "its `command` must work while the services that use it are stopped; {}",
                    self.where_old_lies(feed)
                )
            })
        })
    }

    /// For who wants it back although it cannot be done safely.
    pub(super) fn where_old_lies(&self, feed: &FeedRecord) -> String {
        let old = feed.file(&self.journal, &self.state, OLD);
        format!("what it was before the rollback lies in {}, to be read in by hand", old.display())
    }

    fn dump_to(&self, feed: &FeedRecord, which: &str, so: &str, hint: impl Fn() -> String) -> Result<()> {
        let (name, config) = (feed.component.as_str(), self.session.config()?);
        self.session.note(&format!("dumping {name} once more, as it is without its services"));
        crash::point("rollback: a dump to be made again");
        let file = feed.file(&self.journal, &self.state, which);
        let to: &Path = file.parent().unwrap_or(&self.state);
        let cannot = || format!("component {name} could not be dumped while its services are down, so {so}");
        crate::durable::create_dirs(to, 0o700).doing(Class::Failed, cannot)?;
        let dumped = config.component(name).and_then(Dumping::of).map(|d| d.dump(&config.dir, to, &|| false));
        let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
            OpError::new(Class::Failed, cannot()).because(words_of(e.as_ref())).hint(hint())
        };
        let dumped = dumped.ok_or_else(|| OpError::new(Class::Failed, cannot()))?.map_err(failed)?;
        // Over the one of before: a kill leaves the one or the other, and neither is needed before the first is fed.
        dumped.finish_over(&file, 0o600).doing(Class::Failed, cannot)?;
        crash::point("rollback: a dump made again");
        Ok(())
    }
}
