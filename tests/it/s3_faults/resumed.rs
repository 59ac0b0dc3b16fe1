//! Uploads in parts that are taken up again: what the server has of them is asked before anything is sent, and nothing that it says makes a put fail
//! which could begin anew.

use super::bed::{Bed, CALM, Do, told};
use crate::common::fault_server::{Fault, Manner, Nth, Op, Parts};
use backstay::store::StoreErrorKind as Kind;
use backstay::store::s3::testing;
use std::fs;
use std::path::PathBuf;

/// All that a server may say when it is asked for parts.
const SAYINGS: [Parts; 5] = [Parts::Listed, Parts::Vague, Parts::Unknown, Parts::Object, Parts::Nothing];

/// An upload of three parts, all sent but these (each refused at its first try and at its second, with fresh keys), and remembered.
fn interrupted(parts: Parts, refused: &[usize]) -> Bed {
    let bed = Bed::with(Manner { parts, ..Manner::default() }, CALM, testing::keys());
    for part in refused {
        for _ in 0..2 {
            bed.server.fault(Op::Part, Nth::Only(*part), Fault::Refuse(403, "AccessDenied", None));
        }
    }
    if refused.is_empty() {
        bed.server.fault(Op::Complete, Nth::All, Fault::Refuse(403, "AccessDenied", None));
    }
    assert_eq!(bed.perform(Do::PutParts).unwrap_err().kind, Kind::Denied);
    bed.server.calm();
    bed.server.forget_calls();
    assert_eq!(bed.server.uploads(), 1);
    bed
}

fn count(bed: &Bed) -> [usize; 2] {
    [Op::Begin, Op::Part].map(|op| bed.server.count(op))
}

/// The file in which the upload is remembered.
fn memory(bed: &Bed) -> PathBuf {
    let mut files = fs::read_dir(bed.state.path().join("uploads/offsite")).unwrap().flatten();
    let file = files.next().expect("an upload is remembered").path();
    assert!(files.next().is_none(), "only one");
    file
}

#[test]
fn an_upload_that_is_gone_begins_anew_though_the_server_hangs_up_on_its_parts() {
    for parts in SAYINGS {
        let bed = interrupted(parts, &[]);
        bed.server.lose_part(2);
        let text = fs::read_to_string(memory(&bed)).unwrap();
        let mut upload: serde_json::Value = serde_json::from_str(&text).unwrap();
        upload["parts"].as_object_mut().unwrap().remove("2");
        fs::write(memory(&bed), upload.to_string()).unwrap();
        bed.server.abort_all();
        bed.server.manner(|manner| manner.hangs_up = true);
        if let Err(error) = bed.perform(Do::PutParts) {
            panic!("{parts:?}: {}", told(&error));
        }
        assert_eq!(bed.server.count(Op::Begin), 1, "{parts:?}");
        assert_eq!(bed.server.uploads(), 0, "{parts:?}");
        if matches!(parts, Parts::Listed | Parts::Vague) {
            assert_eq!(bed.server.count(Op::Part), 3, "what is gone is not sent to: {parts:?}");
        }
    }
}

#[test]
fn an_upload_that_is_there_is_gone_on_with_whatever_the_server_says_of_it() {
    for parts in SAYINGS {
        let bed = interrupted(parts, &[]);
        bed.perform(Do::PutParts).unwrap();
        assert_eq!(count(&bed), [0, 0], "{parts:?}");
        assert!(bed.server.count(Op::Parts) <= 2, "{parts:?}");
        assert_eq!(bed.server.uploads(), 0, "{parts:?}");
    }
}

#[test]
fn of_an_upload_that_is_gone_on_with_what_the_server_lacks_is_sent_and_nothing_else() {
    let bed = interrupted(Parts::Listed, &[]);
    bed.server.lose_part(2);
    bed.perform(Do::PutParts).unwrap();
    assert_eq!(count(&bed), [0, 1]);
    // Other bytes of the same length are not ours.
    let bed = interrupted(Parts::Listed, &[]);
    bed.server.exchange_part(1);
    bed.perform(Do::PutParts).unwrap();
    assert_eq!(count(&bed), [0, 1]);
    // The list comes in pages.
    let bed = interrupted(Parts::Listed, &[]);
    bed.server.manner(|manner| manner.page = 1);
    bed.perform(Do::PutParts).unwrap();
    assert_eq!((count(&bed), bed.server.count(Op::Parts)), ([0, 0], 3));
}

#[test]
fn a_part_that_arrived_and_was_not_remembered_is_not_sent_again() {
    let bed = interrupted(Parts::Listed, &[]);
    let text = fs::read_to_string(memory(&bed)).unwrap();
    let mut upload: serde_json::Value = serde_json::from_str(&text).unwrap();
    upload["parts"].as_object_mut().unwrap().remove("3");
    fs::write(memory(&bed), upload.to_string()).unwrap();
    bed.perform(Do::PutParts).unwrap();
    assert_eq!(count(&bed), [0, 0], "its SHA-256 is listed");
    // Without a SHA-256 nothing is believed.
    let bed = Bed::with(Manner { refuses_checksums: true, ..Manner::default() }, CALM, testing::keys());
    bed.server.fault(Op::Complete, Nth::All, Fault::Refuse(403, "AccessDenied", None));
    bed.perform(Do::PutParts).unwrap_err();
    bed.server.calm();
    bed.server.forget_calls();
    let text = fs::read_to_string(memory(&bed)).unwrap();
    let mut upload: serde_json::Value = serde_json::from_str(&text).unwrap();
    upload["parts"].as_object_mut().unwrap().remove("3");
    fs::write(memory(&bed), upload.to_string()).unwrap();
    bed.perform(Do::PutParts).unwrap();
    assert_eq!(count(&bed), [0, 1]);
}

#[test]
fn an_upload_that_lives_is_kept_when_the_line_breaks() {
    for parts in SAYINGS {
        let bed = interrupted(parts, &[3]);
        // All tries of the one part that lacks; what is asked then comes through.
        bed.server.fault(Op::Part, Nth::First(11), Fault::CutUp(100_000));
        let error = bed.perform(Do::PutParts).unwrap_err();
        assert_eq!(error.kind, Kind::Unreachable, "{parts:?}: {}", told(&error));
        bed.server.calm();
        assert_eq!((bed.server.count(Op::Begin), bed.server.uploads()), (0, 1), "{parts:?}");
        bed.server.forget_calls();
        bed.perform(Do::PutParts).unwrap();
        assert_eq!(count(&bed), [0, 1], "{parts:?}");
    }
}

#[test]
fn a_server_that_is_away_when_an_upload_is_taken_up_is_said_and_the_upload_kept() {
    let bed = interrupted(Parts::Listed, &[3]);
    bed.server.fault(Op::Parts, Nth::All, Fault::Refuse(503, "SlowDown", None));
    let error = bed.perform(Do::PutParts).unwrap_err();
    assert_eq!(error.kind, Kind::Unreachable, "{}", told(&error));
    bed.server.calm();
    bed.server.forget_calls();
    bed.perform(Do::PutParts).unwrap();
    assert_eq!(count(&bed), [0, 1]);
}
