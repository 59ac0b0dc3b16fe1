//! How often a store is asked: a promise where each question costs a trip over the network.

use crate::common::watched::project;
use backstay::ops::backup::{BackupOptions, run as backup};
use backstay::ops::look;
use backstay::ops::restore::{RestoreOptions, run as restore};
use backstay::store::testing::Verb;
use backstay::store::{Prefix, Store, StoreErrorKind};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const FOLDERS: usize = 80;
const IN_ONE: usize = 100;

/// 8,000 files: their listing has several segments.
fn many(app: &Path) {
    for folder in 0..FOLDERS {
        let dir = app.join(format!("d{folder:03}"));
        fs::create_dir(&dir).unwrap();
        for file in 0..IN_ONE {
            fs::write(dir.join(format!("f{file:02}")), format!("{folder} {file}")).unwrap();
        }
    }
}

#[test]
fn a_folder_and_a_file_out_of_many_take_few_requests() {
    let dir = tempfile::tempdir().unwrap();
    let (session, _memory, store) = project(dir.path(), many);
    let report = backup(&session, &BackupOptions::default()).unwrap();
    let component = report.components[0].name.clone();
    let segments = store.list(Prefix::Manifests).unwrap().len() - 1;
    assert!(segments > 2, "{segments} segments: too few to show anything");

    store.reset();
    let listed = look::ls(&session, "latest", Some(&format!("{component}/d017")), false, false).unwrap();
    assert_eq!(listed.entries.len(), IN_ONE);
    let calls = store.calls();
    // The store's own file, records and marks with their listings, the index; then the segments that may hold the folder, which can lie in two, and those of the
    // folders that it lies in.
    assert!(calls.len() <= 6 + 2 + 1, "{calls:?}");

    store.reset();
    let mut out = Vec::new();
    look::cat(&session, "latest", &format!("{component}/d017/f42"), false, &mut out).unwrap();
    assert_eq!(out, b"17 42");
    let calls = store.calls();
    assert!(calls.len() <= 6 + 3 + 2, "{calls:?}");
    // The archive's beginning, and the frame where it does not lie in that.
    assert!((1..=2).contains(&store.count(Verb::GetRange)), "{calls:?}");
}

/// Neighbouring files are asked for together: a request for each would take a restore from afar an hour.
#[test]
fn a_restore_of_many_small_files_takes_few_requests() {
    let dir = tempfile::tempdir().unwrap();
    let (session, memory, store) = project(dir.path(), many);
    let report = backup(&session, &BackupOptions::default()).unwrap();
    let component = report.components[0].name.clone();
    let archives = memory.list(Prefix::Archives).unwrap().len();
    let bring = |paths: Vec<String>, name: &str| {
        store.reset();
        let to = dir.path().join(name);
        let (snapshot, accept_untrusted, ignore_owners) = ("latest".to_owned(), false, true);
        let options = RestoreOptions { snapshot, paths, to, accept_untrusted, ignore_owners, salvage: true };
        let report = restore(&session, &options).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        (report.files as usize, store.count(Verb::GetRange))
    };
    let (files, ranges) = bring(Vec::new(), "all");
    assert!(files >= FOLDERS * IN_ONE, "{files} files");
    // Each has a pax header, its records, a header and its content, of 512 bytes each; and each archive is opened.
    let megabytes = (FOLDERS * IN_ONE * 4 * 512).div_ceil(1 << 20);
    assert!(ranges <= 2 * archives + megabytes / 4 + 4, "{ranges} requests for {archives} archives");
    let (files, ranges) = bring(vec![format!("{component}/d017")], "one folder");
    assert_eq!(files, IN_ONE);
    assert!(ranges <= 3, "{ranges} requests for one folder");
}

#[test]
fn what_did_not_change_is_not_sent_and_asked_for_once_before_and_twice_at_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (session, _memory, store) = project(dir.path(), many);
    backup(&session, &BackupOptions::default()).unwrap();
    backup(&session, &BackupOptions::default()).unwrap();
    store.reset();
    let report = backup(&session, &BackupOptions::default()).unwrap();
    let objects = report.objects as usize + store.list(Prefix::Manifests).unwrap().len();
    let calls = store.calls();
    let put: Vec<_> =
        calls.iter().filter(|(verb, _)| matches!(verb, Verb::PutBytes | Verb::PutFile)).collect();
    assert!(put.len() <= 5, "an index, a record, verdicts: {put:?}");
    assert_eq!(store.count(Verb::PutFile), 0);
    assert!(
        store.count(Verb::Head) <= 3 * (objects + 4),
        "{} for {objects} objects",
        store.count(Verb::Head)
    );
}

