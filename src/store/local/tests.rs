use super::*;
use crate::model::SnapshotId;
use crate::store::testing::{FaultStore, contract};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::Arc;

fn store() -> (tempfile::TempDir, LocalStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::create("local", &dir.path().join("backups")).unwrap();
    (dir, store)
}

fn record() -> Key {
    Key::Record("20261123T080000Z-abcdefgh".parse::<SnapshotId>().unwrap())
}

fn incoming(store: &LocalStore) -> usize {
    std::fs::read_dir(store.root.join(INCOMING)).unwrap().count()
}

/// Every name below the root that is not a directory.
fn files(store: &LocalStore) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![store.root.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_directory_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    let make = || {
        count.set(count.get() + 1);
        LocalStore::create("local", &dir.path().join(count.get().to_string())).unwrap()
    };
    contract(&|| Box::new(make()));
    contract(&|| Box::new(make()));
    contract(&|| Box::new(FaultStore::new(Arc::new(make()))));
}

#[test]
fn puts_leave_nothing_unfinished_whatever_they_find() {
    let (_dir, store) = store();
    assert_eq!(store.put_bytes(&record(), b"one").unwrap(), Put::Created);
    assert_eq!(store.put_bytes(&record(), b"one").unwrap(), Put::AlreadyThere);
    assert_eq!(store.put_bytes(&record(), b"two").unwrap_err().kind, StoreErrorKind::Exists);
    assert_eq!(incoming(&store), 0);
    assert_eq!(files(&store).len(), 1);
}

#[test]
fn folders_and_objects_are_for_their_owner_alone() {
    let (_dir, store) = store();
    let id = ObjectId::of(b"x");
    store.put_bytes(&Key::Archive(id), b"x").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&store.root), 0o700);
    assert_eq!(mode(&store.root.join("archives")), 0o700);
    assert_eq!(mode(&store.root.join(Key::Archive(id).to_string())), 0o600);
    assert_eq!(mode(&store.spool_dir().unwrap()), 0o700);
}

#[test]
fn an_absent_directory_or_one_without_backstay_json_is_no_store() {
    let (dir, fresh) = store();
    let open = |path: &Path| LocalStore::open("local", path).map(drop).map_err(|e| e.kind);
    assert_eq!(open(&dir.path().join("elsewhere")), Err(StoreErrorKind::Missing));
    assert_eq!(open(&fresh.root), Err(StoreErrorKind::Missing));
    std::fs::write(dir.path().join("file"), b"").unwrap();
    assert_eq!(open(&dir.path().join("file")), Err(StoreErrorKind::Missing));
    fresh.put_bytes(&Key::Store, b"{}").unwrap();
    assert_eq!(open(&fresh.root), Ok(()));
}

#[test]
fn a_store_that_went_away_is_missing_and_its_objects_are_not_said_to_be_gone() {
    let (dir, store) = store();
    let id = ObjectId::of(b"x");
    let spooled = dir.path().join("spooled");
    std::fs::write(&spooled, b"x").unwrap();
    store.put_bytes(&record(), b"x").unwrap();
    let missing_everywhere = || {
        let kinds = [
            store.head(&record()).map(drop).unwrap_err().kind,
            store.list(Prefix::Records).map(drop).unwrap_err().kind,
            store.get(&record(), 9).map(drop).unwrap_err().kind,
            store.put_bytes(&record(), b"x").map(drop).unwrap_err().kind,
            store.put_file(&Key::Archive(id), &spooled, 1, &id).map(drop).unwrap_err().kind,
            store.delete(&record()).unwrap_err().kind,
        ];
        assert_eq!(kinds, [StoreErrorKind::Missing; 6]);
        assert_eq!(store.spool_dir(), None);
    };
    std::fs::rename(&store.root, dir.path().join("away")).unwrap();
    missing_everywhere();
    // An empty mount point in its place, as after an unmount.
    std::fs::create_dir(&store.root).unwrap();
    missing_everywhere();
    assert_eq!(std::fs::read_dir(&store.root).unwrap().count(), 0);
}

