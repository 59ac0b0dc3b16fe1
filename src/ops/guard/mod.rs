//! A command with a way back: a snapshot before it, its exit code and the health of the services after it, and a rollback when these are not well.
//!
//! The command is not run unless the snapshot is good and was found fit to go back to. What is unknown is a failure. This module must never take
//! an application back while the command may still run.

mod by_hand;
mod cut_off;
mod journal;

pub use by_hand::{ByHand, GoingBack, by_hand};
pub use cut_off::{CutOff, Known, cut_off};

use crate::durable::{FileLock, Held, crash};
use crate::ops::backup::{self, BackupOptions, BackupReport};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::rollback::services::{concerned, running, watching};
use crate::ops::rollback::{self, RollbackOptions, RollbackPlan, RollbackReport, words_of};
use crate::ops::session::Session;
use crate::service::{self, State, Watch};
use journal::{FORMAT, GuardJournal, Stage};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOCK: &str = "guard.lock";
/// Who holds it.
const GUARD: &str = "guard";
const ROLLBACK: &str = "rollback";
const OTHERS_WITHIN: Duration = Duration::from_secs(600);

/// What to guard.
#[derive(Debug, Clone, Default)]
pub struct GuardOptions {
    /// Only these components; all when empty.
    pub only: Vec<String>,
    /// A note for people; else it names the program.
    pub note: Option<String>,
    /// The program, without its arguments.
    pub program: String,
    /// Go back without asking.
    pub auto: bool,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With exit code 0.
    Well,
    /// Otherwise, in words: `exit code 3`.
    Badly(String),
}

/// What came of a guarded command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It ended with 0, and the services are well.
    Well,
    /// It failed ([`Class::Failed`]), or a service is not well ([`Class::Service`]): in words.
    Failed(Class, String),
}

/// What `guard --dry-run` tells.
#[derive(Debug, Clone, Serialize)]
pub struct GuardPlan {
    /// The program that would be run.
    pub program: String,
    /// What goes into the snapshot, and back.
    pub components: Vec<String>,
    /// Services that must be well afterwards: those that run now.
    pub services: Vec<String>,
    /// Whether it goes back without asking.
    pub auto: bool,
}

/// A command whose way back is ready.
pub struct Guarded<'a> {
    session: &'a Session,
    state: PathBuf,
    journal: GuardJournal,
    plan: RollbackPlan,
    /// The snapshot.
    pub snapshot: BackupReport,
    _held: Held,
}

/// Takes the lock of guarded commands: one at a time, else the second one's way back would lead into the middle of the first; and nobody goes back by
/// hand meanwhile. A rollback is waited for as long as `--wait` says; a guarded command is not, for it may be what waits for this.
fn hold(session: &Session, what: &str) -> Result<Held> {
    let lock = lock(session.state()?.dir());
    let has = |name: &str| lock.holder().is_some_and(|holder| holder.what == name);
    crate::ops::lock::take(session, &lock, what, &|| !has(GUARD), |_| {
        let (what, hint) = if has(ROLLBACK) {
            ("a rollback is under way", "wait for it to end, or use --wait")
        } else {
            ("a guarded command is under way", "wait for it to end")
        };
        let e = OpError::new(Class::Busy, what);
        match lock.holder() {
            Some(holder) => e.because(holder.to_string()),
            None => e,
        }
        .hint(hint)
    })
}

/// True when something is known of a guarded command, or cannot be read: one is under way, or was cut off.
pub(in crate::ops) fn is_open(state: &Path) -> bool {
    GuardJournal::open(state).map_or(true, |open| open.is_some())
}

/// The lock that a guarded command holds.
pub(in crate::ops) fn lock(state: &Path) -> FileLock {
    FileLock::new(state.join(LOCK))
}

/// What would be done.
pub fn plan(session: &Session, options: &GuardOptions) -> Result<GuardPlan> {
    let chosen = backup::chosen(&session.config()?.components, &options.only)?;
    let components: Vec<String> = chosen.iter().map(|c| c.name.to_string()).collect();
    let services = up(session, &components)?;
    Ok(GuardPlan { program: options.program.clone(), components, services, auto: options.auto })
}

