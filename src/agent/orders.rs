//! What is to be run, as the command that a person would type.

use crate::agent::tell;
use crate::agent::world::Order;
use crate::config::{Config, Task};
use crate::ops::stopped;
use crate::ops::timetable::{Line, Start, What};

/// The job of `start`, of the schedule with these `lines`.
pub(super) fn order(config: &Config, lines: &[Line], start: &Start) -> Order {
    let percent = config.schedule.as_ref().map_or(0, |s| s.verify_percent);
    let task = match &start.what {
        What::Line(name) => lines.iter().find(|line| line.name == *name).map(|line| &line.task),
        What::Sync => None,
    };
    let args = match task {
        Some(Task::Backup { only }) => {
            let mut args = vec!["backup".to_owned()];
            args.extend(only.iter().flat_map(|name| ["--only".to_owned(), name.clone()]));
            args
        }
        Some(Task::Verify) if percent > 0 => vec!["verify".to_owned(), format!("--read-data={percent}")],
        Some(Task::Verify) => vec!["verify".to_owned()],
        Some(Task::Drill) => vec!["drill".to_owned()],
        Some(Task::Prune) => vec!["prune".to_owned()],
        None => vec!["sync".to_owned()],
    };
    let line = match &start.what {
        What::Line(name) => name.as_str(),
        What::Sync => "sync",
    };
    let told = match task {
        Some(Task::Backup { only }) => tell::Task::Backup(only.clone()),
        Some(Task::Verify) => tell::Task::Verify,
        Some(Task::Drill) => tell::Task::Drill,
        Some(Task::Prune) => tell::Task::Prune,
        None => tell::Task::Sync,
    };
    Order {
        task: told,
        config: config.path.clone(),
        state_dir: config.state_dir.clone(),
        args,
        token: format!("{line} for {} try {}", start.due, start.attempt),
        patience: stopped::longest(config),
    }
}
