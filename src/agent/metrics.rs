//! Metrics for Prometheus, as a file that its node exporter reads and as a page of the agent: how each command ended last, and how the schedule stands.
//!
//! Nothing is asked of stores: what is told is what this machine did. The file is replaced whole, so that nobody reads half of it.

use crate::agent::runs::{self, Task, Tasks};
use crate::config::Config;
use crate::durable::NewFile;
use crate::model::Timestamp;
use crate::ops::error::{Class, Doing, Result};
use crate::ops::status::{ComponentStatus, Found, Reached, recall};
use crate::ops::timetable::{JobStanding, standing};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

pub use crate::agent::runs::Run;

/// True when somebody may want to know how runs ended: a file or a page is asked for, or an agent may show this project on its page.
pub fn wanted(config: &Config) -> bool {
    config.agent.textfile.is_some() || config.agent.page.is_some() || config.schedule.is_some()
}

/// Takes the end of a run of `task` in, with what it said where it did not go well, and writes the file where the configuration names one. Does nothing where nobody wants to know.
pub fn after(config: &Config, task: &str, run: Run, text: &str) -> Result<()> {
    if !wanted(config) {
        return Ok(());
    }
    runs::note(config, task, (run, text), |tasks| {
        let told = Told { config, tasks };
        config.agent.textfile.as_ref().map_or(Ok(()), |file| write(file, &exposed(&[told], run.ended)))
    })
}

/// Writes the file anew: time goes on also when nothing runs.
pub fn refresh(config: &Config, now: Timestamp) -> Result<()> {
    let Some(file) = &config.agent.textfile else { return Ok(()) };
    write(file, &exposed(&[Told::of(config)], now))
}

/// The same for the page of an agent: all its projects in one text.
pub fn exposition(configs: &[Arc<Config>], now: Timestamp) -> String {
    let told: Vec<Told<'_>> = configs.iter().map(|config| Told::of(config)).collect();
    exposed(&told, now)
}

/// A project, and how its commands ended.
struct Told<'a> {
    config: &'a Config,
    tasks: Tasks,
}

impl<'a> Told<'a> {
    fn of(config: &'a Config) -> Self {
        Self { config, tasks: runs::load(&config.state_dir) }
    }

    /// The label that every sample has.
    fn own(&self) -> String {
        label("project", &self.config.project.name)
    }

    /// That, and another one.
    fn with(&self, name: &str, value: &str) -> String {
        format!("{},{}", self.own(), label(name, value))
    }
}

/// Replaces `file`; everybody may read it, as the exporter must.
fn write(file: &Path, text: &str) -> Result<()> {
    let cannot = || format!("metrics cannot be written to {}", file.display());
    let dir = file.parent().unwrap_or(Path::new("/"));
    let mut new = NewFile::create_in(dir).doing(Class::Failed, cannot)?;
    new.write_all(text.as_bytes()).doing(Class::Failed, cannot)?;
    new.finish_over(file, 0o644).doing(Class::Failed, cannot)
}

/// A family of metrics: its name without `backstay_`, what it says, and its samples: labels and a value.
type Family = (&'static str, &'static str, Vec<(String, i64)>);

/// Every family, in the order of the text.
fn families(told: &Told<'_>, now: Timestamp) -> Vec<Family> {
    let mut all = of_runs(told);
    all.extend(of_schedule(told, now));
    all.extend(of_stores(told, now));
    all.push((
        "info",
        "Which backstay wrote this.",
        vec![(told.with("version", env!("CARGO_PKG_VERSION")), 1)],
    ));
    all.push(("written_timestamp_seconds", "When this was written.", vec![(told.own(), now.as_second())]));
    all
}

/// How commands ended.
fn of_runs(told: &Told<'_>) -> Vec<Family> {
    let of = |value: &dyn Fn(&Task) -> Option<i64>| -> Vec<(String, i64)> {
        told.tasks.iter().filter_map(|(name, task)| Some((told.with("task", name), value(task)?))).collect()
    };
    let seconds = |at: Timestamp| at.as_second();
    let took = |t: &Task| Some(seconds(t.last.ended) - seconds(t.last.began));
    vec![
        (
            "last_run_timestamp_seconds",
            "When the last run of a task ended.",
            of(&|t| Some(seconds(t.last.ended))),
        ),
        ("last_run_exit_code", "How it ended: 0 is well.", of(&|t| Some(i64::from(t.last.code)))),
        ("last_run_duration_seconds", "How long it took.", of(&took)),
        ("last_success_timestamp_seconds", "When a run last ended with 0.", of(&|t| t.well.map(seconds))),
    ]
}

