//! Ends that the run itself told nobody of: it was killed, could not be started, or could not read the configuration that the agent holds.

use crate::agent::metrics::{self, Run};
use crate::agent::tell::{Outcome, Task, Teller, kit_proved};
use crate::config::Config;
use crate::model::Timestamp;
use crate::ops::interrupt::Interrupt;
use crate::ops::restore::read::chain_text;

/// Such an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// What ran, or was to.
    pub task: Task,
    /// When it began.
    pub began: Timestamp,
    /// Its exit code.
    pub code: u8,
    /// Why, for people; none where nobody knows more than the code.
    pub why: Option<String>,
}

impl Untold {
    fn text(&self) -> String {
        let how = match (&self.why, self.code) {
            (Some(why), _) => return why.clone(),
            (None, code @ 128..) => format!("it was ended by signal {}", code - 128),
            (None, code) => format!("it ended with exit code {code}"),
        };
        format!("{how} and told nobody why; what it said is where the agent's own words go")
    }

    /// Notes it for whoever is to be told, and for metrics. Gives what could not be noted, for people.
    pub fn note(&self, config: &Config, now: Timestamp, interrupt: &Interrupt) -> Vec<String> {
        let (about, text) = (self.task.to_string(), self.text());
        let run = Run { began: self.began, ended: now, code: self.code };
        let mut said: Vec<String> =
            metrics::after(config, &about, run, &text).err().iter().map(|e| chain_text(e)).collect();
        // A code that says nothing of how things are where a run tells of it itself says here that it could not.
        let code = if matches!(self.code, 2 | 11 | 128..) { 1 } else { self.code };
        let outcome = Outcome {
            task: self.task.clone(),
            code,
            text,
            kit_proved: kit_proved(config),
            kit_stale: None,
            shrunk: None,
            behind: false,
        };
        let stopped = || interrupt.signal().is_some();
        let pause = |time| crate::ops::lock::pause(interrupt, time);
        said.extend(Teller { config, now, stopped: &stopped, pause: &pause }.note(&outcome));
        said
    }
}
