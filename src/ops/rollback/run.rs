//! The way of a rollback, from fetching to the end, forwards and back. Each turn is in the journal before anything of it is done.

use crate::archive::extract::Owners;
use crate::durable::{Held, crash};
use crate::model::path::escape;
use crate::model::report::Phase;
use crate::model::{Entry, ProblemKind, RelPath};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::restore::{Listing, Opened, RestoreReport, check_databases, extractor, write_listing};
use crate::ops::rollback::journal::{Journal, SiteRecord, Turn};
use crate::ops::rollback::left::Left;
use crate::ops::rollback::report::{full_disk, not_well};
use crate::ops::rollback::room::Full;
use crate::ops::rollback::services::{On, start, stop, stop_again, watching};
use crate::ops::rollback::site::{Site, What, remove_staging};
use crate::ops::rollback::step::{Ground, Step};
use crate::ops::rollback::{Outcome, RollbackPlan, rebuild, services};
use crate::ops::session::Session;
use crate::platform::at;
use crate::service::Watch;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a first signal is answered with once services are being stopped. From there on there is one way to be in order: to come to the end.
pub(super) const TO_ITS_END: Option<&str> = Some(
    "this goes on to its end, and no signal ends it before: services are down or half of an exchange is made, and all of the new state or all of the old must run again",
);

/// What goes on in a rollback that has begun: the lock is held, and the journal says how far it is.
pub(super) struct Way<'a> {
    pub(super) session: &'a Session,
    pub(super) held: &'a Held,
    pub(super) state: PathBuf,
    pub(super) journal: Journal,
    pub(super) downtime: Downtime,
}

/// How long services were away, from the first stop to the last that was well.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Downtime {
    all: Duration,
    /// What of that was finding and taking the steps: the rest is the services' own.
    own: Duration,
}

impl Downtime {
    /// In milliseconds: all of it, and the exchange's share.
    pub(super) fn milliseconds(self) -> (u64, u64) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        (ms(self.all), ms(self.own))
    }
}

