//! Kills at every step of writing: the test program runs itself, with an order to die at the n-th point (see `durable::crash`).
//! The points are only in debug builds.
#![cfg(debug_assertions)]
#![expect(clippy::unwrap_used, reason = "this is a test")]

use crate::common::project::cannot_run;
use backstay::catalog::{Head, State};
use backstay::durable::{self, Dir, FileLock, is_temp_name};
use backstay::model::{ObjectId, SignerId, Timestamp};
use backstay::store::{Key, LocalStore, Prefix, Put, Store, StoreErrorKind};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

const SCENARIO: &str = "BACKSTAY_TEST_SCENARIO";
const FOLDER: &str = "BACKSTAY_TEST_FOLDER";
const SPOOL: &str = "BACKSTAY_TEST_SPOOL";
const SIGKILL: i32 = 9;

fn whole() -> Vec<u8> {
    (0..200_000u32).flat_map(u32::to_le_bytes).collect()
}

fn archive() -> Key {
    Key::Archive(ObjectId::of(&whole()))
}

fn signer() -> SignerId {
    SignerId([3; 16])
}

fn head(number: u64) -> Head {
    Head { number, hash: ObjectId::of(&number.to_le_bytes()) }
}

fn store(dir: &Path) -> LocalStore {
    LocalStore::create("local", &dir.join("store")).unwrap()
}

fn put_spooled(dir: &Path) -> Put {
    let spool = std::env::var_os(SPOOL).map_or_else(|| dir.to_owned(), PathBuf::from);
    let spooled = spool.join("spooled");
    let bytes = whole();
    store(dir).put_file(&archive(), &spooled, bytes.len() as u64, &ObjectId::of(&bytes)).unwrap()
}

/// What a child does. Each scenario can be run again after a kill, as the next start of the program would.
fn run_scenario(name: &str, dir: &Path) {
    match name {
        "write_new" => durable::write_new(&dir.join("file"), &whole(), 0o600).unwrap(),
        "replace" => durable::replace(&dir.join("file"), &whole()).unwrap(),
        "put_bytes" => {
            store(dir).put_bytes(&archive(), &whole()).unwrap();
        }
        "put_file" => {
            put_spooled(dir);
        }
        "new_file" => {
            let bytes = whole();
            let mut file = durable::NewFile::create_in(dir).unwrap();
            std::io::Write::write_all(&mut file, &bytes).unwrap();
            file.finish_new(&dir.join("file"), 0o600).unwrap();
        }
        "delete" => store(dir).delete(&archive()).unwrap(),
        "heads" => State::open(dir).unwrap().raise_heads(&[(signer(), head(2))]).unwrap(),
        "pending" => {
            State::open(dir).unwrap().set_pending(&Key::Mark(signer(), 7), &whole()).unwrap();
        }
        "clear_pending" => State::open(dir).unwrap().clear_pending().unwrap(),
        "locked" => {
            let lock = FileLock::new(dir.join("lock"));
            let _held = lock.try_lock("backup", Timestamp::UNIX_EPOCH).unwrap().unwrap();
            durable::crash::point("while the lock is held");
        }
        "full" => full_disk(dir),
        other => panic!("no scenario {other:?}"),
    }
}

#[test]
#[ignore = "runs only as a child of the other tests here"]
fn child() {
    if let (Ok(scenario), Some(dir)) = (std::env::var(SCENARIO), std::env::var_os(FOLDER)) {
        run_scenario(&scenario, Path::new(&dir));
    }
}

const CHILD: [&str; 4] = ["durable_crash::child", "--exact", "--ignored", "--nocapture"];

fn spawn(scenario: &str, dir: &Path, orders: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(CHILD).env(SCENARIO, scenario).env(FOLDER, dir).envs(orders.iter().copied());
    command.output().unwrap()
}

