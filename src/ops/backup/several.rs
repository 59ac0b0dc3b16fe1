//! A snapshot in every store of the project: one leads, the others catch up. One store that fails never stops the others.

use crate::config::Component;
use crate::model::{HostId, Problem, ProblemKind};
use crate::ops::backup::{BackupOptions, BackupReport, Making, open_chain, prepare_spool};
use crate::ops::catchup::{CatchUp, Holes, Sent, Stop};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::ledger::Ledger;
use crate::ops::session::{Session, Writer};
use crate::ops::stores::Away;
use crate::ops::union::{self, Standing, Union};
use serde::Serialize;

/// What came of a snapshot in one store.
#[derive(Debug, Clone, Serialize)]
pub struct StoreReport {
    /// The store.
    pub name: String,
    /// Where it is.
    pub location: String,
    /// Whether it could be used.
    pub here: bool,
    /// Whether it has this snapshot now.
    pub has_snapshot: bool,
    /// Entries of this host that it lacks.
    pub entries_behind: u64,
    /// Objects that were copied into it from other stores.
    pub copied_objects: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// What is wrong, where something is.
    pub problem: Option<String>,
}

impl StoreReport {
    /// That of the only store, which has the snapshot.
    pub(super) fn of_lead(session: &Session) -> Self {
        Self {
            name: session.store.name().to_owned(),
            location: session.store.location(),
            here: true,
            has_snapshot: true,
            entries_behind: 0,
            copied_objects: 0,
            copied_bytes: 0,
            problem: None,
        }
    }
}

/// What is asked for, whoever leads.
struct Asked<'a> {
    options: &'a BackupOptions,
    components: &'a [&'a Component],
    writer: &'a Writer,
    host: HostId,
}

/// Makes a snapshot in every store. The lock is held.
pub(super) fn run(
    session: &Session,
    options: &BackupOptions,
    components: &[&Component],
    writer: &Writer,
) -> Result<BackupReport> {
    let mut union = union::read(session)?;
    union::refuse_unseen(session, &union.standings)?;
    let host = union.vault.host_of(&writer.signer.id());
    let asked = Asked { options, components, writer, host };
    let lead = choose(session, &union, &host)?;
    match asked.led_by(session, &union, lead) {
        // At most one change: what was captured for the first is captured once more.
        Err(e) if e.class == Class::Store && others(&union, lead) => {
            let failed = union.standings[lead].name.clone();
            session.note(&format!(
                "store {failed} failed before the snapshot was in it, and another leads: {}",
                Away::from(&e).line()
            ));
            union = union::read(session)?;
            for standing in union.standings.iter_mut().filter(|s| s.name == failed) {
                standing.away = Some(Away::from(&e));
            }
            let lead = choose(session, &union, &host)?;
            asked.led_by(session, &union, lead)
        }
        done => done,
    }
}

fn usable(standing: &Standing) -> bool {
    standing.view.is_some() && standing.away.is_none()
}

fn others(union: &Union, lead: usize) -> bool {
    union.standings.iter().enumerate().any(|(at, standing)| at != lead && usable(standing))
}

/// The first store here that lacks nothing of this host that is to be had; else the first one here.
fn choose(session: &Session, union: &Union, host: &HostId) -> Result<usize> {
    let ledger = Ledger::of(session, &union.vault, host)?;
    let here = || union.standings.iter().enumerate().filter(|(_, s)| usable(s));
    let whole = |(_, s): &(usize, &Standing)| s.view.is_some_and(|view| ledger.missing(view).is_empty());
    if let Some((at, _)) = here().find(whole).or_else(|| here().next()) {
        return Ok(at);
    }
    let away = union.standings.iter().find_map(|s| s.away.as_ref());
    Err(away.map_or_else(|| OpError::new(Class::Store, "no store is here"), Away::error))
}

impl Asked<'_> {
    /// Makes the snapshot with one store as the lead, then brings the others up to it. Fails only when the snapshot is in no store.
    fn led_by(&self, session: &Session, union: &Union, lead: usize) -> Result<BackupReport> {
        let vault = &union.vault;
        let view = union.standings[lead].view.unwrap_or(0);
        let led = session.led_by(&vault.views[view].store);
        let spool = prepare_spool(&led)?;
        let mut chain = open_chain(&led, &self.writer.signer, vault)?;
        chain.finish_pending()?;
        let mut catch_up = CatchUp::new(&led, &mut chain, vault, self.host, view)?;
        // A store is given nothing above what it lacks.
        let ready = catch_up.look_again(view).and_then(|()| catch_up.fill(view, Holes::Say));
        ready.map_err(Stop::error)?;
        let (writer, spool) = (self.writer, spool.as_path());
        let making = Making { options: self.options, components: self.components, writer, vault, spool };
        let mut report = making.run(&led, catch_up.chain)?;
        catch_up.learn();
        let mut run = Rest { union, lead, catch_up, failed: Vec::new() };
        run.bring_all()?;
        if !report.history.is_empty() {
            report.history = union::breaks_now(session).unwrap_or(report.history);
        }
        report.problems.extend(session.troubles());
        report.stores = run.reports(&mut report.problems)?;
        Ok(report)
    }
}

