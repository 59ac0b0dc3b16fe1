//! What is answered: the page, metrics, and whether the agent is at work.

use crate::agent::metrics;
use crate::agent::page::body::{RELOADING, STYLE, page};
use crate::agent::page::door::Door;
use crate::agent::page::http::{Answer, Asked, TEXT};
use crate::agent::page::serve::Site;
use crate::agent::page::view::View;
use crate::config::Config;
use crate::model::{Clock, Timestamp};
use data_encoding::BASE64;
use ring::digest::{SHA256, digest};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// An agent that did not show that it works for so long does not.
const SILENT: Duration = Duration::from_secs(120);
/// What was worked out is shown so long: however many ask, disks are read once.
const FRESH: Duration = Duration::from_secs(1);

/// The projects of the agent, for whoever asks.
pub(super) struct Projects {
    clock: Arc<dyn Clock>,
    configs: RwLock<Vec<Arc<Config>>>,
    beat: Mutex<Instant>,
    metrics: Mutex<Option<(Instant, String)>>,
    view: Mutex<Option<(Instant, Arc<View>)>>,
    /// What browsers are told of the style that stands in the page.
    style: String,
}

impl Projects {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            configs: RwLock::default(),
            beat: Mutex::new(Instant::now()),
            metrics: Mutex::default(),
            view: Mutex::default(),
            style: format!(
                "style-src 'sha256-{}'; ",
                BASE64.encode(digest(&SHA256, STYLE.as_bytes()).as_ref())
            ),
        }
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(super) fn set(&self, configs: &[Arc<Config>]) {
        configs.clone_into(&mut self.configs.write().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn beat(&self) {
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn each(&self, f: impl Fn(&Config)) {
        self.configs().iter().for_each(|config| f(config));
    }

    fn configs(&self) -> Vec<Arc<Config>> {
        self.configs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says nothing of any project: anybody may ask.
    fn health(&self) -> Answer {
        let beat = *self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        match beat.elapsed() < SILENT {
            true => Answer::well(TEXT, "ok\n".to_owned()),
            false => Answer::refusal(503, "the agent shows no sign of work"),
        }
    }

    fn view(&self) -> Arc<View> {
        fresh(&self.view, || Arc::new(View::of(&self.configs(), self.now())))
    }

    fn page(&self, query: &str) -> Answer {
        let reloading = query.split('&').any(|part| part == RELOADING);
        let page = page(&self.view(), reloading);
        Answer { allowed: Some(self.style.clone()), ..Answer::well("text/html; charset=utf-8", page) }
    }

    fn metrics(&self) -> String {
        fresh(&self.metrics, || metrics::exposition(&self.configs(), self.now()))
    }
}

/// What was worked out lately, else what `make` works out now; whoever else asks meanwhile waits for that.
fn fresh<T: Clone>(kept: &Mutex<Option<(Instant, T)>>, make: impl FnOnce() -> T) -> T {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    match &*kept {
        Some((made, value)) if made.elapsed() < FRESH => value.clone(),
        _ => {
            let value = make();
            *kept = Some((Instant::now(), value.clone()));
            value
        }
    }
}

/// The projects behind the door of one server. A question that an earlier server was asked must not be let in by the door of a later one, which may
/// ask for less.
pub(super) struct Guarded {
    projects: Arc<Projects>,
    door: RwLock<Door>,
}

impl Guarded {
    pub(super) fn new(projects: Arc<Projects>, door: Door) -> Self {
        Self { projects, door: RwLock::new(door) }
    }

    /// The same server, and another token.
    pub(super) fn guard(&self, door: Door) {
        *self.door.write().unwrap_or_else(PoisonError::into_inner) = door;
    }
}

impl Site for Guarded {
    fn answer(&self, asked: &Asked) -> Answer {
        // Whether the agent works is anybody's to know.
        if asked.path != "/healthz"
            && let Some(refusal) = self.door.read().unwrap_or_else(PoisonError::into_inner).refuses(asked)
        {
            return refusal;
        }
        self.projects.answer(asked)
    }

    fn now(&self) -> Timestamp {
        self.projects.now()
    }
}

impl Projects {
    fn answer(&self, asked: &Asked) -> Answer {
        match asked.path.as_str() {
            "/healthz" => self.health(),
            "/" => self.page(&asked.query),
            "/status.json" => self.view().json(),
            "/metrics" => Answer::well("text/plain; version=0.0.4; charset=utf-8", self.metrics()),
            _ => Answer::refusal(
                404,
                "there is no such page here: / is the status, /metrics is for Prometheus, /status.json is for programs",
            ),
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
