//! A bucket keeps the promises of a store, whatever its server cannot do.

use crate::common::project::{noise, not_run};
use crate::common::s3::{Oddities, Server};
use backstay::bridge::{RealTimer, TestTimer, Timer};
use backstay::model::ObjectId;
use backstay::store::s3::testing::{self, StaticKeys};
use backstay::store::s3::{Capabilities, Compared, Credentials, S3Spec, S3Store};
use backstay::store::testing::contract;
use backstay::store::{Key, Prefix, Put, Store, StoreErrorKind};
use std::cell::Cell;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

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

fn probed(odd: Oddities, state: &Path) -> (Capabilities, Vec<PathBuf>) {
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
    assert_eq!(left, Vec::<PathBuf>::new());
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

/// A file of `size` bytes that do not repeat, and its name.
fn spooled(dir: &Path, size: usize) -> (PathBuf, ObjectId) {
    let path = dir.join("spooled");
    let mut file = File::create(&path).unwrap();
    let mut context = ring_sha256();
    for seed in 0..size.div_ceil(1 << 20) {
        let piece = noise(seed as u64 + 1, (size - (seed << 20)).min(1 << 20));
        context.update(&piece);
        file.write_all(&piece).unwrap();
    }
    file.sync_all().unwrap();
    (path, ObjectId(context.finish().as_ref().try_into().unwrap()))
}

fn ring_sha256() -> ring::digest::Context {
    ring::digest::Context::new(&ring::digest::SHA256)
}

/// The files in which uploads under way are remembered.
fn remembered(state: &Path) -> Vec<PathBuf> {
    let dir = std::fs::read_dir(state.join("uploads/offsite"));
    dir.map(|dir| dir.flatten().map(|e| e.path()).collect()).unwrap_or_default()
}

fn parts_in(file: &Path) -> u64 {
    let upload: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    upload["parts"].as_object().unwrap().len() as u64
}

const SIZE: usize = (16 << 20) * 6 + 12345;

#[test]
fn an_interrupted_upload_goes_on_and_sends_no_part_twice() {
    let server = Server::start(Oddities::default());
    let state = tempfile::tempdir().unwrap();
    let (path, id) = spooled(state.path(), SIZE);
    let key = Key::Archive(id);
    made(server.spec("p", state.path())).probe().unwrap();
    let before = server.events.parts.load(Ordering::SeqCst);
    server.events.parts_end.store(before + 2, Ordering::SeqCst);
    let store = made(server.spec("p", state.path()));
    let error = store.put_file(&key, &path, SIZE as u64, &id).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error:?}");
    assert!(path.exists());
    let file = remembered(state.path()).pop().unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let had = parts_in(&file);
    assert_eq!((had, store.counters().parts), (2, 2));

    server.events.parts_end.store(0, Ordering::SeqCst);
    let store = made(server.spec("p", state.path()));
    assert_eq!(store.put_file(&key, &path, SIZE as u64, &id).unwrap(), Put::Proved);
    assert_eq!(store.counters().parts, 7 - had);
    assert_eq!(server.events.parts.load(Ordering::SeqCst) - before, 7);
    assert_eq!(store.read_back(&key, &mut |_| {}).unwrap(), (SIZE as u64, id));
    assert!(!path.exists() && remembered(state.path()).is_empty());
}

#[test]
fn a_put_that_is_interrupted_ends_soon_and_the_next_goes_on() {
    let server = Server::start(Oddities::default());
    let state = tempfile::tempdir().unwrap();
    let (path, id) = spooled(state.path(), SIZE);
    made(server.spec("p", state.path())).probe().unwrap();
    let before = server.events.parts.load(Ordering::SeqCst);
    let events = Arc::clone(&server.events);
    let mut spec = server.spec("p", state.path());
    spec.interrupted = Arc::new(move || events.parts.load(Ordering::SeqCst) > before);
    // So slow that it does not end before anyone looks.
    spec.limit_upload = Some(24 << 20);
    spec.timer = Arc::new(RealTimer::default());
    let error = made(spec).put_file(&Key::Archive(id), &path, SIZE as u64, &id).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Interrupted, "{error:?}");
    let had = parts_in(&remembered(state.path()).pop().unwrap());
    let store = made(server.spec("p", state.path()));
    assert_eq!(store.put_file(&Key::Archive(id), &path, SIZE as u64, &id).unwrap(), Put::Proved);
    assert_eq!(store.counters().parts, 7 - had);
}

