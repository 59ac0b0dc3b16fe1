//! How the memory changes when a run begins and ends.

use crate::model::Timestamp;
use crate::ops::timetable::memory::{Behind, Last, Memory, Retry, Running};
use crate::ops::timetable::plan::{Line, Start, Verdict, What, pause, verdict};
use jiff::SignedDuration;

/// The exit code of a hook or a service that failed.
const SERVICE: u8 = 15;

/// What follows from the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// What its exit code means.
    pub verdict: Verdict,
    /// When it, or a `sync` for what it left, is tried again.
    pub again_at: Option<Timestamp>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its exit code.
    pub code: u8,
    /// It said that a store lacks something, which a worse code hides.
    pub behind: bool,
    /// It made a snapshot, whatever came after it.
    pub made: bool,
}

impl End {
    fn verdict(self) -> Verdict {
        match verdict(self.code) {
            Verdict::Done if self.behind => Verdict::Behind,
            // A service that stays down, or a hook after the snapshot: another snapshot mends neither, and services would be stopped for it each time.
            Verdict::Retry if self.code == SERVICE && self.made && self.behind => Verdict::Behind,
            Verdict::Retry if self.code == SERVICE && self.made => Verdict::GiveUp,
            verdict => verdict,
        }
    }
}

impl Start {
    /// How often it met another run.
    pub fn waited(&self) -> u32 {
        self.attempt.saturating_sub(self.failed)
    }

    /// How long to wait after this end. To wait for another run is no failure: neither makes the other's pauses longer.
    fn pause(&self, verdict: Verdict) -> SignedDuration {
        pause(verdict, if verdict == Verdict::Busy { self.waited() } else { self.failed })
    }

    /// How often it was tried, and failed, after this end.
    fn after(&self, verdict: Verdict) -> (u32, u32) {
        let failed = u32::from(verdict != Verdict::Busy);
        (self.attempt.saturating_add(1), self.failed.saturating_add(failed))
    }
}

impl Memory {
    /// A run is about to begin; to be saved before it does.
    pub fn begin(&mut self, start: &Start, now: Timestamp) {
        match &start.what {
            What::Line(name) => {
                if let Some(job) = self.jobs.get_mut(name) {
                    let Start { due, attempt, failed, .. } = *start;
                    job.running = Some(Running { due, began: now, attempt, failed });
                }
            }
            What::Sync => {
                if let Some(behind) = &mut self.behind {
                    behind.running = true;
                }
            }
        }
    }

    /// A run was ended before it was done, because the agent is to end: it is due as before.
    pub fn abandon(&mut self, start: &Start) {
        match &start.what {
            What::Line(name) => {
                if let Some(job) = self.jobs.get_mut(name) {
                    job.running = None;
                }
            }
            What::Sync => {
                if let Some(behind) = &mut self.behind {
                    behind.running = false;
                }
            }
        }
    }

    /// A run has ended. `line` is its line, where the schedule still has it.
    pub fn end(&mut self, start: &Start, line: Option<&Line>, end: End, now: Timestamp) -> Turn {
        match &start.what {
            What::Sync => self.end_sync(start, end, now),
            What::Line(name) => {
                let turn = self.end_line(name, start, line, end, now);
                let backup = line.is_some_and(Line::is_backup);
                match turn.verdict {
                    Verdict::Behind => return Turn { again_at: Some(self.fall_behind(now)), ..turn },
                    // A snapshot that is everywhere took with it what was missing somewhere; of one that lacks something nobody knows.
                    Verdict::Done if backup && end.code == 0 => self.behind = None,
                    // Nor does anybody else say it: somebody may have mended what the last sync gave up for, and one more finds out.
                    Verdict::Done if backup && self.behind.is_some_and(|behind| behind.given_up) => {
                        return Turn { again_at: Some(self.fall_behind(now)), ..turn };
                    }
                    _ => {}
                }
                turn
            }
        }
    }

    fn end_line(&mut self, name: &str, start: &Start, line: Option<&Line>, end: End, now: Timestamp) -> Turn {
        let code = end.code;
        let verdict = match end.verdict() {
            // It was not found out whether everything comes back, after all was read: an hour later that costs as much and finds no more.
            Verdict::Retry if code == 1 && line.is_some_and(Line::is_drill) => Verdict::GiveUp,
            verdict => verdict,
        };
        let Some(job) = self.jobs.get_mut(name) else { return Turn { verdict, again_at: None } };
        let began = job.running.map_or(now, |running| running.began);
        job.running = None;
        job.handled = job.handled.max(start.due);
        if verdict != Verdict::Busy {
            job.last = Some(Last { due: start.due, began, ended: now, code });
        }
        let again = matches!(verdict, Verdict::Busy | Verdict::Retry);
        // What is due by then is run anyway.
        let next = line.and_then(|line| line.begins(job.handled));
        let at = now.saturating_add(start.pause(verdict)).ok();
        let at = at.filter(|at| again && next.is_none_or(|next| *at < next));
        let (attempt, failed) = start.after(verdict);
        job.retry = at.map(|at| Retry { due: start.due, attempt, failed, at });
        Turn { verdict, again_at: at.or(next.filter(|_| again)) }
    }

    fn fall_behind(&mut self, now: Timestamp) -> Timestamp {
        let at = now.saturating_add(pause(Verdict::Behind, 0)).unwrap_or(now);
        let anew = |since| Behind { since, attempt: 0, failed: 0, at, given_up: false, running: false };
        let behind = match self.behind {
            // What a person had to mend may be mended; what a store lacks it lacks since then.
            // A try has another number than each before it, since that is a part of its name.
            Some(behind) if behind.given_up => Behind { attempt: behind.attempt, ..anew(behind.since) },
            Some(behind) => behind,
            None => anew(now),
        };
        self.behind = Some(behind);
        behind.at
    }

    fn end_sync(&mut self, start: &Start, end: End, now: Timestamp) -> Turn {
        let verdict = end.verdict();
        let Some(behind) = &mut self.behind else { return Turn { verdict, again_at: None } };
        behind.running = false;
        (behind.attempt, behind.failed) = start.after(verdict);
        // What a person has to mend is not mended by trying; that a store lacks something is so all the same. The next backup that is not everywhere begins anew.
        behind.given_up = verdict == Verdict::GiveUp;
        if matches!(verdict, Verdict::Done | Verdict::GiveUp) {
            self.behind = self.behind.filter(|behind| behind.given_up);
            return Turn { verdict, again_at: None };
        }
        // The backup before it failed in the same way, and the pause after that is over.
        let before = if verdict == Verdict::Busy { start.waited() } else { behind.failed };
        behind.at = now.saturating_add(pause(verdict, before)).unwrap_or(now);
        Turn { verdict, again_at: Some(behind.at) }
    }
}