impl Way<'_> {
    /// Brings what is to come into the sites' folders and proves it. Nothing live is touched.
    pub(super) fn fetch(&mut self, plan: &RollbackPlan, report: &mut RestoreReport) -> Result<()> {
        self.journal.save(&self.state)?;
        self.session.around.progress.phase(Phase::Fetch, Some(plan.shown.bytes));
        for (site, record) in plan.sites.iter().zip(&self.journal.sites) {
            let new = site.make_staging(&record.staging)?;
            let cannot = || format!("cannot write below {}", site.base.display());
            let durable = new.try_clone().doing(Class::Failed, cannot)?;
            let read;
            let listing = match (&site.what, plan.listings.get(site.component.as_str())) {
                (What::Whole | What::Database(_), Some(listing)) => listing,
                _ => {
                    read = Listing::read(&plan.opened.reader(), &plan.opened.index, &site.selection())?;
                    &read
                }
            };
            let extractor = extractor(self.session, new, Owners::Keep, listing)?;
            write_listing(self.session, &plan.opened, listing, extractor, &|_| (), report)?;
            check_databases(listing, &site.base.join(&record.staging).join("new"), report);
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
        let (mut lefts, mut found) = (Lefts::default(), Vec::new());
        for (site, record) in plan.sites.iter().zip(&self.journal.sites) {
            found.push(self.look(plan, site, &record.staging, &mut lefts)?);
        }
        self.journal.keep_room(&self.state, &found)?;
        self.fetch_dumps(&plan.opened, report)?;
        self.session.around.interrupt.check()
    }

    /// Finds the steps of a site; an error when something that stays is in the way.
    fn look(&self, plan: &RollbackPlan, site: &Site, staging: &str, lefts: &mut Lefts) -> Result<Vec<Step>> {
        let listing = plan.listings.get(site.component.as_str());
        let entries = listing.map_or(&[][..], |listing| listing.entries.as_slice());
        let left = lefts.of(self.session, site, &plan.opened, entries)?;
        let apart = plan.sites.iter().filter(|other| other.component == site.component);
        let apart = apart.filter_map(|other| match &other.what {
            What::Below(path) => path_from(site, path),
            _ => None,
        });
        let found = site.gather(staging, left.as_deref(), &apart.collect::<Vec<_>>())?;
        match found.in_the_way.first() {
            Some(one) => {
                let what = format!("{}/{} is in the way: {}", site.base.display(), one.path, one.why);
                Err(OpError::new(Class::Failed, what)
                    .hint("move it away, or take it out of `exclude` and `leave`"))
            }
            None => Ok(found.steps()),
        }
    }

    /// Stops, exchanges, starts, and undoes it all when one of these fails.
    pub(super) fn exchange(&mut self, plan: &RollbackPlan) -> Result<Outcome> {
        let around = &self.session.around;
        around.progress.no_phase();
        around.interrupt.patiently(TO_ITS_END, || self.exchange_and_start(plan))
    }

    fn exchange_and_start(&mut self, plan: &RollbackPlan) -> Result<Outcome> {
        watching(self.session, |watch| {
            let concerned = services::concerned(self.session.config()?, &plan.components);
            let begun = Instant::now();
            let stopped = stop(self.session, watch, &concerned, &mut self.journal, &self.state);
            let down = Instant::now();
            let forwards = stopped.and_then(|()| self.dump_again());
            let forwards = forwards.and_then(|()| self.prepare(plan)).and_then(|()| self.take_all());
            self.downtime.own = down.elapsed();
            let forwards = forwards.and_then(|()| self.rebuild(watch)).and_then(|()| self.come_up(watch));
            self.downtime.all = begun.elapsed();
            match forwards {
                Ok(()) => Ok(Outcome::Done),
                Err(why) => self.back(watch, &why),
            }
        })
    }

    /// Goes on to `turn`; says once that the disk is full.
    pub(super) fn turn(&mut self, turn: Turn) -> Result<()> {
        self.journal.turn(&self.state, turn)?;
        if self.journal.full == Full::Met {
            self.session.note(&format!("warning: {}", full_disk(&self.state)));
            self.journal.full = Full::Told;
        }
        Ok(())
    }

    /// Finds the steps, now that nothing changes what is live any more.
    fn prepare(&mut self, plan: &RollbackPlan) -> Result<()> {
        let mut lefts = Lefts::default();
        for (place, site) in plan.sites.iter().enumerate() {
            let steps = self.look(plan, site, &self.journal.sites[place].staging, &mut lefts)?;
            if let (What::Whole, Some(component)) =
                (&site.what, self.session.config()?.component(site.component.as_str()))
            {
                self.journal.rebuild.extend(rebuild::due(&component.rebuild, &self.journal.sites[place])?);
            }
            self.journal.sites[place].steps = steps;
        }
        self.journal.begin_exchange(&self.state)
    }

    fn take_all(&mut self) -> Result<()> {
        for site in &self.journal.sites {
            let ground = ground_of(site)?;
            for step in &site.steps {
                ground.take(step).doing(Class::Failed, || "the exchange stopped half-way".into())?;
            }
        }
        self.take_dumps()?;
        let next = if self.journal.rebuild.is_empty() { Turn::Starting } else { Turn::Rebuilding };
        self.turn(next)
    }

    /// Makes what was left fit for the new state.
    fn rebuild(&mut self, watch: &Watch<'_>) -> Result<()> {
        if self.journal.turn != Turn::Rebuilding {
            return Ok(());
        }
        rebuild::run(self.session, watch, &self.journal.rebuild)?;
        self.turn(Turn::Starting)
    }

    /// Starts the services and waits for their health; ends the journal when all is well.
    pub(super) fn come_up(&mut self, watch: &Watch<'_>) -> Result<()> {
        start(self.session, watch, &self.journal, On::New)?;
        crash::point("rollback: healthy");
        self.move_trees();
        crash::point("rollback: git moved");
        self.turn(Turn::Done)?;
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
        for way in self.journal.git.clone().iter().filter(|way| !way.is_to_be_gone()) {
            if let Err(e) = way.back().go() {
                self.session.note(&format!("warning: {}", words_of(&e)));
                self.journal.git_troubles.push(words_of(&e));
            }
        }
    }

    /// All the way back: steps taken back, the services started. `why` it did not go forwards.
    pub(super) fn back(&mut self, watch: &Watch<'_>, why: &OpError) -> Result<Outcome> {
        let words = words_of(why);
        self.session.note(&match self.journal.undo {
            true => format!("taking the rollback to {} back", self.journal.snapshot),
            false => format!("going back: {words}"),
        });
        self.journal.why = Some(words);
        self.halt(watch).map_err(|e| self.stuck(&e))?;
        // Before anything of the other state is back: what is live dumps it.
        if let Err(why) = self.dump_what_is_undone() {
            return self.hold_on(watch, &why);
        }
        self.take_back_all().map_err(|e| self.stuck(&e))?;
        self.restart(watch)
    }

    /// Stops what runs on the new state.
    fn halt(&mut self, watch: &Watch<'_>) -> Result<()> {
        if !matches!(self.journal.turn, Turn::Rebuilding | Turn::Starting | Turn::Done | Turn::Halting) {
            return Ok(());
        }
        self.journal.rebuilt = !self.journal.rebuild.is_empty();
        // Before anything is asked to stop: else a killed run's successor could take what is about to end for well.
        self.turn(Turn::Halting)?;
        stop_again(self.session, watch, &self.journal)
    }

    /// Takes every step back, from whatever turn in which nothing runs on the new state.
    fn take_back_all(&mut self) -> Result<()> {
        if self.journal.turn == Turn::Halting {
            self.note_what_came_after()?;
        }
        if !matches!(self.journal.turn, Turn::Staging | Turn::Stopping) {
            self.turn(Turn::Undoing)?;
            self.take_back_dumps()?;
            self.journal.missed = self.take_back_sites()?;
        }
        self.turn(Turn::Restarting)
    }

    /// Takes the steps of all sites back; gives the places of what is nowhere any more.
    fn take_back_sites(&self) -> Result<Vec<String>> {
        let mut missed = Vec::new();
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
                let place = ground.missed(step).doing(Class::Failed, cannot)?;
                missed.extend(place.map(|place| escape(place.as_os_str().as_encoded_bytes())));
            }
        }
        Ok(missed)
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
        self.turn(Turn::Undone)?;
        self.clear()?;
        self.journal.close(&self.state)?;
        let why = self.journal.why.clone().unwrap_or_default();
        match up {
            Ok(()) => Ok(Outcome::Undone(why)),
            Err(e) => Err(not_well(&self.journal, &why, &e)),
        }
    }

    /// Removes what was fetched of a rollback that did not hold. What a failed new state wrote is kept: it is nowhere else.
    fn clear(&self) -> Result<()> {
        for site in &self.journal.sites {
            if site.steps.is_empty() {
                let _was_there = remove_staging(&site.base, &site.staging)?;
            }
        }
        self.clear_dumps();
        Ok(())
    }

    pub(super) fn stuck(&self, error: &OpError) -> OpError {
        OpError::new(Class::Person, "the way back could not be finished").because(words_of(error)).hint(
            "mend what is named and run `backstay rollback --resume`; nothing was deleted: what is not live lies in folders named .backstay-rollback-… in the components",
        )
    }
}

