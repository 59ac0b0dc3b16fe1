//! Restoring into the live tree: each file exchanged atomically, the old one kept beside it.
//!
//! Everything is brought into a hidden folder of the component first and proved there, then moved beside the live files; only then the first of these is
//! touched. What the snapshot does not have is left as it is.

use crate::archive::extract::Owners;
use crate::durable::crash;
use crate::model::entry::FLAG_DATABASE;
use crate::model::index::ComponentKind;
use crate::model::path::escape;
use crate::model::{Kind, Problem, ProblemKind, SnapshotId};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::holding::named_by;
use crate::ops::hooks::Ran;
use crate::ops::restore::exchange::{Done, Exchange};
use crate::ops::restore::feed::{Fed, Ready};
use crate::ops::restore::litter::Unfinished;
use crate::ops::restore::staging::{Staged, Staging, comes_back};
use crate::ops::restore::ways::{check_ways, live_path};
use crate::ops::restore::{
    Listing, Opened, RestoreReport, check_databases, open_live, with_hooks, write_listing,
};
use crate::ops::rollback::refuse_unfinished;
use crate::ops::select;
use crate::ops::session::Session;
use crate::ops::whose::ShownHost;
use serde::Serialize;
use std::collections::HashSet;
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
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Whose it is.
    pub host: ShownHost,
    opened: Opened,
    listings: Vec<(PathBuf, Listing)>,
    /// The files, in order.
    pub files: Vec<PlannedFile>,
    feeds: Vec<Fed>,
    /// Components whose dumps are fed to their `restore_command`, last; what is there now is dumped and kept before.
    pub fed: Vec<String>,
    ignore_owners: bool,
    /// What the snapshot lacks of what was asked for, and what can be read of it nowhere.
    pub lacking: Vec<Problem>,
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
    let vault = session.read_vault()?;
    let (opened, host) = open_live(session, &vault, snapshot, &named_by(session, paths), accept_untrusted)?;
    let selections = select::paths(session, &opened.index, paths)?;
    let (mut listings, mut files, mut feeds) = (Vec::new(), Vec::new(), Vec::new());
    let (read, lacking) = super::listings(&opened, &selections, true)?;
    for listing in read {
        if listing.component.kind == ComponentKind::Command {
            feeds.push(Fed::of(session, listing)?);
            continue;
        }
        let base = select::live_base(session, &listing.component);
        for entry in listing.entries.iter().filter(|e| comes_back(e)) {
            let live = live_path(&base, &listing.component, &entry.path);
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
    let snapshot = opened.record.snapshot.clone();
    Ok(InPlacePlan { snapshot, host, opened, listings, files, feeds, fed, ignore_owners, lacking })
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
            let staging = Staging::make(base, &names_of(&staged))?;
            staged.push(self.stage(session, (base, listing), staging, &mut report)?);
            crash::point("in place: component staged");
        }
        let stamp = stamp(session);
        let mut ready = Vec::new();
        for fed in &self.feeds {
            ready.push((fed, fed.prepare(session, &self.opened, &stamp)?));
        }
        session.around.interrupt.check()?;
        for staged in &staged {
            check_ways(staged.base, staged.listing, |entry| staged.brings(entry))?;
        }
        let mut done = Done::default();
        let all = self.exchange_all(session, (staged, ready), &mut done, &mut report);
        all.map_err(|error| done.tell(&report.kept, error))?;
        report.problems.extend(self.lacking.iter().cloned());
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
        let stamp = stamp(session);
        let mut steps = Vec::new();
        for staged in staged {
            steps.push(Exchange::new(session, staged, self.owners(), stamp.clone())?);
        }
        let exchanged = bring_all(session, &mut steps, report).and_then(|()| {
            steps.iter_mut().try_for_each(|step| {
                step.exchange(done, report)?;
                crash::point("in place: component exchanged");
                Ok(())
            })
        });
        // On the way out of an error the last one first: what it made may lie in what one before it made.
        while steps.pop().is_some() {}
        exchanged?;
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
        (base, listing): (&'a Path, &'a Listing),
        staging: Staging,
        report: &mut RestoreReport,
    ) -> Result<Staged<'a>> {
        let before = report.problems.len();
        crash::point("in place: staging made");
        let extractor = super::extractor(session, staging.root()?, self.owners(), listing)?;
        write_listing(session, &self.opened, listing, extractor, &|_| (), report)?;
        check_databases(listing, &staging.path, report);
        // Other components may have files of the same paths.
        let damaged: HashSet<String> = report.problems[before..]
            .iter()
            .filter(|p| p.kind == ProblemKind::Damaged)
            .map(|p| p.subject.clone())
            .collect();
        Ok(Staged { base, listing, staging, damaged })
    }
}

/// The hidden folders of this run. Several components may have the same base.
fn names_of<'s>(staged: &'s [Staged<'_>]) -> Vec<&'s [u8]> {
    staged.iter().map(|staged| staged.staging.name.as_slice()).collect()
}

/// Brings the files of all components beside their live ones. On an error nothing live was touched.
fn bring_all(session: &Session, steps: &mut [Exchange<'_>], report: &mut RestoreReport) -> Result<()> {
    // Of several components one may lie in another: what the first brings must not be the second's litter.
    let mut unfinished = steps.iter().all(Exchange::is_alone).then(Unfinished::default);
    for step in steps {
        step.bring(unfinished.as_mut(), report)?;
    }
    crash::point("in place: all brought");
    session.around.interrupt.check()
}

/// The time in the names under which things are kept.
pub(in crate::ops) fn stamp(session: &Session) -> String {
    session.around.clock.now().strftime("%Y%m%dT%H%M%SZ").to_string()
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