fn assert_well(output: &Output, what: &str) {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `scenario` once for every point that it passes and kills it there. `prepare` makes the state before; `check` looks at what the kill
/// left and gives whether the step was done; then the scenario runs again, unattended, and must reach its end.
fn at_every_point(
    scenario: &str,
    prepare: &dyn Fn(&Path),
    check: &dyn Fn(&Path) -> bool,
    orders: &[(&str, &str)],
) {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let log = dir.path().join("points.log");
    let mut all = orders.to_vec();
    all.push(("BACKSTAY_TEST_CRASH_COUNT_FILE", log.to_str().unwrap()));
    assert_well(&spawn(scenario, dir.path(), &all), scenario);
    assert!(check(dir.path()), "{scenario}: not done although nothing was killed");
    let names = std::fs::read_to_string(&log).unwrap();
    let count = names.lines().count();
    let mut done_at = Vec::new();
    for point in 1..=count {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let number = point.to_string();
        let mut all = orders.to_vec();
        all.push(("BACKSTAY_TEST_CRASH", &number));
        let killed = spawn(scenario, dir.path(), &all);
        assert_eq!(killed.status.signal(), Some(SIGKILL), "{scenario} at {point} of {names}");
        done_at.push(check(dir.path()));
        assert_well(&spawn(scenario, dir.path(), orders), scenario);
        assert!(check(dir.path()), "{scenario}: the run after a kill at {point} did not end it");
        swept_clean(dir.path());
    }
    assert!(done_at.contains(&false) && done_at.contains(&true), "{scenario}: {done_at:?} of {names}");
    assert!(done_at.is_sorted(), "{scenario}: once done it must stay done: {done_at:?} of {names}");
}

/// Sweeps what kills left in `dir` and the store in it, and looks whether anything is left.
fn swept_clean(dir: &Path) {
    let later = Timestamp::now() + Duration::from_secs(3600);
    durable::sweep(&Dir::open(dir).unwrap(), later, &is_temp_name).unwrap();
    let mut folders = vec![dir.to_owned()];
    if dir.join("store").exists() {
        store(dir).sweep_incoming(later).unwrap();
        folders.push(dir.join("store/.incoming"));
        assert_eq!(std::fs::read_dir(dir.join("store/.incoming")).unwrap().count(), 0);
    }
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let temps: Vec<_> = entries.map(|e| e.unwrap().file_name()).filter(|n| is_temp_name(n)).collect();
    assert!(temps.is_empty(), "{temps:?}");
}

/// The file's bytes, or nothing when it is not there.
fn read(path: &Path) -> Option<Vec<u8>> {
    match std::fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => panic!("{path:?}: {e}"),
    }
}

fn is_whole_or_absent(path: &Path) -> bool {
    let bytes = read(path);
    assert!(bytes.is_none() || bytes == Some(whole()), "{path:?} is partial");
    bytes.is_some()
}

fn object(dir: &Path) -> PathBuf {
    dir.join("store").join(archive().to_string())
}

#[test]
fn a_new_file_is_whole_or_absent_wherever_the_process_is_killed() {
    for scenario in ["new_file", "write_new"] {
        // Written once, the name is taken: the second run of a scenario begins without it.
        let check = |dir: &Path| {
            let there = is_whole_or_absent(&dir.join("file"));
            if there {
                std::fs::remove_file(dir.join("file")).unwrap();
            }
            there
        };
        at_every_point(scenario, &|_| {}, &check, &[]);
    }
}

#[test]
fn a_state_file_is_the_old_or_the_new_one_wherever_the_process_is_killed() {
    let old = |dir: &Path| std::fs::write(dir.join("file"), b"old").unwrap();
    let check = |dir: &Path| {
        let bytes = read(&dir.join("file")).unwrap();
        assert!(bytes == b"old" || bytes == whole());
        bytes != b"old"
    };
    at_every_point("replace", &old, &check, &[]);
}

#[test]
fn an_object_put_from_memory_is_whole_or_absent_wherever_the_process_is_killed() {
    at_every_point("put_bytes", &|_| {}, &|dir| is_whole_or_absent(&object(dir)), &[]);
}

