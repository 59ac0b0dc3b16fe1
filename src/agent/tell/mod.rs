//! Telling people: trouble once, its end once, by whatever the configuration names; and a dead-man service, which tells them when nothing runs.
//!
//! What was told to whom is remembered in the state folder, so that neither a retry, nor another command, nor a restart tells it again, and what could
//! not be told (the network was away) is told when it can be. This module must never change the outcome of what it tells of, never show an address or a token that is
//! secret, and never call trouble over before the same thing went well.

mod deliver;
mod judge;
mod mail;
mod memory;
mod message;
mod ping;
mod post;
pub(super) mod secret;

pub use judge::{Outcome, Task, is_part, says_nothing};
pub use message::Message;

use crate::config::{Config, Tell};
use crate::durable::{self, FileLock};
use crate::model::Timestamp;
use crate::ops::restore::read::chain_text;
use memory::Memory;
use std::ops::ControlFlow;
use std::time::Duration;

/// The memory is another's for moments only; whoever tells is waited for as long.
const WAIT: Duration = Duration::from_secs(60);

/// What telling needs.
pub struct Teller<'a> {
    /// Who is told.
    pub config: &'a Config,
    /// The time.
    pub now: Timestamp,
    /// The program is to end.
    pub stopped: &'a (dyn Fn() -> bool + Sync),
    /// Waits for another that tells, or breaks off.
    pub pause: &'a (dyn Fn(Duration) -> ControlFlow<()> + Sync),
}

/// Each gives what could not be told, for people. Only [`Self::start`] and [`Self::tell`] wait for those who are told.
impl Teller<'_> {
    /// True when there is somebody to tell.
    fn any(&self) -> bool {
        !self.config.notify.targets.is_empty() || self.config.notify.ping.is_some()
    }

    /// A run begins: what the dead-man service had not heard of an earlier one would be taken for word of this one.
    pub fn begun(&self, task: &Task) -> Vec<String> {
        let mut said = Vec::new();
        if self.config.notify.ping.is_some() && task.is_backup() {
            self.change(|memory| memory.beat = None, &mut said);
        }
        said
    }

    /// Tells the dead-man service that a run begins.
    pub fn start(&self, task: &Task) -> Vec<String> {
        let heard = task.is_backup().then(|| self.ping(ping::Beat::Start));
        heard.flatten().into_iter().collect()
    }

    /// Remembers how a run ended, for [`Self::tell`].
    pub fn note(&self, outcome: &Outcome) -> Vec<String> {
        let mut said = Vec::new();
        let change = |memory: &mut Memory| {
            judge::judge(self.config, memory, outcome, self.now);
            self.keep_beat(memory, outcome);
        };
        if self.any() && self.change(change, &mut said).is_none() {
            said.push("nobody is told how this ended".to_owned());
        }
        said
    }

    /// A run has ended.
    pub fn end(&self, outcome: &Outcome) -> Vec<String> {
        let mut said = self.note(outcome);
        said.extend(self.tell());
        said
    }

    /// Nothing ended: whether nothing was well for too long, and what could not be told before.
    pub fn watch(&self) -> Vec<String> {
        let mut said = Vec::new();
        if self.any() {
            self.change(|memory| judge::stale(self.config, memory, self.now), &mut said);
        }
        said.extend(self.tell());
        said
    }

    /// Changes the memory, and gives it.
    fn change(&self, change: impl FnOnce(&mut Memory), said: &mut Vec<String>) -> Option<Memory> {
        let dir = &self.config.state_dir;
        let lock = FileLock::new(dir.join(memory::LOCK));
        // Nobody holds it for long: also a program that is to end waits for its moment.
        let held = match lock.lock_wait("telling", &|| self.now, Some(WAIT), &mut durable::sleep) {
            Ok(held) => held,
            Err(e) => {
                said.push(format!("what is to be told cannot be remembered: {}", chain_text(&e)));
                return None;
            }
        };
        let mut memory = Memory::load(dir, self.now).unwrap_or_else(|why| {
            said.push(format!("{why}; what was told before is forgotten, and may be told again"));
            Memory::new(self.now)
        });
        let before = memory.clone();
        change(&mut memory);
        if memory != before
            && let Err(e) = memory.save(dir)
        {
            said.push(format!(
                "what was told cannot be remembered, and may be told again: {}",
                chain_text(&e)
            ));
        }
        drop(held);
        Some(memory)
    }

    /// Sends one of each to each. Gives the target, the event, and what came of it.
    pub fn test(&self) -> Vec<(String, Tell, Result<(), String>)> {
        let mut all = Vec::new();
        for target in &self.config.notify.targets {
            for tell in Tell::ALL.into_iter().filter(|tell| wants(target, *tell)) {
                let message = Message::test(self.config, tell, self.now);
                all.push((target.to_string(), tell, self.send(target, &message)));
            }
        }
        all
    }
}

/// Whether a kit of the project of `config` was ever proved. What cannot be read is no proof.
pub fn kit_proved(config: &Config) -> bool {
    let state = crate::catalog::State::open(&config.state_dir);
    state.is_ok_and(|state| state.kit_memory().proved.is_some())
}

/// True when `target` is to hear of `tell`.
fn wants(target: &crate::config::Target, tell: Tell) -> bool {
    target.events.is_empty() || target.events.contains(&tell)
}

#[cfg(test)]
mod tests;
