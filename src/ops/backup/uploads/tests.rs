use super::*;
use crate::archive::pax::{Member, MemberKind};
use crate::archive::{About, Pool};
use crate::keys::RecipientSet;
use crate::store::StoreErrorKind;
use crate::store::testing::{FaultStore, MemoryStore, Verb};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

fn store() -> (Arc<FaultStore>, Arc<dyn Store>) {
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new("far"))));
    (Arc::clone(&store), store)
}

fn uploads(store: &Arc<dyn Store>, interrupt: &Interrupt) -> Uploads {
    Uploads::new(store, interrupt, None).unwrap()
}

/// Bytes that differ from number to number, and their name.
fn listing(number: usize, length: usize) -> (ObjectId, Vec<u8>) {
    let mut bytes = vec![0; length];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    (ObjectId::of(&bytes), bytes)
}

fn archive(dir: &std::path::Path, pool: &Arc<Pool>) -> ArchiveWriter {
    let (_, recipient) = crate::keys::identity::generate();
    let recipients = RecipientSet::parse(&[recipient]).unwrap();
    let about = About {
        vault: crate::model::VaultId::from_random([3; 17]),
        host: crate::model::HostId([5; 16]),
        component: "data".parse().unwrap(),
        delta: false,
    };
    let mut writer = ArchiveWriter::create(dir, &about, &recipients, pool, 3).unwrap();
    let member = Member {
        path: b"data/file",
        kind: MemberKind::File,
        mode: 0o600,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        mtime: (0, 0),
        size: 5,
        target: None,
        dev: None,
        xattrs: &BTreeMap::new(),
        sparse: None,
    };
    writer.begin(&member).unwrap();
    writer.data(b"bytes").unwrap();
    writer.end().unwrap();
    writer
}

#[test]
fn what_was_handed_over_is_there_and_read_back_once_finish_says_so() {
    let (faults, store) = store();
    let (dir, pool) = (tempfile::tempdir().unwrap(), Arc::new(Pool::new(2)));
    let uploads = uploads(&store, &Interrupt::default());
    let listings: Vec<_> = (0..40).map(|n| listing(n, 1000)).collect();
    let hear: Vec<_> = (0..3).map(|_| uploads.archive("data", archive(dir.path(), &pool)).unwrap()).collect();
    for (id, bytes) in &listings {
        uploads.manifest(*id, bytes.clone()).unwrap();
    }
    let archives: Vec<ObjectId> = hear.iter().map(|hear| uploads.info(hear).unwrap().sha256).collect();
    let proved = uploads.finish().unwrap();
    // A store in memory proves nothing when it takes something.
    for id in archives.iter().chain(listings.iter().map(|(id, _)| id)) {
        assert_eq!(proved.get(id), Some(&Level::Read));
    }
    assert_eq!(proved.len(), 43);
    assert_eq!(faults.count(Verb::ReadBack), 43);
    for id in archives {
        assert!(store.head(&Key::Archive(id)).unwrap().is_some());
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing stays in the spool");
}

#[test]
fn the_first_failure_is_told_to_whoever_asks_and_what_waits_is_given_up() {
    let (faults, store) = store();
    let dir = tempfile::tempdir().unwrap();
    let pool = Arc::new(Pool::new(1));
    faults.fail_nth(Verb::PutBytes, 3, StoreErrorKind::Full);
    let uploads = uploads(&store, &Interrupt::default());
    let sent = (0..1000).map(|n| listing(n, 64)).try_for_each(|(id, bytes)| uploads.manifest(id, bytes));
    let told = sent.and_then(|()| uploads.finish().map(drop)).unwrap_err();
    assert_eq!(told.class, Class::Store);
    assert!(uploads.finish().is_err() && uploads.finish().is_err(), "not only once");
    let (id, bytes) = listing(0, 64);
    assert!(uploads.manifest(id, bytes).is_err());
    assert!(uploads.archive("data", archive(dir.path(), &pool)).is_err());
    drop(uploads);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing stays in the spool");
}

#[test]
fn what_a_store_does_not_keep_as_it_was_put_ends_the_run() {
    let (faults, store) = store();
    let (id, bytes) = listing(7, 500);
    faults.damage(&Key::Manifest(id), crate::store::testing::Damage::Flip(99));
    let uploads = uploads(&store, &Interrupt::default());
    let sent = uploads.manifest(id, bytes);
    let told = sent.and_then(|()| uploads.finish().map(drop)).unwrap_err();
    assert_eq!(told.class, Class::Damage);
}

#[test]
fn no_more_waits_than_the_bound_however_slow_the_store() {
    const LENGTH: usize = 4 << 20;
    let (faults, store) = store();
    let (accepted, put) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let most = Arc::new(AtomicUsize::new(0));
    {
        let (accepted, put, most) = (Arc::clone(&accepted), Arc::clone(&put), Arc::clone(&most));
        faults.on_call(Arc::new(move |verb, _| match verb {
            // What is read back is put, and still waits: it is counted off after the bytes are proved.
            Verb::ReadBack => drop(put.fetch_add(1, Ordering::SeqCst)),
            _ => {
                let done = put.load(Ordering::SeqCst);
                most.fetch_max(accepted.load(Ordering::SeqCst).saturating_sub(done), Ordering::SeqCst);
            }
        }));
    }
    let uploads = uploads(&store, &Interrupt::default());
    for (id, bytes) in (0..40).map(|n| listing(n, LENGTH)) {
        uploads.manifest(id, bytes).unwrap();
        accepted.fetch_add(1, Ordering::SeqCst);
    }
    assert_eq!(uploads.finish().unwrap().len(), 40);
    let bound = WAITING_BYTES as usize / LENGTH;
    assert!(most.load(Ordering::SeqCst) <= bound, "{most:?} of at most {bound}");
}

#[test]
fn a_signal_ends_it_and_dropping_it_early_waits_for_its_threads() {
    let (_, store) = store();
    let interrupt = Interrupt::default();
    let uploads = uploads(&store, &interrupt);
    let (id, bytes) = listing(1, 64);
    uploads.manifest(id, bytes).unwrap();
    interrupt.flag().store(15, Ordering::SeqCst);
    let (id, bytes) = listing(2, 64);
    assert_eq!(uploads.manifest(id, bytes).unwrap_err().class, Class::Interrupted);
    let shared = Arc::downgrade(&uploads.shared);
    drop(uploads);
    assert!(shared.upgrade().is_none(), "no thread holds anything any more");
}

#[test]
fn a_put_that_panics_ends_the_run_and_nobody_waits_for_it() {
    let (faults, store) = store();
    faults.on_call(Arc::new(|verb, _| assert!(verb != Verb::PutBytes, "what a library may do")));
    let uploads = uploads(&store, &Interrupt::default());
    let (id, bytes) = listing(1, 64);
    uploads.manifest(id, bytes).unwrap();
    let (say, hear) = bounded(1);
    std::thread::spawn(move || say.send(uploads.finish().map(drop)));
    let told = hear.recv_timeout(std::time::Duration::from_secs(20)).expect("it waits for ever").unwrap_err();
    assert!(told.class == Class::Failed && told.to_string().contains("internal"), "{told:?}");
}
