//! `agent`: the machine's time, children and signals for what [`crate::agent`] decides.

use crate::agent::metrics;
use crate::agent::page::{self, Pages};
use crate::agent::tell::Teller;
use crate::agent::{
    Agent, Ask, Children, Form, Looks, Options, Order, Orphan, Project, Socket, Work, World, print,
};
use crate::cli::args::{AgentArgs, PrintFor};
use crate::cli::{Terminal, open, out, say};
use crate::config::Config;
use crate::model::{Clock, Timestamp};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::restore::read::chain_text;
use crate::ops::surroundings::Surroundings;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// While a job runs, and while a signal may come: how often it is looked.
const LOOK: Duration = Duration::from_millis(200);
/// Without a watchdog: how long nothing need happen.
const LONGEST: Duration = Duration::from_secs(30);
/// How often it is looked whether somebody has to be told of what did not happen.
const WATCH: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// Runs `agent`.
pub(super) fn run(terminal: &Terminal, args: &AgentArgs) -> Result<u8> {
    let paths = paths(terminal)?;
    let configs = load(&paths)?;
    if let Some(form) = args.print {
        return show(terminal, form, &paths, &configs);
    }
    unscheduled(&configs)?;
    let around = open::surroundings(terminal)?;
    let hangup = Arc::new(AtomicBool::new(false));
    if let Err(e) = signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&hangup)) {
        say(&format!(
            "warning: SIGHUP cannot be caught ({e}); the configuration is read again only after a restart"
        ));
    }
    let projects: Vec<Project> = configs
        .iter()
        .map(|config| Project::open(Arc::clone(config), around.clock.now()))
        .collect::<Result<_>>()?;
    page::wanted(&configs)?;
    let socket = Socket::from_environment();
    let wants = Wants { paths, hangup: Arc::clone(&hangup), interrupt: terminal.interrupt.clone() };
    let mut machine = Machine::new(terminal, &around, &socket, hangup);
    let code = Agent::new(projects, socket).run(&mut machine, &wants, Options { once: args.once })?;
    // Asked to end, it was ended as that wants it.
    Ok(if args.once && code == 143 { 128 + signal(&terminal.interrupt) } else { code })
}

fn signal(interrupt: &Interrupt) -> u8 {
    interrupt.signal().and_then(|signal| u8::try_from(signal).ok()).unwrap_or(15)
}

/// The configurations that are meant: each `--config`, or the one of this place.
fn paths(terminal: &Terminal) -> Result<Vec<PathBuf>> {
    if terminal.global.kit.is_some() {
        return Err(OpError::new(Class::Usage, "`agent` needs a configuration, and --kit gives none"));
    }
    match &terminal.global.config[..] {
        [] => Ok(vec![open::config_path(terminal)?]),
        several => several.iter().map(|path| super::tidy(path)).collect(),
    }
}

fn load(paths: &[PathBuf]) -> Result<Vec<Arc<Config>>> {
    let configs: Vec<Arc<Config>> =
        paths.iter().map(|path| open::load_config(path).map(Arc::new)).collect::<Result<_>>()?;
    let mut dirs = BTreeSet::new();
    for config in &configs {
        if !dirs.insert(&config.state_dir) {
            let what = format!("two projects have the state directory {}", config.state_dir.display());
            return Err(OpError::new(Class::Config, what)
                .hint("give each configuration once, and each project its own"));
        }
    }
    Ok(configs)
}

/// An agent that would never run anything is a mistake.
fn unscheduled(configs: &[Arc<Config>]) -> Result<()> {
    let Some(config) = configs.iter().find(|config| config.schedule.is_none()) else { return Ok(()) };
    let what = format!("{} has no [schedule], so there is nothing to run", config.path.display());
    Err(OpError::new(Class::Config, what)
        .hint("add [schedule] with backup = [\"0 3 * * *\"]; docs/agent.md says more"))
}

fn show(terminal: &Terminal, form: PrintFor, paths: &[PathBuf], configs: &[Arc<Config>]) -> Result<u8> {
    let form = match form {
        PrintFor::Systemd => Form::Systemd,
        PrintFor::Timer => Form::Timer,
        PrintFor::Cron => Form::Cron,
    };
    let exe = std::env::current_exe().doing(Class::Failed, || "this program cannot find itself".into())?;
    let files: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let dirs: Vec<&Path> = configs.iter().map(|config| config.state_dir.as_path()).collect();
    let text = print(form, &exe, &files, &dirs);
    if terminal.global.json {
        crate::cli::render::json(&serde_json::json!({ "text": text }))?;
    } else {
        out(&text)?;
    }
    Ok(0)
}

