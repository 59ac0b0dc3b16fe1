//! Putting a live application back to a snapshot, as a transaction: fetched and proved first, then exchanged, then asked for its health; all the
//! way back when that fails.
//!
//! A kill at any moment leaves the old state or the new one after `resume`, over all components, never a mixture. Nothing is removed or overwritten:
//! what is not live lies in a folder beside it for a week. Nothing that is left ever moves. This module must never start a service on a
//! state that is half exchanged, and never call a rollback done before the services said that they are well.

mod after;
mod again;
mod databases;
mod dotenv;
mod dumps;
mod foreseen;
mod holders;
mod id;
mod journal;
mod keep;
mod ladder;
mod left;
mod lockfiles;
mod lost;
mod needs;
mod owners;
mod rebuild;
mod recover;
mod report;
mod room;
mod run;
mod safety;
pub(crate) mod services;
mod shown;
mod site;
mod standing;
mod step;
mod tree;
mod trees;
mod undo;

pub(crate) use journal::{is_unfinished, refuse_unfinished};
pub use keep::{Swept, sweep};
pub use ladder::{ladder, means_none};
pub use lost::Lost;
pub use recover::{ready, resume};
pub(in crate::ops) use run::words_of;
pub use shown::{RollbackReport, ShownPlace, ShownPlan};
pub use standing::Down;
pub use trees::ShownMove;
pub use undo::{ShownUndo, plan_undo, undo};

use crate::config::Event;
use crate::durable::{Held, crash};
use crate::model::{Problem, RelPath};
use crate::ops::error::{Class, Doing, Result};
use crate::ops::git::Move;
use crate::ops::hooks::{self, Ran};
use crate::ops::lacking;
use crate::ops::restore::{Listing, Opened, RestoreReport, open_live};
use crate::ops::select::Selection;
use crate::ops::session::Session;
use dumps::{Dump, dump_of};
use journal::{Journal, SiteRecord};
use needs::Needs;
use report::report_of;
use run::{Downtime, Lefts, Way};
use site::{Site, What, remove_staging, sites_of, staging_name};
use standing::Standing;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tree::Leaves as _;

/// What to put back.
#[derive(Debug, Clone, Default)]
pub struct RollbackOptions {
    /// Which snapshot.
    pub snapshot: String,
    /// Only these components; all of the snapshot when empty.
    pub only: Vec<String>,
    /// Use a snapshot by a key that is not trusted.
    pub accept_untrusted: bool,
    /// Put git's working trees back to the commits that were recorded, too.
    pub git: bool,
    /// Start services that are down, too.
    pub start: bool,
}

/// What a rollback would do.
pub struct RollbackPlan {
    opened: Opened,
    sites: Vec<Site>,
    dumps: Vec<Dump>,
    /// What the snapshot has of each component.
    listings: HashMap<String, Listing>,
    /// Hexadecimal, and of this rollback alone: what it makes is named by them.
    digits: String,
    components: Vec<String>,
    moves: Vec<Move>,
    /// Services that must run afterwards, also when they are down now.
    pub must_run: Vec<String>,
    /// The same for people and programs.
    pub shown: ShownPlan,
}

/// How a rollback ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It holds.
    Done,
    /// Everything is as it was before, because of this.
    Undone(String),
    /// It holds: it was to be taken back, and was not.
    Holds(NotTaken),
}

/// Why a rollback was not taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NotTaken {
    why: String,
    hint: Option<String>,
}

