//! The store in a bucket on real servers, where they are found: SeaweedFS (`weed`) and `rclone serve s3`.

use crate::common::project::noise;
use crate::common::servers::{BUCKET, Running, rclone, weed};
use backstay::bridge::RealTimer;
use backstay::model::{ObjectId, Timestamp};
use backstay::store::s3::{Capabilities, Compared, S3Spec, S3Store, testing};
use backstay::store::testing::contract;
use backstay::store::{Key, Put, Store, StoreErrorKind};
use std::cell::Cell;
use std::sync::Arc;

/// A store on `server`, whose bucket is made if it is not there.
fn spec(server: &Running, prefix: &str) -> S3Spec {
    let mut spec = S3Spec::new("offsite", BUCKET, server.state().join("state"), testing::keys());
    (spec.endpoint, spec.path_style) = (Some(server.endpoint.clone()), true);
    spec.whole_max = 16 << 20; // so that parts can be tried with little
    (spec.prefix, spec.timer) = (prefix.to_owned(), Arc::new(RealTimer::default()));
    spec
}

fn store(server: &Running, prefix: &str) -> S3Store {
    S3Store::create(spec(server, prefix), true).unwrap()
}

fn same_suite(server: &Running) -> Capabilities {
    let number = Cell::new(0);
    contract(&|| {
        number.set(number.get() + 1);
        Box::new(store(server, &format!("v{}", number.get())))
    });
    let store = store(server, "large");
    let size = (16 << 20) * 2 + 77;
    let bytes = noise(3, size);
    let (id, path) = (ObjectId::of(&bytes), server.state().join("spooled"));
    std::fs::write(&path, &bytes).unwrap();
    let put = store.put_file(&Key::Archive(id), &path, size as u64, &id).unwrap();
    let known = store.known().unwrap();
    assert_eq!(put == Put::Proved, known.proves_parts(), "{put:?} {known:?}");
    assert_eq!(store.read_back(&Key::Archive(id), &mut |_| {}).unwrap(), (size as u64, id));
    let range = store.get_range(&Key::Archive(id), (16 << 20) - 5, 10).unwrap();
    assert_eq!(range, bytes[(16 << 20) - 5..(16 << 20) + 5]);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(store.put_file(&Key::Archive(id), &path, size as u64, &id).unwrap(), Put::AlreadyThere);
    let mut wrong = spec(server, "large");
    wrong.credentials = Arc::new(testing::StaticKeys::new("test-key-id", "another-secret-key"));
    assert_eq!(S3Store::open(wrong).unwrap_err().kind, StoreErrorKind::Denied);
    known
}

#[test]
fn seaweedfs_keeps_the_contract_and_proves_what_is_put() {
    let Some(server) = weed() else { return };
    let known = same_suite(&server);
    println!("{known:?}");
    assert!(known.create_only && known.ranges && known.delete_allowed && known.multipart, "{known:?}");
    assert_eq!((known.checksum_put, known.checksum_part), (Compared::Enforced, Compared::Enforced));
    assert_eq!(known.versioning, Some(false), "{known:?}");
    let store = store(&server, "large");
    assert_eq!(store.list_uploads().unwrap(), []);
    assert_eq!(store.abort_uploads(Timestamp::MAX).unwrap(), 0);
}

#[test]
fn rclone_keeps_the_contract_though_it_overwrites_and_compares_nothing() {
    let Some(server) = rclone() else { return };
    let known = same_suite(&server);
    println!("{known:?}");
    assert!(!known.create_only && known.ranges && known.multipart, "{known:?}");
    assert_eq!((known.checksum_put, known.checksum_part), (Compared::Ignored, Compared::Ignored));
}
