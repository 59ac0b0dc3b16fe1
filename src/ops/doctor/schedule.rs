//! Whether something runs what the configuration schedules.

use crate::config::{Config, Task};
use crate::model::Timestamp;
use crate::ops::doctor::report::{Area, Findings};
use crate::ops::doctor::span;
use crate::ops::timetable::{PAGE_WAY_OUT, Standing, standing};

const AREA: Area = Area::Schedule;
const WAY: &str = "`backstay agent --print systemd` (or timer, or cron) shows what runs it";

/// Looks at `[schedule]`, and at what the agent remembers.
pub(super) fn look(config: &Config, now: Timestamp, findings: &mut Findings) {
    let Some(standing) = standing(config, now) else { return };
    drill_without_identity(config, findings);
    running(&standing, findings);
    match (&standing.page_problem, &standing.page) {
        (Some(why), _) => {
            findings.warning(AREA, "status page", why.clone(), PAGE_WAY_OUT);
        }
        (None, Some(url)) => findings.well(AREA, "status page", format!("it is at {url}")),
        (None, None) => {}
    }
    for job in &standing.jobs {
        if let Some(code) = job.last_code.filter(|code| ![0, 3, 4].contains(code)) {
            let what = format!("the last run failed (exit code {code})");
            findings.warning(AREA, &job.job, what, "run the command by hand and look at what it says");
        }
    }
}

fn drill_without_identity(config: &Config, findings: &mut Findings) {
    let drills = config.schedule.iter().flat_map(|s| &s.jobs).any(|job| job.task == Task::Drill);
    if drills && config.encryption.identity_file.is_none() {
        let what = "a drill is scheduled, and no identity is here that could open a snapshot";
        findings.warning(
            AREA,
            "drill",
            what,
            "start the agent with -i FILE, or drill on a machine that has the identity",
        );
    }
}

fn running(standing: &Standing, findings: &mut Findings) {
    let subject = "[schedule]";
    if let Some(why) = &standing.unreadable {
        return findings.problem(
            AREA,
            subject,
            why.clone(),
            "move that file away; the agent then begins anew",
        );
    }
    if !standing.ever {
        return findings.problem(AREA, subject, "nothing runs it: no agent ever did", WAY);
    }
    let late = standing.jobs.iter().filter_map(|job| Some((job.overdue_seconds?, &job.job))).max();
    match (standing.agent_since, late) {
        (None, Some((late, job))) => {
            findings.problem(
                AREA,
                subject,
                format!("nothing runs it: {job} is due since {}", span(late)),
                WAY,
            );
        }
        _ => findings.well(AREA, subject, "it is run"),
    }
}
