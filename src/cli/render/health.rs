//! What `status` and `doctor` say.

use super::{count, time};
use crate::model::mark::Level;
use crate::ops::doctor::{Area, DoctorReport, Finding, Severity, span};
use crate::ops::status::{Brief, ComponentStatus, Proof, State, StatusReport, StoreStatus};
use crate::ops::timetable::Standing;

fn severity(of: Severity) -> &'static str {
    match of {
        Severity::Well => "ok",
        Severity::Note => "note",
        Severity::Warning => "WARNING",
        Severity::Problem => "PROBLEM",
    }
}

fn area(of: Area) -> &'static str {
    match of {
        Area::Configuration => "configuration",
        Area::Keys => "keys",
        Area::Kit => "kit",
        Area::State => "state",
        Area::Clock => "clock",
        Area::Store => "store",
        Area::History => "history",
        Area::Databases => "databases",
        Area::Space => "space",
        Area::Schedule => "schedule",
        Area::Notify => "notify",
    }
}

fn finding(found: &Finding) -> String {
    let Finding { severity: bad, area: of, subject, what, way_out } = found;
    let mut text = format!("{:<8} {:<14} {subject}: {what}\n", severity(*bad), area(*of));
    if let Some(way) = way_out {
        text.push_str(&format!("{:<23} way out: {way}\n", ""));
    }
    text
}

/// What `doctor` says; with `quiet` only what somebody should do something about.
pub fn doctor(report: &DoctorReport, quiet: bool) -> String {
    let least = if quiet { Severity::Warning } else { Severity::Well };
    let mut out: String = report.findings.iter().filter(|f| f.severity >= least).map(finding).collect();
    let (problems, warnings) = (count(report.problems, "problem"), count(report.warnings, "warning"));
    out.push_str(&match (report.problems, report.warnings) {
        (0, 0) => "nothing is wrong\n".to_owned(),
        (0, _) => format!("no problem, {warnings}\n"),
        (_, 0) => format!("{problems}\n"),
        _ => format!("{problems}, {warnings}\n"),
    });
    out
}

fn brief(of: Option<&Brief>) -> String {
    of.map_or_else(|| "none".to_owned(), |b| format!("{} ({} ago)", b.id, span(b.age_seconds)))
}

fn level(of: Level) -> &'static str {
    match of {
        Level::Put => "proved by the server as it was put",
        Level::Presence => "looked for",
        Level::Read => "read back",
        Level::Decrypt => "decrypted",
        Level::Drill => "restored in a drill",
    }
}

fn proof(of: &Proof) -> String {
    let good = if of.good { "" } else { ", AND FOUND BAD" };
    let by = if of.self_verified { "self-verified".to_owned() } else { format!("by {}", of.by) };
    format!("{} {} ago in store {}, {by}{good}", level(of.level), span(of.age_seconds), of.store)
}

fn component(of: &ComponentStatus) -> String {
    let mut out = format!("component {}\n", of.name);
    out.push_str(&format!("  newest       {}\n", brief(of.newest.as_ref())));
    out.push_str(&format!("  newest good  {}\n", brief(of.newest_good.as_ref())));
    if let Some(last) = &of.last_proof {
        out.push_str(&format!("  last proof   {}\n", proof(last)));
    }
    of.frozen.iter().for_each(|why| out.push_str(&format!("  frozen       {why}\n")));
    out
}

fn store(of: &StoreStatus) -> String {
    let mut out = format!("store {} ({})\n", of.name, of.location);
    if let Some(problem) = &of.problem {
        out.push_str(&format!("  PROBLEM      {problem}\n"));
    }
    if !of.here {
        return out;
    }
    out.push_str(&format!("  newest       {}\n", brief(of.newest.as_ref())));
    out.push_str(&format!("  newest good  {}\n", brief(of.newest_good.as_ref())));
    let behind = if of.entries_behind == 0 { "no".to_owned() } else { count(of.entries_behind, "entry") };
    out.push_str(&format!("  behind       {behind}\n"));
    if of.damaged_objects > 0 {
        out.push_str(&format!("  DAMAGED      {}\n", count(of.damaged_objects, "object")));
    }
    let pruned = match (of.last_prune, &of.last_prune_by) {
        (Some(moment), Some(by)) => format!("{} by {by}", time(moment)),
        _ => "never".to_owned(),
    };
    out.push_str(&format!("  last pruned  {pruned}\n"));
    out
}

fn scheduled(of: &Standing) -> String {
    let mut out = match of.agent_since {
        Some(since) => format!("schedule       run by an agent since {}\n", time(since)),
        None => "schedule       no agent runs now\n".to_owned(),
    };
    if let Some(url) = &of.page {
        out.push_str(&format!("  status page  {url}\n"));
    }
    for job in &of.jobs {
        let next = match (job.overdue_seconds, job.next) {
            (Some(late), _) => format!("due since {}", span(late)),
            (None, Some(next)) => format!("next {}", time(next)),
            (None, None) => "never".to_owned(),
        };
        let last = match (job.last_began, job.last_code) {
            (Some(began), Some(0)) => format!(", last {}", time(began)),
            (Some(began), Some(code)) => format!(", last {} (exit code {code})", time(began)),
            _ => String::new(),
        };
        out.push_str(&format!("  {:<12} {next}{last}\n", job.job));
    }
    if let Some(since) = of.behind_since {
        out.push_str(&format!(
            "  sync         since {} not every store has the newest snapshot\n",
            time(since)
        ));
    }
    out
}

/// What `status` says.
pub fn status(report: &StatusReport) -> String {
    let mut out = String::new();
    for concern in &report.concerns {
        let word = if concern.state == State::Critical { "CRITICAL" } else { "WARNING" };
        out.push_str(&format!("{word}: {}\n", concern.what));
        if let Some(way) = &concern.way_out {
            out.push_str(&format!("  way out: {way}\n"));
        }
    }
    if report.concerns.is_empty() {
        out.push_str("all is well\n");
    }
    report.components.iter().for_each(|c| out.push_str(&component(c)));
    report.stores.iter().for_each(|s| out.push_str(&store(s)));
    let drill = report.last_drill.as_ref().map_or_else(|| "never".to_owned(), proof);
    out.push_str(&format!("last drill     {drill}\n"));
    report.schedule.iter().for_each(|schedule| out.push_str(&scheduled(schedule)));
    let kit = report.kit.as_ref().map(|kit| match (kit.proved, kit.stale) {
        (None, _) => "never proved on this machine (`backstay kit verify FILE`)".to_owned(),
        (Some(proved), false) => format!("proved {}", time(proved)),
        (Some(proved), true) => format!("stale: proved {}, and keys or stores changed since", time(proved)),
    });
    kit.iter().for_each(|kit| out.push_str(&format!("recovery kit   {kit}\n")));
    report.unseen.iter().for_each(|what| out.push_str(&format!("not seen: {what}\n")));
    out
}
