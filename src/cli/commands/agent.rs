//! `agent`: the machine's time, children and signals for what [`crate::agent`] decides.

use crate::agent::metrics;
use crate::agent::page::{self, Pages};
use crate::agent::{
    Agent, Ask, Children, Form, Heralds, Looks, Options, Order, Orphan, Project, Said, Socket, Untold, With,
    Work, World, print, twins, worst,
};
use crate::cli::args::{AgentArgs, PrintFor};
use crate::cli::{Terminal, exit, open, out, say};
use crate::config::Config;
use crate::model::{Clock, Timestamp};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::left_open::{Unfinished, unfinished_rollback};
use crate::ops::restore::read::chain_text;
use crate::ops::surroundings::Surroundings;
use crate::ops::timetable::{AGENT, agent_lock};
use std::collections::BTreeMap;
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
    if let Some(form) = args.print {
        let loaded = load(&paths);
        if let Some((_, error)) = twice(&loaded) {
            return Err(error);
        }
        let configs: Vec<_> = loaded.into_iter().map(|(_, config)| config).collect::<Result<_>>()?;
        return show(terminal, form, &paths, &configs);
    }
    let around = open::surroundings(terminal)?;
    let hangup = Arc::new(AtomicBool::new(false));
    if let Err(e) = signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&hangup)) {
        say(&format!(
            "warning: SIGHUP cannot be caught ({e}); the configuration is read again only after a restart"
        ));
    }
    let (projects, mut codes) = take_over(terminal, args.once, &paths, around.clock.now())?;
    let configs: Vec<Arc<Config>> = projects.iter().map(|project| Arc::clone(project.config())).collect();
    page::wanted(&configs)?;
    let socket = Socket::from_environment();
    let wants = Wants { paths, hangup: Arc::clone(&hangup), interrupt: terminal.interrupt.clone() };
    let mut machine = Machine::new(terminal, &around, &socket, hangup);
    let code = Agent::new(projects, socket).run(&mut machine, &wants, Options { once: args.once });
    machine.heralds.finish();
    match (args.once, code) {
        (false, code) => Ok(code),
        // Asked to end, it was ended as that wants it.
        (true, 143) => Ok(128 + signal(&terminal.interrupt)),
        (true, code) => {
            codes.push(code);
            Ok(worst(&codes))
        }
    }
}

/// Takes over every project that can be, and gives the exit codes of those that cannot: a mistake in the file of one keeps no other from its backups. With
/// none left that is the error. With `once` a project that an agent runs already needs no other: that is no error.
fn take_over(
    terminal: &Terminal,
    once: bool,
    paths: &[PathBuf],
    now: Timestamp,
) -> Result<(Vec<Project>, Vec<u8>)> {
    let (mut projects, mut failed) = (Vec::new(), Vec::new());
    let loaded = load(paths);
    // Which of two is meant only a person knows.
    if let Some((_, error)) = twice(&loaded) {
        return Err(error);
    }
    for (path, config) in loaded {
        let config = config.and_then(scheduled);
        let state_dir = config.as_ref().ok().map(|config| config.state_dir.clone());
        match config.and_then(|config| Project::open(config, now)) {
            Ok(project) => projects.push(project),
            Err(e) if once && e.class == Class::Busy && state_dir.is_some_and(|dir| is_run(&dir)) => {
                if terminal.global.verbose {
                    say(&e.to_string());
                }
            }
            Err(e) => failed.push((path, e)),
        }
    }
    if projects.is_empty()
        && let Some((_, error)) = failed.pop()
    {
        for (_, other) in &failed {
            exit::report(other, exit::code_of(other.class, None), false);
        }
        return Err(error);
    }
    let mut codes = Vec::new();
    for (path, error) in &failed {
        let code = exit::code_of(error.class, terminal.interrupt.signal());
        exit::report(error, code, false);
        say(&format!("warning: the project of {} is not run; the others are", path.display()));
        codes.push(code);
    }
    Ok((projects, codes))
}

/// True when another process is the agent of the project with this state folder.
fn is_run(state_dir: &Path) -> bool {
    let holder = agent_lock(state_dir).holder();
    holder.is_some_and(|holder| holder.what == AGENT && holder.pid != std::process::id())
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

/// Reads each configuration.
fn load(paths: &[PathBuf]) -> Vec<(PathBuf, Result<Arc<Config>>)> {
    paths.iter().map(|path| (path.clone(), open::load_config(path).map(Arc::new))).collect()
}

/// The first of several configurations that cannot be run beside one before it.
fn twice(loaded: &[(PathBuf, Result<Arc<Config>>)]) -> Option<(usize, OpError)> {
    let all: Vec<_> =
        loaded.iter().enumerate().filter_map(|(at, (_, c))| Some((at, c.as_ref().ok()?))).collect();
    let pairs = all.iter().enumerate().flat_map(|(n, later)| all[..n].iter().map(move |one| (one.1, later)));
    pairs.into_iter().find_map(|(one, (at, other))| {
        let error = twins(one, other)?;
        Some((*at, error))
    })
}

/// An agent that would never run anything is a mistake.
fn scheduled(config: Arc<Config>) -> Result<Arc<Config>> {
    if config.schedule.is_some() {
        return Ok(config);
    }
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
    // What runs it starts it elsewhere: a path that is relative here leads nowhere there.
    let own: Vec<PathBuf> =
        terminal.global.identities.iter().map(|path| super::tidy(path)).collect::<Result<_>>()?;
    let identities: Vec<&Path> = own.iter().map(PathBuf::as_path).collect();
    let text = print(form, &exe, With { configs: &files, identities: &identities }, &dirs);
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

    fn load(&self) -> Vec<(PathBuf, Result<Arc<Config>>)> {
        let mut loaded = load(&self.paths);
        while let Some((at, error)) = twice(&loaded) {
            loaded[at].1 = Err(error);
        }
        loaded.into_iter().map(|(path, config)| (path, config.and_then(scheduled))).collect()
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
    heralds: Heralds,
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
            heralds: Heralds::new(Arc::clone(&around.clock), terminal.interrupt.clone(), say),
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

    fn said(&mut self, order: &Order) -> Option<Said> {
        Children::said(order)
    }

    fn unfinished(&mut self, order: &Order) -> Option<Unfinished> {
        unfinished_rollback(&order.state_dir, self.clock.now())
    }

    fn begun(&mut self, config: &Arc<Config>, order: &Order) {
        if order.args.first().is_some_and(|command| command == "backup") {
            self.heralds.begun(config);
        }
    }

    fn untold(&mut self, config: &Arc<Config>, untold: &Untold) {
        for line in untold.note(config, self.clock.now(), &self.interrupt) {
            say(&format!("warning: {}: {line}", config.project.name));
        }
        self.heralds.look(config);
    }

    fn ended(&mut self, config: &Arc<Config>) {
        self.heralds.look(config);
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
        self.heralds.look(config);
        if let Err(e) = metrics::refresh(config, now) {
            say(&format!("warning: {}: {}", config.project.name, chain_text(&e)));
        }
    }

    fn say(&mut self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }

    fn warn(&mut self, text: &str) {
        say(text);
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
