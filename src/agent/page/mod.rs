//! The status page and the metrics endpoint of an agent that stays: what this machine knows of its projects, for browsers and for Prometheus.
//!
//! This module must never contact a store, never keep the agent from its work, never change anything that a project depends on, and never show a text
//! that came from elsewhere as anything but text.

mod body;
mod door;
mod html;
mod http;
mod listen;
mod parts;
mod plot;
mod serve;
mod site;
mod snapshots;
mod view;
mod words;

use crate::config::{Config, Page, PageAt};
use crate::model::{Clock, Timestamp};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::restore::read::chain_text;
use crate::ops::timetable::PageNote;
use door::Door;
use jiff::SignedDuration;
use listen::{Listener, Place};
use serve::{Limits, Server};
use site::{Guarded, Projects};
use std::io::ErrorKind;
use std::sync::Arc;

/// Where nothing could be bound it is tried again after this time.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// The page of an agent.
pub struct Pages {
    projects: Arc<Projects>,
    wanted: Option<Page>,
    shown: Option<Shown>,
    /// When it is tried again.
    again: Option<Timestamp>,
}

/// A server, and what it answers.
struct Shown {
    server: Server,
    site: Arc<Guarded>,
}

/// Something to be said to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What.
    pub text: String,
    /// They should do something about it.
    pub warning: bool,
}

/// The page that `configs` ask for. One agent has one page, so they must agree.
pub fn wanted(configs: &[Arc<Config>]) -> Result<Option<Page>> {
    let mut asked = configs.iter().filter_map(|config| Some((config, config.agent.page.as_ref()?)));
    let Some((first, page)) = asked.next() else { return Ok(None) };
    match asked.find(|(_, other)| *other != page) {
        None => Ok(Some(page.clone())),
        Some((second, _)) => {
            let what = format!(
                "{} and {} want different status pages, and an agent has one",
                first.path.display(),
                second.path.display()
            );
            Err(OpError::new(Class::Config, what).hint(
                "give both the same `page` and `token_file` in [agent]; it shows all projects of the agent",
            ))
        }
    }
}

