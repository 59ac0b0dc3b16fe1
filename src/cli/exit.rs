//! The only map from errors and outcomes to exit codes, and the only place that prints errors.

use crate::config::ConfigErrors;
use crate::model::{Problem, ProblemKind};
use crate::ops::error::{Class, OpError};
use serde::Serialize;
use std::error::Error;

/// Exit codes; `docs/exit-codes.md` lists them, and a test compares the two.
pub const CODES: &[(u8, &str)] = &[
    (0, "done"),
    (1, "failed"),
    (2, "usage"),
    (3, "done, but something could not be read or restored exactly"),
    (4, "done, but not in every store asked for"),
    (10, "store missing, unreachable, full or access refused"),
    (11, "busy: another run is under way"),
    (12, "no identity here opens it"),
    (13, "damage, an untrusted snapshot, or missing history"),
    (14, "configuration"),
    (15, "hook or service failed"),
    (16, "not found: snapshot, component, path or tag"),
    (17, "rolled back by itself"),
    (18, "needs a person"),
    (129, "ended (SIGHUP)"),
    (130, "interrupted (SIGINT)"),
    (131, "ended (SIGQUIT)"),
    (143, "ended (SIGTERM)"),
];

/// The code of a failure.
pub fn code_of(class: Class, signal: Option<i32>) -> u8 {
    match class {
        Class::Failed => 1,
        Class::Usage => 2,
        Class::Store => 10,
        Class::Busy => 11,
        Class::NoIdentity => 12,
        Class::Damage => 13,
        Class::Config => 14,
        Class::Service => 15,
        Class::NotFound => 16,
        Class::RolledBack => 17,
        Class::Person => 18,
        Class::Interrupted => 128 + signal.and_then(|s| u8::try_from(s).ok()).unwrap_or(2),
    }
}

/// The code of a run that ended, by the problems it met: damage before a hook that failed, that before what could not be read, that before a
/// store that is behind.
pub fn code_of_problems(problems: &[Problem]) -> u8 {
    let of = |p: &Problem| match p.kind {
        ProblemKind::Damaged => Some((0, 13)),
        ProblemKind::Hook => Some((1, 15)),
        ProblemKind::Store => Some((3, 4)),
        _ if p.is_failure() => Some((2, 3)),
        _ => None,
    };
    problems.iter().filter_map(of).min().map_or(0, |(_, code)| code)
}

#[derive(Serialize)]
struct ErrorDocument {
    error: String,
    caused_by: Vec<String>,
    hint: Option<String>,
    exit_code: u8,
}

/// Says an error: `error:`, `caused by:` lines, `hint:`. With `json` also as the one document on standard output.
pub fn report(error: &OpError, code: u8, json: bool) {
    let mut text = format!("error: {error}\n");
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(e) = cause {
        let said = e.to_string();
        // Several lines are an account of their own: mistakes of a configuration, each shown beside its line.
        let lead = if said.contains('\n') { "" } else { "caused by: " };
        text.push_str(&format!("{lead}{}\n", said.trim_end()));
        match e.downcast_ref::<ConfigErrors>().map(ConfigErrors::lines) {
            Some(lines) if !lines.is_empty() => causes.extend(lines),
            _ => causes.push(said),
        }
        cause = e.source();
    }
    if let Some(hint) = &error.hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    super::say(text.trim_end());
    if json {
        document(&error.to_string(), causes, error.hint.clone(), code);
    }
}

/// Writes an error as the one document on standard output.
pub(super) fn document(error: &str, caused_by: Vec<String>, hint: Option<String>, exit_code: u8) {
    let document = ErrorDocument { error: error.to_owned(), caused_by, hint, exit_code };
    // The exit code says that it failed; there is nowhere left to say that this could not be written.
    let _unread = super::render::json(&document);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_exit_codes_are_the_programs_own() {
        let doc = include_str!("../../docs/exit-codes.md");
        for (code, meaning) in CODES {
            assert!(doc.contains(&format!("| {code} | {meaning} |")), "{code} {meaning}");
        }
        let rows = doc.lines().filter(|l| l.starts_with("| ") && l.as_bytes()[2].is_ascii_digit());
        assert_eq!(rows.count(), CODES.len());
    }

    #[test]
    fn every_class_has_a_documented_code() {
        use Class::*;
        for class in [
            Failed,
            Usage,
            Store,
            Busy,
            NoIdentity,
            Damage,
            Config,
            Service,
            NotFound,
            RolledBack,
            Person,
            Interrupted,
        ] {
            let code = code_of(class, None);
            assert!(CODES.iter().any(|c| c.0 == code), "{class:?}");
        }
        for signal in [1, 3, 15] {
            let code = code_of(Interrupted, Some(signal));
            assert_eq!(i32::from(code), 128 + signal);
            assert!(CODES.iter().any(|c| c.0 == code), "{code}");
        }
    }
}
