//! What the end of a run means for people: the line that is said of it, and the worst of several.

use crate::config::Config;
use crate::model::Timestamp;
use crate::ops::error::OpError;
use crate::ops::restore::read::chain_text;
use crate::ops::stopped;
use crate::ops::timetable::{Start, Turn, Verdict, What};
use jiff::SignedDuration;
use jiff::tz::TimeZone;

/// What runs, for people.
pub(super) fn title(start: &Start) -> &str {
    match &start.what {
        What::Line(name) => name,
        What::Sync => "sync of what is not in every store",
    }
}

/// What is said of an end; a try that fails as the one before did is not worth a line.
pub(super) fn told(start: &Start, code: u8, turn: Turn) -> Option<String> {
    let at = |at: Option<Timestamp>| match at {
        Some(at) => format!("tried again {}", at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M")),
        None => "not tried again before it is due".to_owned(),
    };
    let first = start.failed == 0;
    match turn.verdict {
        Verdict::Done if start.what == What::Sync => Some(": everything is in every store again".to_owned()),
        Verdict::Done if code == 0 && start.failed == 1 => Some(" is done, after a failure".to_owned()),
        Verdict::Done if code == 0 && !first => Some(format!(" is done, after {} failures", start.failed)),
        Verdict::Done if code == 0 => Some(" is done".to_owned()),
        Verdict::Done => Some(format!(" is done, not without trouble (exit code {code})")),
        Verdict::Behind if start.what != What::Sync => {
            let trouble =
                if code == 4 { String::new() } else { format!(", not without trouble (exit code {code})") };
            Some(format!(" is done{trouble}, and not in every store; `sync` is {}", at(turn.again_at)))
        }
        Verdict::Busy if start.waited() == 0 => Some(": waits, because another run is under way".to_owned()),
        Verdict::Retry if first => Some(format!(" failed (exit code {code}); {}", at(turn.again_at))),
        Verdict::GiveUp => Some(format!(" failed (exit code {code}); somebody has to look")),
        _ => None,
    }
}

/// What is said of a run that begins long after it was due.
pub(super) fn lateness(start: &Start, now: Timestamp) -> String {
    let due = start.due.to_zoned(TimeZone::system());
    match now.duration_since(start.due) > SignedDuration::from_hours(1) {
        true => format!(" (it was due {})", due.strftime("%Y-%m-%d %H:%M")),
        false => String::new(),
    }
}

/// An error and what to do about it, in a line.
pub(super) fn words(error: &OpError) -> String {
    let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{}{hint}", chain_text(error))
}

/// What is said when a job was killed while services were down for its capture: nobody starts them before somebody runs the program again.
pub(super) fn left_down(config: &Config) -> Option<String> {
    let names = stopped::names(&config.state_dir);
    let way = format!("`backstay --config {} ready` starts them", config.path.display());
    (!names.is_empty()).then(|| {
        format!("stopped for a capture that was cut off, and not started again: {}; {way}", names.join(", "))
    })
}

/// True when somebody should hear of an end who wants to hear of trouble alone. Another run that is waited for is none.
pub(super) fn is_trouble(code: u8, turn: Turn) -> bool {
    code != 0 && turn.verdict != Verdict::Busy
}

/// The worst of exit codes: that which asks for a person soonest.
pub fn worst(codes: &[u8]) -> u8 {
    const ORDER: [u8; 13] = [13, 18, 17, 14, 12, 10, 15, 1, 2, 16, 11, 3, 4];
    // What no list knows (a job that was killed) is a failure.
    let place = |code: u8| ORDER.iter().position(|known| *known == code);
    let rank = |code: &u8| match *code {
        0 => usize::MAX,
        code => place(code).or(place(1)).unwrap_or(ORDER.len()),
    };
    codes.iter().copied().min_by_key(rank).unwrap_or(0)
}