/// The object is whole or absent, and as long as it is absent its file is still in the spool; then the file is put back
/// as a new run, which packs anew, would.
fn check_put_file(dir: &Path, spooled: &Path) -> bool {
    let there = is_whole_or_absent(&object(dir));
    assert!(there || spooled.exists(), "neither the object nor the spooled file is there");
    std::fs::write(spooled, whole()).unwrap();
    there
}

#[test]
fn an_object_moved_from_the_spool_is_whole_or_absent_and_its_file_is_not_lost() {
    let spooled = |dir: &Path| dir.join("spooled");
    let prepare = |dir: &Path| std::fs::write(spooled(dir), whole()).unwrap();
    at_every_point("put_file", &prepare, &|dir| check_put_file(dir, &spooled(dir)), &[]);
}

#[test]
fn an_object_copied_from_another_file_system_is_whole_or_absent_and_its_file_is_not_lost() {
    let Ok(spool) = tempfile::tempdir_in("/dev/shm") else {
        cannot_run("kills while writing to memory: there is no /dev/shm");
        return;
    };
    let spooled = spool.path().join("spooled");
    let prepare = |_: &Path| std::fs::write(&spooled, whole()).unwrap();
    let orders = [(SPOOL, spool.path().to_str().unwrap())];
    at_every_point("put_file", &prepare, &|dir| check_put_file(dir, &spooled), &orders);
}

#[test]
fn a_deletion_is_done_or_not_wherever_the_process_is_killed() {
    let prepare = |dir: &Path| {
        store(dir).put_bytes(&archive(), &whole()).unwrap();
    };
    at_every_point("delete", &prepare, &|dir| !is_whole_or_absent(&object(dir)), &[]);
}

#[test]
fn remembered_heads_never_fall_and_are_never_lost_wherever_the_process_is_killed() {
    let prepare = |dir: &Path| {
        State::open(dir).unwrap().raise_heads(&[(signer(), head(1))]).unwrap();
    };
    let check = |dir: &Path| {
        let known = State::open(dir).unwrap().heads().unwrap()[&signer()];
        assert!(known == head(1) || known == head(2), "{known:?}");
        known == head(2)
    };
    at_every_point("heads", &prepare, &check, &[]);
}

#[test]
fn a_signed_document_is_kept_whole_or_not_at_all_wherever_the_process_is_killed() {
    let pending = |dir: &Path| {
        let pending = State::open(dir).unwrap().pending().unwrap();
        assert!(pending.as_ref().is_none_or(|p| p.bytes == whole()));
        pending.is_some()
    };
    at_every_point("pending", &|_| {}, &pending, &[]);
    let prepare = |dir: &Path| {
        State::open(dir).unwrap().set_pending(&Key::Mark(signer(), 7), &whole()).unwrap();
    };
    at_every_point("clear_pending", &prepare, &|dir| !pending(dir), &[]);
}

/// A kill cannot show what a power cut does, because the system's cache outlives the process; the order of the steps decides that.
#[test]
fn bytes_are_synced_before_they_get_their_name_and_the_name_before_it_is_said() {
    for (scenario, rename) in [("put_bytes", "rename"), ("write_new", "rename"), ("replace", "rename over")] {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("points.log");
        let orders = [("BACKSTAY_TEST_CRASH_COUNT_FILE", log.to_str().unwrap())];
        assert_well(&spawn(scenario, dir.path(), &orders), scenario);
        let log = std::fs::read_to_string(&log).unwrap();
        let names: Vec<&str> = log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        let last = |name: &str| names.iter().rposition(|n| *n == name).unwrap();
        let (write, sync, named) = (last("write"), last("fsync"), last(rename));
        assert!(write < sync && sync < named, "{scenario}: {names:?}");
        assert!(named < last("fsync directory"), "{scenario}: {names:?}");
    }
}

#[test]
fn a_lock_whose_holder_was_killed_is_free_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let killed = spawn("locked", dir.path(), &[("BACKSTAY_TEST_CRASH", "1")]);
    assert_eq!(killed.status.signal(), Some(SIGKILL));
    let lock = FileLock::new(dir.path().join("lock"));
    assert_eq!(lock.holder().unwrap().what, "backup", "it was killed while it held the lock");
    assert!(lock.try_lock("prune", Timestamp::UNIX_EPOCH).unwrap().is_some());
}

