//! Restoring into the live tree: each file exchanged atomically, the old one kept beside it.
//!
//! Everything is brought into a hidden folder of the component first and proved there; only then the first live file is touched. What the snapshot
//! does not have is left as it is.

use crate::archive::extract::Owners;
use crate::durable::{crash, own_names};
use crate::model::entry::FLAG_DATABASE;
use crate::model::index::ComponentKind;
use crate::model::path::escape;
use crate::model::{Entry, Kind, Problem, ProblemKind};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::hooks::Ran;
use crate::ops::restore::exchange::{self, Done, Exchange, live_path, outside};
use crate::ops::restore::feed::{Fed, Ready};
use crate::ops::restore::litter::{Unfinished, clear_staging};
use crate::ops::restore::{Listing, Opened, RestoreReport, check_databases, open, with_hooks, write_listing};
use crate::ops::rollback::refuse_unfinished;
use crate::ops::select;
use crate::ops::session::Session;
use crate::platform::{at, remove::remove_tree};
use data_encoding::HEXLOWER;
use rustix::fs::FlockOperation;
use serde::Serialize;
use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One file that would be replaced or made.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedFile {
    /// Its path on this machine, control characters escaped.
    pub path: String,
    /// Whether something is there now.
    pub replaces: bool,
    /// Whether it is a database, whose users should be stopped first.
    pub database: bool,
}

/// What a restore in place will do.
pub struct InPlacePlan {
    opened: Opened,
    listings: Vec<(PathBuf, Listing)>,
    /// The files, in order.
    pub files: Vec<PlannedFile>,
    feeds: Vec<Fed>,
    /// Components whose dumps are fed to their `restore_command`, last; what is there now is dumped and kept before.
    pub fed: Vec<String>,
    ignore_owners: bool,
}

/// Plans; touches nothing.
pub fn plan_in_place(
    session: &Session,
    snapshot: &str,
    paths: &[String],
    accept_untrusted: bool,
    ignore_owners: bool,
) -> Result<InPlacePlan> {
    if paths.is_empty() {
        return Err(OpError::new(Class::Usage, "a restore in place needs paths")
            .hint("name what is to come back, as COMPONENT/PATH or ./PATH"));
    }
    // With a kit alone there is no project here whose runs could be in the way.
    if let Some(state) = &session.state {
        refuse_unfinished(state.dir(), "restore in place")?;
    }
    let opened = open(session, snapshot, accept_untrusted)?;
    let selections = select::paths(session, &opened.index, paths)?;
    let (mut listings, mut files, mut feeds) = (Vec::new(), Vec::new(), Vec::new());
    for selection in &selections {
        let listing = Listing::read(&opened.reader(), &opened.index, selection)?;
        if listing.component.kind == ComponentKind::Command {
            feeds.push(Fed::of(session, listing)?);
            continue;
        }
        let base = select::live_base(session, &listing.component);
        for entry in listing.entries.iter().filter(|e| comes_back(e)) {
            let live = live_path(&base, outside(&listing.component, &entry.path), &entry.path);
            let replaces = live.symlink_metadata().is_ok();
            if replaces && entry.kind == Kind::Dir {
                continue;
            }
            files.push(PlannedFile {
                path: escape(live.as_os_str().as_bytes()),
                replaces,
                database: entry.has_flag(FLAG_DATABASE),
            });
        }
        listings.push((base, listing));
    }
    let fed = feeds.iter().map(|fed| fed.name.clone()).collect();
    Ok(InPlacePlan { opened, listings, files, feeds, fed, ignore_owners })
}

/// What is exchanged (directories are made when missing, and else left as they are): everything but what is never restored, and what has no
/// place of its own.
fn comes_back(entry: &Entry) -> bool {
    !matches!(entry.kind, Kind::Socket | Kind::Left) && !entry.path.is_root()
}

impl InPlacePlan {
    /// Does it, with the hooks of a restore around it.
    pub fn apply(&self, session: &Session) -> Result<RestoreReport> {
        // What another run exchanges or captures meanwhile would be of no one state.
        let hold = |_| crate::ops::lock::hold(session, "restore in place");
        let _held = session.state.as_ref().map(hold).transpose()?;
        let feeds = self.feeds.iter().map(|fed| &fed.listing);
        let listings = self.listings.iter().map(|(_, listing)| listing).chain(feeds);
        let Ran { outcome: mut report, problems } = with_hooks(session, listings, || self.write(session))?;
        report.problems.extend(problems);
        Ok(report)
    }

    fn write(&self, session: &Session) -> Result<RestoreReport> {
        let bytes = self.listings.iter().map(|(_, l)| l.bytes()).sum();
        session.around.progress.phase(crate::model::report::Phase::Restore, Some(bytes));
        let mut report = RestoreReport {
            snapshot: self.opened.record.snapshot.clone(),
            to: "their places".into(),
            files: 0,
            entries: 0,
            bytes,
            databases_checked: 0,
            kept: Vec::new(),
            problems: Vec::new(),
        };
        // All of them are brought and proved before the first live file of any is touched.
        let mut staged = Vec::new();
        for (base, listing) in &self.listings {
            staged.push(self.stage(session, base, listing, &mut report)?);
            crash::point("in place: component staged");
        }
        let stamp = session.around.clock.now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut ready = Vec::new();
        for fed in &self.feeds {
            ready.push((fed, fed.prepare(session, &self.opened, &stamp)?));
        }
        session.around.interrupt.check()?;
        for staged in &staged {
            exchange::check_ways(staged.base, staged.listing, |entry| staged.brings(entry))?;
        }
        let mut done = Done::default();
        let all = self.exchange_all(session, (staged, ready), &mut done, &mut report);
        all.map_err(|error| done.tell(&report.kept, error))?;
        for problem in &report.problems {
            session.around.progress.problem(problem);
        }
        report.problems.extend(session.troubles());
        Ok(report)
    }