/// Makes the snapshot and plans the way back to it. Nothing was run when this fails.
pub fn begin<'a>(session: &'a Session, options: &GuardOptions) -> Result<Guarded<'a>> {
    let held = hold(session, GUARD)?;
    let state = session.state()?.dir().to_owned();
    if let Some(open) = GuardJournal::open(&state)? {
        let what =
            format!("`{}`, guarded before, was cut off, and nobody decided what becomes of it", open.program);
        return Err(OpError::new(Class::Person, what).hint("backstay rollback --resume decides it"));
    }
    let GuardPlan { components, services, .. } = plan(session, options)?;
    let note = options.note.clone().or_else(|| Some(format!("before `{}`", options.program)));
    let made =
        backup::run(session, &BackupOptions { only: options.only.clone(), note, ..BackupOptions::default() })
            .map_err(|e| not_run(&options.program, "the snapshot before it could not be made", e))?;
    crash::point("guard: snapshot made");
    if !made.good || !made.history.is_empty() {
        let what = format!("snapshot {} is not good, so `{}` was not run", made.snapshot, options.program);
        let e = OpError::new(Class::Failed, what)
            .hint("mend what was said above, or name what may be unreadable in `allow_unreadable`");
        return Err(match made.problems.iter().find(|p| p.is_failure()) {
            Some(problem) => e.because(format!("{}: {}", problem.place(), problem.what)),
            None => e,
        });
    }
    let back = RollbackOptions {
        snapshot: made.snapshot.to_string(),
        only: components.clone(),
        ..RollbackOptions::default()
    };
    let mut plan = rollback::plan(session, &back)
        .map_err(|e| not_run(&options.program, "there would be no way back from it", e))?;
    plan.must_run.clone_from(&services);
    say_what_is_not_well(session, &services)?;
    let journal = GuardJournal {
        format: FORMAT,
        snapshot: made.snapshot.clone(),
        begun: session.around.clock.now(),
        components,
        program: options.program.clone(),
        auto: options.auto,
        services,
        stage: Stage::Starting,
    };
    let mut guarded = Guarded { session, state, journal, plan, snapshot: made, _held: held };
    guarded.journal.turn(&guarded.state, Stage::Starting)?;
    Ok(guarded)
}

fn not_run(program: &str, why: &str, e: OpError) -> OpError {
    let hint = e.hint.clone();
    let outer = OpError::new(e.class, format!("`{program}` was not run: {why}")).because(words_of(&e));
    match hint {
        Some(hint) => outer.hint(hint),
        None => outer,
    }
}

/// The services that run now and work on `components`.
fn up(session: &Session, components: &[String]) -> Result<Vec<String>> {
    watching(session, |watch| {
        let concerned = concerned(session.config()?, components);
        Ok(running(session, watch, &concerned)?.into_iter().map(|s| s.name).collect())
    })
}

/// A service that is not well already would not be well on the snapshot either.
fn say_what_is_not_well(session: &Session, services: &[String]) -> Result<()> {
    watching(session, |watch| {
        for service in session.config()?.services.iter().filter(|s| services.contains(&s.name)) {
            if service.health.is_some() && !service::answers(service, watch) {
                session.note(&format!(
                    "warning: service {} is not well already: a rollback to this state would undo itself",
                    service.name
                ));
            }
        }
        Ok(())
    })
}

impl Guarded<'_> {
    /// The command was started as process `pid`.
    pub fn started(&mut self, pid: u32) {
        let life = service::life_of(pid).map(|life| life.to_string());
        note_stage(self.session, &self.state, &mut self.journal, Stage::Running { pid, life });
    }

    /// The command could not be started: nothing was changed, and nothing is open.
    pub fn not_started(self) -> Result<()> {
        GuardJournal::close(&self.state)
    }

    /// The command ended: asks the services when it ended well.
    pub fn judge(&mut self, ended: &Ended) -> Verdict {
        crash::point("guard: ended");
        judge(self.session, &self.state, &mut self.journal, ended)
    }

    /// What the command did stays.
    pub fn keep(self) -> Result<()> {
        GuardJournal::close(&self.state)
    }

    /// Everything goes back. `why` it does.
    ///
    /// # Errors
    /// [`Class::Person`]: it failed, and what the command left is live.
    pub fn back(mut self, why: &str) -> Result<RollbackReport> {
        decide(&self.state, &mut self.journal, why)?;
        let report = self.plan.apply(&patient(self.session));
        end(&self.state, &self.journal, report)
    }
}

