//! Telling people: trouble once, its end once, by whatever the configuration names; and a dead-man service, which tells them when nothing runs.
//!
//! What was told to whom is remembered in the state folder, so that neither a retry, nor another command, nor a restart tells it again, and what could
//! not be told (the network was away) is told when it can be. This module must never change the outcome of what it tells of, never show an address or a token that is
//! secret, and never call trouble over before the same thing went well.

mod deliver;
mod judge;
mod memory;
mod message;
mod ping;
mod post;
pub(super) mod secret;

pub use judge::{Outcome, Task};
pub use message::Message;

use crate::config::{Config, Tell};
use crate::durable::{DurableError, FileLock};
use crate::model::Timestamp;
use crate::ops::restore::read::chain_text;
use memory::Memory;
use std::ops::ControlFlow;
use std::time::Duration;

/// Another command may be telling; it is waited for so long.
const WAIT: Duration = Duration::from_secs(60);

/// What telling needs.
pub struct Teller<'a> {
    /// Who is told.
    pub config: &'a Config,
    /// The time.
    pub now: Timestamp,
    /// The program is to end.
    pub stopped: &'a dyn Fn() -> bool,
    /// Waits for another that tells, or breaks off.
    pub pause: &'a dyn Fn(Duration) -> ControlFlow<()>,
}

impl Teller<'_> {
    /// True when there is somebody to tell.
    fn any(&self) -> bool {
        !self.config.notify.targets.is_empty() || self.config.notify.ping.is_some()
    }

    /// A run begins. Gives what could not be told, for people.
    pub fn begin(&self, task: &Task) -> Vec<String> {
        if !self.any() || !task.is_backup() {
            return Vec::new();
        }
        self.ping(ping::Beat::Start).into_iter().collect()
    }

    /// A run has ended. Gives what could not be told, for people.
    pub fn end(&self, outcome: &Outcome) -> Vec<String> {
        let changed = |memory: &mut Memory| judge::judge(self.config, memory, outcome, self.now);
        let mut said = Vec::new();
        let beat = self.with_memory(true, changed, &mut said).and_then(|memory| ping::beat(&memory, outcome));
        said.extend(beat.and_then(|beat| self.ping(beat)));
        said
    }

    /// Nothing ended: whether nothing was well for too long, and what could not be told before. Gives what could not be told, for people.
    pub fn watch(&self) -> Vec<String> {
        let mut said = Vec::new();
        self.with_memory(false, |memory| judge::stale(self.config, memory, self.now), &mut said);
        said
    }

    /// Changes the memory, tells what has to be told, and gives the memory back.
    fn with_memory(
        &self,
        ended: bool,
        change: impl FnOnce(&mut Memory),
        said: &mut Vec<String>,
    ) -> Option<Memory> {
        if !self.any() {
            return None;
        }
        let dir = &self.config.state_dir;
        let lock = FileLock::new(dir.join(memory::LOCK));
        let mut pause = |time| (self.pause)(time);
        let held = match lock.lock_wait("telling", &|| self.now, Some(WAIT), &mut pause) {
            Ok(held) => held,
            // Whoever tells now tells of this, too; of the end of a run only that run can.
            Err(DurableError::Busy { .. }) if !ended => return None,
            Err(e) => {
                said.push(format!("nobody is told how this ended: {}", chain_text(&e)));
                return None;
            }
        };
        let mut memory = Memory::load(dir, self.now).unwrap_or_else(|why| {
            said.push(format!("{why}; what was told before is forgotten, and may be told again"));
            Memory::new(self.now)
        });
        let before = memory.clone();
        change(&mut memory);
        said.extend(self.deliver(&mut memory));
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

/// True when `target` is to hear of `tell`.
fn wants(target: &crate::config::Target, tell: Tell) -> bool {
    target.events.is_empty() || target.events.contains(&tell)
}

#[cfg(test)]
mod tests;