    fn exchange_all(
        &self,
        session: &Session,
        (staged, ready): (Vec<Staged<'_>>, Vec<(&Fed, Ready)>),
        done: &mut Done,
        report: &mut RestoreReport,
    ) -> Result<()> {
        for staged in staged {
            self.exchange(session, staged, done, report)?;
            crash::point("in place: component exchanged");
        }
        for (fed, ready) in ready {
            fed.feed(session, &ready, &report.snapshot.to_string())?;
            (report.files, report.entries) = (report.files + 1, report.entries + 1);
            report.bytes += fed.listing.bytes();
            report.kept.push(escape(ready.kept.as_os_str().as_bytes()));
        }
        Ok(())
    }

    fn owners(&self) -> Owners {
        if self.ignore_owners { Owners::Ignore } else { Owners::Keep }
    }

    /// Brings the files of a component into a hidden folder beside their places.
    fn stage<'a>(
        &self,
        session: &Session,
        base: &'a Path,
        listing: &'a Listing,
        report: &mut RestoreReport,
    ) -> Result<Staged<'a>> {
        let staging = Staging::make(base)?;
        crash::point("in place: staging made");
        let extractor = super::extractor(session, staging.root()?, self.owners(), listing)?;
        write_listing(session, &self.opened, listing, extractor, report)?;
        check_databases(listing, &staging.path, report);
        let damaged: HashSet<String> = report
            .problems
            .iter()
            .filter(|p| p.kind == ProblemKind::Damaged)
            .map(|p| p.subject.clone())
            .collect();
        Ok(Staged { base, listing, staging, damaged })
    }

    /// Exchanges them one by one.
    fn exchange(
        &self,
        session: &Session,
        staged: Staged<'_>,
        done: &mut Done,
        report: &mut RestoreReport,
    ) -> Result<()> {
        let Staged { base, listing, staging, .. } = &staged;
        let finisher = super::extractor(session, staging.root()?, self.owners(), listing)?;
        let stamp = session.around.clock.now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut step = Exchange {
            staging,
            base,
            listing,
            finisher: &finisher,
            stamp,
            made: Vec::new(),
            unfinished: Unfinished::default(),
            done,
        };
        let mut brought = listing.entries.iter().filter(|entry| staged.brings(entry));
        let exchanged = brought.try_for_each(|entry| step.entry(entry, report));
        let finished = step.finish_made();
        exchanged.and(finished)?;
        staging.remove()
    }
}

/// A component's files, proved and ready to be exchanged.
struct Staged<'a> {
    base: &'a Path,
    listing: &'a Listing,
    staging: Staging,
    /// Paths that are left out.
    damaged: HashSet<String>,
}

impl Staged<'_> {
    fn brings(&self, entry: &Entry) -> bool {
        comes_back(entry) && !self.damaged.contains(&escape(entry.path.as_bytes()))
    }
}

/// The hidden folder in a component in which files wait to be exchanged.
pub(super) struct Staging {
    base: OwnedFd,
    name: Vec<u8>,
    path: PathBuf,
    pub(super) root: OwnedFd,
    /// No other restore is at work in this component.
    pub(super) alone: bool,
}

impl Staging {
    fn make(base: &Path) -> Result<Self> {
        let what = || format!("cannot prepare a restore in {}", base.display());
        let dir = at::open_place(base).doing(Class::Failed, what).map_err(|e| {
            e.hint("if the whole folder is gone, restore it with --to and move it into place")
        })?;
        let random: [u8; 6] = crate::durable::random_bytes().doing(Class::Failed, what)?;
        let alone = clear_staging(dir.as_fd()).doing(Class::Failed, what)?;
        let name = [own_names::STAGING, HEXLOWER.encode(&random).as_bytes()].concat();
        let (root, _) = at::create_dir(&dir, &name).doing(Class::Failed, what)?;
        // As long as this is open, nobody takes the folder for a killed restore's. Without locks nobody removes any.
        let _ = rustix::fs::flock(&root, FlockOperation::NonBlockingLockExclusive);
        let path = base.join(std::ffi::OsStr::from_bytes(&name));
        Ok(Self { base: dir, name, path, root, alone })
    }

    fn root(&self) -> Result<OwnedFd> {
        self.root.try_clone().doing(Class::Failed, || "cannot open the staging folder".into())
    }

    fn remove(&self) -> Result<()> {
        remove_tree(self.base.as_fd(), &self.name)
            .doing(Class::Failed, || format!("cannot remove the staging folder {}", self.path.display()))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Only on the way out of an error; what is live was not touched by this folder, and its name says what it is.
        let _gone = remove_tree(self.base.as_fd(), &self.name);
    }
}

/// A warning for plans that hold databases.
pub fn database_warning(plan: &InPlacePlan) -> Option<Problem> {
    let database = plan.files.iter().find(|f| f.database)?;
    let problem = Problem {
        kind: ProblemKind::Warning,
        component: None,
        subject: database.path.clone(),
        what: "is a database: a program that has it open goes on writing to the old one".into(),
        hint: Some("stop what uses it before, and start it again after".into()),
    };
    Some(problem)
}