impl Pages {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { projects: Arc::new(Projects::new(clock)), wanted: None, shown: None, again: None }
    }

    /// The agent begins with `configs`. A page that cannot be shown is no reason not to back up: it is said, and tried again. Gives what is to be said.
    pub fn begin(&mut self, configs: &[Arc<Config>]) -> Option<Word> {
        self.projects.set(configs);
        // They were compared when they were loaded.
        self.wanted = wanted(configs).ok().flatten();
        self.try_again()
    }

    /// The agent goes on with `configs`. A page that they ask for and that cannot be shown is an error; then all is as it was.
    pub fn change(&mut self, configs: &[Arc<Config>]) -> Result<Option<String>> {
        let wanted = wanted(configs)?;
        let same = self.wanted == wanted;
        let said = match &wanted {
            None => {
                self.shown = None;
                None
            }
            // What could not be shown before is no reason to refuse another schedule: it is tried again, now and later.
            Some(page) if same && self.shown.is_none() => self.move_to(page).ok(),
            Some(page)
                if self.shown.is_none() || self.wanted.as_ref().is_none_or(|before| before.at != page.at) =>
            {
                Some(self.move_to(page)?)
            }
            Some(page) => {
                // The same configuration may mean another token now: it is read again.
                let address = self.shown.as_ref().and_then(|shown| shown.server.place().address());
                let door = Door::of(page, address).map_err(|why| cannot(page, &why))?;
                if let Some(shown) = &self.shown {
                    shown.site.guard(door);
                }
                None
            }
        };
        self.projects.set(configs);
        self.wanted = wanted;
        if self.wanted.is_none() || self.shown.is_some() {
            self.again = None;
            self.note(None);
        }
        Ok(said)
    }

    /// Shows that the agent is at work, and tries again what could not be shown. Gives what is to be said.
    pub fn beat(&mut self) -> Option<Word> {
        self.projects.beat();
        let due = self.again.is_some_and(|again| self.projects.clock().now() >= again);
        if due { self.try_again() } else { None }
    }

    /// True when a page is asked for.
    pub fn any(&self) -> bool {
        self.wanted.is_some()
    }

    /// The agent ends.
    pub fn end(&mut self) {
        self.shown = None;
        self.projects.each(|config| PageNote::remove(&config.state_dir));
    }

    fn try_again(&mut self) -> Option<Word> {
        let page = self.wanted.clone()?;
        let first = self.again.is_none();
        match self.move_to(&page) {
            Ok(said) => {
                self.again = None;
                self.note(None);
                Some(Word { text: said, warning: false })
            }
            Err(e) => {
                let now = self.projects.clock().now();
                self.again = Some(now.saturating_add(AGAIN).unwrap_or(Timestamp::MAX));
                let why = chain_text(&e);
                self.note(Some(&why));
                let hint = e.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                let text =
                    format!("WARNING: {why}{hint}; backups go on, and it is tried again every 30 seconds");
                first.then_some(Word { text, warning: true })
            }
        }
    }

    /// Listens where `page` says, and only then no more where it was. Gives what is to be said.
    fn move_to(&mut self, page: &Page) -> Result<String> {
        let mut made = self.listen(page);
        let own = self.shown.as_ref().is_some_and(|shown| shares_port(&page.at, shown.server.place()));
        if own && made.as_ref().is_err_and(|refused| refused.in_use) {
            // It is this agent that is in its own way.
            self.shown = None;
            made = self.listen(page);
            if made.is_err() {
                self.go_back();
            }
        }
        let shown = made.map_err(|refused| cannot(page, &refused.why))?;
        let url = shown.server.place().url();
        self.shown = Some(shown);
        Ok(format!("the status page is at {url}"))
    }

    fn listen(&self, page: &Page) -> std::result::Result<Shown, Unbound> {
        let refused = |why: String| Unbound { why, in_use: false };
        let of = |e: std::io::Error| Unbound { in_use: e.kind() == ErrorKind::AddrInUse, why: e.to_string() };
        // Before anything is bound: a token that cannot be read lets nobody in.
        Door::of(page, None).map_err(refused)?;
        let (listener, place) = Listener::bind(&page.at).map_err(of)?;
        let door = Door::of(page, place.address()).map_err(refused)?;
        let site = Arc::new(Guarded::new(Arc::clone(&self.projects), door));
        let server = Server::start(listener, place, Arc::clone(&site) as _, Limits::default()).map_err(of)?;
        Ok(Shown { server, site })
    }

    /// Listens again where it was, with whoever was let in before.
    fn go_back(&mut self) {
        let Some(before) = self.wanted.clone() else { return };
        match self.listen(&before) {
            Ok(shown) => {
                self.shown = Some(shown);
                self.note(None);
            }
            // It is tried like one that could never be shown.
            Err(_) => self.again = Some(self.projects.clock().now()),
        }
    }

    /// Notes where it is in the state folder of each project.
    fn note(&self, problem: Option<&str>) {
        let url = self.shown.as_ref().map(|shown| shown.server.place().url());
        let note = PageNote { url, problem: problem.map(str::to_owned) };
        self.projects.each(|config| {
            if self.wanted.is_none() {
                PageNote::remove(&config.state_dir);
            } else {
                // What cannot be written is told to nobody, and nothing depends on it.
                let _unknown = note.save(&config.state_dir);
            }
        });
    }
}

/// Why nothing listens.
struct Unbound {
    why: String,
    /// Something else listens there.
    in_use: bool,
}

fn shares_port(at: &PageAt, place: &Place) -> bool {
    match (at, place.address()) {
        (PageAt::Tcp(wanted), Some(there)) => wanted.port() == there.port(),
        _ => false,
    }
}

fn cannot(page: &Page, why: &str) -> OpError {
    OpError::new(Class::Config, format!("the status page cannot be shown at {}", page.at))
        .because(why.to_owned())
        .hint("`page` and `token_file` in [agent] say where it is and who may see it")
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_render;
