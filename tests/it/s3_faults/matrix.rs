//! The table: a fault, the requests that it befalls, the operations that make them, and what must come of it.
//!
//! Whatever the line says, these hold after each: no other bytes lie under a name; what is said to be done is done; nothing is there that nobody
//! asked for; an error names the store and no secret; and when the fault is over, the same operation succeeds.

use super::bed::{Bed, CALM, Do, HASTE, told};
use crate::common::fault_server::{Fault, Manner, Nth, Op};
use backstay::store::StoreErrorKind as Kind;
use backstay::store::s3::testing;
use std::time::{Duration, Instant};

enum Must {
    /// It succeeds.
    Succeed,
    /// It fails so, and says this.
    Fail(Kind, &'static str),
}
use Must::{Fail, Succeed};

struct Line {
    /// As the catalogue of tests numbers them.
    id: &'static str,
    fault: Fault,
    nth: Nth,
    on: &'static [(Do, Op)],
    must: Must,
}

/// Each operation with the request that it makes.
const ALL: &[(Do, Op)] = &[
    (Do::PutBytes, Op::Put),
    (Do::PutFile, Op::Put),
    (Do::PutParts, Op::Begin),
    (Do::PutParts, Op::Part),
    (Do::PutParts, Op::Complete),
    (Do::Get, Op::Get),
    (Do::GetRange, Op::Range),
    (Do::ReadBack, Op::Get),
    (Do::Head, Op::Head),
    (Do::List, Op::List),
    (Do::Delete, Op::Delete),
];
const PUTS: &[(Do, Op)] = &[(Do::PutBytes, Op::Put), (Do::PutFile, Op::Put)];
const ALL_PUTS: &[(Do, Op)] = &[
    (Do::PutBytes, Op::Put),
    (Do::PutParts, Op::Begin),
    (Do::PutParts, Op::Part),
    (Do::PutParts, Op::Complete),
];
const BODIES_UP: &[(Do, Op)] = &[(Do::PutBytes, Op::Put), (Do::PutParts, Op::Part)];
const READS: &[(Do, Op)] = &[(Do::Get, Op::Get), (Do::GetRange, Op::Range), (Do::ReadBack, Op::Get)];
const CHANGES: &[(Do, Op)] = &[
    (Do::PutBytes, Op::Put),
    (Do::PutParts, Op::Part),
    (Do::PutParts, Op::Complete),
    (Do::Delete, Op::Delete),
];

fn check(lines: Vec<Line>, faster: u32) {
    for line in lines {
        for (what, op) in line.on {
            check_one(&line, *what, *op, faster);
        }
    }
}

#[track_caller]
fn check_one(line: &Line, what: Do, op: Op, faster: u32) {
    let name = format!("{} {:?} with {:?} on {op:?} of {what:?}", line.id, line.fault, line.nth);
    println!("{name}");
    let bed = Bed::with(Manner::default(), faster, testing::keys());
    bed.server.fault(op, line.nth, line.fault.clone());
    let begun = Instant::now();
    let outcome = bed.perform(what);
    let text = outcome.as_ref().err().map(told).unwrap_or_default();
    match &line.must {
        Succeed => assert!(outcome.is_ok(), "{name}: {text}"),
        Fail(kind, words) => {
            let error = outcome.expect_err(&name);
            assert_eq!(error.kind, *kind, "{name}: {text}");
            assert!(text.contains(words), "{name}: {text}");
        }
    }
    assert!(bed.paused() <= Duration::from_secs(15 * 60), "{name}: {:?}", bed.paused());
    assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {:?}", begun.elapsed());
    bed.server.calm();
    if let Err(error) = bed.perform(what) {
        panic!("{name}: the fault is over, and still: {}", told(&error));
    }
}

fn line(id: &'static str, fault: Fault, nth: Nth, on: &'static [(Do, Op)], must: Must) -> Line {
    Line { id, fault, nth, on, must }
}

#[test]
fn a_busy_server_is_asked_again_and_given_up_in_the_end() {
    let refuse = Fault::Refuse;
    check(
        vec![
            line("C1", refuse(500, "InternalError", None), Nth::First(2), ALL, Succeed),
            line("C1", refuse(503, "SlowDown", Some(7)), Nth::First(2), ALL, Succeed),
            line("C1", refuse(429, "TooManyRequests", Some(1)), Nth::First(3), ALL, Succeed),
            line(
                "C1",
                refuse(503, "SlowDown", None),
                Nth::All,
                ALL,
                Fail(Kind::Unreachable, "given up after 11 tries"),
            ),
        ],
        CALM,
    );
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    check(
        vec![
            line("C3", Fault::CutUp(10), Nth::First(2), BODIES_UP, Succeed),
            line("C3", Fault::CutDown(5), Nth::First(1), READS, Succeed),
            line("C3", Fault::CutDown(5), Nth::First(1), &[(Do::List, Op::List)], Succeed),
            line("C3", Fault::CutDown(5), Nth::First(1), &[(Do::PutParts, Op::Complete)], Succeed),
            line("C5", Fault::CutChunks(5), Nth::First(1), READS, Succeed),
            line("C5", Fault::CutChunks(5), Nth::First(1), &[(Do::List, Op::List)], Succeed),
        ],
        CALM,
    );
}

#[test]
fn a_connection_that_stands_still_or_crawls_is_dropped() {
    check(
        vec![
            line("C4", Fault::StallUp, Nth::First(1), BODIES_UP, Succeed),
            line("C4", Fault::StallDown(5), Nth::First(1), READS, Succeed),
            line(
                "C4",
                Fault::StallDown(0),
                Nth::First(1),
                &[(Do::List, Op::List), (Do::PutParts, Op::Complete)],
                Succeed,
            ),
            line("C4", Fault::Drip, Nth::First(1), &[(Do::Get, Op::Get)], Succeed),
        ],
        HASTE,
    );
}

#[test]
fn an_answer_that_is_none_is_not_believed() {
    check(
        vec![
            line(
                "C8",
                Fault::OkError("InternalError"),
                Nth::First(1),
                &[(Do::PutParts, Op::Complete)],
                Succeed,
            ),
            line(
                "C8",
                Fault::OkEmpty,
                Nth::First(1),
                &[(Do::PutParts, Op::Begin), (Do::PutParts, Op::Complete), (Do::List, Op::List)],
                Succeed,
            ),
            line("C8", Fault::Captive, Nth::First(1), ALL, Succeed),
            line("C8", Fault::Captive, Nth::All, ALL, Fail(Kind::Unreachable, "web page")),
        ],
        CALM,
    );
}

#[test]
fn what_may_have_happened_is_looked_at() {
    check(
        vec![
            line("C12", Fault::DoneThenGone, Nth::First(1), CHANGES, Succeed),
            line("C12", Fault::DoneThen(503, "SlowDown"), Nth::First(1), CHANGES, Succeed),
            line("C12", Fault::DoneThen(500, "InternalError"), Nth::All, &[(Do::PutBytes, Op::Put)], Succeed),
            line(
                "C12",
                Fault::DoneThen(500, "InternalError"),
                Nth::All,
                &[(Do::PutParts, Op::Complete)],
                Succeed,
            ),
            line("C11", Fault::Twice, Nth::First(1), CHANGES, Succeed),
        ],
        CALM,
    );
    check(vec![line("C12", Fault::DoneThenSilent, Nth::First(1), CHANGES, Succeed)], HASTE);
}

#[test]
fn somebody_else_in_the_way_for_a_moment_is_waited_for() {
    check(
        vec![
            line("C10", Fault::Refuse(409, "ConditionalRequestConflict", None), Nth::First(2), PUTS, Succeed),
            line("C9", Fault::Refuse(412, "PreconditionFailed", None), Nth::First(1), PUTS, Succeed),
        ],
        CALM,
    );
}

#[test]
fn a_refusal_is_not_fought() {
    check(
        vec![
            line("C16", Fault::Refuse(403, "AccessDenied", None), Nth::All, ALL, Fail(Kind::Denied, "403")),
            line("C17", Fault::Refuse(403, "ExpiredToken", None), Nth::First(1), ALL, Succeed),
            line(
                "C18",
                Fault::Refuse(507, "InsufficientStorage", None),
                Nth::All,
                ALL_PUTS,
                Fail(Kind::Full, "507"),
            ),
            line(
                "C18",
                Fault::Refuse(403, "QuotaExceeded", None),
                Nth::All,
                ALL_PUTS,
                Fail(Kind::Full, "QuotaExceeded"),
            ),
        ],
        CALM,
    );
}