/// How the schedule stands.
fn of_schedule(told: &Told<'_>, now: Timestamp) -> Vec<Family> {
    let standing = standing(told.config, now);
    let jobs = |value: &dyn Fn(&JobStanding) -> Option<i64>| -> Vec<(String, i64)> {
        let one = |job: &JobStanding| Some((told.with("job", &job.job), value(job)?));
        standing.iter().flat_map(|standing| &standing.jobs).filter_map(one).collect()
    };
    let behind =
        standing.as_ref().map(|s| s.behind_since.map_or(0, |since| now.duration_since(since).as_secs()));
    let late = |job: &JobStanding| Some(job.overdue_seconds.unwrap_or(0));
    vec![
        (
            "schedule_next_timestamp_seconds",
            "When a job begins next.",
            jobs(&|job| job.next.map(Timestamp::as_second)),
        ),
        ("schedule_overdue_seconds", "For so long a job is due and was not begun.", jobs(&late)),
        (
            "behind_seconds",
            "For so long a store lacks the newest snapshot.",
            behind.into_iter().map(|behind| (told.own(), behind)).collect(),
        ),
    ]
}

/// What the last look at stores found; no samples before one.
fn of_stores(told: &Told<'_>, now: Timestamp) -> Vec<Family> {
    let seen = recall(&told.config.state_dir);
    let report = seen.as_ref().map(|seen| seen.report(told.config, now, false));
    let found = seen.as_ref().and_then(|seen| seen.found.as_ref());
    let one = |value: Option<i64>| value.into_iter().map(|value| (told.own(), value)).collect();
    let components = |value: &dyn Fn(&ComponentStatus) -> Option<i64>| -> Vec<(String, i64)> {
        let one = |c: &ComponentStatus| Some((told.with("component", &c.name), value(c)?));
        report.iter().flat_map(|report| &report.components).filter_map(one).collect()
    };
    let drill = |c: &ComponentStatus| {
        let drill = found?.proven.get(&c.name)?.drill.as_ref()?;
        drill.good.then(|| drill.time.as_second())
    };
    let size = |c: &ComponentStatus| {
        let parts = found?.snapshots.iter().rev().flat_map(|snapshot| &snapshot.parts);
        parts.into_iter().find(|part| part.name == c.name).map(|part| clipped(part.size))
    };
    let good = |c: &ComponentStatus| Some(c.newest_good.as_ref()?.started.as_second());
    let proof = |c: &ComponentStatus| {
        let proof = c.last_proof.as_ref()?;
        proof.good.then(|| proof.time.as_second())
    };
    let number = found.map(|found| clipped(found.older.saturating_add(found.snapshots.len() as u64)));
    let state = report.as_ref().filter(|_| found.is_some()).map(|report| report.state as i64);
    let looked = found.map(|found| found.at.as_second());
    let mut families = vec![
        ("state", "How it stands, as status judges: 0 well, 1 look at it, 2 act.", one(state)),
        ("looked_timestamp_seconds", "When stores were last looked at.", one(looked)),
        ("snapshots", "Snapshots of this host.", one(number)),
        (
            "component_good_timestamp_seconds",
            "When the newest good snapshot of a component was begun.",
            components(&good),
        ),
        (
            "component_proved_timestamp_seconds",
            "When stored objects of a component were last proved.",
            components(&proof),
        ),
        (
            "component_drilled_timestamp_seconds",
            "When a component was last brought back, well.",
            components(&drill),
        ),
        (
            "component_size_bytes",
            "Size of a component in the newest snapshot that holds it.",
            components(&size),
        ),
    ];
    families.extend(of_reached(told, found));
    families
}

