//! Which services run and which are down, for the plan, and how a person starts one that stays down.

use crate::config::{Config, Service};
use crate::model::{Problem, ProblemKind};
use crate::ops::error::Result;
use crate::ops::rollback::run::words_of;
use crate::ops::rollback::services::asking;
use crate::ops::session::Session;
use crate::service::{self, State, another_has_its_number, start_in_words};
use serde::Serialize;
use std::fmt;

/// A service that is down, and was not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Down {
    /// Its name.
    pub name: String,
    /// How a person starts it, in words.
    pub start: String,
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {} is DOWN, as it was before, and was not started", self.name)?;
        if self.start.is_empty() { Ok(()) } else { write!(f, "; to start it: {}", self.start) }
    }
}

/// How services stand before anything is stopped.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Those that run, or of which nothing can tell: they are stopped and started.
    pub(super) up: Vec<String>,
    /// Those that are down.
    pub(super) down: Vec<String>,
    /// What to know of them.
    pub(super) warnings: Vec<Problem>,
}

impl Standing {
    /// Asks each of `services`. One that gives no answer now is no reason not to show the plan; it is one not to carry it out.
    pub(super) fn of(session: &Session, services: &[&Service]) -> Result<Self> {
        if services.is_empty() {
            return Ok(Self::default());
        }
        asking(session, |watch| {
            let mut standing = Self::default();
            for service in services {
                let known = service::state(service, watch);
                let list =
                    if matches!(known, Ok(State::Down)) { &mut standing.down } else { &mut standing.up };
                list.push(service.name.clone());
                let doubt = known.err().map(|e| words_of(&e)).or_else(|| another_has_its_number(service));
                standing.warnings.extend(doubt.map(|what| warning(service, what)));
            }
            Ok(standing)
        })
    }
}

fn warning(service: &Service, what: String) -> Problem {
    let subject = format!("service {}", service.name);
    Problem { kind: ProblemKind::Warning, component: None, subject, what, hint: None }
}

/// What to say at the end of those that are down.
pub(super) fn left_down(config: &Config, names: &[String]) -> Vec<Down> {
    let known = |name: &String| config.services.iter().find(|service| service.name == *name);
    let start = |name: &String| known(name).map(|s| start_in_words(s, &config.dir)).unwrap_or_default();
    names.iter().map(|name| Down { name: name.clone(), start: start(name) }).collect()
}
