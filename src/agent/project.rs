//! One project of the agent: what it runs now, what it remembers.

use crate::agent::child;
use crate::agent::ends::{is_trouble, lateness, left_down, title, told, words};
use crate::agent::orders::order;
use crate::agent::untold::Untold;
use crate::agent::world::{Order, Orphan, Work, World};
use crate::config::Config;
use crate::durable::Held;
use crate::model::Timestamp;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::left_open::Unfinished;
use crate::ops::restore::read::chain_text;
use crate::ops::stopped;
use crate::ops::timetable::{AGENT, End, Line, Memory, Next, Start, What, agent_lock, lines, next};
use jiff::SignedDuration;
use std::sync::Arc;

/// How often it is looked whether what keeps everything from running is over.
const LOOK: SignedDuration = SignedDuration::from_secs(60);
/// How often a run that an earlier agent began is looked at.
const ORPHAN_LOOK: SignedDuration = SignedDuration::from_secs(2);

/// The exit code of a project whose rollback was cut off.
const BLOCKED: u8 = 18;
/// The exit code of a project in which another run is under way.
const BUSY: u8 = 11;

/// Something does not run now.
struct Kept {
    /// When to look again.
    look_again: Option<Timestamp>,
    /// What `--once` ends with; without one it waits.
    code: Option<u8>,
}

/// A job that runs.
struct Under {
    start: Start,
    /// As it was started: the schedule may have lost its line since.
    order: Order,
    work: Box<dyn Work>,
}

/// A project.
pub struct Project {
    config: Arc<Config>,
    lines: Vec<Line>,
    memory: Memory,
    under: Option<Under>,
    /// What keeps it from running was said.
    blocked: bool,
    /// It failed, which was said, and is tried again then.
    failed: Option<Timestamp>,
    /// That an earlier run is waited for was said.
    waited: bool,
    /// Exit codes of what it ran.
    codes: Vec<u8>,
    _held: Held,
}

impl Project {
    /// Takes the project over; another agent of it is [`Class::Busy`].
    pub fn open(config: Arc<Config>, now: Timestamp) -> Result<Self> {
        let dir = &config.state_dir;
        if !dir.is_dir() {
            let what = format!("there is no state directory {}", dir.display());
            return Err(OpError::new(Class::Config, what).hint("run `backstay init` in the project's folder"));
        }
        let lock = agent_lock(dir);
        let held = lock
            .try_lock(AGENT, now)
            .doing(Class::Failed, || format!("cannot take the lock {}", lock.path().display()))?;
        let Some(held) = held else {
            let who = lock.holder().map(|holder| format!(": {holder}")).unwrap_or_default();
            let what = format!("another agent runs project {}{who}", config.project.name);
            return Err(OpError::new(Class::Busy, what)
                .hint("one agent is enough; `systemctl status` or `ps` says which it is"));
        };
        let memory = Memory::load(dir)?.unwrap_or_default();
        let lines = lines(&config);
        let mut project = Self {
            config,
            lines,
            memory,
            under: None,
            blocked: false,
            failed: None,
            waited: false,
            codes: Vec::new(),
            _held: held,
        };
        project.forget_cut_off()?;
        project.fit(now)?;
        Ok(project)
    }

    /// What was cut off, and has no line any more, is never begun again: unless it still runs, nobody waits for its end.
    fn forget_cut_off(&mut self) -> Result<()> {
        let lines = &self.lines;
        let known = |name: &String| lines.iter().any(|line| line.name == *name);
        let mut gone: Vec<_> = self
            .memory
            .jobs
            .iter_mut()
            .filter(|(name, job)| job.running.is_some() && !known(name))
            .map(|(_, job)| job)
            .collect();
        if !gone.is_empty() && !child::runs(&self.config.state_dir)? {
            gone.iter_mut().for_each(|job| job.running = None);
        }
        Ok(())
    }

    /// Its configuration.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Exit codes of what ended.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// True while a job of it runs.
    pub fn is_busy(&self) -> bool {
        self.under.is_some()
    }

    /// Goes on with another configuration. One that lies elsewhere, or has another state folder, needs another agent.
    pub fn reload(&mut self, config: Arc<Config>, now: Timestamp) -> Result<()> {
        if config.state_dir != self.config.state_dir {
            let what = format!("the state directory of project {} was changed", config.project.name);
            return Err(OpError::new(Class::Config, what).hint("restart the agent"));
        }
        self.lines = lines(&config);
        self.config = config;
        self.fit(now)
    }

