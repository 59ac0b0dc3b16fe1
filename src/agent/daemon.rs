//! The loop: looks what is due in each project, waits, hears signals, and tells the service manager.

use crate::agent::ends::worst;
use crate::agent::page;
use crate::agent::project::Project;
use crate::agent::socket::Socket;
use crate::agent::twins::twins;
use crate::agent::world::World;
use crate::config::Config;
use crate::model::Timestamp;
use crate::ops::error::{OpError, Result};
use crate::ops::restore::read::chain_text;
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the world asks of the agent.
pub trait Ask {
    /// It is to end.
    fn end(&self) -> bool;
    /// Once for each time that the configuration is to be read again.
    fn reload(&self) -> bool;
    /// Reads the configurations: the file of each, and what came of it.
    fn load(&self) -> Vec<(PathBuf, Result<Arc<Config>>)>;
}

/// Of the service manager, while what must not be cut short goes on: more than the pause between two looks, however slow the machine is.
const MORE_TIME: &str = "EXTEND_TIMEOUT_USEC=60000000";

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
    pub fn run(&mut self, world: &mut dyn World, ask: &dyn Ask, options: Options) -> u8 {
        match options.once {
            true => self.once(world, ask),
            false => self.stay(world, ask),
        }
    }

    fn once(&mut self, world: &mut dyn World, ask: &dyn Ask) -> u8 {
        let begun_at = world.now();
        loop {
            let mut left = false;
            for project in &mut self.projects {
                left |= project.tick_once(world, begun_at);
            }
            if ask.end() {
                self.stop(world);
                return 143;
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
        worst(&codes)
    }

    fn stay(&mut self, world: &mut dyn World, ask: &dyn Ask) -> u8 {
        world.begin(&self.configs());
        self.socket.send("READY=1");
        while !ask.end() {
            if ask.reload() {
                self.reload(world, ask);
            }
            let mut wake: Option<Timestamp> = None;
            for project in &mut self.projects {
                wake = wake.into_iter().chain(project.tick(world)).min();
                world.watch(project.config());
            }
            self.tell_status(wake);
            self.socket.send("WATCHDOG=1");
            let busy = self.projects.iter().any(Project::is_busy);
            world.wait(wake, busy);
        }
        self.socket.send("STOPPING=1");
        self.stop(world);
        world.end();
        world.say("the agent ends");
        0
    }

    fn configs(&self) -> Vec<Arc<Config>> {
        self.projects.iter().map(|project| Arc::clone(project.config())).collect()
    }

    /// Ends what runs, and waits for its end.
    fn stop(&mut self, world: &mut dyn World) {
        self.projects.iter_mut().for_each(Project::stop);
        for project in self.projects.iter().filter(|project| project.has_services_down()) {
            let name = &project.config().project.name;
            world.say(&format!("{name}: ends when what was stopped for the capture runs again"));
        }
        loop {
            let mut all = true;
            for project in &mut self.projects {
                all &= project.stopped(world);
            }
            if all {
                return;
            }
            self.socket.send("WATCHDOG=1");
            if self.projects.iter().any(Project::has_services_down) {
                self.socket.send(MORE_TIME);
            }
            world.wait(None, true);
        }
    }

    /// Each project by itself: a mistake in the file of one keeps no other from what was changed for it.
    fn reload(&mut self, world: &mut dyn World, ask: &dyn Ask) {
        self.socket.reloading();
        let mut loaded = ask.load();
        self.refuse_twins(&mut loaded);
        let after = self.after(&loaded);
        if let Err(e) = page::wanted(&after).and_then(|_| world.change(&after))
            && !self.refuse_pages(&mut loaded, &e)
        {
            world.warn(&format!("the status page stays as it was: {}", chain_text(&e)));
        }
        for (path, loaded) in loaded {
            match loaded.and_then(|config| self.take(&path, config, world.now())) {
                Ok(name) => world.say(&format!("{name}: the configuration was read again")),
                Err(e) => {
                    let known = self.projects.iter().find(|p| p.config().path == path);
                    let kept = known.map_or("its project does not run", |_| "the one from before kept");
                    let hint = e.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
                    let who = known.map_or(path.display().to_string(), |p| p.config().project.name.clone());
                    world.warn(&format!(
                        "{who}: the configuration is refused, and {kept}: {}{hint}",
                        chain_text(&e)
                    ));
                }
            }
        }
        // What was refused is shown as it was; a page that cannot be is tried again by the next reload.
        let _shown = world.change(&self.configs());
        self.socket.send("READY=1");
    }

    fn known(&self, path: &Path) -> Option<&Project> {
        self.projects.iter().find(|project| project.config().path == path)
    }

    /// The configurations as they are to be: of each project the new one, or the one from before where that is refused.
    fn after(&self, loaded: &[(PathBuf, Result<Arc<Config>>)]) -> Vec<Arc<Config>> {
        let one = |(path, new): &(PathBuf, Result<Arc<Config>>)| match new {
            Ok(config) => Some(Arc::clone(config)),
            Err(_) => self.known(path).map(|project| Arc::clone(project.config())),
        };
        loaded.iter().filter_map(one).collect()
    }

    /// What was read is compared with what stays as it was, too: a project whose new file is refused runs on under its name.
    fn refuse_twins(&self, loaded: &mut [(PathBuf, Result<Arc<Config>>)]) {
        for at in 0..loaded.len() {
            let after = self.after(loaded);
            let (path, new) = &mut loaded[at];
            let others = || after.iter().filter(|other| other.path != *path);
            let twin = new.as_ref().ok().and_then(|config| others().find_map(|other| twins(other, config)));
            if let Some(error) = twin {
                *new = Err(error);
            }
        }
    }

    /// The status page belongs to all projects: what would change it is refused with it, and nothing else. True when something was.
    fn refuse_pages(&self, loaded: &mut [(PathBuf, Result<Arc<Config>>)], error: &OpError) -> bool {
        let mut any = false;
        for (path, new) in loaded {
            let before = self.known(path).and_then(|project| project.config().agent.page.clone());
            if new.as_ref().is_ok_and(|config| config.agent.page != before) {
                let mut refused = OpError::new(error.class, chain_text(error));
                refused.hint.clone_from(&error.hint);
                *new = Err(refused);
                any = true;
            }
        }
        any
    }

    /// Goes on with `config`, or begins with it where its file was refused until now. Gives the project's name.
    fn take(&mut self, path: &Path, config: Arc<Config>, now: Timestamp) -> Result<String> {
        let name = config.project.name.clone();
        match self.projects.iter_mut().find(|project| project.config().path == path) {
            Some(project) => project.reload(config, now)?,
            None => self.projects.push(Project::open(config, now)?),
        }
        Ok(name)
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
