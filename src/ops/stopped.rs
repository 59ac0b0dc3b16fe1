//! Services that are stopped while something is captured, and come back whatever happens.
//!
//! What ran is written down before it is stopped, and crossed out after it is up again: a run that was killed in between is followed by one that starts it.
//! Nothing here may start what was down before, and nothing may wait for a store while a service is down.

use crate::config::{Config, Service};
use crate::durable::{self, crash};
use crate::model::{Problem, ProblemKind};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::rollback::services::{concerned, failed, why_down, with_watch};
use crate::service::{self, State, Watch};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

const FILE: &str = "stopped.json";

/// What a first signal is answered with while services are stopped: the capture is broken off, and a second signal must not leave them down.
pub(super) const STARTED_FIRST: Option<&str> =
    Some("services were stopped for a capture: they are started first, and no signal ends this before");

/// Who wants services back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// `ready`, which a manager's start of one of them may wait for.
    Start,
    /// A run that no start waits for: what is on its way up may be so for ever, and is waited for.
    Run,
}

/// After what services are brought back.
#[derive(Debug, Clone, Copy)]
enum After<'a> {
    /// This run asked these to stop, and no other.
    Asked(&'a BTreeSet<String>),
    /// A run was killed: it may have asked any of them, and may have started any of them again.
    Kill,
}

/// The services that a capture stopped.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stopped {
    services: Vec<String>,
    /// The lives of those whose lives can be told: what still runs in the same one was asked to stop, or is about to be.
    #[serde(default)]
    lives: BTreeMap<String, String>,
    /// Those that did not come up after a capture. They are not tried again, and said while they are down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failed: Vec<String>,
}

impl Stopped {
    fn read(state: &Path) -> Result<Option<Self>> {
        let path = state.join(FILE);
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.doing(Class::Failed, || format!("cannot read {}", path.display()))?,
        };
        // Replaced whole, so it can only be damaged by others; then nothing is guessed, and a person can read the names.
        serde_json::from_slice(&bytes).map(Some).doing(Class::Person, || {
            format!("{} cannot be read, which names services to start", path.display())
        })
    }

    fn write(&self, state: &Path) -> Result<()> {
        let path = state.join(FILE);
        let cannot = || format!("cannot write {}", path.display());
        let text = serde_json::to_vec(self).doing(Class::Failed, cannot)?;
        durable::replace(&path, &text).doing(Class::Failed, cannot)
    }

    /// Nothing is to be started any more.
    fn close(state: &Path, failed: Vec<String>) -> Result<()> {
        if !failed.is_empty() {
            return Self { failed, ..Self::default() }.write(state);
        }
        let path = state.join(FILE);
        durable::remove(&path).map(drop).doing(Class::Failed, || format!("cannot remove {}", path.display()))
    }
}

/// Takes `step` while the services that work on `components` are stopped. Those that do not come up again are among the problems.
///
/// # Errors
/// A service did not stop or `interrupt` asked for the end (then `step` was not taken), or `step` failed. The services were started in either case.
pub(crate) fn around<T>(
    config: &Config,
    state: &Path,
    components: &[String],
    (note, interrupt): (&dyn Fn(&str), &Interrupt),
    step: impl FnOnce() -> Result<T>,
) -> Result<(T, Vec<Problem>)> {
    let services = concerned(config, components);
    if services.is_empty() {
        return Ok((step()?, Vec::new()));
    }
    interrupt.check()?;
    let (taken, problems) = interrupt.patiently(STARTED_FIRST, || {
        let mut asked = BTreeSet::new();
        let taken =
            with_watch(config, state, |watch| stop(&services, watch, state, &mut asked, (note, interrupt)));
        crash::point("stopped: all of them");
        let taken = taken.and_then(|()| interrupt.check()).and_then(|()| step());
        crash::point("stopped: captured");
        let mut problems = all_back(config, state, Asker::Run, After::Asked(&asked), note)?;
        problems.extend(still_down(config, state, &problems)?);
        Ok::<_, OpError>((taken, problems))
    })?;
    Ok((taken?, problems))
}

