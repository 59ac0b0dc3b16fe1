//! What an examination of a bucket finds by trying: whether older bytes stay, who could remove them, what lies there and costs.

use super::shop::{PREFIX, Shop};
use crate::common::fault_server::{Fault, FaultServer, Manner, Nth, Op, raw};
use crate::common::servers::{self, Running, tool, weed};
use backstay::model::ObjectId;
use backstay::store::s3::{S3Spec, S3Store, Versions, testing};
use backstay::store::{Key, Put, Store};
use std::path::Path;

fn store(endpoint: &str, bucket: &str, state: &Path) -> S3Store {
    let mut spec = S3Spec::new("offsite", bucket, state, testing::keys());
    (spec.endpoint, spec.path_style, spec.prefix) = (Some(endpoint.to_owned()), true, PREFIX.to_owned());
    S3Store::create(spec, true).unwrap()
}

fn tried(server: &FaultServer) -> Versions {
    let state = tempfile::tempdir().unwrap();
    let found = store(&server.endpoint(), "bucket", state.path()).try_versions().unwrap();
    assert_eq!(server.keys(), Vec::<String>::new(), "a throw-away object was left");
    found
}

#[test]
fn whether_older_bytes_stay_is_tried_and_not_believed() {
    let plain = tried(&FaultServer::start());
    assert_eq!(plain, Versions { told: false, kept: Some(false), removable: None, left: 0 });
    let server = FaultServer::with(Manner { versioned: true, ..Manner::default() });
    assert_eq!(tried(&server), Versions { told: true, kept: Some(true), removable: Some(true), left: 0 });
    // Keys that may not delete remove no version; what they can do at the end is hide.
    server.fault(Op::Delete, Nth::First(6), Fault::Refuse(403, "AccessDenied", None));
    let state = tempfile::tempdir().unwrap();
    let found = store(&server.endpoint(), "bucket", state.path()).try_versions().unwrap();
    assert_eq!(found, Versions { told: true, kept: Some(true), removable: Some(false), left: 2 });
}

fn tried_on(server: &Running) -> Versions {
    let state = tempfile::tempdir().unwrap();
    store(&server.endpoint, servers::BUCKET, state.path()).try_versions().unwrap()
}

#[test]
fn whether_older_bytes_stay_is_tried_on_seaweedfs_with_versions_and_with_a_lock() {
    let Some(server) = weed() else { return };
    assert_eq!(tried_on(&server), Versions { told: false, kept: Some(false), removable: None, left: 0 });
    tool(&server, "enable");
    assert_eq!(tried_on(&server), Versions { told: true, kept: Some(true), removable: Some(true), left: 0 });
    drop(server);
    let Some(server) = weed() else { return };
    tool(&server, "lock");
    assert_eq!(tried_on(&server), Versions { told: true, kept: Some(true), removable: Some(false), left: 2 });
}

#[test]
fn more_versions_than_fit_on_a_page_of_seaweedfs_are_all_read() {
    let Some(server) = weed() else { return };
    tool(&server, "enable");
    let state = tempfile::tempdir().unwrap();
    let store = store(&server.endpoint, servers::BUCKET, state.path());
    let key = |number: u32| Key::Manifest(ObjectId::of(&number.to_be_bytes()));
    let before = key(0);
    // Keys whose names lie around each other, each with two versions.
    for number in 0..520 {
        assert_ne!(store.put_bytes(&key(number), b"the first").unwrap(), Put::AlreadyThere);
    }
    tool(&server, "overwrite");
    let versions = store.versions(&before).unwrap();
    assert_eq!(versions.len(), 2, "{versions:?}");
    assert_eq!(store.get_version(&before, &versions[1], 4, 5).unwrap(), b"first");
    assert_eq!(store.get_version(&before, &versions[0], 0, 4).unwrap(), b"over");
    // The whole store as it stood in the year 2099, and before anything.
    let mut spec = S3Spec::new("offsite", servers::BUCKET, state.path(), testing::keys());
    (spec.endpoint, spec.path_style) = (Some(server.endpoint.clone()), true);
    spec.prefix = PREFIX.to_owned();
    store.put_bytes(&Key::Store, b"{}").unwrap();
    spec.as_of = Some("2099-01-01T00:00:00Z".parse().unwrap());
    let then = S3Store::open(spec.clone()).unwrap();
    let listed = then.list(backstay::store::Prefix::Manifests).unwrap();
    assert_eq!(listed.len(), 520);
    assert!(listed.iter().all(|listed| listed.size == 12), "the last version of each");
    spec.as_of = Some("2020-01-01T00:00:00Z".parse().unwrap());
    assert!(S3Store::open(spec).is_err());
}

#[test]
fn parts_that_nobody_goes_on_with_are_named_by_doctor_with_what_they_cost() {
    let server = FaultServer::start();
    let shop = Shop::open(&server.endpoint(), "bucket", &[]);
    shop.person.backup();
    let key = Key::Archive(ObjectId::of(b"never completed"));
    let begun = raw(&server, &format!("POST /bucket/{PREFIX}/{key}?uploads HTTP/1.1"), b"").unwrap();
    let id = begun.split("<UploadId>").nth(1).unwrap().split('<').next().unwrap();
    for number in [1, 2, 3] {
        let head = format!("PUT /bucket/{PREFIX}/{key}?partNumber={number}&uploadId={id} HTTP/1.1");
        assert!(raw(&server, &head, &[7; 1000]).unwrap().starts_with("HTTP/1.1 200"));
    }
    server.manner(|manner| manner.page = 2);
    let said = shop.person.run(["doctor"]);
    let text = format!("{}{}", said.out, said.err);
    assert!(
        text.contains("1 unfinished uploads of 3000 bytes")
            || text.contains("1 unfinished uploads of 3.0 kB"),
        "{text}"
    );
    assert_eq!(server.uploads(), 1, "what another machine may be at is not ended");
}
