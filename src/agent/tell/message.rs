//! What is told, in the form that each wants.

use crate::agent::tell::memory::{Told, Trouble};
use crate::agent::tell::post::Letter;
use crate::config::{Config, PostForm, Tell};
use crate::model::Timestamp;
use crate::ops::doctor::span;
use crate::ops::timetable::host;
use serde::Serialize;

/// Services cut or refuse what is longer; what matters stands first.
const LONGEST: usize = 1500;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The word of what is told.
    pub event: &'static str,
    /// The project.
    pub project: String,
    /// This machine.
    pub host: String,
    /// What it is about: `backup`, `stores`, `kit`.
    pub about: String,
    /// In one line.
    pub title: String,
    /// In full.
    pub text: String,
    /// The exit code that told of it.
    pub exit_code: Option<u8>,
    /// Since when it is, or was, wrong.
    pub since: Timestamp,
    /// Now.
    pub time: Timestamp,
    /// Only a test: nothing happened.
    pub test: bool,
}

impl Message {
    fn new(config: &Config, tell: Tell, about: &str, title: &str, since: Timestamp, now: Timestamp) -> Self {
        Self {
            event: tell.word(),
            project: config.project.name.clone(),
            host: host(),
            about: about.to_owned(),
            title: format!("backstay: {}: {title}", config.project.name),
            text: String::new(),
            exit_code: None,
            since,
            time: now,
            test: false,
        }
    }

    pub(super) fn trouble(config: &Config, tell: Tell, about: &str, of: &Trouble, now: Timestamp) -> Self {
        let text = cut(&of.text);
        Self { text, exit_code: of.code, ..Self::new(config, tell, about, &of.title, of.since, now) }
    }

    pub(super) fn recovery(config: &Config, about: &str, of: &Told, now: Timestamp) -> Self {
        let lasted = span(now.duration_since(of.since).as_secs());
        let unheard = if of.event.is_none() { "; it could not be told when it was" } else { "" };
        let text = format!("for {lasted} it was so: {}{unheard}", of.title);
        let title = format!("{about}: well again");
        Self { text, ..Self::new(config, Tell::Recovery, about, &title, of.since, now) }
    }

    pub(super) fn test(config: &Config, tell: Tell, now: Timestamp) -> Self {
        let title = format!("TEST of {:?}: nothing happened", tell.word());
        let text = "`backstay doctor --notify` sent this to see whether it arrives".to_owned();
        Self { text, test: true, ..Self::new(config, tell, "test", &title, now, now) }
    }

    fn is_grave(&self) -> bool {
        !["recovery", "kit"].contains(&self.event)
    }

    /// For a command.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("BACKSTAY_EVENT", self.event.to_owned()),
            ("BACKSTAY_PROJECT", self.project.clone()),
            ("BACKSTAY_TITLE", self.title.clone()),
            ("BACKSTAY_TEXT", self.text.clone()),
        ]
    }

    /// For a request.
    pub(super) fn letter(&self, form: PostForm) -> Result<Letter, String> {
        let both = |title: String| format!("{title}\n{} ({})", self.text, self.host);
        match form {
            PostForm::Json => json(self),
            PostForm::Slack => {
                let escape =
                    |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                let text = escape(&both(format!("*{}*", self.title)));
                json(&serde_json::json!({ "text": text }))
            }
            PostForm::Discord => {
                // Nobody is to be called by what a path happens to contain.
                let quiet = serde_json::json!({ "parse": [] });
                let content = both(format!("**{}**", self.title));
                json(&serde_json::json!({ "content": content, "allowed_mentions": quiet }))
            }
            PostForm::Ntfy => {
                let (priority, tag) =
                    if self.is_grave() { ("4", "warning") } else { ("3", "white_check_mark") };
                let headers = vec![
                    ("title", header(&self.title)),
                    ("priority", priority.to_owned()),
                    ("tags", tag.to_owned()),
                ];
                Ok(Letter { headers, body: format!("{} ({})", self.text, self.host) })
            }
        }
    }
}

fn json(value: &impl Serialize) -> Result<Letter, String> {
    let body = serde_json::to_string(value).map_err(|e| format!("the message cannot be written: {e}"))?;
    Ok(Letter { headers: vec![("content-type", "application/json".to_owned())], body })
}

/// Headers are ASCII; other texts are wrapped as mail does it (RFC 2047).
fn header(text: &str) -> String {
    match text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        true => text.to_owned(),
        false => format!("=?UTF-8?B?{}?=", data_encoding::BASE64.encode(text.as_bytes())),
    }
}

fn cut(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}