/// What the last look found in each store.
fn of_reached(told: &Told<'_>, found: Option<&Found>) -> Vec<Family> {
    let stores = |value: &dyn Fn(&Reached) -> Option<i64>| -> Vec<(String, i64)> {
        let one = |(name, reached): (&String, &Reached)| Some((told.with("store", name), value(reached)?));
        found.iter().flat_map(|found| &found.reached).filter_map(one).collect()
    };
    let newest = |reached: &Reached| Some(reached.store.newest_good.as_ref()?.started.as_second());
    vec![
        (
            "store_reached_timestamp_seconds",
            "When a store was last read.",
            stores(&|r| Some(r.at.as_second())),
        ),
        (
            "store_good_timestamp_seconds",
            "When the newest good snapshot in a store was begun.",
            stores(&newest),
        ),
        (
            "store_entries_behind",
            "Entries that a store lacks and another has.",
            stores(&|r| Some(clipped(r.store.entries_behind))),
        ),
        (
            "store_damaged_objects",
            "Objects in a store that are known to be damaged or missing.",
            stores(&|r| Some(clipped(r.store.damaged_objects))),
        ),
    ]
}

fn clipped(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The text: each family once, with the samples of all projects.
fn exposed(projects: &[Told<'_>], now: Timestamp) -> String {
    let mut all: Vec<Family> = Vec::new();
    for project in projects {
        for (place, family) in families(project, now).into_iter().enumerate() {
            match all.get_mut(place) {
                Some((.., samples)) => samples.extend(family.2),
                None => all.push(family),
            }
        }
    }
    let mut out = String::new();
    for (name, help, samples) in all {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP backstay_{name} {help}\n# TYPE backstay_{name} gauge");
        for (labels, value) in samples {
            let _ = writeln!(out, "backstay_{name}{{{labels}}} {value}");
        }
    }
    out
}

fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", escaped(value))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Names of metrics in `text`.
    fn named(text: &str) -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
        words.filter(|word| word.starts_with("backstay_")).map(str::to_owned).collect()
    }

    fn written() -> BTreeSet<String> {
        let text = "[project]\nname = \"a\"\n[[store]]\nname = \"local\"\npath = \"store\"\n[signing]\nkey_file = \"/nowhere/key\"\n\
                    [state]\ndir = \"/nowhere/state\"\n";
        let config = Config::parse(text, Path::new("/srv/x/backstay.toml")).unwrap();
        let text = exposed(&[Told { config: &config, tasks: Tasks::new() }], Timestamp::UNIX_EPOCH);
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        types.map(str::to_owned).collect()
    }

    #[test]
    fn every_metric_is_documented_and_rules_and_dashboard_use_no_other() {
        let (written, doc) = (written(), include_str!("../../docs/agent.md"));
        let rows = doc.lines().filter(|line| line.starts_with("| backstay_"));
        let documented = rows.map(|row| row.split(' ').nth(1).unwrap().to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(written, documented);
        for (name, text, least) in [
            ("alerts", include_str!("../../deploy/prometheus-alerts.yml"), 6),
            ("dashboard", include_str!("../../deploy/grafana-dashboard.json"), 12),
        ] {
            let used = named(text);
            assert!(
                used.len() >= least && used.is_subset(&written),
                "{name}: {:?}",
                used.difference(&written)
            );
        }
    }

    #[test]
    fn the_dashboard_is_valid_json_whose_panels_ask_the_data_source_that_is_chosen() {
        let board: serde_json::Value =
            serde_json::from_str(include_str!("../../deploy/grafana-dashboard.json")).unwrap();
        let panels = board["panels"].as_array().unwrap();
        let mut ids = BTreeSet::new();
        for panel in panels {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
            assert!(!panel["title"].as_str().unwrap().is_empty());
            let place = &panel["gridPos"];
            assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{panel}");
            if panel["type"] == "row" {
                continue;
            }
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty());
            for target in targets {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{panel}");
                let asked = target["expr"].as_str().unwrap();
                assert!(asked.contains("{project=~\"$project\"") && !named(asked).is_empty(), "{asked}");
                assert_eq!(asked.matches('(').count(), asked.matches(')').count(), "{asked}");
            }
        }
        assert!(panels.len() > 10, "{}", panels.len());
    }

    #[test]
    fn a_label_keeps_what_would_end_it() {
        assert_eq!(label("job", "a\\b\"c\nd"), "job=\"a\\\\b\\\"c\\nd\"");
    }
}
