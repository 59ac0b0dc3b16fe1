//! What is to be done next, and what an exit code means for it.

use crate::config::{Config, Task};
use crate::model::Timestamp;
use crate::model::schedule::{Schedule, spread};
use crate::ops::timetable::memory::{Behind, JobMemory, Memory};
use crate::ops::timetable::{host, zone_of};
use jiff::SignedDuration;
use jiff::tz::TimeZone;

/// Between two tries, in minutes; the last one holds from there on.
const PAUSES: [i64; 7] = [1, 2, 4, 8, 16, 32, 60];
/// Another run is under way: asked again soon, and seldom later.
const BUSY_PAUSES: [i64; 5] = [15, 30, 60, 120, 300];

/// A line of the schedule, ready to be asked.
#[derive(Debug, Clone)]
pub struct Line {
    /// As the memory names it.
    pub name: String,
    /// What is run.
    pub task: Task,
    at: Schedule,
    zone: TimeZone,
    offset: SignedDuration,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The line of that name.
    Line(String),
    /// `sync`, for what is not in every store.
    Sync,
}

/// A run to be begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// What.
    pub what: What,
    /// The time it is for.
    pub due: Timestamp,
    /// How often it was tried before. It is a part of the run's name, so no two tries have the same.
    pub attempt: u32,
    /// How often it failed; the other tries met another run.
    pub failed: u32,
    /// It was begun before, and nobody knows how it ended.
    pub again: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Run this now.
    Start(Start),
    /// Nothing before this time; `None`: never.
    Wait(Option<Timestamp>),
}

/// What an exit code means for the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done, as well as it can be.
    Done,
    /// It is done, and not in every store.
    Behind,
    /// Another run was under way.
    Busy,
    /// Trying again may help.
    Retry,
    /// Trying again does not help: a person has to.
    GiveUp,
}

/// What `code` means. 3 is done: what cannot be read now is not read in a minute.
pub fn verdict(code: u8) -> Verdict {
    match code {
        0 | 3 => Verdict::Done,
        4 => Verdict::Behind,
        11 => Verdict::Busy,
        2 | 12 | 13 | 14 | 16 | 17 | 18 => Verdict::GiveUp,
        _ => Verdict::Retry,
    }
}

/// How long to wait after so many ends like this one before it.
pub fn pause(verdict: Verdict, before: u32) -> SignedDuration {
    let of = |list: &[i64]| {
        let place = usize::try_from(before).unwrap_or(usize::MAX).min(list.len() - 1);
        list.get(place).copied().unwrap_or(60)
    };
    match verdict {
        Verdict::Busy => SignedDuration::from_secs(of(&BUSY_PAUSES)),
        _ => SignedDuration::from_mins(of(&PAUSES)),
    }
}

/// The lines of the schedule of `config`.
pub fn lines(config: &Config) -> Vec<Line> {
    let Some(schedule) = &config.schedule else { return Vec::new() };
    let (zone, host) = (zone_of(config), host());
    let line = |job: &crate::config::Job| {
        let name = job.to_string();
        let offset = spread(&[&host, &config.project.name, &name], schedule.jitter);
        Line { name, task: job.task.clone(), at: job.at.clone(), zone: zone.clone(), offset }
    };
    schedule.jobs.iter().map(line).collect()
}

impl Line {
    /// The last time that is due now and was not when `handled` was.
    pub fn due(&self, handled: Timestamp, now: Timestamp) -> Option<Timestamp> {
        self.at.last(handled, now.checked_sub(self.offset).ok()?, &self.zone)
    }

    /// When what is due after `handled` begins.
    pub fn begins(&self, handled: Timestamp) -> Option<Timestamp> {
        self.at.next(handled, &self.zone)?.checked_add(self.offset).ok()
    }

    /// True for a backup: it brings to each store what that lacks.
    pub(super) fn is_backup(&self) -> bool {
        matches!(&self.task, Task::Backup { .. })
    }

    /// True for a drill: it restores everything.
    pub(super) fn is_drill(&self) -> bool {
        matches!(&self.task, Task::Drill)
    }

    /// What is to be done for this line.
    fn next(&self, memory: &JobMemory, now: Timestamp) -> Next {
        let start = |due, (attempt, failed), again| {
            Next::Start(Start { what: What::Line(self.name.clone()), due, attempt, failed, again })
        };
        if let Some(running) = memory.running {
            return start(running.due, (running.attempt, running.failed), true);
        }
        if let Some(due) = self.due(memory.handled, now) {
            return start(due, (0, 0), false);
        }
        match memory.retry {
            Some(retry) if retry.at <= now => start(retry.due, (retry.attempt, retry.failed), false),
            retry => {
                let begins = self.begins(memory.handled);
                Next::Wait(retry.map(|r| r.at).into_iter().chain(begins).min())
            }
        }
    }
}

/// What is to be done next: what was due first, first. What is behind comes when nothing else is due: a backup brings it, too.
pub fn next(lines: &[Line], memory: &Memory, now: Timestamp) -> Next {
    let mut first: Option<Start> = None;
    let mut wake: Option<Timestamp> = None;
    for line in lines {
        let Some(job) = memory.jobs.get(&line.name) else { continue };
        match line.next(job, now) {
            // What was begun before comes first: it may still run.
            Next::Start(start) => {
                let rank = |s: &Start| (!s.again, s.due);
                if first.as_ref().is_none_or(|f| rank(&start) < rank(f)) {
                    first = Some(start);
                }
            }
            Next::Wait(at) => wake = wake.into_iter().chain(at).min(),
        }
    }
    let sync = |behind: &Behind| {
        let Behind { since, attempt, failed, running, .. } = *behind;
        Start { what: What::Sync, due: since, attempt, failed, again: running }
    };
    if let Some(behind) = memory.behind.filter(|behind| behind.running) {
        return Next::Start(sync(&behind));
    }
    if let Some(start) = first {
        return Next::Start(start);
    }
    match memory.behind.filter(|behind| !behind.given_up) {
        Some(behind) if behind.at <= now => Next::Start(sync(&behind)),
        Some(behind) => Next::Wait(wake.into_iter().chain([behind.at]).min()),
        None => Next::Wait(wake),
    }
}