    fn fit(&mut self, now: Timestamp) -> Result<()> {
        let names: Vec<&str> = self.lines.iter().map(|line| line.name.as_str()).collect();
        if self.memory.fit(names.iter().copied(), now) {
            self.memory.save(&self.config.state_dir)?;
        }
        Ok(())
    }

    /// Does what is to be done now; gives when there is something to do again, unless a job runs. What fails is said once and tried again: other
    /// projects of this agent have nothing to do with it.
    pub fn tick(&mut self, world: &mut dyn World) -> Option<Timestamp> {
        let now = world.now();
        // A clock that was set back must not make it wait for longer than it would have.
        if let Some(again) = self.failed.filter(|at| now < *at && at.duration_since(now) <= LOOK) {
            return Some(again);
        }
        match self.step(world) {
            Ok(at) => {
                if self.failed.take().is_some() {
                    world.say(&format!("{}: goes on", self.name()));
                }
                at
            }
            Err(e) => {
                if self.failed.is_none() {
                    self.complain(world, &e);
                }
                self.failed = now.checked_add(LOOK).ok();
                self.failed
            }
        }
    }

    fn complain(&self, world: &mut dyn World, error: &OpError) {
        world.warn(&format!("{}: {}", self.name(), words(error)));
    }

    fn step(&mut self, world: &mut dyn World) -> Result<Option<Timestamp>> {
        loop {
            if let Some(under) = &mut self.under {
                let Some(code) = under.work.poll() else { return Ok(None) };
                self.ended(world, code)?;
            }
            let now = world.now();
            // A clock that was ahead may be put right at any time, and what a wrong one noted must not be waited for.
            self.fit(now)?;
            match next(&self.lines, &self.memory, now) {
                Next::Wait(at) => return Ok(at),
                Next::Start(start) => {
                    if let Some(kept) = self.try_start(world, start)? {
                        return Ok(kept.look_again);
                    }
                }
            }
        }
    }

    /// What is due now, and nothing that becomes due meanwhile: for `--once`. True while there is something left.
    pub fn tick_once(&mut self, world: &mut dyn World, begun_at: Timestamp) -> bool {
        if self.failed.is_some() {
            return false;
        }
        self.step_once(world, begun_at).unwrap_or_else(|e| {
            self.complain(world, &e);
            self.failed = Some(begun_at);
            self.codes.push(1);
            false
        })
    }

    fn step_once(&mut self, world: &mut dyn World, begun_at: Timestamp) -> Result<bool> {
        loop {
            if let Some(under) = &mut self.under {
                let Some(code) = under.work.poll() else { return Ok(true) };
                self.ended(world, code)?;
            }
            match next(&self.lines, &self.memory, begun_at) {
                Next::Start(start) => {
                    if let Some(kept) = self.try_start(world, start)? {
                        self.codes.extend(kept.code);
                        return Ok(kept.code.is_none());
                    }
                }
                Next::Wait(_) => return Ok(false),
            }
        }
    }

    /// The code of a rollback that keeps `order` from running.
    fn kept_off(&mut self, world: &mut dyn World, order: &Order) -> Option<u8> {
        match world.unfinished(order) {
            None => {
                if std::mem::take(&mut self.blocked) {
                    world.say(&format!("{}: goes on", self.name()));
                }
                None
            }
            // Whoever runs it knows of it, and there is nothing to be done but to wait.
            Some(Unfinished::UnderWay) => Some(BUSY),
            Some(Unfinished::CutOff(error)) => {
                if !std::mem::replace(&mut self.blocked, true) {
                    let why = format!("nothing is run: {}", words(&error));
                    world.warn(&format!("{}: {why}", self.name()));
                    let (task, began) = (order.task.clone(), world.now());
                    world.untold(&self.config, &Untold { task, began, code: BLOCKED, why: Some(why) });
                }
                Some(BLOCKED)
            }
        }
    }