/// What stays of the components of sites, each looked at once.
#[derive(Default)]
pub(super) struct Lefts(HashMap<String, Arc<Left>>);

impl Lefts {
    /// What stays of a site's component. A database of its own has nothing that stays.
    pub(super) fn of(
        &mut self,
        session: &Session,
        site: &Site,
        opened: &Opened,
        entries: &[Entry],
    ) -> Result<Option<Arc<Left>>> {
        let name = site.component.as_str();
        match (&site.what, session.config()?.component(name)) {
            (What::Database(_), _) | (_, None) => Ok(None),
            (_, Some(component)) => {
                if let Some(known) = self.0.get(name) {
                    return Ok(Some(Arc::clone(known)));
                }
                let of = crate::ops::select::component(&opened.index, name)?;
                let left = Arc::new(Left::of(session, component, &of.rules, entries)?);
                self.0.insert(name.to_owned(), Arc::clone(&left));
                Ok(Some(left))
            }
        }
    }
}

/// `path` of the component as the site calls it, when it lies in it.
fn path_from(site: &Site, path: &RelPath) -> Option<RelPath> {
    match &site.what {
        What::Whole => Some(path.clone()),
        What::Below(top) => {
            let rest = path.as_bytes().strip_prefix(top.as_bytes())?.strip_prefix(b"/")?;
            RelPath::new(rest).ok()
        }
        What::Names(_) | What::Database(_) => None,
    }
}

pub(super) fn ground_of(site: &SiteRecord) -> Result<Ground<'_>> {
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