/// Notes in `asked` which were asked to stop, also one that did not.
fn stop(
    services: &[&Service],
    watch: &Watch<'_>,
    state: &Path,
    asked: &mut BTreeSet<String>,
    (note, interrupt): (&dyn Fn(&str), &Interrupt),
) -> Result<()> {
    let (mut run, mut lives) = (Vec::new(), BTreeMap::new());
    for service in services {
        match service::state(service, watch).map_err(failed)? {
            State::Down => {
                note(&format!("service {} is down, and stays so{}", service.name, why_down(service, watch)?));
                continue;
            }
            State::Runs(life) => drop(lives.insert(service.name.clone(), life.to_string())),
            State::Activating(_) | State::Deactivating(_) | State::Untold => {}
        }
        run.push(*service);
    }
    let failed_before = Stopped::read(state)?.unwrap_or_default().failed;
    let write = |services: &[&Service]| {
        let services = services.iter().map(|service| service.name.clone()).collect();
        Stopped { services, lives: lives.clone(), failed: failed_before.clone() }.write(state)
    };
    write(&run)?;
    crash::point("stopped: written down");
    for (place, service) in run.iter().enumerate().rev() {
        if let Err(e) = interrupt.check() {
            // This one and those before it were asked nothing, and go on running.
            write(&run[place + 1..])?;
            return Err(e);
        }
        note(&format!("stopping {} for the capture", service.name));
        asked.insert(service.name.clone());
        service::stop(service, watch).map_err(failed)?;
        crash::point("stopped: a service");
    }
    Ok(())
}

/// Starts what a capture in a run that was killed had stopped and not started again. To be called with the lock held.
///
/// # Errors
/// What is to be started cannot be told. A service that does not come up is a problem, not an error.
pub(crate) fn bring_back(
    config: &Config,
    state: &Path,
    asker: Asker,
    note: &dyn Fn(&str),
) -> Result<Vec<Problem>> {
    all_back(config, state, asker, After::Kill, note)
}

fn all_back(
    config: &Config,
    state: &Path,
    asker: Asker,
    after: After<'_>,
    note: &dyn Fn(&str),
) -> Result<Vec<Problem>> {
    let Some(stopped) = Stopped::read(state)? else {
        return Ok(Vec::new());
    };
    if stopped.services.is_empty() && !stopped.failed.is_empty() {
        return Ok(Vec::new());
    }
    let mut down = stopped.failed;
    down.retain(|name| !stopped.services.contains(name));
    let mut problems = Vec::new();
    let ordered = Service::in_order(&config.services).unwrap_or_default();
    for name in stopped.services.iter().filter(|name| !ordered.iter().any(|s| s.name == **name)) {
        problems.push(problem(
            name,
            "a capture stopped it, and the configuration does not know it any more".into(),
        ));
    }
    with_watch(config, state, |watch| {
        let own: Vec<&&Service> = ordered.iter().filter(|s| stopped.services.contains(&s.name)).collect();
        // This may be what a manager's start waits for; and what is ordered after that start would be waited for here.
        let is_activating = |s: &&&Service| matches!(service::state(s, watch), Ok(State::Activating(_)));
        let amid_a_start = asker == Asker::Start && own.iter().any(is_activating);
        if matches!(after, After::Kill) {
            stop_untold(&own, watch, note);
        }
        for service in own {
            let life = stopped.lives.get(&service.name);
            if let Err(why) = start(service, life, amid_a_start, after, watch, note) {
                problems.push(problem(&service.name, why));
                down.push(service.name.clone());
            }
            crash::point("stopped: a service started");
        }
        Ok(())
    })?;
    // Also when one did not come up: it was said, and trying for ever what fails helps nobody.
    Stopped::close(state, down)?;
    Ok(problems)
}

