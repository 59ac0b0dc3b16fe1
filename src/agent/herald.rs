//! Telling in threads of its own, one a project: whoever is told may take their time, and the agent does not wait for them.
//!
//! What is to be told lies in the state folder. A thread that is busy needs no second word that there is something, so its queue is short, and a full one loses nothing.

use crate::agent::tell::{Task, Teller};
use crate::config::Config;
use crate::model::Clock;
use crate::ops::interrupt::Interrupt;
use crate::ops::lock::pause;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

/// Words that wait for one project.
const QUEUE: usize = 8;
/// So long it takes at most to end a command that tells, after somebody asked for the end; the agent itself has ten seconds.
const ENDING: Duration = Duration::from_secs(7);
/// How often it is looked whether somebody asked.
const LOOK: Duration = Duration::from_millis(100);

/// What a thread has to do.
enum Word {
    /// A backup begins.
    Begun(Arc<Config>),
    /// There may be something to tell.
    Look(Arc<Config>),
}

/// What the threads need.
#[derive(Clone)]
struct Means {
    clock: Arc<dyn Clock>,
    interrupt: Interrupt,
    /// Tells people of this machine what could not be told to others.
    say: fn(&str),
}

/// The threads.
pub struct Heralds {
    means: Means,
    /// By state folder.
    queues: BTreeMap<PathBuf, SyncSender<Word>>,
    /// Each thread has one of these; when all are gone, all threads are.
    alive: Sender<()>,
    ended: Receiver<()>,
}

impl Heralds {
    /// No thread is there yet.
    pub fn new(clock: Arc<dyn Clock>, interrupt: Interrupt, say: fn(&str)) -> Self {
        let (alive, ended) = channel();
        Self { means: Means { clock, interrupt, say }, queues: BTreeMap::new(), alive, ended }
    }

    /// A backup of `config` begins. Does not wait.
    pub fn begun(&mut self, config: &Arc<Config>) {
        if config.notify.ping.as_ref().is_some_and(|ping| ping.all) {
            self.give(config, Word::Begun);
        }
    }

    /// There may be something to tell in the project of `config`. Does not wait.
    pub fn look(&mut self, config: &Arc<Config>) {
        if !config.notify.targets.is_empty() || config.notify.ping.is_some() {
            self.give(config, Word::Look);
        }
    }

    fn give(&mut self, config: &Arc<Config>, word: fn(Arc<Config>) -> Word) {
        let (means, alive) = (&self.means, &self.alive);
        let queue = self.queues.entry(config.state_dir.clone()).or_insert_with(|| {
            let (queue, words) = sync_channel(QUEUE);
            let (means, alive) = (means.clone(), alive.clone());
            std::thread::spawn(move || {
                words.into_iter().for_each(|word| means.tell(&word));
                drop(alive);
            });
            queue
        });
        // A full queue holds a look already, and that finds whatever there is.
        let _full = queue.try_send(word(Arc::clone(config)));
    }

    /// Waits until all is told, or, once somebody asks for the end, until whoever is being told was left.
    pub fn finish(self) {
        let Self { means, queues, alive, ended } = self;
        drop((queues, alive));
        let mut asked: Option<Instant> = None;
        while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            if means.interrupt.signal().is_some() && asked.get_or_insert_with(Instant::now).elapsed() > ENDING
            {
                return;
            }
        }
    }
}

impl Means {
    fn tell(&self, word: &Word) {
        let (Word::Begun(config) | Word::Look(config)) = word;
        let stopped = || self.interrupt.signal().is_some();
        if stopped() {
            return;
        }
        let pause = |time| pause(&self.interrupt, time);
        let teller = Teller { config, now: self.clock.now(), stopped: &stopped, pause: &pause };
        let said = match word {
            Word::Begun(_) => teller.start(&Task::Backup(Vec::new())),
            Word::Look(_) => teller.watch(),
        };
        // What was broken off because the end was asked for is told by the next agent.
        for line in said.into_iter().filter(|_| !stopped()) {
            (self.say)(&format!("warning: {}: {line}", config.project.name));
        }
    }
}
