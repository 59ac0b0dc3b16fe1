//! Times, sizes and verdicts in words.

use crate::agent::page::html::Html;
use crate::agent::page::view::Verdict;
use crate::model::Timestamp;
use crate::model::mark::Level;
use crate::model::record::{CheckResult, SnapshotKind};
use crate::ops::doctor::span;
use crate::ops::status::{Proof, SeenSnapshot};
use jiff::tz::TimeZone;

/// How something is, in a word and a colour; the colour alone says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Look,
    Bad,
    Unknown,
}

impl Tone {
    /// Its class.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Look => "look",
            Self::Bad => "bad",
            Self::Unknown => "unknown",
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Look => "!",
            Self::Bad => "✕",
            Self::Unknown => "○",
        }
    }
}

impl Verdict {
    pub(super) fn tone(self) -> Tone {
        match self {
            Self::Protected => Tone::Good,
            Self::Look => Tone::Look,
            Self::Danger => Tone::Bad,
            Self::Unknown => Tone::Unknown,
        }
    }

    /// In a word or two.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Protected => "Protected",
            Self::Look => "Protected, and something needs a look",
            Self::Danger => "Somebody must act",
            Self::Unknown => "Not known yet",
        }
    }
}

/// A moment, to the minute, in this machine's time.
pub(super) fn minute(moment: Timestamp) -> String {
    moment.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

/// The name of this machine's time.
pub(super) fn zone(now: Timestamp) -> String {
    now.to_zoned(TimeZone::system()).strftime("%Z (UTC%:z)").to_string()
}

/// Of one thing, or of several.
pub(super) fn count(number: usize, one: &str, several: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {several}") }
}

/// How a snapshot stands: the worst that is known, in words.
pub(super) fn of_snapshot(snapshot: &SeenSnapshot) -> (Tone, String) {
    let damaged = snapshot.proofs.iter().find(|proof| !proof.bad.is_empty());
    let drilled_badly = snapshot.proofs.iter().find(|p| p.last_drill.as_ref().is_some_and(|said| !said.good));
    if let Some(why) = &snapshot.void {
        return (Tone::Bad, format!("void: {why}"));
    }
    if let Some(proof) = damaged {
        return (Tone::Bad, format!("damaged in {}", proof.store));
    }
    if snapshot.parts.iter().any(|part| part.check == CheckResult::Failed) {
        return (Tone::Bad, "a check failed".to_owned());
    }
    if let Some(proof) = drilled_badly {
        return (Tone::Bad, format!("a drill from {} did not end well", proof.store));
    }
    match (snapshot.complete, snapshot.good) {
        (false, _) => (Tone::Look, "incomplete".to_owned()),
        (true, true) => (Tone::Good, "good".to_owned()),
        (true, false) => (Tone::Unknown, "not proved lately".to_owned()),
    }
}

/// What a proof did.
pub(super) fn level(level: Level) -> &'static str {
    match level {
        Level::Put => "proved by the server as it was put",
        Level::Presence => "looked for",
        Level::Read => "read back",
        Level::Decrypt => "decrypted",
        Level::Drill => "brought back in a drill",
    }
}

/// A kind of snapshot, where it is worth a word.
pub(super) fn kind(kind: SnapshotKind) -> Option<&'static str> {
    match kind {
        SnapshotKind::Safety => Some("before a rollback"),
        SnapshotKind::Normal | SnapshotKind::Partial => None,
    }
}

impl Html {
    /// A word in a colour, with a sign for whoever sees none.
    pub(super) fn tone(&mut self, tone: Tone, text: &str) -> &mut Self {
        self.raw("<span class=\"tone ")
            .raw(tone.class())
            .raw("\"><span aria-hidden=\"true\">")
            .raw(tone.sign());
        self.raw("</span>\u{a0}").text(text).raw("</span>")
    }

    /// A moment.
    pub(super) fn moment(&mut self, moment: Timestamp) -> &mut Self {
        self.raw("<time")
            .attribute("datetime", &format!("{moment:.0}"))
            .raw(">")
            .text(&minute(moment))
            .raw("</time>")
    }

    /// A moment, and how long ago it is.
    pub(super) fn ago(&mut self, moment: Timestamp, now: Timestamp) -> &mut Self {
        let seconds = now.as_second() - moment.as_second();
        let words = match seconds {
            ..0 => "in the future".to_owned(),
            0..60 => "just now".to_owned(),
            _ => format!("{} ago", span(seconds)),
        };
        self.raw("<span class=\"ago\">")
            .text(&words)
            .raw("</span> <span class=\"at\">")
            .moment(moment)
            .raw("</span>")
    }

    /// A proof.
    pub(super) fn proof(&mut self, proof: &Proof, now: Timestamp) -> &mut Self {
        self.ago(proof.time, now).raw("<span class=\"more\">");
        let word = if proof.good { "" } else { "found bad: " };
        let by =
            if proof.self_verified { "by this host itself".to_owned() } else { format!("by {}", proof.by) };
        self.text(&format!("{word}{} in {}, {by}", level(proof.level), proof.store)).raw("</span>")
    }
}
