//! What every store must do. Panics where one does not.
#![expect(clippy::unwrap_used, reason = "this is a test that other modules call")]

use crate::model::{ObjectId, SignerId, SnapshotId};
use crate::store::{Key, Prefix, Put, Store, StoreErrorKind};
use std::collections::HashSet;
use std::io::Write as _;

/// Checks a store; `make` gives a new, empty one at each call.
pub fn contract(make: &dyn Fn() -> Box<dyn Store>) {
    puts_create_and_never_overwrite(&*make());
    files_are_put_and_taken_away(&*make());
    reads_are_exact(&*make());
    absence_is_certain(&*make());
    listings_are_sorted_and_complete(&*make());
    deleting_twice_is_fine(&*make());
    of_concurrent_puts_one_creates(&*make());
    what_is_replaced_is_whole(&*make());
}

fn what_is_replaced_is_whole(store: &dyn Store) {
    let good = b"good bytes";
    let (id, key) = (ObjectId::of(good), Key::Archive(ObjectId::of(good)));
    store.put_bytes(&key, b"bad bytes").unwrap();
    let path = tempfile_dir().join(format!("replacement-{id}"));
    std::fs::write(&path, good).unwrap();
    match store.replace(&key, &path, good.len() as u64, &id) {
        Ok(()) => {
            assert_eq!(store.get(&key, 100).unwrap(), good);
            assert!(!path.exists());
            std::fs::write(&path, b"other byte").unwrap();
            let error = store.replace(&key, &path, good.len() as u64, &id).unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::Corrupt, "{error}");
            assert_eq!(store.get(&key, 100).unwrap(), good);
        }
        // A store that cannot says so, and what is there stays.
        Err(e) => {
            assert_eq!(e.kind, StoreErrorKind::Other, "{e}");
            assert_eq!(store.get(&key, 100).unwrap(), b"bad bytes");
        }
    }
    let _ = std::fs::remove_file(&path);
}

fn record(number: u32) -> Key {
    let letters = b"abcdefghijklmnopqrstuvwxyz234567";
    let digit = |place: u32| char::from(letters[number.checked_shr(5 * place).unwrap_or(0) as usize % 32]);
    let random: String = (0..8).rev().map(digit).collect();
    Key::Record(format!("20261123T080000Z-{random}").parse::<SnapshotId>().unwrap())
}

/// What a put did; that the store also proved it makes no difference here.
fn did(put: Put) -> Put {
    match put {
        Put::Proved => Put::Created,
        other => other,
    }
}

fn puts_create_and_never_overwrite(store: &dyn Store) {
    let signer = SignerId([0xab; 16]);
    let data = Key::Archive(ObjectId::of(b"first"));
    let keys = [Key::Store, Key::RecoverPySig, record(1), Key::Mark(signer, 1), data];
    for key in keys {
        assert_eq!(did(store.put_bytes(&key, b"first").unwrap()), Put::Created, "{key}");
        assert_eq!(store.put_bytes(&key, b"first").unwrap(), Put::AlreadyThere, "{key}");
        for other in [&b"other"[..], b"first and more", b"firs", b""] {
            let error = store.put_bytes(&key, other).unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::Exists, "{key}: {error}");
        }
        assert_eq!(store.get(&key, 5).unwrap(), b"first", "{key}");
    }
    assert_eq!(did(store.put_bytes(&record(2), b"").unwrap()), Put::Created);
    assert_eq!(store.put_bytes(&record(2), b"").unwrap(), Put::AlreadyThere);
    assert_eq!(store.get(&record(2), 0).unwrap(), b"");
}

/// Puts `bytes` under `key` by way of a file; gives what the put said and whether the file is still there.
fn put_by_file(
    store: &dyn Store,
    key: &Key,
    bytes: &[u8],
    own_spool: bool,
) -> (Result<Put, StoreErrorKind>, bool) {
    let elsewhere = tempfile_dir();
    let dir = store.spool_dir().filter(|_| own_spool).unwrap_or_else(|| elsewhere.clone());
    let path = dir.join(format!("spooled-{}", ObjectId::of(bytes)));
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
    let put = store.put_file(key, &path, bytes.len() as u64, &ObjectId::of(bytes));
    let there = path.exists();
    let _ = std::fs::remove_file(&path);
    std::fs::remove_dir_all(&elsewhere).unwrap();
    (put.map(did).map_err(|e| e.kind), there)
}

fn tempfile_dir() -> std::path::PathBuf {
    let random: [u8; 8] = crate::durable::random_bytes().unwrap();
    let name = format!("backstay-contract-{}", data_encoding::HEXLOWER.encode(&random));
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir(&dir).unwrap();
    dir
}

fn files_are_put_and_taken_away(store: &dyn Store) {
    for own_spool in [true, false] {
        let bytes = format!("{own_spool} ").repeat(400_000).into_bytes();
        let key = Key::Archive(ObjectId::of(&bytes));
        let put = |bytes: &[u8]| put_by_file(store, &key, bytes, own_spool);
        assert_eq!(put(&bytes), (Ok(Put::Created), false));
        assert_eq!(put(&bytes), (Ok(Put::AlreadyThere), false));
        let mut other = bytes.clone();
        other[100] ^= 1;
        assert_eq!(put(&other).0, Err(StoreErrorKind::Exists));
        assert_eq!(put(b"shorter").0, Err(StoreErrorKind::Exists));
        assert_eq!(store.get(&key, u64::MAX).unwrap(), bytes);
    }
}