#[test]
fn links_in_a_store_are_never_followed() {
    let (dir, store) = store();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), b"secret").unwrap();
    symlink(outside.join("secret"), store.root.join(record().to_string())).unwrap();
    assert!(store.get(&record(), 99).is_err());
    assert!(store.get_range(&record(), 0, 1).is_err());
    assert!(store.read_back(&record(), &mut |_| {}).is_err());
    assert!(store.head(&record()).is_err());
    assert!(store.list(Prefix::Records).is_err());
    assert!(store.put_bytes(&record(), b"secret").is_err());
    let id = ObjectId::of(b"x");
    std::fs::remove_dir(store.root.join("archives")).unwrap();
    symlink(&outside, store.root.join("archives")).unwrap();
    assert!(store.put_bytes(&Key::Archive(id), b"x").is_err());
    assert!(store.head(&Key::Archive(id)).is_err(), "a link must not look like an absent object");
    assert!(store.list(Prefix::Archives).is_err());
    assert!(store.delete(&Key::Archive(id)).is_err());
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn names_that_are_no_keys_are_left_out_of_listings_and_an_absent_folder_is_empty() {
    let (_dir, store) = store();
    store.put_bytes(&record(), b"x").unwrap();
    for name in ["snapshots/README", "snapshots/.20261123T080000Z-abcdefgh.json.swp", "archives/x"] {
        std::fs::write(store.root.join(name), b"").unwrap();
    }
    std::fs::create_dir_all(store.root.join("archives/lost+found")).unwrap();
    let keys = |prefix| store.list(prefix).unwrap().into_iter().map(|l| l.key).collect::<Vec<_>>();
    assert_eq!(keys(Prefix::Records), [record()]);
    assert_eq!(keys(Prefix::Archives), []);
    std::fs::remove_dir(store.root.join("marks")).unwrap();
    assert_eq!(keys(Prefix::Marks), []);
}

#[test]
fn a_folder_that_cannot_be_read_is_an_error_and_no_empty_list() {
    let (_dir, store) = store();
    std::fs::remove_dir(store.root.join("marks")).unwrap();
    std::fs::write(store.root.join("marks"), b"").unwrap();
    assert!(store.list(Prefix::Marks).is_err());
    if rustix::process::geteuid().is_root() {
        println!("NOT RUN as root: a folder without read permission");
        return;
    }
    let folder = store.root.join("snapshots");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(store.list(Prefix::Records).unwrap_err().kind, StoreErrorKind::Denied);
    assert_eq!(store.head(&record()).unwrap_err().kind, StoreErrorKind::Denied);
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_file_from_another_file_system_is_copied_compared_and_taken_away() {
    let (dir, store) = store();
    let shm = Path::new("/dev/shm");
    let other = |meta: std::io::Result<std::fs::Metadata>| meta.map(|m| m.dev()).ok();
    let here = other(std::fs::metadata(dir.path()));
    if other(std::fs::metadata(shm)).is_none_or(|there| Some(there) == here) {
        println!("NOT RUN: /dev/shm is not another file system");
        return;
    }
    let spool = tempfile::tempdir_in(shm).unwrap();
    let path = spool.path().join("spooled");
    let bytes = vec![7; 3_000_000];
    let (id, size) = (ObjectId::of(&bytes), 3_000_000);
    let key = Key::Archive(id);
    std::fs::write(&path, &bytes).unwrap();
    let wrong = store.put_file(&key, &path, size, &ObjectId::of(b"else")).unwrap_err();
    assert_eq!(wrong.kind, StoreErrorKind::Corrupt);
    assert_eq!((store.head(&key).unwrap(), path.exists()), (None, true));
    assert_eq!(store.put_file(&key, &path, size, &id).unwrap(), Put::Created);
    assert!(!path.exists());
    assert_eq!(store.get(&key, size).unwrap(), bytes);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(store.put_file(&key, &path, size, &id).unwrap(), Put::AlreadyThere);
    assert!(!path.exists());
    assert_eq!(incoming(&store), 0);
}

#[test]
fn a_file_of_another_length_is_not_put() {
    let (dir, store) = store();
    let path = dir.path().join("spooled");
    std::fs::write(&path, b"truncat").unwrap();
    let id = ObjectId::of(b"truncated");
    let error = store.put_file(&Key::Archive(id), &path, 9, &id).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Corrupt);
    assert_eq!(store.head(&Key::Archive(id)).unwrap(), None);
    let gone = store.put_file(&Key::Archive(id), &dir.path().join("no"), 9, &id).unwrap_err();
    assert_eq!(gone.kind, StoreErrorKind::Other, "the caller's file is missing, not an object");
}