#[test]
fn a_system_call_that_fails_by_order_of_the_environment_makes_the_run_fail() {
    let dir = tempfile::tempdir().unwrap();
    let failed = spawn("write_new", dir.path(), &[("BACKSTAY_TEST_FAIL", "2:28")]);
    assert_eq!(failed.status.code(), Some(101));
    let why = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(why.contains("StorageFull"), "{why}");
    assert_eq!(read(&dir.path().join("file")), None);
}

/// In a child, on a file system of one MiB.
fn full_disk(dir: &Path) {
    let store = store(dir);
    let state = State::open(&dir.join("state")).unwrap();
    state.raise_heads(&[(signer(), head(1))]).unwrap();
    let record = |n: u32| Key::Record(format!("20261123T08000{n}Z-abcdefgh").parse().unwrap());
    store.put_bytes(&record(0), b"before").unwrap();
    let large = vec![1; 2 << 20];
    let id = ObjectId::of(&large);
    let error = store.put_bytes(&Key::Archive(id), &large).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Full, "{error:?}");
    let spool = tempfile::tempdir_in(std::env::var_os(SPOOL).unwrap()).unwrap();
    let spooled = spool.path().join("spooled");
    std::fs::write(&spooled, &large).unwrap();
    let error = store.put_file(&Key::Archive(id), &spooled, 2 << 20, &id).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Full, "{error:?}");
    assert!(spooled.exists(), "the caller's file is gone although it was not put");
    assert_eq!(store.head(&Key::Archive(id)).unwrap(), None);
    assert_eq!(std::fs::read_dir(store.spool_dir().unwrap()).unwrap().count(), 0);
    // Filled to the last byte, by a file that is not ours.
    let mut ballast = std::fs::File::create(dir.join("ballast")).unwrap();
    while std::io::Write::write(&mut ballast, &[0; 4096]).is_ok_and(|count| count > 0) {}
    assert_eq!(durable::free_space(dir).unwrap(), 0);
    state.raise_heads(&[(signer(), head(2))]).unwrap_err();
    assert_eq!(state.heads().unwrap()[&signer()], head(1));
    assert_eq!(store.list(Prefix::Records).unwrap().len(), 1);
    assert_eq!(store.get(&record(0), 9).unwrap(), b"before");
    let held = state.lock().try_lock("prune", Timestamp::UNIX_EPOCH).unwrap();
    assert!(held.is_some(), "a full disk must not keep a prune from its lock");
    store.delete(&record(0)).unwrap();
    drop(ballast);
    std::fs::remove_file(dir.join("ballast")).unwrap();
    assert_eq!(store.put_bytes(&record(1), b"after").unwrap(), Put::Created);
    state.raise_heads(&[(signer(), head(2))]).unwrap();
}

#[test]
fn a_full_disk_fails_cleanly_and_what_is_there_stays_readable() {
    const NO_MOUNT: i32 = 97;
    let dir = tempfile::tempdir().unwrap();
    let spool = tempfile::tempdir().unwrap();
    let namespaces = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let script = format!("mount -t tmpfs -o size=1m tmpfs \"$0\" || exit {NO_MOUNT}; exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args([namespaces, "sh", "-c", &script]).arg(dir.path());
    command.arg(std::env::current_exe().unwrap()).args(CHILD);
    command.env(SCENARIO, "full").env(FOLDER, dir.path()).env(SPOOL, spool.path());
    match command.output() {
        Err(e) => cannot_run(&format!("a small full disk: unshare cannot be started: {e}")),
        Ok(output) if matches!(output.status.code(), Some(1 | NO_MOUNT)) => {
            cannot_run(&format!("a small full disk: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(output) => {
            assert_well(&output, "full disk");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains("1 passed"), "{said}");
        }
    }
}