#[test]
fn an_upload_that_someone_aborted_begins_again() {
    let server = Server::start(Oddities::default());
    let state = tempfile::tempdir().unwrap();
    let (path, id) = spooled(state.path(), SIZE);
    made(server.spec("p", state.path())).probe().unwrap();
    server.events.parts_end.store(server.events.parts.load(Ordering::SeqCst) + 2, Ordering::SeqCst);
    made(server.spec("p", state.path())).put_file(&Key::Archive(id), &path, SIZE as u64, &id).unwrap_err();
    server.events.parts_end.store(0, Ordering::SeqCst);
    let file = remembered(state.path()).pop().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let upload: serde_json::Value = serde_json::from_str(&text).unwrap();
    let old = upload["upload_id"].as_str().unwrap();
    let gone = old.chars().rev().collect::<String>().replace('-', "0");
    let gone =
        format!("{}-{}-4{}-8{}-{}", &gone[..8], &gone[8..12], &gone[13..16], &gone[17..20], &gone[20..32]);
    std::fs::write(&file, text.replace(old, &gone)).unwrap();
    let store = made(server.spec("p", state.path()));
    assert_eq!(store.put_file(&Key::Archive(id), &path, SIZE as u64, &id).unwrap(), Put::Proved);
    assert_eq!(store.counters().parts, 7);
    assert_eq!(store.read_back(&Key::Archive(id), &mut |_| {}).unwrap(), (SIZE as u64, id));
}

#[test]
fn a_large_file_that_is_not_what_its_name_says_is_never_completed() {
    let server = Server::start(Oddities::default());
    let state = tempfile::tempdir().unwrap();
    let (path, _) = spooled(state.path(), SIZE);
    let wrong = ObjectId::of(b"other");
    let store = made(server.spec("p", state.path()));
    let error = store.put_file(&Key::Archive(wrong), &path, SIZE as u64, &wrong).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Corrupt, "{error:?}");
    assert_eq!(store.head(&Key::Archive(wrong)).unwrap(), None);
    assert!(path.exists() && remembered(state.path()).is_empty());
    assert!(server.events.aborts.load(Ordering::SeqCst) >= 2, "the probe's and this one");
}

#[test]
fn an_upload_that_nobody_goes_on_with_is_aborted() {
    let server = Server::start(Oddities::default());
    let state = tempfile::tempdir().unwrap();
    let (path, id) = spooled(state.path(), SIZE);
    made(server.spec("p", state.path())).probe().unwrap();
    server.events.parts_end.store(server.events.parts.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
    made(server.spec("p", state.path())).put_file(&Key::Archive(id), &path, SIZE as u64, &id).unwrap_err();
    server.events.parts_end.store(0, Ordering::SeqCst);
    let file = remembered(state.path()).pop().unwrap();
    let mut upload: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    upload["begun"] = (upload["begun"].as_i64().unwrap() - 7 * 24 * 3600).into();
    std::fs::write(&file, upload.to_string()).unwrap();
    let aborts = server.events.aborts.load(Ordering::SeqCst);
    let (path, id) = spooled(state.path(), (16 << 20) + 1);
    let store = made(server.spec("p", state.path()));
    assert_eq!(store.put_file(&Key::Archive(id), &path, (16 << 20) + 1, &id).unwrap(), Put::Proved);
    assert_eq!(server.events.aborts.load(Ordering::SeqCst), aborts + 1);
    assert!(remembered(state.path()).is_empty());
}

#[test]
fn a_damaged_object_is_replaced_small_or_large() {
    let server = Server::start(Oddities::default());
    let state = tempfile::tempdir().unwrap();
    let store = made(server.spec("p", state.path()));
    for size in [1000, SIZE] {
        let (path, id) = spooled(state.path(), size);
        let key = Key::Manifest(id);
        let kept = state.path().join("kept");
        std::fs::copy(&path, &kept).unwrap();
        store.put_file(&key, &path, size as u64, &id).unwrap();
        std::fs::write(server.bucket().join(format!("p/{key}")), "damage").unwrap();
        assert_ne!(store.read_back(&key, &mut |_| {}).unwrap().1, id);
        store.replace(&key, &kept, size as u64, &id).unwrap();
        assert_eq!(store.read_back(&key, &mut |_| {}).unwrap(), (size as u64, id));
        assert!(!kept.exists());
    }
}

#[test]
fn what_the_server_proved_is_said_and_what_it_did_not_prove_is_not() {
    let state = tempfile::tempdir().unwrap();
    let server = Server::start(Oddities::default());
    let key = Key::Archive(ObjectId::of(b"x"));
    assert_eq!(made(server.spec("p", state.path())).put_bytes(&key, b"x").unwrap(), Put::Proved);
    let mut known = made(server.spec("p", state.path())).known().unwrap();
    let proves = |known: &Capabilities| (known.proves_put(), known.proves_parts());
    assert_eq!(proves(&known), (true, true));
    (known.payload_put, known.payload_part) = (false, false);
    assert_eq!(proves(&known), (true, false));
    known.checksum_put = Compared::Ignored;
    assert_eq!(proves(&known), (false, false));
}

#[test]
fn a_refusal_asks_for_fresh_keys_once_and_says_whose_they_are() {
    let server = Server::start(Oddities::default());
    let state = tempfile::tempdir().unwrap();
    let keys = Arc::new(StaticKeys::new("test-key-id", "a-secret-that-is-wrong"));
    let mut spec = server.spec("p", state.path());
    spec.credentials = Arc::clone(&keys) as Arc<dyn Credentials>;
    let error = S3Store::open(spec).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error:?}");
    assert_eq!(keys.refreshed(), 1);
    let text = format!("{error:?} {}", error.source);
    assert!(text.contains("the keys of a test"), "{text}");
    assert!(!text.contains("a-secret"), "{text}");
}

