//! This machine's clock, against those of others.

use crate::ops::doctor::report::{Area, Findings};
use crate::ops::doctor::span;

/// Differences up to this many seconds are no matter.
const FINE: i64 = 60;
/// Servers refuse requests that are signed 15 minutes off; a snapshot an hour off is never counted by retention.
const BAD: i64 = 300;

/// What a difference of `ahead` seconds means: so much is the clock of `other` ahead of this machine's.
pub(super) fn judge(other: &str, ahead: i64, findings: &mut Findings) {
    let direction = if ahead > 0 { "behind" } else { "ahead of" };
    let what = format!("this machine's clock is {} {direction} that of {other}", span(ahead));
    let way = "set the clock (timedatectl set-ntp true), or find out which of the two is wrong";
    match ahead.abs() {
        0..=FINE => findings.well(Area::Clock, other, "the clocks agree"),
        seconds if seconds <= BAD => findings.warning(Area::Clock, other, what, way),
        _ => {
            let what = format!(
                "{what}: servers refuse requests that are 15 minutes off, and retention counts no snapshot of a wrong time"
            );
            findings.problem(Area::Clock, other, what, way);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::doctor::Severity;

    #[test]
    fn a_clock_is_well_up_to_a_minute_and_a_problem_from_five() {
        let cases = [
            (0, Severity::Well),
            (-60, Severity::Well),
            (61, Severity::Warning),
            (-300, Severity::Warning),
            (301, Severity::Problem),
            (-90_000, Severity::Problem),
        ];
        for (ahead, severity) in cases {
            let mut findings = Findings::default();
            judge("store", ahead, &mut findings);
            assert_eq!(findings.finish(jiff::Timestamp::UNIX_EPOCH).worst, severity, "{ahead}");
        }
    }
}
