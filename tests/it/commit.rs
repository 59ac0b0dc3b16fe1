//! A commit that does not hold is void, and says so: objects that vanish and tombstones that appear around the record's put.

use crate::common::watched;
use backstay::keys::Signer;
use backstay::model::mark::Tombstone;
use backstay::model::{ObjectKind, Record, document};
use backstay::ops::backup::{BackupOptions, run as backup};
use backstay::ops::commit::Chain;
use backstay::ops::look;
use backstay::ops::session::Session;
use backstay::store::testing::{Fault, FaultStore, MemoryStore, Verb};
use backstay::store::{Key, Prefix, Store, StoreErrorKind};
use std::path::Path;
use std::sync::Arc;

/// A project whose store is in memory behind a wrapper that tests can disturb.
fn project(dir: &Path) -> (Session, Arc<MemoryStore>, Arc<FaultStore>) {
    watched::project(dir, |app| {
        std::fs::create_dir_all(app.join("code")).unwrap();
        std::fs::write(app.join("code/a.txt"), "hello").unwrap();
    })
}

fn states(session: &Session) -> Vec<(bool, bool)> {
    let list = look::list(session).unwrap();
    assert!(list.history.is_empty(), "{:?}", list.history);
    list.snapshots.iter().map(|s| (s.void.is_some(), s.good)).collect()
}

/// Does something just before the record is put: after the first proof, before the second.
fn before_the_record(faults: &FaultStore, act: impl Fn() + Send + Sync + 'static) {
    let hook = move |verb: Verb, key: &str| {
        if verb == Verb::PutBytes && key.starts_with("snapshots/") {
            act();
        }
    };
    faults.on_call(Arc::new(hook));
}

#[test]
fn an_object_that_vanishes_after_the_record_was_put_voids_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (session, memory, faults) = project(dir.path());
    let victim = Arc::clone(&memory);
    before_the_record(&faults, move || {
        let archive = victim.list(Prefix::Archives).unwrap().remove(0);
        victim.delete(&archive.key).unwrap();
    });
    let error = backup(&session, &BackupOptions::default()).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("archives/") && cause.contains("missing"), "{error}: {cause}");
    faults.reset();
    assert_eq!(states(&session), [(true, false)]);
    backup(&session, &BackupOptions::default()).unwrap();
    assert_eq!(states(&session), [(true, false), (false, true)]);
}

#[test]
fn a_tombstone_that_appears_while_the_record_is_put_voids_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (session, memory, faults) = project(dir.path());
    let instance = session.read_vault().unwrap().info.instance;
    let vault = session.read_vault().unwrap().info.vault;
    let victim = Arc::clone(&memory);
    before_the_record(&faults, move || {
        let archive = victim.list(Prefix::Archives).unwrap().remove(0);
        let Key::Archive(object) = archive.key else { panic!() };
        let id: backstay::model::SnapshotId = "20261123T080000Z-abcdefgh".parse().unwrap();
        let tombstone = Tombstone {
            format: 1,
            needs: vec![],
            doc: "tombstone".into(),
            vault: vault.clone(),
            instance: instance.clone(),
            id: id.clone(),
            signer: backstay::model::SignerId([9; 16]),
            created: jiff::Timestamp::now(),
            not_before: jiff::Timestamp::now(),
            snapshots: vec![],
            objects: vec![(ObjectKind::Archive, object)],
        };
        let line = document::line_of(&tombstone).unwrap();
        victim.put_bytes(&Key::Tombstone(id), &line).unwrap();
    });
    let error = backup(&session, &BackupOptions::default()).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("a prune is about to delete archives/"), "{error}: {cause}");
    faults.reset();
    assert_eq!(states(&session), [(true, false)]);
}

#[test]
fn a_tombstone_that_its_owner_removes_while_it_is_looked_at_voids_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (session, memory, faults) = project(dir.path());
    let id: backstay::model::SnapshotId = "20261123T080000Z-abcdefgh".parse().unwrap();
    let tombstone = Tombstone {
        format: 1,
        needs: vec![],
        doc: "tombstone".into(),
        vault: session.read_vault().unwrap().info.vault,
        instance: session.read_vault().unwrap().info.instance,
        id: id.clone(),
        signer: backstay::model::SignerId([9; 16]),
        created: jiff::Timestamp::now(),
        not_before: jiff::Timestamp::now(),
        snapshots: vec![],
        objects: vec![(ObjectKind::Archive, backstay::model::ObjectId::of(b"something else"))],
    };
    let line = document::line_of(&tombstone).unwrap();
    memory.put_bytes(&Key::Tombstone(id.clone()), &line).unwrap();
    let (owner, put) = (Arc::clone(&memory), std::sync::atomic::AtomicBool::new(false));
    let hook = move |verb: Verb, key: &str| match verb {
        Verb::PutBytes if key.starts_with("snapshots/") => {
            put.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        Verb::Get if key.starts_with("tombstones/") && put.load(std::sync::atomic::Ordering::SeqCst) => {
            owner.delete(&Key::Tombstone(id.clone())).unwrap();
        }
        _ => {}
    };
    faults.on_call(Arc::new(hook));
    backup(&session, &BackupOptions::default()).unwrap();
    faults.reset();
    assert!(memory.list(Prefix::Tombstones).unwrap().is_empty(), "it went while the second look was on");
    assert_eq!(states(&session), [(false, true)]);
}

