//! Stopping and starting the services that a rollback concerns. What ran before is in the journal before it is stopped, so that it comes back
//! whatever happens.

use crate::bridge::{RealTimer, Timer as _, block_on};
use crate::config::{Config, Probe, Service};
use crate::durable::crash;
use crate::ops::error::{Class, OpError, Result};
use crate::ops::rollback::journal::{Journal, Stopped, Turn};
use crate::ops::rollback::run::words_of;
use crate::ops::session::Session;
use crate::service::{self, Around, Instance, ServiceError, State, Watch, another_has_its_number};
use std::path::Path;
use std::time::Duration;

/// The services that work on one of `components`, in the order in which they are started.
pub(crate) fn concerned<'c>(config: &'c Config, components: &[String]) -> Vec<&'c Service> {
    let ordered = Service::in_order(&config.services).unwrap_or_default();
    ordered.into_iter().filter(|s| components.iter().any(|c| s.works_on(c))).collect()
}

/// Runs `work` with what services need. Once begun, stopping and starting is not given up because somebody asks the run to end: a service that is
/// down must come back.
pub(in crate::ops) fn watching<T>(
    session: &Session,
    work: impl FnOnce(&Watch<'_>) -> Result<T>,
) -> Result<T> {
    with_watch(session.config()?, session.state()?.dir(), work)
}

/// The same without a session.
pub(crate) fn with_watch<T>(
    config: &Config,
    state: &Path,
    work: impl FnOnce(&Watch<'_>) -> Result<T>,
) -> Result<T> {
    let logs = state.join("services");
    crate::durable::create_dirs(&logs, 0o700)
        .map_err(|e| OpError::new(Class::Failed, format!("cannot make {}", logs.display())).because(e))?;
    lend(config, &logs, work)
}

/// The same for who only asks how services are: nothing is made in the state folder. Nothing may be stopped or started with it.
pub(super) fn asking<T>(session: &Session, work: impl FnOnce(&Watch<'_>) -> Result<T>) -> Result<T> {
    lend(session.config()?, &session.state()?.dir().join("services"), work)
}

fn lend<T>(config: &Config, logs: &Path, work: impl FnOnce(&Watch<'_>) -> Result<T>) -> Result<T> {
    let timer = RealTimer::default();
    let watch = Watch {
        commands: Around { dir: &config.dir, stopped: &|| false },
        logs,
        now: &|| timer.now(),
        pause: &|time| {
            // Made inside: a pause belongs to the runtime that waits for it.
            let _nobody_interrupts = block_on(&|| false, async { timer.pause(time).await });
        },
        sqlite: &crate::source::sqlite::check_live,
    };
    work(&watch)
}

/// What was found of services.
#[derive(Debug, Default)]
pub(in crate::ops) struct Found {
    /// What runs, or may.
    pub(in crate::ops) running: Vec<Stopped>,
    /// What is down and stays so.
    pub(in crate::ops) down: Vec<String>,
}

/// Which of `services` run. Those that are down stay so.
pub(in crate::ops) fn running(
    session: &Session,
    watch: &Watch<'_>,
    services: &[&Service],
) -> Result<Vec<Stopped>> {
    Ok(look(session, watch, services, &[])?.running)
}

/// The same; those of `must_run` do not stay down.
fn look(session: &Session, watch: &Watch<'_>, services: &[&Service], must_run: &[Stopped]) -> Result<Found> {
    let mut found = Found::default();
    for service in services {
        let life = match service::state(service, watch).map_err(failed)? {
            State::Down => {
                let why = why_down(service, watch)?;
                if !must_run.iter().any(|m| m.name == service.name) {
                    session.note(&format!("service {} is down, and stays so{why}", service.name));
                    found.down.push(service.name.clone());
                }
                continue;
            }
            State::Runs(life) => Some(life.to_string()),
            State::Activating(_) | State::Deactivating(_) | State::Untold => None,
        };
        found.running.push(Stopped { name: service.name.clone(), life, was_down: false, unasked: false });
    }
    Ok(found)
}

/// Why `service` is taken for down, where that is to be said: in parentheses, after a blank; else nothing.
///
/// # Errors
/// Another process has its number, by its age, and it answers: then it may be that process after all, begun before somebody set the clock, and its files
/// would be captured or exchanged under it.
pub(in crate::ops) fn why_down(service: &Service, watch: &Watch<'_>) -> Result<String> {
    let Some(why) = another_has_its_number(service) else {
        return Ok(String::new());
    };
    if is_asked(service) && service::answers(service, watch) {
        let what =
            format!("service {:?} seems to be down ({why}), and its health check passes", service.name);
        return Err(OpError::new(Class::Service, what).hint(
            "if it is that process, write the pid file anew, as with `touch`; else end what answers in its place",
        ));
    }
    Ok(format!(" ({why})"))
}

/// True when its health check says something of a service that is stopped.
fn is_asked(service: &Service) -> bool {
    service.health.as_ref().is_some_and(|health| !matches!(health.probe, Probe::Sqlite { .. }))
}

/// Looks before a rollback is taken back. With `start` those that are down are started on what comes back, as those are that run.
pub(super) fn before_undo(
    session: &Session,
    watch: &Watch<'_>,
    services: &[&Service],
    start: bool,
) -> Result<Found> {
    let names: Vec<String> = services.iter().filter(|_| start).map(|service| service.name.clone()).collect();
    let must_run = wanted(&names);
    let mut found = look(session, watch, services, &must_run)?;
    for missing in must_run {
        if !found.running.iter().any(|s| s.name == missing.name) {
            found.running.push(Stopped { was_down: false, ..missing });
        }
    }
    Ok(found)
}

/// Services that must run afterwards, as the journal has them before anything is stopped.
pub(super) fn wanted(names: &[String]) -> Vec<Stopped> {
    names
        .iter()
        .map(|name| Stopped { name: name.clone(), life: None, was_down: true, unasked: false })
        .collect()
}

/// Notes in the journal which services run, beside those that must run afterwards, then stops them, the last started first.
pub(super) fn stop(
    session: &Session,
    watch: &Watch<'_>,
    services: &[&Service],
    journal: &mut Journal,
    state: &Path,
) -> Result<()> {
    let must_run = std::mem::take(&mut journal.services);
    let found = look(session, watch, services, &must_run)?;
    (journal.services, journal.down) = (found.running, found.down);
    let missing = must_run.into_iter().filter(|m| !journal.services.iter().any(|s| s.name == m.name));
    let missing: Vec<Stopped> = missing.collect();
    journal.services.extend(missing);
    for stopped in &mut journal.services {
        stopped.unasked = !stopped.was_down;
    }
    journal.turn(state, Turn::Stopping)?;
    for service in services.iter().rev() {
        let Some(stopped) = journal.services.iter_mut().find(|s| s.name == service.name && !s.was_down)
        else {
            continue;
        };
        stopped.unasked = false;
        session.note(&format!("stopping {}", service.name));
        if let Err(e) = service::stop(service, watch) {
            stop_patiently(service, watch);
            return Err(failed(e));
        }
        crash::point("rollback: a service stopped");
        if is_asked(service) && service::answers(service, watch) {
            let what = format!("service {:?} is stopped, and its health check still passes", service.name);
            return Err(OpError::new(Class::Service, what).hint(
                "another process answers in its place, or the check asks something else: with it nobody could tell whether the rollback worked",
            ));
        }
    }
    Ok(())
}

/// One that answers what is under way before it ends gets at least so long. It serves meanwhile: this is no time in which it is down.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks once more a service that did not stop in time: it was asked, so it may be about to end. Taken for well now, it would be down a moment later.
fn stop_patiently(service: &Service, watch: &Watch<'_>) {
    let patient = Service { stop_within: service.stop_within.max(PATIENCE), ..service.clone() };
    // Whether it ends or goes on, what runs afterwards is looked at anew.
    let _ends_or_goes_on = service::stop(&patient, watch);
}

/// On which state services are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// On the new one: a process from before does not count.
    New,
    /// On the one they ran on before: one that was never stopped is well.
    Old,
}

/// Starts again what ran, and waits until each is healthy. On the new state the first that is not well ends it, for then all goes back; on the old
/// state, the last there is, every one is started.
pub(super) fn start(session: &Session, watch: &Watch<'_>, journal: &Journal, on: On) -> Result<()> {
    let ordered = Service::in_order(&session.config()?.services).unwrap_or_default();
    let unknown = journal.services.iter().filter(|stopped| !ordered.iter().any(|s| s.name == stopped.name));
    let mut failures: Vec<OpError> = unknown.map(|stopped| unknown_now(&stopped.name)).collect();
    for service in &ordered {
        if on == On::New && !failures.is_empty() {
            break;
        }
        let before = journal.services.iter().find(|stopped| stopped.name == service.name);
        let Some(before) = before.filter(|s| on == On::New || !s.was_down) else {
            continue;
        };
        failures.extend(start_one(session, watch, service, before, on).err());
    }
    together(failures)
}

fn unknown_now(name: &str) -> OpError {
    let what = format!("service {name:?} ran before, and the configuration does not know it any more");
    OpError::new(Class::Service, what).hint("start it by hand")
}

/// All of them as one, when there are any.
fn together(mut failures: Vec<OpError>) -> Result<()> {
    match failures.pop() {
        None => Ok(()),
        Some(only) if failures.is_empty() => Err(only),
        Some(last) => {
            let words: Vec<String> = failures.iter().chain([&last]).map(|e| words_of(e)).collect();
            let what = format!("{} services did not come up", words.len());
            Err(OpError::new(Class::Service, what).because(words.join("; ")))
        }
    }
}

fn start_one(
    session: &Session,
    watch: &Watch<'_>,
    service: &Service,
    before: &Stopped,
    on: On,
) -> Result<()> {
    // In a run that was killed it may have been started already: two of it would be one too many.
    let runs_already = match (service::state(service, watch).map_err(failed)?, on) {
        (State::Runs(_), On::Old) => true,
        // Nothing can tell, but that it was never asked to stop.
        (State::Untold, On::Old) => before.unasked,
        (State::Runs(life), On::New) => {
            before.was_down || before.life.as_ref().is_some_and(|before| *before != life.to_string())
        }
        (State::Down | State::Activating(_) | State::Deactivating(_) | State::Untold, _) => false,
    };
    if !runs_already {
        session.note(&format!("starting {}", service.name));
        service::start(service, watch).map_err(failed)?;
    }
    crash::point("rollback: a service started");
    let before = before.life.clone().filter(|_| on == On::New).map(Instance::from_journal);
    let judged = service::wait_healthy(service, before.as_ref(), watch).map_err(failed)?;
    if judged.asked > 0 {
        session.note(&format!("{} is healthy", service.name));
    }
    Ok(())
}

/// Lets commands of services that outlived a killed run come to their ends.
pub(super) fn settle(session: &Session, watch: &Watch<'_>, journal: &Journal) -> Result<()> {
    let config = session.config()?;
    let named = |service: &&Service| journal.services.iter().any(|stopped| stopped.name == service.name);
    let mut services = config.services.iter().filter(named);
    services.try_for_each(|service| {
        service::let_commands_end(service, watch, &|text| session.note(text)).map_err(failed)
    })
}

/// Stops what still runs in the life that a killed run was about to stop. Asked already, it may be about to end: taken for well now, it would be down a moment later.
pub(super) fn stop_dying(session: &Session, watch: &Watch<'_>, journal: &Journal) -> Result<()> {
    let ordered = Service::in_order(&session.config()?.services).unwrap_or_default();
    for service in ordered.into_iter().rev() {
        let before = journal.services.iter().find(|s| s.name == service.name && !s.was_down);
        let Some(before) = before else { continue };
        match service::state(service, watch).map_err(failed)? {
            State::Down => {}
            State::Runs(life) if before.life.as_ref().is_some_and(|old| *old != life.to_string()) => {}
            // One that does not stop was not stopped by the run before either: it goes on.
            _ => {
                if let Err(e) = service::stop(service, watch) {
                    session.note(&format!("{} did not stop: {e}", service.name));
                }
            }
        }
    }
    Ok(())
}

/// Stops whatever of the journal's services runs, before steps are taken back. A service that does not stop is a matter for a person.
pub(super) fn stop_again(session: &Session, watch: &Watch<'_>, journal: &Journal) -> Result<()> {
    stop_unless(session, watch, journal, |state| *state == State::Down)
}

/// The same of what is seen to run though it was stopped before: a boot, or a manager that restarts what ends, started it on what is half exchanged.
pub(super) fn stop_seen(session: &Session, watch: &Watch<'_>, journal: &Journal) -> Result<()> {
    stop_unless(session, watch, journal, |state| matches!(state, State::Down | State::Untold))
}

/// Stops, before it is started, what nothing can tell of: a run that was killed may have started it already, or never have asked it to stop, and two of it
/// would be one too many. One that does not run may well refuse to be stopped.
pub(super) fn stop_untold(session: &Session, watch: &Watch<'_>, journal: &Journal) -> Result<()> {
    let ordered = Service::in_order(&session.config()?.services).unwrap_or_default();
    for service in ordered.into_iter().rev() {
        let named = journal.services.iter().any(|s| s.name == service.name);
        if named
            && service::state(service, watch).map_err(failed)? == State::Untold
            && let Err(e) = service::stop(service, watch)
        {
            session.note(&format!("{} did not stop: {e}", service.name));
        }
    }
    Ok(())
}

fn stop_unless(
    session: &Session,
    watch: &Watch<'_>,
    journal: &Journal,
    stays: impl Fn(&State) -> bool,
) -> Result<()> {
    let config = session.config()?;
    let ordered = Service::in_order(&config.services).unwrap_or_default();
    for service in ordered.into_iter().rev() {
        let named = journal.services.iter().any(|s| s.name == service.name);
        if named && !stays(&service::state(service, watch).map_err(failed)?) {
            service::stop(service, watch).map_err(failed)?;
        }
    }
    Ok(())
}

pub(crate) fn failed(error: ServiceError) -> OpError {
    let what = match &error {
        ServiceError::Unhealthy { .. } => "a service is not healthy",
        ServiceError::StillRuns { .. } => "a service did not stop",
        ServiceError::DoesNotRun { .. } => "a service did not start",
        _ => "a service could not be stopped or started",
    };
    OpError::new(Class::Service, what).because(error)
}
