//! A bucket keeps the promises of a store, whatever its server cannot do.

use crate::common::s3::{Oddities, Server};
use backstay::store::s3::{Compared, S3Spec, S3Store};
use backstay::store::testing::contract;
use backstay::store::{Key, Prefix, Put, Store, StoreErrorKind};
use std::cell::Cell;
use std::path::Path;

fn made(spec: S3Spec) -> S3Store {
    S3Store::create(spec, false).unwrap()
}

fn contract_on(odd: Oddities) {
    let server = Server::start(odd);
    let state = tempfile::tempdir().unwrap();
    let number = Cell::new(0);
    contract(&|| {
        number.set(number.get() + 1);
        Box::new(made(server.spec(&format!("vaults/v{}", number.get()), state.path())))
    });
}

#[test]
fn a_bucket_keeps_the_contract() {
    contract_on(Oddities::default());
}

#[test]
fn a_server_that_ignores_create_only_keeps_the_contract() {
    contract_on(Oddities { overwrites: true, ..Oddities::default() });
}

#[test]
fn a_server_that_ignores_checksums_keeps_the_contract() {
    contract_on(Oddities { no_checksums: true, ..Oddities::default() });
}

#[test]
fn a_server_that_answers_ranges_with_200_keeps_the_contract() {
    contract_on(Oddities { ranges_are_200: true, ..Oddities::default() });
}

#[test]
fn a_server_without_ranges_that_refuses_checksums_keeps_the_contract() {
    contract_on(Oddities { no_ranges: true, refuses_checksums: true, ..Oddities::default() });
}

fn probed(odd: Oddities, state: &Path) -> (backstay::store::s3::Capabilities, Vec<std::path::PathBuf>) {
    let server = Server::start(odd);
    let store = made(server.spec("p", state));
    let found = store.probe().unwrap();
    assert_eq!(store.known(), Some(found.clone()));
    let left = std::fs::read_dir(server.bucket().join("p/.backstay-probe"));
    (found, left.map(|dir| dir.flatten().map(|e| e.path()).collect()).unwrap_or_default())
}

#[test]
fn a_probe_says_what_the_server_does_and_leaves_nothing() {
    let state = tempfile::tempdir().unwrap();
    let (found, left) = probed(Oddities::default(), state.path());
    assert!(found.create_only && found.ranges && found.multipart && found.delete_allowed, "{found:?}");
    assert!(found.overwrite_possible && found.probed_at.is_some(), "{found:?}");
    assert_eq!(found.checksum_put, Compared::Enforced);
    // This server does not look at the checksums of parts, but at what is signed.
    assert_eq!(found.checksum_part, Compared::Ignored);
    assert!(found.payload_put && found.payload_part && found.proves_parts(), "{found:?}");
    assert_eq!((found.versioning, found.object_lock), (None, None));
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_probe_sees_what_a_server_lacks() {
    let state = || tempfile::tempdir().unwrap();
    let odd = |odd: Oddities| probed(odd, state().path()).0;
    assert!(!odd(Oddities { overwrites: true, ..Oddities::default() }).create_only);
    let ignores = odd(Oddities { no_checksums: true, ..Oddities::default() });
    assert_eq!((ignores.checksum_put, ignores.create_only), (Compared::Ignored, true));
    let refuses = odd(Oddities { refuses_checksums: true, ..Oddities::default() });
    assert_eq!((refuses.checksum_put, refuses.create_only), (Compared::Refused, true));
    assert!(odd(Oddities { ranges_are_200: true, ..Oddities::default() }).ranges);
    assert!(!odd(Oddities { no_ranges: true, ..Oddities::default() }).ranges);
    let (kept, left) = probed(Oddities { no_deletes: true, ..Oddities::default() }, state().path());
    assert!(!kept.delete_allowed && left.len() <= 6, "{kept:?} {left:?}");
}

#[test]
fn a_place_without_a_store_is_missing_and_says_whether_the_bucket_is() {
    let server = Server::start(Oddities::default());
    let state = tempfile::tempdir().unwrap();
    let error = S3Store::open(server.spec("p", state.path())).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Missing, "{error:?}");
    assert!(error.source.to_string().contains("no backstay.json"), "{error:?}");
    let mut spec = server.spec("p", state.path());
    spec.bucket = "other-bucket".to_owned();
    for error in [S3Store::open(spec.clone()).unwrap_err(), S3Store::create(spec.clone(), false).unwrap_err()]
    {
        assert_eq!(error.kind, StoreErrorKind::Missing, "{error:?}");
        assert!(error.source.to_string().contains("NoSuchBucket"), "{error:?}");
    }
    let store = S3Store::create(spec.clone(), true).unwrap();
    assert_eq!(store.put_bytes(&Key::Store, b"{}").unwrap(), Put::Proved);
    S3Store::open(spec).unwrap();
    assert_eq!(store.list(Prefix::Archives).unwrap(), []);
}