    /// Starts it, or gives what keeps it from running now.
    fn try_start(&mut self, world: &mut dyn World, start: Start) -> Result<Option<Kept>> {
        let now = world.now();
        let order = order(&self.config, &self.lines, &start);
        if let Some(code) = self.kept_off(world, &order) {
            return Ok(Some(Kept { look_again: now.checked_add(LOOK).ok(), code: Some(code) }));
        }
        if start.again {
            match world.orphan(&order)? {
                Orphan::Running => {
                    if !std::mem::replace(&mut self.waited, true) {
                        let what = title(&start);
                        world.say(&format!(
                            "{}: {what}: waits for the run that an earlier agent began",
                            self.name()
                        ));
                    }
                    return Ok(Some(Kept { look_again: now.checked_add(ORPHAN_LOOK).ok(), code: None }));
                }
                Orphan::Ended(code) if code < 128 => {
                    self.waited = false;
                    self.settle(world, (&start, &order), code, None)?;
                    return Ok(None);
                }
                Orphan::Ended(_) | Orphan::Gone => self.waited = false,
            }
        }
        self.memory.begin(&start, now);
        self.memory.save(&self.config.state_dir)?;
        crate::durable::crash::point("agent: run noted");
        if start.attempt == 0 && start.what != What::Sync {
            world.say(&format!("{}: {} begins{}", self.name(), title(&start), lateness(&start, now)));
        }
        match world.start(&order) {
            Ok(work) => {
                world.begun(&self.config, &order);
                self.under = Some(Under { start, order, work });
            }
            // A job whose line is gone outlived its agent: it ends, and then this one begins. That is no failure of anything.
            Err(e) if e.class == Class::Busy => {
                self.end(world, &start, End { code: BUSY, behind: false, made: false })?;
            }
            Err(e) => {
                let why = format!("it cannot be started: {}", chain_text(&e));
                world.warn(&format!("{}: {}: {why}", self.name(), title(&start)));
                self.settle(world, (&start, &order), 1, Some(why))?;
            }
        }
        Ok(None)
    }

    /// A job of ours has ended.
    fn ended(&mut self, world: &mut dyn World, code: u8) -> Result<()> {
        match self.under.take() {
            Some(under) => self.settle(world, (&under.start, &under.order), code, None),
            None => Ok(()),
        }
    }

    /// When the run that is noted as begun was.
    fn began(&self, start: &Start) -> Option<Timestamp> {
        match &start.what {
            What::Line(name) => Some(self.memory.jobs.get(name)?.running?.began),
            What::Sync => None,
        }
    }

    /// `why` is known where it could not be started.
    fn settle(
        &mut self,
        world: &mut dyn World,
        (start, order): (&Start, &Order),
        code: u8,
        why: Option<String>,
    ) -> Result<()> {
        let said = world.said(order);
        if !said.is_some_and(|said| said.told) {
            let began = self.began(start).unwrap_or_else(|| world.now());
            world.untold(&self.config, &Untold { task: order.task.clone(), began, code, why });
        }
        let (behind, made) = said.map_or((false, false), |said| (said.behind, said.made));
        self.end(world, start, End { code, behind, made })
    }

    /// A run has ended, or did not begin, and whoever is to be told of that was, or will be.
    fn end(&mut self, world: &mut dyn World, start: &Start, end: End) -> Result<()> {
        let code = end.code;
        let line = match &start.what {
            What::Line(name) => self.lines.iter().find(|line| line.name == *name),
            What::Sync => None,
        };
        let turn = self.memory.end(start, line, end, world.now());
        self.memory.save(&self.config.state_dir)?;
        crate::durable::crash::point("agent: end noted");
        self.codes.push(code);
        world.ended(&self.config);
        if let Some(text) = told(start, code, turn) {
            let line = format!("{}: {}{text}", self.name(), title(start));
            match is_trouble(code, turn) {
                true => world.warn(&line),
                false => world.say(&line),
            }
        }
        Ok(())
    }

    /// Asks what runs to end.
    pub fn stop(&mut self) {
        if let Some(under) = &mut self.under {
            under.work.stop();
        }
    }

    /// True while services are down for the capture of what runs: it starts them again before it ends.
    pub fn has_services_down(&self) -> bool {
        self.under.is_some() && stopped::any(&self.config.state_dir)
    }

    /// After [`Self::stop`]: true when nothing runs any more. What was not done is due as before.
    pub fn stopped(&mut self, world: &mut dyn World) -> bool {
        self.settled(world).unwrap_or_else(|e| {
            self.complain(world, &e);
            true
        })
    }

    fn settled(&mut self, world: &mut dyn World) -> Result<bool> {
        let Some(under) = &mut self.under else { return Ok(true) };
        let Some(code) = under.work.poll() else { return Ok(false) };
        if code < 128 {
            // It was done before it heard.
            self.ended(world, code)?;
        } else if let Some(Under { start, .. }) = self.under.take() {
            self.memory.abandon(&start);
            self.memory.save(&self.config.state_dir)?;
            world.say(&format!(
                "{}: {} was ended; it is run again when the agent is",
                self.name(),
                title(&start)
            ));
            if let Some(what) = left_down(&self.config) {
                world.warn(&format!("{}: {what}", self.name()));
            }
        }
        Ok(true)
    }

    fn name(&self) -> &str {
        &self.config.project.name
    }
}
