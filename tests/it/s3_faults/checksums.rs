//! Checksums that go along with what is put: where every put needs one, where none is taken, and where it could not be tried.

use super::bed::{Bed, CALM, Do, bytes, told};
use crate::common::fault_server::{Call, Fault, Manner, Nth, Op};
use backstay::model::ObjectId;
use backstay::store::s3::{Checksum, Compared, testing};
use backstay::store::{Key, Put, Store, StoreError, StoreErrorKind as Kind};

fn put(bed: &Bed, length: usize, kind: u8) -> Result<Put, StoreError> {
    let content = bytes(length, kind);
    let id = ObjectId::of(&content);
    let path = bed.state.path().join("spooled");
    std::fs::write(&path, &content).unwrap();
    bed.store.put_file(&Key::Archive(id), &path, length as u64, &id)
}

/// The requests that carried bytes of objects of the format.
fn bodies(bed: &Bed) -> Vec<Call> {
    let ours = |call: &Call| matches!(call.op, Op::Put | Op::Part) && call.key.contains("/archives/");
    bed.server.calls().into_iter().filter(ours).collect()
}

const PUTS: [Do; 3] = [Do::PutBytes, Do::PutFile, Do::PutParts];

#[test]
fn keys_that_may_not_probe_write_where_every_put_needs_a_checksum() {
    for checksum in [Checksum::Auto, Checksum::Sha256] {
        let bed = Bed::unprobed(Manner { needs_checksums: true, ..Manner::default() }, checksum);
        for what in PUTS {
            bed.perform(what).unwrap_or_else(|e| panic!("{checksum:?} {what:?}: {}", told(&e)));
            bed.server.forget();
        }
        assert!(bodies(&bed).iter().all(|call| call.checksum), "{checksum:?}");
        // Nobody tried whether this server compares: that it took one proves nothing.
        for length in [1000, 17 << 20] {
            assert_eq!(put(&bed, length, 4).unwrap(), Put::Created, "{checksum:?} {length}");
        }
        assert!(bed.store.known().is_none(), "what was not tried is not remembered");
        bed.server.calm();
    }
}

#[test]
fn keys_that_may_not_probe_do_without_checksums_after_one_refusal() {
    for what in PUTS {
        let bed = Bed::unprobed(Manner::default(), Checksum::Auto);
        bed.server.manner(|manner| manner.refuses_checksums = true);
        bed.perform(what).unwrap_or_else(|e| panic!("{what:?}: {}", told(&e)));
        let calls = bodies(&bed);
        let (with, without): (Vec<_>, Vec<_>) = calls.iter().partition(|call| call.checksum);
        assert!(!with.is_empty() && !without.is_empty(), "{what:?}: {calls:?}");
        assert_eq!(bed.server.uploads(), 0, "what was begun is ended");
        for next in PUTS {
            bed.server.forget();
            bed.server.forget_calls();
            bed.perform(next).unwrap_or_else(|e| panic!("{next:?} after {what:?}: {}", told(&e)));
            assert!(bodies(&bed).iter().all(|call| !call.checksum), "{next:?} after {what:?}");
        }
    }
}

#[test]
fn a_refusal_that_is_not_of_the_checksum_is_told_as_it_was_and_changes_nothing() {
    for (what, op) in [(Do::PutBytes, Op::Put), (Do::PutParts, Op::Part), (Do::PutParts, Op::Begin)] {
        let bed = Bed::unprobed(Manner { needs_checksums: true, ..Manner::default() }, Checksum::Auto);
        bed.server.fault_on(op, "archives/", Nth::First(1), Fault::Refuse(400, "EntityTooLarge", None));
        let text = told(&bed.perform(what).unwrap_err());
        assert!(text.contains("EntityTooLarge"), "{what:?} {op:?}: {text}");
        bed.server.calm();
        bed.server.forget_calls();
        bed.perform(what).unwrap();
        assert!(bodies(&bed).iter().all(|call| call.checksum), "{what:?} {op:?}");
    }
}

#[test]
fn bytes_that_were_spoilt_on_the_way_are_never_sent_without_a_checksum() {
    let bed = Bed::unprobed(Manner { ignores_signed: true, ..Manner::default() }, Checksum::Auto);
    bed.server.fault_on(Op::Put, "archives/", Nth::All, Fault::SpoilUp);
    let text = told(&bed.perform(Do::PutBytes).unwrap_err());
    assert!(text.contains("BadDigest"), "{text}");
    bed.server.calm();
    bed.server.fault(Op::Part, Nth::First(2), Fault::SpoilUp);
    bed.perform(Do::PutParts).map_err(|e| told(&e)).unwrap();
    bed.server.calm();
    assert!(bodies(&bed).iter().all(|call| call.checksum));
}

#[test]
fn with_checksum_sha256_a_server_that_refuses_it_is_an_error() {
    let refused = |text: &str| assert!(text.contains("400 InvalidArgument"), "{text}");
    let unprobed = Bed::unprobed(Manner::default(), Checksum::Sha256);
    let probed = Bed::checking(Checksum::Sha256);
    for bed in [unprobed, probed] {
        bed.server.manner(|manner| manner.refuses_checksums = true);
        for what in PUTS {
            let error = bed.perform(what).unwrap_err();
            assert_eq!(error.kind, Kind::Other);
            refused(&told(&error));
        }
        assert!(bodies(&bed).iter().all(|call| call.checksum));
        assert_eq!(bed.server.uploads(), 0);
    }
    // Where it refuses parts alone, and where an upload cannot begin with them.
    for op in [Op::Part, Op::Begin] {
        let bed = Bed::checking(Checksum::Sha256);
        bed.server.fault(op, Nth::Only(1), Fault::Refuse(400, "InvalidArgument", None));
        refused(&told(&bed.store.probe().unwrap_err()));
        assert_eq!(bed.server.uploads(), 0, "{op:?}");
    }
}

#[test]
fn a_server_that_begins_uploads_only_without_checksums_is_worked_with() {
    let bed = Bed::new();
    bed.server.fault(Op::Begin, Nth::Only(1), Fault::Refuse(400, "InvalidArgument", None));
    let found = bed.store.probe().map_err(|e| told(&e)).unwrap();
    assert!(found.multipart && found.checksum_part == Compared::Refused, "{found:?}");
    bed.perform(Do::PutParts).unwrap();
    assert!(bodies(&bed).iter().all(|call| !call.checksum));
}

#[test]
fn a_bucket_that_needs_checksums_is_found_to_be_what_it_is() {
    let manner = Manner { needs_checksums: true, ignores_signed: true, ..Manner::default() };
    let bed = Bed::with(manner, CALM, testing::keys());
    let found = bed.store.known().unwrap();
    assert!(found.create_only && found.overwrite_possible && found.multipart, "{found:?}");
    assert_eq!((found.checksum_put, found.checksum_part), (Compared::Enforced, Compared::Enforced));
    // What it refused was the want of a checksum, and not the lie.
    assert!(!found.payload_put && !found.payload_part, "{found:?}");
    bed.server.manner(|manner| manner.versioned = true);
    let tried = bed.store.try_versions().map_err(|e| told(&e)).unwrap();
    assert_eq!((tried.kept, tried.removable, tried.left), (Some(true), Some(true), 0));
}
