//! Who has to hear what now. Each trouble is told once to each, and its end once to whoever heard of it, or would have if that had been possible.

use crate::agent::tell::memory::{Memory, Told, Trouble};
use crate::agent::tell::message::Message;
use crate::agent::tell::{Teller, post, wants};
use crate::config::{Address, Target, Tell, Way};
use crate::ops::restore::read::chain_text;
use crate::service::{Around, run_line};
use std::collections::BTreeMap;

impl Teller<'_> {
    /// Tells everybody what they have not heard yet. Gives what could not be told, for people.
    pub(super) fn deliver(&self, memory: &mut Memory) -> Vec<String> {
        let targets = &self.config.notify.targets;
        let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
        memory.told.retain(|name, _| names.contains(name));
        let mut said = Vec::new();
        for (target, name) in targets.iter().zip(names) {
            let mut told = memory.told.remove(&name).unwrap_or_default();
            if let Err(why) = self.tell_one(target, &memory.troubles, &mut told) {
                said.push(format!("{name} could not be told: {why}"));
            }
            if !told.is_empty() {
                memory.told.insert(name, told);
            }
        }
        said
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