fn reads_are_exact(store: &dyn Store) {
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let key = Key::Manifest(ObjectId::of(&bytes));
    store.put_bytes(&key, &bytes).unwrap();
    let size = bytes.len() as u64;
    for (offset, length) in [(0, 0), (0, 1), (0, size), (size - 1, 1), (size, 0), (1_000_001, 77_777)] {
        let end = offset + length;
        let expected = &bytes[usize::try_from(offset).unwrap()..usize::try_from(end).unwrap()];
        assert_eq!(store.get_range(&key, offset, length).unwrap(), expected, "{offset} {length}");
    }
    for (offset, length) in [(0, size + 1), (size, 1), (size + 1, 1), (u64::MAX, 2), (1, u64::MAX)] {
        let error = store.get_range(&key, offset, length).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Corrupt, "{offset} {length}: {error}");
    }
    assert_eq!(store.get(&key, size).unwrap(), bytes);
    assert_eq!(store.get(&key, size - 1).unwrap_err().kind, StoreErrorKind::Corrupt);
    let mut seen = 0;
    let back = store.read_back(&key, &mut |count| seen += count).unwrap();
    assert_eq!((back, seen), ((size, ObjectId::of(&bytes)), size));
}

fn absence_is_certain(store: &dyn Store) {
    let key = Key::Archive(ObjectId::of(b"nothing"));
    assert_eq!(store.head(&key).unwrap(), None);
    assert_eq!(store.get(&key, 9).unwrap_err().kind, StoreErrorKind::NotFound);
    assert_eq!(store.get_range(&key, 0, 1).unwrap_err().kind, StoreErrorKind::NotFound);
    assert_eq!(store.read_back(&key, &mut |_| {}).unwrap_err().kind, StoreErrorKind::NotFound);
    store.put_bytes(&key, b"now").unwrap();
    assert_eq!(store.head(&key).unwrap(), Some(3));
    for prefix in [Prefix::Manifests, Prefix::Records, Prefix::Marks, Prefix::Tombstones] {
        assert_eq!(store.list(prefix).unwrap(), [], "{prefix:?}");
    }
}

fn listings_are_sorted_and_complete(store: &dyn Store) {
    // More than a page of any service's listing, put in an order that is not the sorted one.
    let mut keys: Vec<Key> = (0..1100u32).map(|n| record(n * 7919 % 1100)).collect();
    for key in &keys {
        store.put_bytes(key, b"x").unwrap();
    }
    keys.sort();
    let listed = store.list(Prefix::Records).unwrap();
    assert_eq!(listed.iter().map(|l| l.key.clone()).collect::<Vec<_>>(), keys);
    assert!(listed.iter().all(|l| l.size == 1));
    let signers = [SignerId([2; 16]), SignerId([1; 16])];
    let mut marks: Vec<Key> =
        signers.iter().flat_map(|signer| [10, 9, 1].map(|n| Key::Mark(*signer, n))).collect();
    let mut data: Vec<Key> = (0..20u8).map(|n| Key::Archive(ObjectId::of(&[n]))).collect();
    for key in marks.iter().chain(&data) {
        store.put_bytes(key, b"xy").unwrap();
    }
    marks.sort();
    data.sort();
    for (prefix, expected) in [(Prefix::Marks, marks), (Prefix::Archives, data)] {
        let listed = store.list(prefix).unwrap();
        assert!(listed.iter().all(|l| l.size == 2));
        assert_eq!(listed.into_iter().map(|l| l.key).collect::<Vec<_>>(), expected);
    }
}

fn deleting_twice_is_fine(store: &dyn Store) {
    let key = Key::Tombstone("20261123T080000Z-abcdefgh".parse().unwrap());
    store.delete(&key).unwrap();
    store.put_bytes(&key, b"x").unwrap();
    store.delete(&key).unwrap();
    store.delete(&key).unwrap();
    assert_eq!(store.head(&key).unwrap(), None);
    assert_eq!(store.list(Prefix::Tombstones).unwrap(), []);
    assert_eq!(did(store.put_bytes(&key, b"y").unwrap()), Put::Created);
}

fn of_concurrent_puts_one_creates(store: &dyn Store) {
    for round in 0..10 {
        let key = record(round);
        let same: Vec<_> = at_once(|_| did(store.put_bytes(&key, b"same").unwrap()));
        assert_eq!(same.iter().filter(|put| **put == Put::Created).count(), 1, "{same:?}");
        let key = record(100 + round);
        let different = at_once(|n| store.put_bytes(&key, &[n]).map(|_| n).ok());
        let winners: HashSet<u8> = different.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        let winner = winners.into_iter().next().unwrap();
        assert_eq!(store.get(&key, 9).unwrap(), [winner]);
    }
}

fn at_once<T: Send>(action: impl Fn(u8) -> T + Sync) -> Vec<T> {
    let start = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        let run = |n| {
            let (start, action) = (&start, &action);
            scope.spawn(move || {
                start.wait();
                action(n)
            })
        };
        let threads: Vec<_> = (0..4).map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
