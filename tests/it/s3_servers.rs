//! The store in a bucket on real servers, where they are found: SeaweedFS (`weed`) and `rclone serve s3`.

use crate::common::project::{have, noise};
use crate::common::servers::{BUCKET, Running, rclone, weed};
use backstay::bridge::{RealTimer, TestTimer};
use backstay::model::{ObjectId, Timestamp};
use backstay::store::s3::{Capabilities, Compared, S3Spec, S3Store, Versions, testing};
use backstay::store::testing::contract;
use backstay::store::{Key, Put, Store, StoreErrorKind};
use std::cell::Cell;
use std::path::{Path, PathBuf};
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
    assert_eq!((known.versioning, known.object_lock), (Some(false), None), "{known:?}");
}

/// Has the tools' own client do what no store does: `s3` and `bucket` are there.
fn arrange(server: &Running, code: &str) {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools");
    let script = format!(
        "import sys\nfrom s3 import S3, md5_b64\ns3, bucket = S3(sys.argv[1], 'test-key-id', 'test-secret-key'), sys.argv[2]\n\
         def ask(*words, **more):\n    answer = s3.ask(*words, **more)\n    assert answer.status < 300, answer\n{code}"
    );
    let mut python = std::process::Command::new("python3");
    python.args(["-c", &script, &server.endpoint, BUCKET]).env("PYTHONDONTWRITEBYTECODE", "1");
    let said = python.env("PYTHONPATH", tools).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// What a probe finds of a bucket that is as `code` says, and what came of an object that was overwritten in it.
fn of_bucket(code: &str) -> Option<(Capabilities, Versions)> {
    let server = weed().filter(|_| have(&["python3"]))?;
    arrange(&server, code);
    let store = store(&server, "kept");
    let known = store.probe().unwrap();
    println!("{known:?}");
    assert!(known.create_only && known.proves_put() && known.proves_parts() && known.ranges, "{known:?}");
    let tried = store.try_versions().unwrap();
    Some((known, tried))
}

#[test]
fn a_bucket_of_seaweedfs_with_versions_keeps_what_is_overwritten_until_the_version_is_removed() {
    let on = "on = b'<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>'\n\
              ask('PUT', bucket)\nask('PUT', bucket, {'versioning': ''}, on, {'content-md5': md5_b64(on)})";
    let Some((known, tried)) = of_bucket(on) else { return };
    assert_eq!(known.versioning, Some(true), "{known:?}");
    assert_ne!(known.object_lock, Some(true), "{known:?}");
    assert_eq!(tried, Versions { told: true, kept: Some(true), removable: Some(true), left: 0 });
}

#[test]
fn a_bucket_of_seaweedfs_with_a_lock_and_no_retention_locks_nothing() {
    let Some((known, tried)) =
        of_bucket("ask('PUT', bucket, headers={'x-amz-bucket-object-lock-enabled': 'true'})")
    else {
        return;
    };
    assert_eq!((known.versioning, known.object_lock), (Some(true), Some(true)), "{known:?}");
    assert_eq!(tried, Versions { told: true, kept: Some(true), removable: Some(true), left: 0 });
}

#[test]
fn a_bucket_of_seaweedfs_with_a_retention_lets_nobody_remove_a_version() {
    let locked = "ask('PUT', bucket, headers={'x-amz-bucket-object-lock-enabled': 'true'})\n\
        rule = b'<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>'\n\
        ask('PUT', bucket, {'object-lock': ''}, rule, {'content-md5': md5_b64(rule)})";
    let Some((known, tried)) = of_bucket(locked) else { return };
    assert_eq!((known.versioning, known.object_lock), (Some(true), Some(true)), "{known:?}");
    assert_eq!(tried, Versions { told: true, kept: Some(true), removable: Some(false), left: 2 });
}

/// A file of so many bytes, its content and its name.
fn spooled(dir: &Path, size: usize, seed: u64) -> (PathBuf, Vec<u8>, ObjectId) {
    let bytes = noise(seed, size);
    let path = dir.join(format!("spooled-{seed}"));
    std::fs::write(&path, &bytes).unwrap();
    let id = ObjectId::of(&bytes);
    (path, bytes, id)
}

/// What goes in one request as nothing is configured, which is more than a part, and what goes in parts beyond.
fn whole_or_in_parts(plain: S3Spec) {
    let store =
        S3Store::create(S3Spec { timer: Arc::new(TestTimer::new(10)), ..plain.clone() }, true).unwrap();
    let state = &plain.state_dir;
    std::fs::create_dir_all(state).unwrap();
    store.probe().unwrap();
    for (seed, size, parts) in
        [(1, (16 << 20) + 1, 0), (2, 40 << 20, 0), (3, 72 << 20, 0), (4, (72 << 20) + 1, 5)]
    {
        let (path, bytes, id) = spooled(state, size, seed);
        let (key, before) = (Key::Archive(id), store.counters());
        assert_eq!(store.put_file(&key, &path, size as u64, &id).unwrap(), Put::Proved, "{size}");
        let after = store.counters();
        assert_eq!(after.parts - before.parts, parts, "{size}");
        assert!(parts > 0 || after.requests - before.requests == 1, "{size}: one request is enough");
        assert!(!path.exists());
        assert_eq!(store.read_back(&key, &mut |_| {}).unwrap(), (size as u64, id));
        assert_eq!(store.get_range(&key, size as u64 - 9, 9).unwrap(), bytes[size - 9..]);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(store.put_file(&key, &path, size as u64, &id).unwrap(), Put::AlreadyThere);
    }
    // Bytes that are not what their name says: nobody hashes them here, so the server must refuse them.
    let (path, mut bytes, id) = spooled(state, 20 << 20, 5);
    bytes[12_345_678] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = store.put_file(&Key::Archive(id), &path, bytes.len() as u64, &id).unwrap_err();
    assert!(path.exists(), "{error:?}");
    assert_eq!(store.head(&Key::Archive(id)).unwrap(), None, "{error:?}");
}

#[test]
fn up_to_72_mib_go_to_seaweedfs_in_one_request_that_it_proves() {
    let Some(server) = weed() else { return };
    whole_or_in_parts(S3Spec {
        whole_max: S3Spec::new("x", "x", "x", testing::keys()).whole_max,
        ..spec(&server, "w")
    });
}

/// Puts until so many parts are remembered, then is interrupted.
fn interrupted_put(server: &Running, prefix: &str, path: &Path, size: usize, id: &ObjectId) -> u64 {
    let remembered = server.state().join(format!("state/uploads/offsite/{id}.json"));
    let parts = move || {
        let bytes = std::fs::read(&remembered).ok()?;
        let upload: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        Some(upload["parts"].as_object()?.len() as u64)
    };
    let mut slow = spec(server, prefix);
    let enough = parts.clone();
    slow.interrupted = Arc::new(move || enough().is_some_and(|parts| parts >= 2));
    // So slow that it does not end before anyone looks.
    slow.limit_upload = Some(24 << 20);
    let error =
        S3Store::create(slow, true).unwrap().put_file(&Key::Archive(*id), path, size as u64, id).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Interrupted, "{error:?}");
    parts().unwrap()
}

