//! Who has to hear what now. Each trouble is told once to each, and its end once to whoever heard of it, or would have if that had been possible.

use crate::agent::tell::memory::{Memory, TELLS, Told, Trouble};
use crate::agent::tell::message::Message;
use crate::agent::tell::{Teller, WAIT, post, wants};
use crate::config::{Address, Target, Tell, Way};
use crate::durable::{DurableError, FileLock};
use crate::ops::restore::read::chain_text;
use crate::service::{Around, run_line};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::channel;

/// The dead-man service among the deaf; no target has that name.
const PING: &str = "ping";

/// What is wrong may change while it is told; what changes more often than this waits for the next look.
const ROUNDS: usize = 4;

/// Told, or not: a target with what it knows now, or the dead-man service.
enum Heard {
    Target(String, BTreeMap<String, Told>, Result<(), String>),
    Beat(Option<String>),
}

impl Teller<'_> {
    /// Tells everybody what they have not heard yet. Gives what could not be told, for people.
    ///
    /// All are told at the same time, so that one who does not answer keeps no other from hearing; and what each has heard is remembered at once.
    pub fn tell(&self) -> Vec<String> {
        let mut said = Vec::new();
        if !self.any() {
            return said;
        }
        let lock = FileLock::new(self.config.state_dir.join(TELLS));
        let mut pause = |time| (self.pause)(time);
        let held = match lock.lock_wait("telling", &|| self.now, Some(WAIT), &mut pause) {
            Ok(held) => held,
            // Whoever tells now looks again before it is done.
            Err(DurableError::Busy { .. }) => return said,
            Err(e) => {
                said.push(format!("nobody can be told now: {}", chain_text(&e)));
                return said;
            }
        };
        let mut deaf = BTreeSet::new();
        for _ in 0..ROUNDS {
            if !self.round(&mut deaf, &mut said) {
                break;
            }
        }
        drop(held);
        said
    }

    /// Tells once all who are not `deaf`. True when there is something new to tell since.
    fn round(&self, deaf: &mut BTreeSet<String>, said: &mut Vec<String>) -> bool {
        let targets = &self.config.notify.targets;
        let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
        let mut beat = None;
        let forget = |memory: &mut Memory| {
            memory.told.retain(|name, _| names.contains(name));
            beat = self.waiting(memory);
        };
        let Some(memory) = self.change(forget, said) else { return false };
        let (told, heard) = channel();
        std::thread::scope(|scope| {
            let (mut begun, troubles) = (BTreeSet::new(), &memory.troubles);
            for (target, name) in targets.iter().zip(names) {
                // One that stands there twice is told once.
                if deaf.contains(&name) || !begun.insert(name.clone()) {
                    continue;
                }
                let mut knows = memory.told.get(&name).cloned().unwrap_or_default();
                let told = told.clone();
                scope.spawn(move || {
                    let sent = self.tell_one(target, troubles, &mut knows);
                    let _nobody_waits = told.send(Heard::Target(name, knows, sent));
                });
            }
            if let Some(beat) = beat.filter(|_| !deaf.contains(PING)) {
                let told = told.clone();
                scope.spawn(move || told.send(Heard::Beat(self.ping(beat))));
            }
            drop(told);
            for one in heard {
                self.remember(one, &memory, deaf, said);
            }
        });
        let mut new = false;
        let look = |now: &mut Memory| {
            let beats = now.beat.is_some() && now.beat != memory.beat;
            new = beats || now.troubles != memory.troubles;
        };
        self.change(look, said);
        new && !(self.stopped)()
    }

    /// What one has heard is remembered, or that it could not.
    fn remember(&self, one: Heard, before: &Memory, deaf: &mut BTreeSet<String>, said: &mut Vec<String>) {
        let change = |memory: &mut Memory| match &one {
            Heard::Target(name, knows, _) if knows.is_empty() => drop(memory.told.remove(name)),
            Heard::Target(name, knows, _) => drop(memory.told.insert(name.clone(), knows.clone())),
            Heard::Beat(None) if memory.beat == before.beat => memory.beat = None,
            Heard::Beat(_) => {}
        };
        self.change(change, said);
        match one {
            Heard::Target(name, _, Err(why)) => {
                said.push(format!("{name} could not be told: {why}"));
                deaf.insert(name);
            }
            Heard::Beat(Some(why)) => {
                said.push(why);
                deaf.insert(PING.to_owned());
            }
            Heard::Target(_, _, Ok(())) | Heard::Beat(None) => {}
        }
    }

    /// Ends at the first message that cannot be sent: the next ones could not either.
    fn tell_one(
        &self,
        target: &Target,
        troubles: &BTreeMap<String, Trouble>,
        told: &mut BTreeMap<String, Told>,
    ) -> Result<(), String> {
        let mut unsent = None;
        for (about, trouble) in troubles {
            let event =
                Tell::ALL.into_iter().find(|tell| tell.word() == trouble.event).unwrap_or(Tell::Failure);
            let heard = told.get(about).and_then(|told| told.event.as_deref()) == Some(&*trouble.event);
            if heard || !wants(target, event) {
                continue;
            }
            let sent = match &unsent {
                None => self.send(target, &Message::trouble(self.config, event, about, trouble, self.now)),
                Some(why) => Err(String::clone(why)),
            };
            let before = told.get(about).and_then(|told| told.event.clone());
            let event = if sent.is_ok() { Some(trouble.event.clone()) } else { before };
            told.insert(about.clone(), Told { event, since: trouble.since, title: trouble.title.clone() });
            unsent = unsent.or(sent.err());
        }
        let over: Vec<String> = told.keys().filter(|about| !troubles.contains_key(*about)).cloned().collect();
        for about in over {
            let Some(was) = told.get(&about) else { continue };
            if unsent.is_none() && wants(target, Tell::Recovery) {
                unsent = self.send(target, &Message::recovery(self.config, &about, was, self.now)).err();
            }
            if unsent.is_none() {
                told.remove(&about);
            }
        }
        unsent.map_or(Ok(()), Err)
    }

    /// Tells `target` one thing.
    pub(super) fn send(&self, target: &Target, message: &Message) -> Result<(), String> {
        match &target.way {
            Way::Command(line) => {
                let around = Around { dir: &self.config.dir, stopped: self.stopped };
                let variables = message.variables();
                run_line(&around, "notification", line, &variables, target.within).map_err(|e| chain_text(&e))
            }
            Way::Mail(mail) => super::mail::send(mail, message, target.within, self.stopped),
            Way::Post { form, to } => {
                let token = target.token.as_ref().map(super::secret::read).transpose()?;
                let secret;
                let url = match to {
                    Address::Plain(url) => url,
                    Address::Secret(place) => {
                        secret = super::secret::read(place)?;
                        &*secret
                    }
                };
                let letter = message.letter(*form)?;
                let token = token.as_ref().map(|token| token.as_str());
                post::post(url, &letter, token, target.within, self.stopped)
            }
        }
    }
}
