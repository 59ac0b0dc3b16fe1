//! The loop: looks what is due in each project, waits, hears signals, and tells the service manager.

use crate::agent::project::{Project, worst};
use crate::agent::socket::Socket;
use crate::agent::world::World;
use crate::config::Config;
use crate::model::Timestamp;
use crate::ops::error::{OpError, Result};
use crate::ops::restore::read::chain_text;
use jiff::tz::TimeZone;
use std::sync::Arc;

/// What the world asks of the agent.
pub trait Ask {
    /// It is to end.
    fn end(&self) -> bool;
    /// Once for each time that the configuration is to be read again.
    fn reload(&self) -> bool;
    /// Reads the configurations, in the order of the projects.
    fn load(&self) -> Result<Vec<Arc<Config>>>;
}

/// How the agent works.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Run what is due, and end.
    pub once: bool,
}

/// The agent.
pub struct Agent {
    projects: Vec<Project>,
    socket: Socket,
    /// The last status told.
    told: String,
}

impl Agent {
    /// Of `projects`.
    pub fn new(projects: Vec<Project>, socket: Socket) -> Self {
        Self { projects, socket, told: String::new() }
    }

    /// Runs until it is asked to end, or with `once` until nothing is due. Gives the exit code.
    pub fn run(&mut self, world: &mut dyn World, ask: &dyn Ask, options: Options) -> Result<u8> {
        match options.once {
            true => self.once(world, ask),
            false => self.stay(world, ask),
        }
    }

    fn once(&mut self, world: &mut dyn World, ask: &dyn Ask) -> Result<u8> {
        let begun_at = world.now();
        loop {
            let mut left = false;
            for project in &mut self.projects {
                left |= project.tick_once(world, begun_at)?;
            }
            if ask.end() {
                self.stop(world)?;
                return Ok(143);
            }
            if !left {
                break;
            }
            world.wait(None, true);
        }
        for project in &self.projects {
            world.watch(project.config());
        }
        let codes: Vec<u8> = self.projects.iter().flat_map(|p| p.codes().to_vec()).collect();
        Ok(worst(&codes))
    }

    fn stay(&mut self, world: &mut dyn World, ask: &dyn Ask) -> Result<u8> {
        world.begin(&self.configs());
        self.socket.send("READY=1");
        while !ask.end() {
            if ask.reload() {
                self.reload(world, ask);
            }
            let mut wake: Option<Timestamp> = None;
            for project in &mut self.projects {
                wake = wake.into_iter().chain(project.tick(world)?).min();
                world.watch(project.config());
            }
            self.tell_status(wake);
            self.socket.send("WATCHDOG=1");
            let busy = self.projects.iter().any(Project::is_busy);
            world.wait(wake, busy);
        }
        self.socket.send("STOPPING=1");
        self.stop(world)?;
        world.end();
        world.say("the agent ends");
        Ok(0)
    }

    fn configs(&self) -> Vec<Arc<Config>> {
        self.projects.iter().map(|project| Arc::clone(project.config())).collect()
    }

    /// Ends what runs, and waits for its end.
    fn stop(&mut self, world: &mut dyn World) -> Result<()> {
        self.projects.iter_mut().for_each(Project::stop);
        loop {
            let mut all = true;
            for project in &mut self.projects {
                all &= project.stopped(world)?;
            }
            if all {
                return Ok(());
            }
            self.socket.send("WATCHDOG=1");
            world.wait(None, true);
        }
    }

    /// All of the new configurations, or none: half of a change is one that nobody made.
    fn reload(&mut self, world: &mut dyn World, ask: &dyn Ask) {
        self.socket.reloading();
        let now = world.now();
        let done = ask.load().and_then(|configs| {
            let changed = |p: &Project, c: &Arc<Config>| p.config().state_dir != c.state_dir;
            let moved = self.projects.iter().zip(&configs).find(|(p, c)| changed(p, c));
            if let Some((_, config)) = moved {
                let what = format!("the state directory of project {} was changed", config.project.name);
                return Err(OpError::new(crate::ops::error::Class::Config, what).hint("restart the agent"));
            }
            world.change(&configs)?;
            let before = self.configs();
            let reloaded = self.projects.iter_mut().zip(configs);
            reloaded.into_iter().try_for_each(|(project, config)| project.reload(config, now)).inspect_err(
                |_| {
                    // Nothing more can be done for it than that; it is tried again by the next reload.
                    let _kept = world.change(&before);
                },
            )
        });
        match done {
            Ok(()) => world.say("the configuration was read again"),
            Err(e) => {
                let hint = e.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
                world.say(&format!(
                    "the configuration is refused, and the one from before kept: {}{hint}",
                    chain_text(&e)
                ));
            }
        }
        self.socket.send("READY=1");
    }

    fn tell_status(&mut self, wake: Option<Timestamp>) {
        let running: Vec<&str> =
            self.projects.iter().filter(|p| p.is_busy()).map(|p| p.config().project.name.as_str()).collect();
        let text = match (running.is_empty(), wake) {
            (false, _) => format!("at work: {}", running.join(", ")),
            (true, Some(at)) => {
                format!("next: {}", at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z"))
            }
            (true, None) => "nothing is scheduled".to_owned(),
        };
        if text != self.told {
            self.socket.status(&text);
            self.told = text;
        }
    }
}
