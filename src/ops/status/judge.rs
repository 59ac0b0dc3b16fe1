//! Whether how things stand is well.

use crate::config::Config;
use crate::model::record::CheckResult;
use crate::ops::doctor::span;
use crate::ops::known_bad::{self, is_whole_nowhere};
use crate::ops::remembering::UNWRITABLE;
use crate::ops::rhythm::overdue;
use crate::ops::status::StatusOptions;
use crate::ops::status::gather::Gathered;
use crate::ops::status::report::{Brief, ComponentStatus, Concern, State, StatusReport, StoreStatus};
use crate::ops::timetable::{PAGE_WAY_OUT, Standing, standing};

/// Clocks differ; in seconds, what is more is a clock that was wrong.
const AHEAD: i64 = 3600;
const CLOCK_WAY_OUT: &str =
    "look at this machine's clock, which is or was wrong; then `backstay backup` makes one of the right time";

/// Gathers concerns.
struct Concerns(Vec<Concern>);

impl Concerns {
    fn add(&mut self, state: State, what: impl Into<String>, way_out: impl Into<String>) {
        self.0.push(Concern { state, what: what.into(), way_out: Some(way_out.into()) });
    }
}

/// The report.
pub(super) fn report(
    config: &Config,
    seen: Gathered,
    options: &StatusOptions,
    more: Vec<Concern>,
) -> StatusReport {
    let mut concerns = Concerns(more);
    for line in &seen.history {
        let way = "`backstay doctor` says more; find out who removed, hid or changed it";
        concerns.add(State::Critical, line.clone(), way);
    }
    for (name, line, hint) in &seen.broken {
        let way = hint.clone().unwrap_or_else(|| "`backstay doctor` says more".to_owned());
        concerns.add(State::Critical, format!("store {name}: {line}"), way);
    }
    let any_here = seen.stores.iter().any(|store| store.here);
    if any_here {
        seen.components.iter().for_each(|c| component(c, options, &mut concerns));
        rhythm(&seen, &mut concerns);
    } else if !seen.stores.is_empty() {
        concerns.add(
            State::Critical,
            "no store can be reached, so nobody knows how old the newest good snapshot is",
            "bring a store within reach; `backstay doctor` says what is wrong with each",
        );
    }
    seen.stores.iter().for_each(|store| of_store(store, any_here, &mut concerns));
    damage(&seen.stores, &mut concerns);
    unfinished(&seen, &mut concerns);
    let schedule = standing(config, seen.now);
    if let Some(standing) = &schedule {
        scheduled(standing, &mut concerns);
    }
    // That none was proved on this machine is shown and no warning: it may have been proved on another one.
    if let Some(kit) = seen.kit.as_ref().filter(|kit| kit.stale) {
        let way = "make a new one (`backstay kit -o FILE`), then `backstay kit verify FILE`";
        concerns.add(
            State::Warning,
            format!(
                "the recovery kit that was proved {:.0} is stale: keys or stores changed since",
                kit.proved.unwrap_or_default()
            ),
            way,
        );
    }
    if let Some(drill) = seen.last_drill.as_ref().filter(|drill| !drill.good) {
        let what = format!("the last drill, {} ago, did not end well", span(drill.age_seconds));
        concerns.add(
            State::Critical,
            what,
            "`backstay show` of that snapshot says what was found; use an older good one",
        );
    }
    let mut concerns = concerns.0;
    concerns.sort_by_key(|concern| std::cmp::Reverse(concern.state));
    let state = concerns.first().map_or(State::Ok, |concern| concern.state);
    let line = line(config, &seen, state, &concerns);
    StatusReport {
        time: seen.now,
        project: config.project.name.clone(),
        state,
        line,
        concerns,
        components: seen.components,
        stores: seen.stores,
        last_drill: seen.last_drill,
        outbox: seen.outbox,
        schedule,
        kit: seen.kit,
        unfinished: seen.open.iter().map(|open| open.what.to_owned()).chain(seen.unfinished).collect(),
        unseen: seen.unseen,
    }
}