#[test]
fn a_server_that_is_away_is_given_up_soon() {
    let server = Server::start(Oddities::default());
    let state = tempfile::tempdir().unwrap();
    let timer = Arc::new(TestTimer::new(50));
    let mut spec = server.spec("p", state.path());
    spec.timer = Arc::clone(&timer) as Arc<dyn Timer>;
    drop(server);
    let error = S3Store::open(spec).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unreachable, "{error:?}");
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(5)).contains(&timer.paused()),
        "{:?}",
        timer.paused()
    );
}

#[test]
fn limits_are_kept_up_and_down() {
    let server = Server::start(Oddities::default());
    let state = tempfile::tempdir().unwrap();
    let timer = Arc::new(TestTimer::new(1));
    let mut spec = server.spec("p", state.path());
    spec.timer = Arc::clone(&timer) as Arc<dyn Timer>;
    (spec.limit_upload, spec.limit_download) = (Some(1 << 20), Some(2 << 20));
    let store = made(spec);
    let bytes = noise(1, 8 << 20);
    let key = Key::Archive(ObjectId::of(&bytes));
    store.put_bytes(&key, &bytes).unwrap();
    let up = timer.now();
    assert!(up >= Duration::from_millis(7500), "{up:?}");
    assert_eq!(store.get(&key, 8 << 20).unwrap(), bytes);
    let down = timer.now() - up;
    assert!(down >= Duration::from_millis(3500), "{down:?}");
    assert!(store.counters().sent >= 8 << 20 && store.counters().received >= 8 << 20);
}

#[test]
fn many_threads_read_at_once() {
    let server = Server::start(Oddities::default());
    let state = tempfile::tempdir().unwrap();
    let store = made(server.spec("", state.path()));
    let bytes = noise(7, 3 << 20);
    let key = Key::Archive(ObjectId::of(&bytes));
    store.put_bytes(&key, &bytes).unwrap();
    std::thread::scope(|scope| {
        for n in 0..8usize {
            let (store, key, bytes) = (&store, &key, &bytes);
            scope.spawn(move || {
                for from in (n * 1000..bytes.len() - 5000).step_by(200_001) {
                    let found = store.get_range(key, from as u64, 4321).unwrap();
                    assert_eq!(found, bytes[from..from + 4321]);
                }
            });
        }
    });
}

/// KiB of memory that this process had at its peak.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const PUTTER: &str = "BACKSTAY_TEST_S3_PUT";

/// Not a test of its own: what the next one runs in a process without a server in it.
#[test]
fn putter() {
    let Ok(endpoint) = std::env::var(PUTTER) else { return };
    let state = tempfile::tempdir().unwrap();
    let size = 200 << 20;
    let (path, id) = spooled(state.path(), size);
    let mut spec = S3Spec::new("offsite", "bucket", state.path(), testing::keys());
    (spec.endpoint, spec.path_style) = (Some(endpoint), true);
    let store = made(spec);
    store.probe().unwrap();
    let before = peak();
    assert_eq!(store.put_file(&Key::Archive(id), &path, size as u64, &id).unwrap(), Put::Proved);
    let put = peak() - before;
    assert_eq!(store.read_back(&Key::Archive(id), &mut |_| {}).unwrap().1, id);
    println!("putting took {put} KiB, all of it {}", peak() - before);
    assert!(peak() - before <= 96 << 10, "{put} {}", peak() - before);
}

#[test]
fn a_large_put_takes_no_more_than_96_mib() {
    if !cfg!(target_os = "linux") {
        return not_run("memory is measured on Linux alone");
    }
    let server = Server::start(Oddities::default());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "s3::putter", "--nocapture"]).env(PUTTER, &server.endpoint);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("putting took"), "{said} {output:?}");
    println!("{said}");
}
