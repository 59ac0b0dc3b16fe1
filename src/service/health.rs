//! Whether a service works: passes in a row, in time, all from one process that is not the one from before.
//!
//! Any answer that cannot be told from one of another process is a failure, so is no answer.

use crate::config::{Health, Service};
use crate::service::control::{State, state};
use crate::service::probe::ask;
use crate::service::watch::Watch;
use crate::service::{Instance, ServiceError};
use std::time::Duration;

/// So often a service without a health check is looked at.
const LOOKS: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_millis(700);
/// It must run for good by then.
const LOOKED_AT: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// In which life, where that can be told.
    pub instance: Option<Instance>,
    /// How often it was asked.
    pub asked: u64,
}

/// True when something answers the health check of `service`, once. Of a service that was stopped: another process answers in its place.
pub fn answers(service: &Service, around: &Watch<'_>) -> bool {
    let subject = format!("service {:?}", service.name);
    service.health.as_ref().is_some_and(|health| ask(&subject, health, around).is_ok())
}

/// Waits until the health check passes as often in a row as it must. `before` is the life of the service before it was stopped: it does not
/// count, nor does a pass before and after which not the same process ran.
///
/// # Errors
/// It did not pass in time, or whether it runs cannot be told.
pub fn wait_healthy(
    service: &Service,
    before: Option<&Instance>,
    around: &Watch<'_>,
) -> Result<Judgement, ServiceError> {
    let subject = format!("service {:?}", service.name);
    let Some(health) = &service.health else {
        return believed(service, before, around);
    };
    let begun = (around.now)();
    let mut run = Run { passes: 0, instance: None };
    let mut asked = 0;
    loop {
        asked += 1;
        let why = match run.once(&subject, service, health, before, around) {
            Ok(()) if run.passes >= health.passes => {
                return Ok(Judgement { instance: run.instance, asked });
            }
            Ok(()) => format!("it passed {} of {} times in a row", run.passes, health.passes),
            Err(why) => why,
        };
        let spent = (around.now)().saturating_sub(begun);
        if spent + health.interval > health.within || (around.commands.stopped)() {
            let why = format!("{why} ({} s after its start)", spent.as_secs());
            return Err(ServiceError::Unhealthy { subject, why });
        }
        (around.pause)(health.interval);
    }
}

/// Passes in a row, of one life.
struct Run {
    passes: u64,
    instance: Option<Instance>,
}

impl Run {
    fn once(
        &mut self,
        subject: &str,
        service: &Service,
        health: &Health,
        before: Option<&Instance>,
        around: &Watch<'_>,
    ) -> Result<(), String> {
        let one = life(service, before, around).and_then(|was| {
            ask(subject, health, around)?;
            // The one that answered may have died of it, or another may have answered.
            let is = life(service, before, around)?;
            if was == is { Ok(is) } else { Err("it was started anew while it was asked".to_owned()) }
        });
        let one = match one {
            Ok(one) => one,
            Err(why) => {
                self.passes = 0;
                return Err(why);
            }
        };
        if self.passes > 0 && self.instance != one {
            self.passes = 0;
            self.instance = one;
            return Err("it was started anew between two answers".to_owned());
        }
        self.instance = one;
        self.passes += 1;
        Ok(())
    }
}

/// The life that a service is in, where that can be told.
fn life(
    service: &Service,
    before: Option<&Instance>,
    around: &Watch<'_>,
) -> Result<Option<Instance>, String> {
    match state(service, around).map_err(|e| e.to_string())? {
        State::Runs(instance) if Some(&instance) == before => {
            Err(format!("what runs is the process from before ({instance})"))
        }
        State::Runs(instance) => Ok(Some(instance)),
        State::Activating(what) | State::Deactivating(what) => {
            Err(format!("it does not run yet, or not any more ({what})"))
        }
        State::Down => Err("it is down".to_owned()),
        State::Untold => Ok(None),
    }
}

/// A service without a health check is believed when it runs, in one life at several looks: one that is started again and again runs at each.
fn believed(
    service: &Service,
    before: Option<&Instance>,
    around: &Watch<'_>,
) -> Result<Judgement, ServiceError> {
    let begun = (around.now)();
    let (mut looks, mut last) = (0, None);
    loop {
        let why = match life(service, before, around) {
            // Nothing can tell, so there is nothing to look at again.
            Ok(None) => return Ok(Judgement { instance: None, asked: 0 }),
            Ok(one) if looks == 0 || one == last => {
                (looks, last) = (looks + 1, one);
                if looks == LOOKS {
                    return Ok(Judgement { instance: last, asked: 0 });
                }
                "it was not seen long enough".to_owned()
            }
            Ok(one) => {
                (looks, last) = (1, one);
                "it was started anew between two looks".to_owned()
            }
            Err(why) => {
                looks = 0;
                why
            }
        };
        if (around.now)().saturating_sub(begun) >= LOOKED_AT || (around.commands.stopped)() {
            return Err(ServiceError::Unhealthy { subject: format!("service {:?}", service.name), why });
        }
        (around.pause)(BETWEEN_LOOKS);
    }
}
