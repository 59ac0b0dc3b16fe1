//! What came of a drill, for people.

use super::{count, size};
use crate::ops::drill::{DrillReport, DrilledComponent, DrilledSnapshot, Outcome};

/// What `drill` says.
pub fn drill(report: &DrillReport) -> String {
    let mut out = String::new();
    for drilled in &report.snapshots {
        let (id, store, location) = (&drilled.snapshot, &drilled.store, &drilled.location);
        out.push_str(&format!("drill of snapshot {id} from {store} ({location})\n"));
        report.components.iter().filter(|c| c.snapshot == *id).for_each(|c| out.push_str(&line(c)));
    }
    for key in &report.damaged {
        out.push_str(&format!("  DAMAGED {key}\n"));
    }
    let part = match (report.whole, report.not_drilled.is_empty()) {
        (true, true) => String::new(),
        (_, true) => " of the components asked for".to_owned(),
        (_, false) => format!(" but {}, not drilled,", report.not_drilled.join(", ")),
    };
    out.push_str(&match report.outcome {
        Outcome::Full => format!("FULL: everything{part} came back and passed every check\n"),
        Outcome::Partial => "PARTIAL: something did not come back, or failed its check\n".into(),
        Outcome::Unrecoverable => "UNRECOVERABLE: nothing can be brought back from this store\n".into(),
        Outcome::Inconclusive
            if !report.whole && report.snapshots.iter().all(|s| s.outcome == Outcome::Full) =>
        {
            format!("INCONCLUSIVE: everything{part} came back and passed every check; this is no success\n")
        }
        Outcome::Inconclusive => {
            "INCONCLUSIVE: it could not be found out whether all comes back; this is no success\n".into()
        }
    });
    out.push_str(&format!(
        "time to recover: {:.1} s for {}, and {:.1} s of checks\n",
        report.restore_seconds,
        size(report.bytes),
        report.check_seconds
    ));
    if matches!(report.outcome, Outcome::Partial | Outcome::Unrecoverable) {
        let bad = |s: &&DrilledSnapshot| matches!(s.outcome, Outcome::Partial | Outcome::Unrecoverable);
        for DrilledSnapshot { snapshot, .. } in report.snapshots.iter().filter(bad) {
            out.push_str(&format!(
                "`backstay verify {snapshot} --decrypt` says what is damaged in each store, and the way out\n"
            ));
        }
    }
    if let Some(why) = &report.not_signed {
        out.push_str(&format!("what was found is not signed, so lists do not show it: {why}\n"));
    }
    out
}

fn line(component: &DrilledComponent) -> String {
    let mut facts = vec![count(component.files, "file"), size(component.bytes)];
    if component.lost > 0 {
        facts.push(format!("{} LOST", component.lost));
    }
    if component.databases > 0 {
        facts.push(format!("{} checked", count(component.databases, "database")));
    }
    if component.check_run {
        facts.push("its check was run".into());
    }
    if component.checks_failed > 0 {
        facts.push(format!("{} FAILED", count(component.checks_failed, "check")));
    }
    if component.how == "compared" {
        facts.push("compared without room to restore it".into());
    }
    let seconds = component.restore_seconds;
    format!(
        "  {:<16} {:<13} {}, in {seconds:.1} s\n",
        component.name,
        component.outcome.word(),
        facts.join(", ")
    )
}