/// The stores beside the lead, once the snapshot is in that.
struct Rest<'a, 'c> {
    union: &'a Union,
    lead: usize,
    catch_up: CatchUp<'a, 'c>,
    /// Stores that failed, and how.
    failed: Vec<(usize, OpError)>,
}

impl Rest<'_, '_> {
    /// Brings every store that is here up to the lead; what is signed on the way goes to all of them, too.
    fn bring_all(&mut self) -> Result<()> {
        let union = self.union;
        for (at, standing) in union.standings.iter().enumerate().filter(|(_, s)| usable(s)) {
            if let Some(view) = standing.view.filter(|_| at != self.lead) {
                let looked = self.catch_up.look_again(view);
                self.note(at, looked)?;
            }
        }
        loop {
            let mut done = true;
            for (at, standing) in union.standings.iter().enumerate().filter(|(_, s)| usable(s)) {
                let Some(view) = standing.view else { continue };
                let failed = self.failed.iter().any(|(failed, _)| *failed == at);
                if !failed && !self.catch_up.ledger.forked && self.catch_up.has_to_do(view)? {
                    done = false;
                    let filled = self.catch_up.fill(view, Holes::Say);
                    self.note(at, filled)?;
                }
            }
            if done {
                // Also the lead's: what is hidden there later is then known to have been there.
                for standing in union.standings.iter().filter(|s| usable(s)) {
                    standing.view.map_or(Ok(()), |view| self.catch_up.remember(view))?;
                }
                return self.catch_up.tidy_outbox();
            }
        }
    }

    fn note(&mut self, at: usize, done: std::result::Result<(), Stop>) -> Result<()> {
        match done {
            Ok(()) => {}
            Err(Stop::Run(error)) => return Err(error),
            Err(Stop::Target(error)) => self.failed.push((at, error)),
            Err(Stop::Lead(error)) => {
                // Nothing more can be signed: what the others lack they get in the next run.
                self.failed.push((self.lead, error));
                let all = 0..self.union.standings.len();
                let rest = all.filter(|at| !self.failed.iter().any(|(failed, _)| failed == at));
                let rest: Vec<usize> = rest.collect();
                let what = || {
                    OpError::new(
                        Class::Store,
                        "the store that led failed before this one was brought up to it",
                    )
                };
                self.failed.extend(rest.into_iter().map(|at| (at, what())));
            }
        }
        Ok(())
    }

    fn reports(&self, problems: &mut Vec<Problem>) -> Result<Vec<StoreReport>> {
        let mut reports = Vec::new();
        for (at, standing) in self.union.standings.iter().enumerate() {
            let report = self.report(at, standing)?;
            if let Some(what) = &report.problem {
                let hint = self.hint(at, standing);
                let said = problems.iter().any(|p| p.kind == ProblemKind::Store && p.what == *what);
                if !said {
                    let problem = union::store_problem(&standing.name, what.as_str(), hint);
                    self.catch_up.session.around.progress.problem(&problem);
                    problems.push(problem);
                }
            }
            reports.push(report);
        }
        Ok(reports)
    }

    fn hint(&self, at: usize, standing: &Standing) -> String {
        let failed = self.failed.iter().find(|(failed, _)| *failed == at).and_then(|(_, e)| e.hint.clone());
        let away = standing.away.as_ref().and_then(|away| away.hint().map(str::to_owned));
        failed
            .or(away)
            .unwrap_or_else(|| "the next backup, or `backstay sync`, brings it what it lacks".into())
    }

    fn report(&self, at: usize, standing: &Standing) -> Result<StoreReport> {
        let ledger = &self.catch_up.ledger;
        let failed = self.failed.iter().find(|(failed, _)| *failed == at).map(|(_, e)| Away::from(e).line());
        let view = standing.view.filter(|_| standing.away.is_none());
        let newest = ledger.newest_record(self.union.standings[self.lead].view.unwrap_or(0));
        let sent = view.and_then(|view| self.catch_up.sent.get(&view)).copied().unwrap_or_else(Sent::default);
        let behind = match standing.view {
            Some(view) => ledger.missing(view).len() as u64,
            None => self.behind_of(&standing.name)?,
        };
        let has = standing.view.zip(newest).is_some_and(|(view, number)| ledger.holds(view, number));
        let forked = ledger.forked && at != self.lead;
        let forked = forked.then(|| "the history of this host is forked, so nothing was copied".to_owned());
        Ok(StoreReport {
            name: standing.name.clone(),
            location: standing.place.clone(),
            here: standing.away.is_none(),
            has_snapshot: has,
            entries_behind: behind,
            copied_objects: sent.objects,
            copied_bytes: sent.bytes,
            problem: standing.away.as_ref().map(Away::line).or(failed).or(forked),
        })
    }

    /// How many entries a store that is away lacks, by what was seen in it.
    fn behind_of(&self, name: &str) -> Result<u64> {
        let state = self.catch_up.session.state()?;
        let cannot = || "cannot read which stores were seen".into();
        let Some(instance) = state.instance_of(name).doing(Class::Damage, cannot)? else {
            return Ok(self.catch_up.ledger.head());
        };
        let held = union::heads_in(state, &instance)?;
        let held = held.get(&self.catch_up.chain.signer_id()).map_or(0, |head| head.0);
        Ok(self.catch_up.ledger.head().saturating_sub(held))
    }
}
