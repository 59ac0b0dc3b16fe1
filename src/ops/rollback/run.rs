//! The way of a rollback, from fetching to the end, forwards and back. Each turn is in the journal before anything of it is done.

use crate::archive::extract::Owners;
use crate::durable::{Held, crash};
use crate::model::ProblemKind;
use crate::ops::backup::{self, BackupOptions};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::restore::{Listing, Opened, RestoreReport, check_databases, extractor, write_listing};
use crate::ops::rollback::journal::{Journal, SiteRecord, Turn};
use crate::ops::rollback::left::{Left, sidecars_of};
use crate::ops::rollback::services::{On, start, stop, stop_again, watching};
use crate::ops::rollback::site::{Site, What, remove_staging};
use crate::ops::rollback::step::{Below, Ground, Step};
use crate::ops::rollback::{Outcome, RollbackPlan, rebuild, services};
use crate::ops::session::Session;
use crate::platform::at;
use crate::service::Watch;
use std::path::PathBuf;

/// What goes on in a rollback that has begun: the lock is held, and the journal says how far it is.
pub(super) struct Way<'a> {
    pub(super) session: &'a Session,
    pub(super) held: &'a Held,
    pub(super) state: PathBuf,
    pub(super) journal: Journal,
}

impl Way<'_> {
    /// Brings what is to come into the sites' folders and proves it. Nothing live is touched.
    pub(super) fn fetch(&mut self, plan: &RollbackPlan, report: &mut RestoreReport) -> Result<()> {
        self.journal.save(&self.state)?;
        for (site, record) in plan.sites.iter().zip(&self.journal.sites) {
            let new = site.make_staging(&record.staging)?;
            let cannot = || format!("cannot write below {}", site.base.display());
            let durable = new.try_clone().doing(Class::Failed, cannot)?;
            let listing = Listing::read(&plan.opened.reader(), &plan.opened.index, &site.selection())?;
            let extractor = extractor(self.session, new, Owners::Keep, &listing)?;
            write_listing(self.session, &plan.opened, &listing, extractor, report)?;
            check_databases(&listing, &site.base.join(&record.staging).join("new"), report);
            // Before any of it can become live.
            at::sync_file_system(&durable).doing(Class::Failed, cannot)?;
            crash::point("rollback: site fetched");
        }
        let bad = |kind| matches!(kind, ProblemKind::Damaged | ProblemKind::CheckFailed);
        if let Some(problem) = report.problems.iter().find(|p| bad(p.kind)) {
            let what = format!("what was fetched is not whole: {}: {}", problem.place(), problem.what);
            return Err(OpError::new(Class::Damage, what).hint(
                "nothing was stopped or changed; take an older snapshot (`backstay list`), or `backstay sync` where another store has it whole",
            ));
        }
        for (site, record) in plan.sites.iter().zip(&self.journal.sites) {
            self.look(plan, site, &record.staging)?;
        }
        self.session.around.interrupt.check()
    }

    /// Finds the steps of a site; an error when something that stays is in the way.
    fn look(&self, plan: &RollbackPlan, site: &Site, staging: &str) -> Result<Vec<Step>> {
        let left = left_of(self.session, site, &plan.opened)?;
        let found = site.gather(staging, left.as_ref())?;
        match found.in_the_way.first() {
            Some(one) => {
                let what = format!("{}/{} is in the way: {}", site.base.display(), one.path, one.why);
                Err(OpError::new(Class::Failed, what)
                    .hint("move it away, or take it out of `exclude` and `leave`"))
            }
            None => Ok(found.steps()),
        }
    }

    /// Takes a snapshot of what is live now: the way back from the way back.
    pub(super) fn safety(&mut self, plan: &RollbackPlan) -> Result<()> {
        let options = BackupOptions {
            only: plan.components.clone(),
            note: Some(format!("before the rollback to {}", self.journal.snapshot)),
            safety: true,
            ..BackupOptions::default()
        };
        let made = backup::run_held(self.session, &options, self.held).map_err(|e| {
            let what = "there is no safety snapshot, so nothing was stopped or changed";
            OpError::new(e.class, what).because(e).hint("mend what keeps it from being made")
        })?;
        self.session.note(&format!("safety snapshot {}", made.snapshot));
        self.journal.safety = Some(made.snapshot);
        self.journal.save(&self.state)
    }

    /// Stops, exchanges, starts, and undoes it all when one of these fails.
    pub(super) fn exchange(&mut self, plan: &RollbackPlan) -> Result<Outcome> {
        watching(self.session, |watch| {
            let concerned = services::concerned(self.session.config()?, &plan.components);
            let stopped = stop(self.session, watch, &concerned, &mut self.journal, &self.state);
            let forwards = stopped
                .and_then(|()| self.prepare(plan))
                .and_then(|()| self.take_all())
                .and_then(|()| self.rebuild(watch))
                .and_then(|()| self.come_up(watch));
            match forwards {
                Ok(()) => Ok(Outcome::Done),
                Err(why) => self.back(watch, &why),
            }
        })
    }

    /// Finds the steps, now that nothing changes what is live any more.
    fn prepare(&mut self, plan: &RollbackPlan) -> Result<()> {
        for (place, site) in plan.sites.iter().enumerate() {
            let steps = self.look(plan, site, &self.journal.sites[place].staging)?;
            if let Some(component) = self.session.config()?.component(site.component.as_str()) {
                self.journal.rebuild.extend(rebuild::due(&component.rebuild, &self.journal.sites[place])?);
            }
            self.journal.sites[place].steps = steps;
        }
        self.journal.turn(&self.state, Turn::Exchanging)
    }

    fn take_all(&mut self) -> Result<()> {
        for site in &self.journal.sites {
            let ground = ground_of(site)?;
            for step in &site.steps {
                ground.take(step).doing(Class::Failed, || "the exchange stopped half-way".into())?;
            }
        }
        let next = if self.journal.rebuild.is_empty() { Turn::Starting } else { Turn::Rebuilding };
        self.journal.turn(&self.state, next)
    }

    /// Makes what was left fit for the new state.
    fn rebuild(&mut self, watch: &Watch<'_>) -> Result<()> {
        if self.journal.turn != Turn::Rebuilding {
            return Ok(());
        }
        rebuild::run(self.session, watch, &self.journal.rebuild)?;
        self.journal.turn(&self.state, Turn::Starting)
    }

    /// Starts the services and waits for their health; ends the journal when all is well.
    pub(super) fn come_up(&mut self, watch: &Watch<'_>) -> Result<()> {
        start(self.session, watch, &self.journal, On::New)?;
        crash::point("rollback: healthy");
        self.move_trees();
        crash::point("rollback: git moved");
        self.journal.turn(&self.state, Turn::Done)?;
        self.journal.close(&self.state)
    }

    /// Puts git's working trees back. The application is well by then: what fails here is told, and undoes nothing.
    fn move_trees(&mut self) {
        for way in self.journal.git.clone() {
            match way.go() {
                Ok(moved) => self.journal.moved.push(moved),
                Err(e) => self.journal.git_troubles.push(words_of(&e)),
            }
        }
    }

    /// Takes that back, where it was done.
    fn move_trees_back(&mut self) {
        for way in self.journal.git.clone().iter().filter(|way| way.is_there()) {
            if let Err(e) = way.back().go() {
                self.session.note(&format!("warning: {}", words_of(&e)));
            }
        }
    }

    /// All the way back: steps taken back, the services started. `why` it did not go forwards.
    pub(super) fn back(&mut self, watch: &Watch<'_>, why: &OpError) -> Result<Outcome> {
        let words = words_of(why);
        self.session.note(&format!("going back: {words}"));
        self.journal.why = Some(words);
        self.take_back_all(watch).map_err(|e| self.stuck(e))?;
        self.restart(watch)
    }

    /// Takes every step back, from whatever turn.
    pub(super) fn take_back_all(&mut self, watch: &Watch<'_>) -> Result<()> {
        if matches!(self.journal.turn, Turn::Rebuilding | Turn::Starting | Turn::Done) {
            self.journal.rebuilt = !self.journal.rebuild.is_empty();
            stop_again(self.session, watch, &self.journal)?;
            self.note_what_came_after()?;
        }
        if !matches!(self.journal.turn, Turn::Staging | Turn::Stopping) {
            self.journal.turn(&self.state, Turn::Undoing)?;
            for site in self.journal.sites.iter().rev() {
                let ground = ground_of(site)?;
                let cannot = || "the way back stopped half-way".into();
                for step in &site.after {
                    ground.take(step).doing(Class::Failed, cannot)?;
                }
                let (metas, moves): (Vec<_>, Vec<_>) =
                    site.steps.iter().partition(|step| matches!(step, Step::Meta { .. }));
                for step in moves.into_iter().rev().chain(metas) {
                    ground.take_back(step).doing(Class::Failed, cannot)?;
                }
            }
        }
        self.journal.turn(&self.state, Turn::Restarting)
    }

    /// A new state that ran may have left logs beside its databases, which the old ones must not get: they go aside before.
    fn note_what_came_after(&mut self) -> Result<()> {
        for site in &mut self.journal.sites {
            let ground = ground_of(site)?;
            let cannot = || format!("cannot look at {}", site.base.display());
            let mut after = Vec::new();
            for step in &site.steps {
                let (Step::Exchange { live, .. } | Step::In { live, .. }) = step else {
                    continue;
                };
                for sidecar in sidecars_of(&live.0).map(Below) {
                    let is_step = site.steps.iter().any(|s| matches!(s, Step::Exchange { live, .. } | Step::In { live, .. } if *live == sidecar));
                    let found = ground.inode(&sidecar).doing(Class::Failed, cannot)?;
                    if let (Some((old, _)), false) = (found, is_step) {
                        let name = format!("{}/old/after-{:06}", site.staging, after.len());
                        after.push(Step::Out { live: sidecar, aside: Below(name.into_bytes()), old });
                    }
                }
            }
            site.after = after;
        }
        Ok(())
    }

    /// Starts the services on the old state and ends the journal. A service that does not come up on it is a matter for a person.
    pub(super) fn restart(&mut self, watch: &Watch<'_>) -> Result<Outcome> {
        // What was made fit for the new state is made fit for the old one. Whatever comes of that, the services are started.
        let rebuilt = match self.journal.rebuilt {
            true => rebuild::run(self.session, watch, &self.journal.rebuild),
            false => Ok(()),
        };
        self.move_trees_back();
        let up = rebuilt.and(start(self.session, watch, &self.journal, On::Old));
        self.journal.turn(&self.state, Turn::Undone)?;
        self.clear()?;
        self.journal.close(&self.state)?;
        let why = self.journal.why.clone().unwrap_or_default();
        match up {
            Ok(()) => Ok(Outcome::Undone(why)),
            Err(e) => {
                let what = format!(
                    "everything is as it was before, but a service did not come up on it, or what was left could not be made fit for it again (the rollback had failed: {why})"
                );
                Err(OpError::new(Class::Person, what).because(words_of(&e)).hint(
                    "look at the service's own log; what was live before is live again, and nothing of it was changed",
                ))
            }
        }
    }

    /// Removes what was fetched of a rollback that did not hold. What a failed new state wrote is kept: it is nowhere else.
    fn clear(&self) -> Result<()> {
        for site in &self.journal.sites {
            if site.steps.is_empty() {
                remove_staging(&site.base, &site.staging)?;
            }
        }
        Ok(())
    }

    fn stuck(&self, error: OpError) -> OpError {
        OpError::new(Class::Person, "the way back could not be finished").because(words_of(&error)).hint(
            "mend what is named and run `backstay rollback --resume`; nothing was deleted: what is not live lies in folders named .backstay-rollback-… in the components",
        )
    }
}

/// What stays of a site's component. A database of its own has nothing that stays.
pub(super) fn left_of(session: &Session, site: &Site, opened: &Opened) -> Result<Option<Left>> {
    let config = session.config()?;
    match (&site.what, config.component(site.component.as_str())) {
        (What::Database(_), _) | (_, None) => Ok(None),
        (_, Some(component)) => {
            let of = crate::ops::select::component(&opened.index, site.component.as_str())?;
            Left::of(session, component, &of.rules).map(Some)
        }
    }
}

fn ground_of(site: &SiteRecord) -> Result<Ground<'_>> {
    Ground::open(&site.base).doing(Class::Failed, || format!("cannot open {}", site.base.display()))
}

/// An error with what it came from, in one line.
pub(in crate::ops) fn words_of(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}