/// One change out of 8,000 files costs one piece of their listing, whatever it is.
#[test]
fn a_change_costs_the_segment_that_it_lies_in_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (session, _memory, store) = project(dir.path(), many);
    let app = dir.path().join("app");
    backup(&session, &BackupOptions::default()).unwrap();
    backup(&session, &BackupOptions::default()).unwrap();
    let manifests =
        || store.list(Prefix::Manifests).unwrap().into_iter().map(|o| o.key).collect::<BTreeSet<_>>();
    let cost = |what: &str, archives: usize, segments: usize| {
        let before = manifests();
        store.reset();
        let report = backup(&session, &BackupOptions::default()).unwrap();
        let put = store
            .calls()
            .iter()
            .filter(|(verb, key)| *verb == Verb::PutFile && key.starts_with("archives/"))
            .count();
        assert!((put > 0) == (archives > 0), "{what}: {:?}", store.calls());
        let made = manifests().difference(&before).count();
        assert!(
            made >= 2 && made <= 1 + segments,
            "{what}: an index and {} segments, of {report:?}",
            made - 1
        );
        // And it is all there.
        let listed = look::ls(&session, "latest", None, true, false).unwrap();
        let there = listed
            .entries
            .iter()
            .filter(|e| e.path.to_string().contains("/d"))
            .filter(|e| e.kind == backstay::model::Kind::File);
        let there = there.count();
        let live: usize =
            (0..FOLDERS).map(|n| fs::read_dir(app.join(format!("d{n:03}"))).unwrap().count()).sum();
        assert_eq!(there, live, "{what}");
    };
    fs::write(app.join("d017/f42"), "other content").unwrap();
    cost("a file changed", 1, 1);
    fs::set_permissions(app.join("d033/f07"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    cost("a mode changed", 0, 1);
    // Where names come and go, a border between segments may move, and its neighbour with it.
    fs::write(app.join("d050/f42b"), "one more").unwrap();
    cost("a file came", 1, 2);
    fs::remove_file(app.join("d003/f42")).unwrap();
    cost("a file went", 0, 2);
}

#[test]
fn a_put_that_fails_ends_the_run_and_leaves_neither_a_snapshot_nor_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let noise = |app: &Path| {
        for n in 0..6 {
            fs::write(app.join(format!("n{n}")), crate::common::project::noise(n, 12 << 20)).unwrap();
        }
    };
    let (session, memory, store) = project(dir.path(), noise);
    store.fail_nth(Verb::PutFile, 2, StoreErrorKind::Full);
    let error = backup(&session, &BackupOptions::default()).unwrap_err();
    assert!(error.to_string().contains("failed"), "{error}");
    assert_eq!(error.hint.as_deref(), Some("make room on that disk; nothing that was committed is touched"));
    assert_eq!(memory.list(Prefix::Records).unwrap().len(), 0);
    let spool = session.state.as_ref().unwrap().spool_dir();
    let left: Vec<_> =
        fs::read_dir(&spool).map_or_else(|_| Vec::new(), |d| d.map(|e| e.unwrap().path()).collect());
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    // The same session goes on.
    store.reset();
    let report = backup(&session, &BackupOptions::default()).unwrap();
    assert!(report.complete && report.good);
}

#[test]
fn every_object_is_read_back_where_the_store_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (session, memory, store) = project(dir.path(), |app| fs::write(app.join("a"), "a").unwrap());
    let report = backup(&session, &BackupOptions::default()).unwrap();
    assert!(report.good);
    let objects =
        memory.list(Prefix::Archives).unwrap().len() + memory.list(Prefix::Manifests).unwrap().len();
    assert_eq!(store.count(Verb::ReadBack), objects);
    assert_eq!(report.objects as usize, objects);
}