/// For the way back another run is waited for: a scheduled backup must not be what it fails on.
fn patient(session: &Session) -> Session {
    let mut session = session.clone();
    session.around.wait = Some(session.around.wait.unwrap_or(OTHERS_WITHIN).max(OTHERS_WITHIN));
    session
}

/// Notes how far a command came that runs or has run. Where that cannot be noted, on a full disk, it is said, and the guard goes on: its own memory is
/// enough, and without it there would be no way back at all.
fn note_stage(session: &Session, state: &Path, journal: &mut GuardJournal, stage: Stage) {
    if let Err(e) = journal.turn(state, stage) {
        session.note(&format!(
            "warning: {}; should this guard be killed, nobody knows how `{}` ended",
            words_of(&e),
            journal.program
        ));
    }
}

/// Notes that everything goes back, before anything of that is done.
fn decide(state: &Path, journal: &mut GuardJournal, why: &str) -> Result<()> {
    journal.turn(state, Stage::Back { why: why.to_owned() }).map_err(|e| {
        let what = format!(
            "{why}, and what `{}` left is live: the rollback after it could not begin",
            journal.program
        );
        OpError::new(Class::Person, what)
            .because(words_of(&e))
            .hint("mend what is named, such as a full disk; then `backstay rollback --resume` goes back")
    })
}

fn judge(session: &Session, state: &Path, journal: &mut GuardJournal, ended: &Ended) -> Verdict {
    let program = journal.program.clone();
    if let Ended::Badly(how) = ended {
        return Verdict::Failed(Class::Failed, format!("`{program}` ended with {how}"));
    }
    note_stage(session, state, journal, Stage::Judging);
    let judged = watching(session, |watch| all_well(session, watch, journal));
    crash::point("guard: judged");
    match judged {
        Ok(()) => Verdict::Well,
        Err(e) => {
            let why = format!("`{program}` ended well, but after it {}", words_of(&e));
            Verdict::Failed(Class::Service, why)
        }
    }
}

/// Every service that ran before runs and is healthy, and so is whatever runs now.
fn all_well(session: &Session, watch: &Watch<'_>, journal: &GuardJournal) -> Result<()> {
    let service_failed =
        |e: service::ServiceError| OpError::new(Class::Service, "a service is not well").because(e);
    for service in concerned(session.config()?, &journal.components) {
        let ran = journal.services.contains(&service.name);
        if !ran && service::state(service, watch).map_err(service_failed)? == State::Down {
            continue;
        }
        // Which process it is does not matter here, as long as it is one.
        let judged = service::wait_healthy(service, None, watch).map_err(service_failed)?;
        if judged.asked > 0 {
            session.note(&format!("{} is healthy", service.name));
        }
    }
    Ok(())
}

/// What came of going back, and the end of the journal where there is nothing left to do.
fn end(state: &Path, journal: &GuardJournal, report: Result<RollbackReport>) -> Result<RollbackReport> {
    match report {
        Ok(report) => {
            crash::point("guard: back");
            GuardJournal::close(state)?;
            Ok(report)
        }
        Err(e)
            if e.class == Class::RolledBack
                || (e.class == Class::Person && !rollback::is_unfinished(state)?) =>
        {
            GuardJournal::close(state)?;
            let program = &journal.program;
            let what =
                format!("the rollback after `{program}` undid itself, so what `{program}` left is live");
            let hint = format!(
                "look at the services; the snapshot from before is {}: `backstay rollback {0}`",
                journal.snapshot
            );
            Err(OpError::new(Class::Person, what).because(words_of(&e)).hint(hint))
        }
        // What it was decided on is not forgotten: the store may be away, or the rollback half-way.
        Err(e) => {
            let what = format!("the rollback after `{}` failed, and is not at its end", journal.program);
            let own = e.hint.clone().map(|hint| format!("{hint}; then ")).unwrap_or_default();
            let hint = format!("{own}`backstay rollback --resume` tries again");
            Err(OpError::new(Class::Person, what).because(words_of(&e)).hint(hint))
        }
    }
}