#[test]
fn a_sweep_takes_old_leftovers_and_leaves_young_and_locked_ones() {
    let (_dir, store) = store();
    let spool = store.spool_dir().unwrap();
    std::fs::write(spool.join("leftover"), b"12345").unwrap();
    let at_work = durable::NewFile::create_in(&spool).unwrap();
    let written = std::fs::metadata(spool.join("leftover")).unwrap().modified().unwrap();
    let written = Timestamp::try_from(written).unwrap();
    assert_eq!(store.sweep_incoming(written).unwrap(), Swept { removed: 0, bytes: 0, kept: 2 });
    let later = written + std::time::Duration::from_secs(3600);
    assert_eq!(store.sweep_incoming(later).unwrap(), Swept { removed: 1, bytes: 5, kept: 1 });
    assert!(at_work.path().exists());
    drop(at_work);
    assert_eq!(incoming(&store), 0);
}

/// One run of a scenario; gives what it did.
#[cfg(debug_assertions)]
type Scenario<'a> = &'a dyn Fn(&LocalStore, &Path) -> Result<Put, StoreError>;

/// Lets the first, second, … system call of a put fail, each with each of these errors.
#[cfg(debug_assertions)]
fn every_failure(scenario: Scenario, whole: &[u8], key: &Key) {
    use crate::durable::crash;
    for errno in [Errno::IO, Errno::NOSPC, Errno::INTR, Errno::MFILE] {
        for call in 1.. {
            let (dir, store) = store();
            let spooled = dir.path().join("spooled");
            std::fs::write(&spooled, whole).unwrap();
            crash::fail_call(call, errno.raw_os_error());
            let result = scenario(&store, &spooled);
            if !crash::fired() {
                assert_eq!(result.unwrap(), Put::Created);
                assert!(call > 8, "only {call} system calls were tried");
                break;
            }
            let there = files(&store);
            let object = store.root.join(key.to_string());
            // An interrupted write or sync may be made again by the standard library: then all is well.
            if let Err(error) = &result {
                assert!(there.is_empty(), "{errno} at {call}: {error:?} left {there:?}");
                let full = error.kind == StoreErrorKind::Full;
                assert_eq!(full, errno == Errno::NOSPC, "{error:?}");
            } else {
                assert_eq!(std::fs::read(&object).unwrap(), whole, "{errno} at {call}");
            }
            // Nothing that failed may stand in the way of the next attempt.
            if !spooled.exists() && result.is_err() {
                std::fs::write(&spooled, whole).unwrap();
            }
            scenario(&store, &spooled).or_else(|e| result.map_err(|_| e)).unwrap();
            assert_eq!(std::fs::read(&object).unwrap(), whole);
        }
    }
}

#[cfg(debug_assertions)]
#[test]
fn whatever_system_call_fails_an_object_is_whole_or_absent_and_no_temporary_file_stays() {
    let whole = vec![9; 100_000];
    let id = ObjectId::of(&whole);
    let key = Key::Archive(id);
    every_failure(&|store, _| store.put_bytes(&key, &whole), &whole, &key);
    every_failure(&|store, path| store.put_file(&key, path, 100_000, &id), &whole, &key);
}

#[cfg(debug_assertions)]
#[test]
fn a_file_whose_directory_could_not_be_synced_goes_back_to_the_spool() {
    use crate::durable::crash;
    let whole = b"bytes";
    let id = ObjectId::of(whole);
    let key = Key::Archive(id);
    let mut went_back = 0;
    for call in 1..100 {
        let (dir, store) = store();
        store.put_bytes(&Key::Archive(ObjectId::of(b"other")), b"other").unwrap();
        let path = dir.path().join("spooled");
        std::fs::write(&path, whole).unwrap();
        crash::fail_call(call, Errno::IO.raw_os_error());
        let result = store.put_file(&key, &path, 5, &id);
        if !crash::fired() {
            break;
        }
        result.unwrap_err();
        assert!(path.exists(), "the file is lost to the caller after a failure of call {call}");
        assert_eq!(store.head(&key).unwrap(), None);
        went_back += 1;
    }
    assert!(went_back > 5);
}

#[test]
fn errors_tell_apart_what_a_caller_must_tell_apart() {
    let kinds = [
        (Errno::NOENT, StoreErrorKind::NotFound),
        (Errno::DQUOT, StoreErrorKind::Full),
        (Errno::ROFS, StoreErrorKind::Denied),
        (Errno::STALE, StoreErrorKind::Unreachable),
        (Errno::IO, StoreErrorKind::Other),
    ];
    for (errno, kind) in kinds {
        assert_eq!(kind_of(Some(errno)), kind);
    }
}