#[test]
fn an_interrupted_upload_to_seaweedfs_goes_on_and_one_that_is_gone_there_begins_anew() {
    let Some(server) = weed() else { return };
    let size = (16 << 20) * 6 + 12345;
    store(&server, "cut").probe().unwrap();
    let (path, _, id) = spooled(server.state(), size, 7);
    let had = interrupted_put(&server, "cut", &path, size, &id);
    let again = store(&server, "cut");
    assert_eq!(again.put_file(&Key::Archive(id), &path, size as u64, &id).unwrap(), Put::Proved);
    let sent = again.counters().parts;
    println!("{had} of 7 parts were remembered, and {sent} sent then");
    assert!((1..=7 - had).contains(&sent), "{had} were there, and {sent} were sent");
    assert_eq!(again.read_back(&Key::Archive(id), &mut |_| {}).unwrap(), (size as u64, id));

    let (path, _, id) = spooled(server.state(), size, 8);
    interrupted_put(&server, "cut", &path, size, &id);
    let again = store(&server, "cut");
    assert_eq!(again.list_uploads().unwrap().len(), 1);
    assert_eq!(again.open_uploads().unwrap()[0].bytes.map(|bytes| bytes >= 2 * (16 << 20)), Some(true));
    assert_eq!(again.abort_uploads(Timestamp::MAX).unwrap(), 1);
    assert_eq!(again.put_file(&Key::Archive(id), &path, size as u64, &id).unwrap(), Put::Proved);
    assert_eq!(again.counters().parts, 7);
    assert_eq!(again.read_back(&Key::Archive(id), &mut |_| {}).unwrap(), (size as u64, id));
    assert_eq!(again.list_uploads().unwrap(), []);
}