#[test]
fn a_tombstone_that_cannot_be_read_stops_the_commit_and_nothing_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (session, memory, _faults) = project(dir.path());
    let id: backstay::model::SnapshotId = "20261123T080000Z-abcdefgh".parse().unwrap();
    memory.put_bytes(&Key::Tombstone(id), b"garbage\n").unwrap();
    backup(&session, &BackupOptions::default()).unwrap_err();
    assert_eq!(states(&session), []);
}

#[test]
fn a_record_that_nobody_would_read_is_never_signed() {
    let dir = tempfile::tempdir().unwrap();
    let (session, memory, _faults) = project(dir.path());
    backup(&session, &BackupOptions::default()).unwrap();
    let record = memory.list(Prefix::Records).unwrap().remove(0);
    let bytes = memory.get(&record.key, 1 << 26).unwrap();
    let good: Record = document::parse(document::split(&bytes).unwrap().0, "record").unwrap();
    let signer = Signer::load(&session.config.as_ref().unwrap().signing.key_file).unwrap();
    let state = session.state.as_ref().unwrap();
    let mut chain = Chain {
        store: &*memory,
        state,
        signer: &signer,
        host: good.host,
        vault: good.vault.clone(),
        instance: session.read_vault().unwrap().info.instance,
        next: (good.number + 100, Some(backstay::model::ObjectId::of(b"the entry before"))),
        several: false,
        signed: Vec::new(),
    };
    let before = memory.keys();
    type Harm = fn(&mut Record);
    let harms: [(&str, Harm); 3] = [
        ("too large", |r| r.components[0].size = 1 << 53),
        ("an object twice", |r| r.objects.push(r.objects[0])),
        ("index", |r| r.index = None),
    ];
    for (why, harm) in harms {
        let snapshot = backstay::model::SnapshotId::new(good.started, [9; 5]);
        let mut record = Record { snapshot, number: chain.next.0, previous: chain.next.1, ..good.clone() };
        record.check().unwrap();
        harm(&mut record);
        let error = chain.commit(&record).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.to_string().contains("nobody would read") && cause.contains(why), "{error}: {cause}");
    }
    assert_eq!(memory.keys(), before);
    assert!(state.pending().unwrap().is_none() && chain.next.0 == good.number + 100);
}

#[test]
fn what_was_signed_and_not_put_is_put_by_the_next_run_before_anything_else() {
    let dir = tempfile::tempdir().unwrap();
    let (session, _memory, faults) = project(dir.path());
    // One listing, the index, the record: the third put of bytes is the record's.
    faults.fail_nth(Verb::PutBytes, 3, StoreErrorKind::Unreachable);
    backup(&session, &BackupOptions::default()).unwrap_err();
    assert!(faults.calls().last().unwrap().1.starts_with("snapshots/"), "{:?}", faults.calls());
    faults.reset();
    assert_eq!(states(&session), []);
    backup(&session, &BackupOptions::default()).unwrap();
    let rows = states(&session);
    assert_eq!(rows.len(), 2, "the interrupted snapshot was whole, and is committed now: {rows:?}");
    assert!(rows.iter().all(|(void, _)| !void));
}

#[test]
fn a_record_whose_reply_was_lost_is_found_and_its_number_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (session, _memory, faults) = project(dir.path());
    let kind = StoreErrorKind::Unreachable;
    faults.fail(Fault { verb: Some(Verb::PutBytes), nth: 3, kind, after: true, lasting: false });
    backup(&session, &BackupOptions::default()).unwrap_err();
    faults.reset();
    backup(&session, &BackupOptions::default()).unwrap();
    let rows = states(&session);
    assert_eq!(rows.len(), 2, "{rows:?}");
}

#[test]
fn what_was_signed_but_whose_objects_are_gone_is_put_and_void() {
    let dir = tempfile::tempdir().unwrap();
    let (session, memory, faults) = project(dir.path());
    faults.fail_nth(Verb::PutBytes, 3, StoreErrorKind::Unreachable);
    backup(&session, &BackupOptions::default()).unwrap_err();
    faults.reset();
    memory.delete(&memory.list(Prefix::Archives).unwrap().remove(0).key).unwrap();
    backup(&session, &BackupOptions::default()).unwrap();
    assert_eq!(states(&session), [(true, false), (false, true)]);
}

#[test]
fn a_write_that_the_store_did_not_keep_is_found_before_anything_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (session, memory, faults) = project(dir.path());
    let victim = Arc::clone(&memory);
    let hook = move |verb: Verb, _: &str| {
        if verb == Verb::ReadBack {
            for listed in victim.list(Prefix::Archives).unwrap() {
                let mut bytes = victim.get(&listed.key, 1 << 30).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                victim.force(&listed.key, &bytes);
            }
        }
    };
    faults.on_call(Arc::new(hook));
    let error = backup(&session, &BackupOptions::default()).unwrap_err();
    assert!(error.to_string().contains("did not keep archives/"), "{error}");
    faults.reset();
    assert_eq!(states(&session), []);
}
