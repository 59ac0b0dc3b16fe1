//! Plans and reports of rollbacks as text.

use super::{count, problem, size, time};
use crate::ops::guard::GuardPlan;
use crate::ops::rollback::{Lost, RollbackReport, ShownPlan, ShownUndo};
use crate::ops::whose::ShownHost;

/// What a rollback would do.
pub fn rollback_plan(plan: &ShownPlan) -> String {
    let whose = whose(&plan.host);
    let mut lines =
        vec![format!("rollback to {} {whose}, {} to fetch first", plan.snapshot, size(plan.bytes))];
    for place in &plan.places {
        let what = if place.names.is_empty() { "everything".to_owned() } else { place.names.join(", ") };
        lines.push(format!("  {:<14} exchange {what} in {}", place.component, place.dir));
        if !place.stays.is_empty() {
            lines.push(format!("  {:<14} stays as it is: {}", "", place.stays.join(", ")));
        }
    }
    lines.extend(lost_since(&plan.lost_since));
    for way in &plan.git {
        lines.push(format!("  {:<14} {} from {} to {}", "git", way.top, short(&way.from), short(&way.to)));
    }
    for dump in &plan.dumps {
        lines.push(format!("  {dump}"));
    }
    lines.extend(services([&plan.services, &plan.starts, &plan.down]));
    lines.push(
        "  what is live now goes into a safety snapshot, and is kept beside the new state for a week".into(),
    );
    lines.extend(plan.warnings.iter().map(problem));
    lines.join("\n") + "\n"
}

/// What becomes of services: those that run, those that are down and are started, those that stay down.
fn services([run, starts, down]: [&Vec<String>; 3]) -> Vec<String> {
    let line = |what: &str, names: &[String], more: &str| {
        (!names.is_empty()).then(|| format!("  {:<14} {what}{}{more}", "services", names.join(", ")))
    };
    let lines = [
        line("stop and start ", run, ""),
        line("start ", starts, ", down now"),
        line("down now, and left so: ", down, " (--start starts what is down, too)"),
    ];
    lines.into_iter().flatten().collect()
}

/// What taking a rollback back would do.
pub fn undo_plan(plan: &ShownUndo) -> String {
    let mut lines = vec![format!(
        "the rollback to {} of {} is taken back: {}",
        plan.snapshot,
        time(plan.begun),
        plan.components.join(", ")
    )];
    lines.extend(plan.kept.iter().map(|place| format!("  {:<14} {place}", "comes from")));
    lines.extend(services([&plan.services, &plan.starts, &plan.down]));
    lines.push("  what is live now goes into a safety snapshot, and is kept there for a week".into());
    lines.extend(plan.warnings.iter().map(problem));
    lines.join("\n") + "\n"
}

/// Of which host something is.
pub fn whose(host: &ShownHost) -> String {
    let another = if host.own { "" } else { "ANOTHER HOST, " };
    format!("of {another}{} ({})", host.name, host.short())
}

/// What goes away with a rollback, by components.
fn lost_since(all: &[Lost]) -> Vec<String> {
    let some: Vec<String> = { all.iter() }
        .filter(|lost| lost.made + lost.changed > 0)
        .map(|lost| {
            let more = match (lost.made + lost.changed).saturating_sub(lost.names.len() as u64) {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            let sums = format!("{} made, {} changed ({})", lost.made, lost.changed, size(lost.bytes));
            format!("  {:<14} lost since: {sums}: {}{more}", lost.component, lost.names.join(", "))
        })
        .collect();
    match (some.is_empty(), all.is_empty()) {
        (true, false) => vec![format!("  {:<14} nothing: no file was made or changed", "lost since")],
        _ => some,
    }
}

/// What a guarded command would get.
pub fn guard_plan(plan: &GuardPlan) -> String {
    let list =
        |names: &[String], none: &str| if names.is_empty() { none.to_owned() } else { names.join(", ") };
    let back = if plan.auto { "go back without asking" } else { "ask whether to go back" };
    format!(
        "snapshot of {}\nthen run {}\nwell afterwards: exit code 0, and services {}\nelse {back}\n",
        list(&plan.components, "nothing"),
        plan.program,
        list(&plan.services, "(none runs)"),
    )
}

/// What a rollback did, or its undo.
pub fn rollback(report: &RollbackReport) -> String {
    let components = report.components.join(", ");
    let mut lines = vec![match report.taken_back {
        true => format!("the rollback to {} was taken back: {components}", report.snapshot),
        false => format!("rolled back to {}: {components}", report.snapshot),
    }];
    if !report.services.is_empty() {
        lines.push(format!(
            "{} on it: {}",
            count(report.services.len() as u64, "service"),
            report.services.join(", ")
        ));
    }
    for moved in &report.git {
        let branch = moved.branch.as_ref().map_or_else(|| "on no branch".into(), |b| format!("on {b}"));
        lines.push(format!("git in {} is at {} again, {branch}", moved.top, short(&moved.commit)));
    }
    if let (Some(all), Some(own)) = (report.downtime_ms, report.exchange_ms) {
        lines.push(format!("down for {} s, {} s of it for the exchange", seconds(all), seconds(own)));
    }
    if let Some(safety) = &report.safety {
        let until = if report.taken_back { "until now" } else { "before" };
        lines.push(format!("what was live {until} is in safety snapshot {safety}"));
    }
    for place in &report.kept {
        lines.push(format!("and in {place}"));
    }
    lines.extend(way_back(report));
    // Last of all, and plainly: what was put back may not be running.
    lines.extend(report.down.iter().map(ToString::to_string));
    lines.join("\n") + "\n"
}

/// An undo is not undone by another one: who wants that goes to its safety snapshot.
fn way_back(report: &RollbackReport) -> Option<String> {
    match (report.taken_back, &report.safety) {
        (false, _) => Some("to take it back: backstay rollback --undo".to_owned()),
        (true, Some(safety)) => Some(format!("to go there again: backstay rollback {safety}")),
        (true, None) => None,
    }
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}