/// What signals ask for.
struct Wants {
    paths: Vec<PathBuf>,
    hangup: Arc<AtomicBool>,
    interrupt: Interrupt,
}

impl Ask for Wants {
    fn end(&self) -> bool {
        self.interrupt.signal().is_some()
    }

    fn reload(&self) -> bool {
        self.hangup.swap(false, Ordering::Relaxed)
    }

    fn load(&self) -> Result<Vec<Arc<Config>>> {
        let configs = load(&self.paths)?;
        unscheduled(&configs)?;
        page::wanted(&configs)?;
        Ok(configs)
    }
}

/// This machine.
struct Machine {
    clock: Arc<dyn Clock>,
    children: Children,
    interrupt: Interrupt,
    hangup: Arc<AtomicBool>,
    longest: Duration,
    quiet: bool,
    /// When it was last looked whether somebody has to be told, by state folder.
    watched: BTreeMap<PathBuf, Timestamp>,
    pages: Pages,
    looks: Looks,
}

impl Machine {
    fn new(terminal: &Terminal, around: &Surroundings, socket: &Socket, hangup: Arc<AtomicBool>) -> Self {
        let global = &terminal.global;
        let mut before: Vec<OsString> = Vec::new();
        for identity in &global.identities {
            before.extend(["--identity".into(), identity.clone().into_os_string()]);
        }
        if global.quiet {
            before.push("--quiet".into());
        }
        if global.verbose {
            before.push("--verbose".into());
        }
        Self {
            clock: Arc::clone(&around.clock),
            children: Children { exe: around.exe.clone(), before },
            interrupt: terminal.interrupt.clone(),
            hangup,
            longest: socket.beat().unwrap_or(LONGEST).min(LONGEST),
            quiet: global.quiet,
            watched: BTreeMap::new(),
            pages: Pages::new(Arc::clone(&around.clock)),
            looks: Looks::new(around.exe.clone(), {
                let interrupt = terminal.interrupt.clone();
                Arc::new(move || interrupt.signal().is_some())
            }),
        }
    }
}

impl Machine {
    fn page_says(&self, word: Option<page::Word>) {
        if let Some(word) = word.filter(|word| word.warning || !self.quiet) {
            say(&word.text);
        }
    }
}

impl World for Machine {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn start(&mut self, order: &Order) -> Result<Box<dyn Work>> {
        self.children.start(order)
    }

    fn orphan(&mut self, order: &Order) -> Result<Orphan> {
        Children::orphan(order)
    }

    fn unfinished(&mut self, order: &Order) -> Option<String> {
        crate::ops::rollback::refuse_unfinished(&order.state_dir, "run").err().map(|error| {
            match &error.hint {
                Some(hint) => format!("{}; {hint}", chain_text(&error)),
                None => chain_text(&error),
            }
        })
    }

    fn watch(&mut self, config: &Arc<Config>) {
        let now = self.clock.now();
        if self.pages.any() {
            self.looks.look(config, now);
        }
        let due =
            self.watched.get(&config.state_dir).is_none_or(|last| now.duration_since(*last).abs() >= WATCH);
        if !due {
            return;
        }
        self.watched.insert(config.state_dir.clone(), now);
        let stopped = || self.interrupt.signal().is_some();
        // Whoever tells now tells of this, too.
        let pause = |_| std::ops::ControlFlow::Break(());
        let teller = Teller { config, now, stopped: &stopped, pause: &pause };
        let mut warnings = teller.watch();
        warnings.extend(metrics::refresh(config, now).err().map(|e| chain_text(&e)));
        for line in warnings {
            say(&format!("warning: {}: {line}", config.project.name));
        }
    }

    fn say(&mut self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }

    fn begin(&mut self, configs: &[Arc<Config>]) {
        let word = self.pages.begin(configs);
        self.page_says(word);
    }

    fn change(&mut self, configs: &[Arc<Config>]) -> Result<()> {
        if let Some(text) = self.pages.change(configs)? {
            self.say(&text);
        }
        Ok(())
    }

    fn end(&mut self) {
        self.pages.end();
        self.looks.end();
    }

    fn wait(&mut self, until: Option<Timestamp>, busy: bool) {
        let word = self.pages.beat();
        self.page_says(word);
        let mut waited = Duration::ZERO;
        // The clock on the wall is asked each time: it may be set, and the machine may sleep.
        let early = || until.is_none_or(|until| self.clock.now() < until);
        let quiet = || self.interrupt.signal().is_none() && !self.hangup.load(Ordering::Relaxed);
        while waited < self.longest && early() {
            std::thread::park_timeout(LOOK);
            waited += LOOK;
            if busy || !quiet() {
                return;
            }
        }
    }
}
