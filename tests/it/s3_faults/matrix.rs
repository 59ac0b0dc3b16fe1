//! The table: a fault, the requests that it befalls, the operations that make them, and what must come of it.
//!
//! Whatever the line says, these hold after each: no other bytes lie under a name; what is said to be done is done; nothing is there that nobody
//! asked for; an error names the store and no secret; and when the fault is over, the same operation succeeds.

use super::bed::{Bed, CALM, Do, HASTE, told};
use crate::common::fault_server::{Fault, Manner, Nth, Op};
use backstay::store::StoreErrorKind as Kind;
use backstay::store::s3::testing;
use std::path::Path;
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
    /// How many times faster than the clock guards run.
    faster: u32,
}

/// Each operation with the request that it makes.
pub(crate) const ALL: &[(Do, Op)] = &[
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
pub(crate) const PUTS: &[(Do, Op)] = &[(Do::PutBytes, Op::Put), (Do::PutFile, Op::Put)];
const BODIES_UP: &[(Do, Op)] = &[(Do::PutBytes, Op::Put), (Do::PutParts, Op::Part)];
const READS: &[(Do, Op)] = &[(Do::Get, Op::Get), (Do::GetRange, Op::Range), (Do::ReadBack, Op::Get)];
/// Requests that carry no condition.
const UNCONDITIONAL: &[(Do, Op)] = &[
    (Do::PutParts, Op::Begin),
    (Do::PutParts, Op::Part),
    (Do::Get, Op::Get),
    (Do::GetRange, Op::Range),
    (Do::Head, Op::Head),
    (Do::List, Op::List),
    (Do::Delete, Op::Delete),
];
const CONDITIONAL: &[(Do, Op)] =
    &[(Do::PutBytes, Op::Put), (Do::PutFile, Op::Put), (Do::PutParts, Op::Complete)];
/// A head has no body that could name the error.
const ALL_BUT_HEAD: &[(Do, Op)] = &[
    (Do::PutBytes, Op::Put),
    (Do::PutParts, Op::Begin),
    (Do::PutParts, Op::Part),
    (Do::PutParts, Op::Complete),
    (Do::Get, Op::Get),
    (Do::GetRange, Op::Range),
    (Do::List, Op::List),
    (Do::Delete, Op::Delete),
];
/// Answers with a tree in XML.
const TREES: &[(Do, Op)] = &[(Do::PutParts, Op::Begin), (Do::PutParts, Op::Complete), (Do::List, Op::List)];

fn check(lines: &[Line]) {
    for line in lines {
        for (what, op) in line.on {
            check_one(line, *what, *op);
        }
    }
}

#[track_caller]
fn check_one(line: &Line, what: Do, op: Op) {
    let name = format!("{} {:?} with {:?} on {op:?} of {what:?}", line.id, line.fault, line.nth);
    println!("{name}");
    let bed = Bed::with(Manner::default(), line.faster, testing::keys());
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
    Line { id, fault, nth, on, must, faster: CALM }
}

/// The same where a guard is to end.
fn hasty(id: &'static str, fault: Fault, nth: Nth, on: &'static [(Do, Op)], must: Must) -> Line {
    Line { id, fault, nth, on, must, faster: HASTE }
}

fn refuse(status: u16, code: &'static str) -> Fault {
    Fault::Refuse(status, code, None)
}

fn busy() -> Vec<Line> {
    let given_up = || Fail(Kind::Unreachable, "given up after 11 tries");
    vec![
        line("C1", refuse(500, "InternalError"), Nth::First(2), ALL, Succeed),
        line("C1", Fault::Refuse(503, "SlowDown", Some(7)), Nth::First(2), ALL, Succeed),
        line("C1", Fault::Refuse(429, "TooManyRequests", Some(1)), Nth::First(3), ALL, Succeed),
        line("C1", refuse(503, "SlowDown"), Nth::All, ALL, given_up()),
    ]
}

#[test]
fn a_busy_server_is_asked_again_and_given_up_in_the_end() {
    check(&busy());
}

fn broken() -> Vec<Line> {
    vec![
        line("C3", Fault::CutUp(0), Nth::First(2), ALL, Succeed),
        line("C3", Fault::CutUp(10), Nth::First(2), BODIES_UP, Succeed),
        line("C3", Fault::CutDown(5), Nth::First(1), READS, Succeed),
        line("C5", Fault::CutDown(5), Nth::First(1), TREES, Succeed),
        line("C5", Fault::CutChunks(5), Nth::First(1), READS, Succeed),
        line("C5", Fault::CutChunks(5), Nth::First(1), TREES, Succeed),
        line("C5", Fault::ShortChunks(5), Nth::First(1), TREES, Succeed),
    ]
}

#[test]
fn a_connection_that_breaks_is_made_again() {
    check(&broken());
}

fn slow() -> Vec<Line> {
    let too_long = Fail(Kind::Unreachable, "longer than 15 minutes");
    vec![
        hasty("C4", Fault::StallUp, Nth::First(1), ALL, Succeed),
        hasty("C4", Fault::StallDown(5), Nth::First(1), READS, Succeed),
        hasty("C4", Fault::StallDown(0), Nth::First(1), TREES, Succeed),
        hasty("C4", Fault::DripUp, Nth::First(1), BODIES_UP, Succeed),
        hasty("C4", Fault::DripUp, Nth::All, BODIES_UP, Fail(Kind::Unreachable, "given up after")),
        hasty("C4", Fault::Drip, Nth::First(1), &[(Do::Get, Op::Get)], Succeed),
        hasty("C4", Fault::Drip, Nth::All, &[(Do::GetRange, Op::Range)], too_long),
    ]
}

#[test]
fn a_connection_that_stands_still_or_crawls_is_dropped() {
    check(&slow());
}

fn no_answer() -> Vec<Line> {
    let not_stored = Fail(Kind::Unreachable, "did not say that it stored it");
    let not_taken = Fail(Kind::Unreachable, "did not say that it took a part");
    vec![
        line("C8", Fault::OkError("InternalError"), Nth::First(1), TREES, Succeed),
        line("C8", Fault::OkEmpty, Nth::First(1), TREES, Succeed),
        line("C8", Fault::OkEmpty, Nth::First(1), PUTS, not_stored),
        line("C8", Fault::OkEmpty, Nth::First(1), &[(Do::PutParts, Op::Part)], not_taken),
        line("C8", Fault::OkEmpty, Nth::First(1), &[(Do::Get, Op::Get)], Succeed),
        line("C8", Fault::Captive, Nth::First(1), ALL, Succeed),
        line("C8", Fault::Captive, Nth::All, ALL, Fail(Kind::Unreachable, "web page")),
    ]
}

#[test]
fn an_answer_that_is_none_is_not_believed() {
    check(&no_answer());
}

fn perhaps_done() -> Vec<Line> {
    const LAST: &[(Do, Op)] = &[(Do::PutBytes, Op::Put), (Do::PutParts, Op::Complete)];
    vec![
        line("C11", Fault::Twice, Nth::First(1), ALL, Succeed),
        line("C12", Fault::DoneThenGone, Nth::First(1), ALL, Succeed),
        line("C12", Fault::DoneThen(503, "SlowDown"), Nth::First(1), ALL, Succeed),
        line("C12", Fault::DoneThen(500, "InternalError"), Nth::All, LAST, Succeed),
        hasty("C12", Fault::DoneThenSilent, Nth::First(1), ALL, Succeed),
    ]
}

#[test]
fn what_may_have_happened_is_looked_at() {
    check(&perhaps_done());
}

fn in_the_way() -> Vec<Line> {
    let conflict = || refuse(409, "ConditionalRequestConflict");
    let failed = || refuse(412, "PreconditionFailed");
    vec![
        line("C9", failed(), Nth::First(1), CONDITIONAL, Succeed),
        line("C9", failed(), Nth::All, UNCONDITIONAL, Fail(Kind::Exists, "412")),
        line("C10", conflict(), Nth::First(2), CONDITIONAL, Succeed),
        line("C10", conflict(), Nth::All, CONDITIONAL, Fail(Kind::Other, "comes and goes")),
        line("C10", conflict(), Nth::All, UNCONDITIONAL, Fail(Kind::Exists, "409")),
    ]
}

#[test]
fn somebody_else_in_the_way_for_a_moment_is_waited_for() {
    check(&in_the_way());
}

fn hidden() -> Vec<Line> {
    const BEGUN: &[(Do, Op)] = &[(Do::PutParts, Op::Part), (Do::PutParts, Op::Complete)];
    const OTHERS: &[(Do, Op)] = &[
        (Do::PutBytes, Op::Put),
        (Do::PutParts, Op::Begin),
        (Do::Get, Op::Get),
        (Do::GetRange, Op::Range),
        (Do::ReadBack, Op::Get),
        (Do::List, Op::List),
    ];
    vec![
        line("C13", Fault::Hidden, Nth::All, OTHERS, Fail(Kind::NotFound, "NoSuchKey")),
        line("C13", Fault::Hidden, Nth::All, BEGUN, Fail(Kind::Other, "NoSuchKey")),
    ]
}

#[test]
fn what_is_said_not_to_be_there_is_an_error_and_never_an_empty_object() {
    check(&hidden());
}

fn refused() -> Vec<Line> {
    let skewed = Fail(Kind::Denied, "403");
    vec![
        line("C15", refuse(403, "RequestTimeTooSkewed"), Nth::All, ALL, skewed),
        line("C16", refuse(403, "AccessDenied"), Nth::All, ALL, Fail(Kind::Denied, "403")),
        line("C17", refuse(403, "ExpiredToken"), Nth::First(1), ALL, Succeed),
        line("C18", refuse(507, "InsufficientStorage"), Nth::All, ALL, Fail(Kind::Full, "507")),
        line("C18", refuse(403, "QuotaExceeded"), Nth::All, ALL_BUT_HEAD, Fail(Kind::Full, "QuotaExceeded")),
    ]
}

#[test]
fn a_refusal_is_not_fought() {
    check(&refused());
}

/// The columns of the table.
const COLUMNS: [Op; 9] =
    [Op::Put, Op::Begin, Op::Part, Op::Complete, Op::Get, Op::Range, Op::Head, Op::List, Op::Delete];

/// What there is of a cell that no line above covers.
enum Cell {
    /// This test has it.
    Test(&'static str),
    /// There is nothing that could happen, and why.
    Never(&'static str),
}
use Cell::{Never, Test};

/// The rest of a row: for these columns, what there is.
type Rest = (&'static str, &'static [Op], Cell);

const NO_BODY: &str = "its answer has no body that could be cut or be another";
const NO_BYTES: &str = "no bytes of an object come with its answer";

fn elsewhere() -> Vec<Rest> {
    const NO_ANSWER_BODY: &[Op] = &[Op::Put, Op::Part, Op::Head, Op::Delete];
    const NO_OBJECT: &[Op] = &[Op::Put, Op::Begin, Op::Part, Op::Complete, Op::Head, Op::List, Op::Delete];
    const NO_LIST: &[Op] =
        &[Op::Put, Op::Begin, Op::Part, Op::Complete, Op::Get, Op::Range, Op::Head, Op::Delete];
    const PUTS_AND_DELETE: &[Op] = &[Op::Put, Op::Begin, Op::Part, Op::Complete, Op::Delete];
    const NO_GET: &[Op] =
        &[Op::Put, Op::Begin, Op::Part, Op::Complete, Op::Range, Op::Head, Op::List, Op::Delete];
    let every = &COLUMNS[..];
    let able = "what_is_there_is_compared_and_never_overwritten";
    vec![
        ("C2", every, Test("nobody_there_is_said_after_some_tries")),
        ("C2", every, Test("a_certificate_that_does_not_hold_ends_every_operation_at_once")),
        ("C5", NO_ANSWER_BODY, Never(NO_BODY)),
        ("C6", &[Op::Get], Test("wrong_bytes_are_read_once_more_and_then_told_as_they_are")),
        ("C6", &[Op::Range], Test("a_range_of_wrong_bytes_is_read_once_more_and_then_is_damage")),
        ("C6", NO_OBJECT, Never(NO_BYTES)),
        ("C7", &[Op::Get], Test("wrong_bytes_are_read_once_more_and_then_told_as_they_are")),
        ("C7", &[Op::Range], Test("a_range_of_wrong_bytes_is_read_once_more_and_then_is_damage")),
        ("C7", NO_OBJECT, Never(NO_BYTES)),
        ("C13", &[Op::Head], Test("not_there_right_after_a_put_is_waited_for_and_then_believed")),
        ("C13", &[Op::Delete], Never("what is to be deleted and is not there is deleted")),
        ("C14", &[Op::List], Test("listings_are_sorted_whole_and_end")),
        ("C14", NO_LIST, Never("it is no listing")),
        ("C19", &[Op::Put, Op::Part, Op::Complete, Op::Get, Op::Range], Test(able)),
        ("C19", &[Op::Begin, Op::Head, Op::List, Op::Delete], Never("it uses nothing that servers may lack")),
        ("C20", every, Test("etags_mean_nothing_whatever_they_look_like")),
        ("C21", every, Test("nothing_is_sent_to_another_host")),
        (
            "C22",
            &[Op::Get, Op::Range],
            Test("wrong_bytes_under_a_name_are_read_from_an_older_version_and_it_is_said"),
        ),
        ("C22", &[Op::List], Test("every_object_deleted_on_a_versioned_store_is_read_back_with_as_of")),
        (
            "C22",
            &[Op::Head],
            Never("a size alone is never taken for the object: who reads it finds what lies on top"),
        ),
        ("C22", PUTS_AND_DELETE, Never("it lays another version on top, whatever lies below")),
        ("C23", &[Op::Get], Test("a_bucket_that_was_away_for_ten_backups_catches_up_in_order_and_is_proved")),
        (
            "C23",
            NO_GET,
            Never("a store is opened with a GET: where that fails for days nothing else is asked"),
        ),
        ("C24", every, Test("a_clock_that_jumps_changes_nothing")),
        ("C25", every, Test("an_end_that_is_asked_for_comes_whatever_the_server_does")),
    ]
}

/// All test code of this program.
fn all_tests(dir: &Path, into: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all_tests(&path, into);
        } else {
            into.push_str(&std::fs::read_to_string(path).unwrap_or_default());
        }
    }
}

#[test]
fn each_of_25_faults_has_its_outcome_for_each_operation() {
    let groups = [busy(), broken(), slow(), no_answer(), perhaps_done(), in_the_way(), hidden(), refused()];
    let lines: Vec<Line> = groups.into_iter().flatten().collect();
    let rest = elsewhere();
    let mut code = String::new();
    all_tests(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it"), &mut code);
    for (id, _, cell) in &rest {
        match cell {
            Test(name) => assert!(code.contains(&format!("fn {name}()")), "{id}: there is no test {name}"),
            Never(why) => assert!(!why.is_empty(), "{id}"),
        }
    }
    let mut cells = 0;
    for number in 1..=25 {
        let id = format!("C{number}");
        for op in COLUMNS {
            let here = lines.iter().any(|l| l.id == id && l.on.iter().any(|(_, on)| *on == op));
            let there = rest.iter().any(|(row, ops, _)| *row == id && ops.contains(&op));
            assert!(here || there, "nothing is said of {id} on {op:?}");
            cells += 1;
        }
    }
    assert_eq!(cells, 225);
}