fn component(c: &ComponentStatus, options: &StatusOptions, concerns: &mut Concerns) {
    let name = &c.name;
    let Some(newest) = &c.newest else {
        return concerns.add(
            State::Critical,
            format!("component {name} is in no snapshot"),
            "backstay backup",
        );
    };
    if c.check == Some(CheckResult::Failed) {
        let way = "repair it, or restore it from an older good snapshot (`backstay list`)";
        concerns.add(State::Critical, format!("the check of {name} failed in the newest snapshot"), way);
    }
    if !newest.complete {
        let way = "`backstay backup --dry-run` says what cannot be read";
        concerns.add(State::Warning, format!("the newest snapshot of {name} is incomplete"), way);
    }
    for why in &c.frozen {
        let way =
            "look whether what the snapshots hold is what they should hold; then go on making good ones";
        concerns.add(State::Warning, format!("nothing of {name} is removed by retention: {why}"), way);
    }
    let ahead = |brief: &Brief| brief.age_seconds < -AHEAD;
    if ahead(newest) || c.newest_good.as_ref().is_some_and(ahead) {
        let what = format!(
            "the newest snapshot of {name} is of a time that has not come, so nobody knows how old it is"
        );
        return concerns.add(State::Critical, what, CLOCK_WAY_OUT);
    }
    let Some(good) = &c.newest_good else {
        let what = format!(
            "no snapshot of {name} is good: none was read back in the last 30 days, complete and with its checks passed"
        );
        return concerns.add(State::Critical, what, "run `backstay backup`, and look at what it says");
    };
    let limit = options.max_age.map(|age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    if let Some(limit) = limit.filter(|limit| good.age_seconds > *limit) {
        let what = format!(
            "the newest good snapshot of {name} is {} old, and may be {}",
            span(good.age_seconds),
            span(limit)
        );
        concerns.add(State::Critical, what, "look at what runs `backstay backup`, and at what it last said");
    }
}

fn rhythm(seen: &Gathered, concerns: &mut Concerns) {
    if let Some(late) = overdue(&seen.times, seen.now.as_second()) {
        let what = format!(
            "the newest snapshot is {} old, though they came every {}: whatever made them has stopped",
            span(late.age),
            span(late.usual)
        );
        concerns.add(State::Critical, what, "look at cron or the timer that runs `backstay backup`");
    }
}

fn of_store(store: &StoreStatus, any_here: bool, concerns: &mut Concerns) {
    let name = &store.name;
    if !store.here {
        if any_here {
            let why = store.problem.clone().unwrap_or_default();
            concerns.add(
                State::Warning,
                format!("store {name} cannot be read: {why}"),
                "`backstay doctor` says more",
            );
        }
        return;
    }
    if store.entries_behind > 0 {
        let what = format!("store {name} lacks {} entries that another store has", store.entries_behind);
        concerns.add(State::Warning, what, "`backstay sync`, or the next backup, brings them");
    }
    if store.newest.is_some() && store.newest_good.is_none() {
        let what = format!("no snapshot in store {name} is proved good");
        concerns.add(State::Warning, what, "`backstay sync --read-data` reads what is there and proves it");
    }
}

/// What verdicts say of stores, until later ones say otherwise. A person must act when the newest snapshot is whole nowhere: until the next one, that is all there is of now.
fn damage(stores: &[StoreStatus], concerns: &mut Concerns) {
    let here = || stores.iter().filter(|store| store.here);
    let newest = here().filter_map(|store| store.newest.as_ref()).max_by_key(|newest| newest.started);
    let has = |store: &&StoreStatus| store.newest.as_ref().map(|n| &n.id) == newest.map(|n| &n.id);
    let lost = newest.filter(|newest| {
        is_whole_nowhere(&newest.id, here().filter(has).map(|store| &store.damaged_snapshots[..]))
    });
    for store in here().filter(|store| store.damaged_objects > 0) {
        let worse = lost.is_some_and(|newest| store.damaged_snapshots.contains(&newest.id));
        let state = if worse { State::Critical } else { State::Warning };
        let what = known_bad::line(&store.name, store.damaged_objects, &store.damaged_snapshots);
        concerns.add(state, what, known_bad::WAY_OUT);
    }
}

fn unfinished(seen: &Gathered, concerns: &mut Concerns) {
    for open in &seen.open {
        concerns.add(State::Critical, open.what, open.way_out);
    }
    if let Some(what) = &seen.unwritable {
        concerns.add(State::Critical, what.clone(), UNWRITABLE);
    }
    for line in &seen.unfinished {
        concerns.add(State::Warning, line.clone(), "run `backstay backup`");
    }
    if seen.outbox > 0 {
        let what = format!("{} signed entries wait here for a store that lacks them", seen.outbox);
        concerns.add(State::Warning, what, "bring the store within reach; the next backup brings them");
    }
}

/// A schedule that nothing runs is believed by whoever reads the configuration, and does nothing.
fn scheduled(standing: &Standing, concerns: &mut Concerns) {
    let way = "`backstay agent --print systemd` (or timer, or cron) shows what runs it";
    if let Some(why) = &standing.unreadable {
        concerns.add(State::Warning, why.clone(), "move that file away; the agent then begins anew");
    } else if !standing.ever {
        concerns.add(
            State::Warning,
            "nothing runs the [schedule] of the configuration: no agent ever did",
            way,
        );
    } else if standing.agent_since.is_none()
        && let Some(late) =
            standing.jobs.iter().filter_map(|job| Some((job.overdue_seconds?, &job.job))).max()
    {
        let what = format!("nothing runs the [schedule]: {} is due since {}", late.1, span(late.0));
        concerns.add(State::Critical, what, way);
    }
    if let Some(why) = &standing.page_problem {
        concerns.add(State::Warning, why.clone(), PAGE_WAY_OUT);
    }
    for job in &standing.jobs {
        if let Some(code) = job.last_code.filter(|code| ![0, 3, 4].contains(code)) {
            let what = format!("the last run of {} failed (exit code {code})", job.job);
            concerns.add(State::Warning, what, "run the command by hand and look at what it says");
        }
    }
}

/// One line as monitoring reads it: state, what is wrong or how old things are, figures.
fn line(config: &Config, seen: &Gathered, state: State, concerns: &[Concern]) -> String {
    let word = match state {
        State::Ok => "OK",
        State::Warning => "WARNING",
        State::Critical => "CRITICAL",
    };
    let ages: Vec<(&str, i64)> = seen
        .components
        .iter()
        .filter_map(|c| Some((c.name.as_str(), c.newest_good.as_ref()?.age_seconds)))
        .collect();
    let what = match concerns {
        [] => match ages.iter().map(|(_, age)| *age).max() {
            Some(oldest) => {
                format!("every component has a good snapshot, the oldest of them {} old", span(oldest))
            }
            None => "there is nothing to back up".to_owned(),
        },
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
            // Monitoring takes what follows a bar for figures, and one line for all.
            format!("{}{more}", first.what.replace('|', "/").replace('\n', " "))
        }
    };
    let here = seen.stores.iter().filter(|store| store.here).count();
    let mut figures: Vec<String> = ages.iter().map(|(name, age)| format!("age_{name}={age}s")).collect();
    figures.push(format!("stores={here}"));
    figures.push(format!("outbox={}", seen.outbox));
    format!("BACKSTAY {word} - {}: {what} | {}", config.project.name, figures.join(" "))
}