/// Plans; touches nothing.
pub fn plan(session: &Session, options: &RollbackOptions) -> Result<RollbackPlan> {
    refuse_unfinished(session.state()?.dir(), "rollback")?;
    let vault = session.read_vault()?;
    let (opened, host) =
        open_live(session, &vault, &options.snapshot, &options.only, options.accept_untrusted)?;
    let trees = opened.index.header.working_trees();
    // A bundle of a repository is for a repository that is gone.
    let is_bundle = |name: &str| trees.iter().any(|tree| tree.bundle.as_deref() == Some(name));
    let all = opened.index.components.iter().map(|c| c.name.to_string());
    let names: Vec<String> = match options.only.is_empty() {
        true => all.filter(|name| !is_bundle(name)).collect(),
        false => crate::ops::select::each_once(&options.only),
    };
    let random: [u8; 6] =
        crate::durable::random_bytes().doing(Class::Failed, || "no random numbers are to be had".into())?;
    let digits = data_encoding::HEXLOWER.encode(&random);
    let mut plan = Planning { session, opened: &opened, digits, parts: Parts::default() };
    for name in &names {
        plan.component(name)?;
    }
    let Planning { digits, parts, .. } = plan;
    let Parts { sites, places, warnings: known, dumps, shown_dumps, listings, bytes, lost, mut needs } =
        parts;
    let (config, state) = (session.config()?, session.state()?);
    needs.journal(state.dir(), listings.values().map(|listing| listing.entries.len() as u64).sum());
    needs.safety(config, &state.spool_dir(), lost.iter().map(|lost| lost.bytes).sum());
    let standing = Standing::of(session, &services::concerned(config, &names))?;
    let moves = if options.git { trees::moves(config, &opened, &sites)? } else { Vec::new() };
    let git = moves.iter().map(ShownMove::of).collect();
    let (snapshot, dumps_shown) = (opened.record.snapshot.clone(), shown_dumps);
    let mut shown = ShownPlan {
        snapshot,
        host,
        places,
        dumps: dumps_shown,
        services: standing.up,
        starts: Vec::new(),
        down: standing.down,
        git,
        bytes,
        lost_since: lost,
        warnings: Vec::new(),
    };
    shown.warnings = foreseen::of_all(&opened, &shown, &needs)?;
    if options.only.is_empty() {
        shown.warnings.extend(lacking::of_project(&vault, &opened));
    }
    shown.warnings.extend(known);
    shown.warnings.extend(standing.warnings);
    shown.warnings.extend(holders::warnings(&sites, &services::concerned(config, &names)));
    let must_run = Vec::new();
    let mut plan =
        RollbackPlan { opened, sites, dumps, listings, digits, components: names, moves, must_run, shown };
    if options.start {
        plan.start_what_is_down();
    }
    Ok(plan)
}

struct Planning<'a> {
    session: &'a Session,
    opened: &'a Opened,
    digits: String,
    parts: Parts,
}

/// What is put back, as it is found.
#[derive(Default)]
struct Parts {
    sites: Vec<Site>,
    places: Vec<ShownPlace>,
    warnings: Vec<Problem>,
    dumps: Vec<Dump>,
    shown_dumps: Vec<String>,
    listings: HashMap<String, Listing>,
    bytes: u64,
    lost: Vec<Lost>,
    needs: Needs,
}

impl Planning<'_> {
    fn component(&mut self, name: &str) -> Result<()> {
        let of = crate::ops::select::component(&self.opened.index, name)?;
        if let Some((dump, how)) = dump_of(self.session, of, &self.digits)? {
            self.parts.dumps.push(dump);
            let lost = "what was written to it since the snapshot goes, and is not counted here";
            self.parts.shown_dumps.push(format!("{name} {how}; {lost}"));
            self.parts.bytes += of.size;
            self.parts.needs.fetched(self.session.state()?.dir(), of.size);
            return Ok(());
        }
        let everything = Selection { component: name.to_owned(), paths: Vec::new() };
        let listing = Listing::read(&self.opened.reader(), &self.opened.index, &everything)?;
        self.parts.bytes += listing.bytes();
        let mut lefts = Lefts::default();
        let (mut sites, mut stays_of_all) = (Vec::new(), None);
        for site in sites_of(self.session, of, &listing.entries)? {
            let left = lefts.of(self.session, &site, self.opened, &listing.entries)?;
            if let (What::Below(path), Some(left)) = (&site.what, &left)
                && left.stays(path, true)
            {
                continue;
            }
            let names = match &site.what {
                What::Whole | What::Below(_) => Vec::new(),
                What::Names(paths) => paths.iter().map(ToString::to_string).collect(),
                What::Database(path) => vec![path.to_string()],
            };
            let stays = match (&site.what, &left) {
                (What::Whole, Some(left)) => stays_at_top(&site, left)?,
                _ => Vec::new(),
            };
            let dir = site.base.display().to_string();
            self.parts.places.push(ShownPlace { component: name.to_owned(), dir, names, stays });
            self.parts.needs.fetched(&site.base, listing.bytes_of(|entry| site.reaches(&entry.path)));
            stays_of_all = left;
            sites.push(site);
        }
        let foreseen =
            foreseen::of_component(self.session, self.opened, &listing, &sites, stays_of_all.as_deref())?;
        self.parts.lost.push(foreseen.lost);
        self.parts.warnings.extend(foreseen.warnings);
        self.parts.sites.extend(sites);
        self.parts.listings.insert(name.to_owned(), listing);
        Ok(())
    }
}