/// What did not come up after an earlier capture, is down, and was not `said` now: a run that called itself well would end the alarm.
fn still_down(config: &Config, state: &Path, said: &[Problem]) -> Result<Vec<Problem>> {
    let Some(stopped) = Stopped::read(state)? else {
        return Ok(Vec::new());
    };
    let mut down = stopped.failed.clone();
    with_watch(config, state, |watch| {
        down.retain(|name| {
            let service = config.services.iter().find(|service| service.name == *name);
            let state = service.map(|service| service::state(service, watch));
            !matches!(state, None | Some(Ok(State::Runs(_) | State::Untold)))
        });
        Ok(())
    })?;
    if down != stopped.failed {
        Stopped::close(state, down.clone())?;
    }
    let words = "it did not come up after an earlier capture, and does not run";
    let now = down.iter().map(|name| problem(name, words.into()));
    Ok(now.filter(|problem| said.iter().all(|known| known.subject != problem.subject)).collect())
}

fn start(
    service: &Service,
    life: Option<&String>,
    amid_a_start: bool,
    after: After<'_>,
    watch: &Watch<'_>,
    note: &dyn Fn(&str),
) -> std::result::Result<(), String> {
    let words = |e: service::ServiceError| e.to_string();
    service::let_commands_end(service, watch, note).map_err(words)?;
    let unasked = matches!(after, After::Asked(asked) if !asked.contains(&service.name));
    match service::state(service, watch) {
        // It goes on.
        Ok(State::Runs(_) | State::Untold) if unasked => return Ok(()),
        // It was asked to stop, perhaps, by a run that was killed: taken for well now, it would be down a moment later.
        Ok(State::Runs(now)) if life.is_some_and(|before| *before == now.to_string()) => {
            stop_leniently(service, watch, note);
            if matches!(service::state(service, watch), Ok(State::Runs(_))) {
                return Ok(());
            }
        }
        // A manager that started it meanwhile needs no help.
        Ok(State::Runs(_)) => return Ok(()),
        // It may be the very start that asks whether it is `ready`: a second one would wait for the first, which waits for this.
        Ok(State::Activating(_)) if amid_a_start => return Ok(()),
        _ => {}
    }
    note(&format!("starting {}", service.name));
    if amid_a_start && service::order_start(service, watch).map_err(words)? {
        return Ok(());
    }
    service::start(service, watch).map_err(words)?;
    service::wait_healthy(service, None, watch).map(drop).map_err(words)
}

/// Stops what nothing can tell of: a run that was killed may have started it, and two of it would be one too many. One that does not run may well refuse.
fn stop_untold(services: &[&&Service], watch: &Watch<'_>, note: &dyn Fn(&str)) {
    for service in services.iter().rev() {
        if matches!(service::state(service, watch), Ok(State::Untold)) {
            // Whether that can be told is asked again before it is started.
            let _told_later = service::let_commands_end(service, watch, note);
            stop_leniently(service, watch, note);
        }
    }
}

fn stop_leniently(service: &Service, watch: &Watch<'_>, note: &dyn Fn(&str)) {
    if let Err(e) = service::stop(service, watch) {
        note(&format!("{} did not stop: {e}", service.name));
    }
}

fn problem(service: &str, what: String) -> Problem {
    Problem {
        kind: ProblemKind::Hook,
        component: None,
        subject: format!("service {service}"),
        what,
        hint: Some("look at the service's own log, and start it by hand".into()),
    }
}

/// The longest that stopping services and starting them again may take, as the configuration has it; the rest of a capture ends soon when it is asked to.
pub(crate) fn longest(config: &Config) -> Duration {
    let one = |service: &Service| {
        let healthy = service.health.as_ref().map_or(Duration::ZERO, |health| health.within);
        // One that still runs then is asked to stop once more before it is started.
        service.stop_within.saturating_mul(2).saturating_add(service.start_within).saturating_add(healthy)
    };
    config.services.iter().map(one).fold(Duration::from_secs(60), Duration::saturating_add)
}

/// The services that a capture stopped and did not start again. What cannot be read names none.
pub(crate) fn names(state: &Path) -> Vec<String> {
    Stopped::read(state).ok().flatten().map_or_else(Vec::new, |stopped| stopped.services)
}

/// True when a capture stopped services and did not start them again.
pub(crate) fn any(state: &Path) -> bool {
    // What cannot be read is for a person to look at.
    Stopped::read(state).map_or(true, |stopped| stopped.is_some_and(|stopped| !stopped.services.is_empty()))
}