fn stays_at_top(site: &Site, left: &left::Left) -> Result<Vec<String>> {
    let cannot = || format!("cannot list {}", site.base.display());
    let dir = crate::platform::at::open_place(&site.base).doing(Class::Failed, cannot)?;
    let mut stays = Vec::new();
    for (name, kind) in crate::platform::at::names(&dir).doing(Class::Failed, cannot)? {
        if let Ok(path) = RelPath::new(&name)
            && left.stays(&path, kind.is_dir())
        {
            stays.push(path.to_string());
        }
    }
    stays.sort();
    Ok(stays)
}

impl RollbackPlan {
    /// What is down does not stay so: it is started on the snapshot, and must be well on it.
    pub fn start_what_is_down(&mut self) {
        // Also one that runs now, and may be down when services are stopped.
        self.must_run = self.shown.services.iter().chain(&self.shown.down).cloned().collect();
        self.shown.starts.append(&mut self.shown.down);
    }

    /// Does it.
    ///
    /// # Errors
    /// [`Class::RolledBack`]: it failed and everything is as it was; [`Class::Person`]: somebody has to look; others: nothing was touched.
    pub fn apply(self, session: &Session) -> Result<RollbackReport> {
        session.check_writable()?;
        let held = crate::ops::lock::hold(session, "rollback")?;
        let state = session.state()?.dir().to_owned();
        refuse_unfinished(&state, "rollback")?;
        crash::point("rollback: lock held");
        let components = self.components.clone();
        let id = |report: &RollbackReport| report.snapshot.to_string();
        let Ran { outcome: mut report, problems } =
            hooks::around(session, Event::Rollback, &components, id, || {
                self.transact(session, &held, state)
            })?;
        report.problems.extend(problems);
        Ok(report)
    }

    fn transact(self, session: &Session, held: &Held, state: PathBuf) -> Result<RollbackReport> {
        let mut way = self.begin(session, held, state);
        let mut fetched = restore_report(&self.opened);
        let before = way.fetch(&self, &mut fetched).and_then(|()| way.safety(&self.components));
        // The last moment at which nothing has to be undone.
        let before = before.and_then(|()| session.around.interrupt.check());
        if let Err(e) = before {
            give_up(&way.journal, &way.state)?;
            return Err(e);
        }
        let outcome = way.exchange(&self)?;
        let (all, own) = way.downtime.milliseconds();
        let stopped = way.journal.services.iter().any(|service| !service.was_down);
        let mut report = report_of(session, way.journal, &self.components, outcome, fetched.problems)?;
        (report.downtime_ms, report.exchange_ms) = (stopped.then_some(all), Some(own));
        Ok(report)
    }

    fn begin<'a>(&self, session: &'a Session, held: &'a Held, state: PathBuf) -> Way<'a> {
        let staging = staging_name(&self.digits);
        let mut journal = Journal::new(self.opened.record.snapshot.clone(), session.around.clock.now());
        journal.git.clone_from(&self.moves);
        journal.services = services::wanted(&self.must_run);
        journal.sites = self.sites.iter().enumerate().map(|(n, site)| record_of(site, &staging, n)).collect();
        Way::note_dumps(&mut journal, &self.dumps, &self.digits);
        Way { session, held, state, journal, downtime: Downtime::default() }
    }
}

fn record_of(site: &Site, staging: &str, number: usize) -> SiteRecord {
    // Two sites may lie in one directory: the database of a component beside files of another.
    let staging = match staging.rsplit_once('-') {
        Some((prefix, digits)) => {
            let digits = u64::from_str_radix(digits, 16).unwrap_or(0).wrapping_add(number as u64);
            format!("{prefix}-{:012x}", digits & 0xffff_ffff_ffff)
        }
        None => staging.to_owned(),
    };
    SiteRecord {
        component: site.component.clone(),
        base: site.base.clone(),
        staging,
        steps: Vec::new(),
        after: Vec::new(),
    }
}

fn restore_report(opened: &Opened) -> RestoreReport {
    RestoreReport {
        snapshot: opened.record.snapshot.clone(),
        to: "the live application".into(),
        files: 0,
        entries: 0,
        bytes: 0,
        databases_checked: 0,
        kept: Vec::new(),
        problems: Vec::new(),
    }
}

/// Ends a rollback of which nothing live was touched.
fn give_up(journal: &Journal, state: &Path) -> Result<()> {
    for site in &journal.sites {
        let _was_there = remove_staging(&site.base, &site.staging)?;
    }
    dumps::give_up(journal, state)?;
    journal.close(state)
}
