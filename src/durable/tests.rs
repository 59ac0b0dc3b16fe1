use super::*;
use crate::model::Timestamp;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_new_file_never_overwrites_and_has_its_mode_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    write_new(&path, b"first", 0o666).unwrap();
    assert_eq!(mode(&path), 0o666);
    let error = write_new(&path, b"second", 0o600).unwrap_err();
    assert!(matches!(error, DurableError::Exists { .. }), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"first");
    symlink("nowhere", dir.path().join("link")).unwrap();
    let error = write_new(&dir.path().join("link"), b"x", 0o600).unwrap_err();
    assert!(matches!(error, DurableError::Exists { .. }), "{error:?}");
    assert_eq!(names(dir.path()), ["file", "link"]);
}

#[test]
fn replacing_changes_the_name_and_not_what_a_link_points_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    replace(&path, b"one").unwrap();
    replace(&path, b"two").unwrap();
    assert_eq!((std::fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"two"[..], 0o600));
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    replace(&link, b"three").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(std::fs::read(&link).unwrap(), b"three");
    assert_eq!(names(dir.path()), ["link", "state"]);
}

#[test]
fn a_file_that_is_not_finished_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = NewFile::create_in(dir.path()).unwrap();
    file.write_all(b"half").unwrap();
    assert_eq!(mode(file.path()), 0o600);
    let name = file.path().file_name().unwrap().to_owned();
    assert!(is_temp_name(&name), "{name:?}");
    drop(file);
    assert_eq!(names(dir.path()), [""; 0]);
}

type Way<'a> = &'a dyn Fn(&str, &str) -> Result<(), DurableError>;

#[test]
fn moving_is_create_only_with_and_without_a_rename_that_does_not_replace() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let open = Dir::open(dir.path()).unwrap();
    let link = |from: &str, to: &str| open.link_new(&open, from.as_ref(), to.as_ref());
    let rename = |from: &str, to: &str| move_new(&at(from), &at(to));
    let ways: [Way; 2] = [&rename, &link];
    for (number, way) in ways.iter().enumerate() {
        let name = format!("object{number}");
        std::fs::write(at("a"), b"a").unwrap();
        way("a", &name).unwrap();
        assert!(!at("a").exists());
        std::fs::write(at("b"), b"b").unwrap();
        assert!(matches!(way("b", &name), Err(DurableError::Exists { .. })));
        assert_eq!(std::fs::read(at(&name)).unwrap(), b"a");
        assert_eq!(std::fs::read(at("b")).unwrap(), b"b", "the file that was not moved is still there");
        assert!(way("absent", "x").unwrap_err().is_not_found());
    }
}

#[cfg(debug_assertions)]
#[test]
fn where_rename_cannot_refuse_to_replace_a_hard_link_does() {
    for errno in [rustix::io::Errno::INVAL, rustix::io::Errno::NOSYS] {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, b"x").unwrap();
        // The calls are: open the target's directory, open the source's, rename.
        crash::fail_call(3, errno.raw_os_error());
        move_new(&from, &to).unwrap();
        assert!(crash::fired());
        assert_eq!(names(dir.path()), ["to"]);
    }
}

#[cfg(debug_assertions)]
#[test]
fn whatever_call_fails_a_state_file_is_the_old_or_the_new_one() {
    use rustix::io::Errno;
    let mut failures = 0;
    for errno in [Errno::IO, Errno::NOSPC, Errno::MFILE] {
        for call in 1.. {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state");
            replace(&path, b"old").unwrap();
            crash::fail_call(call, errno.raw_os_error());
            let result = replace(&path, b"new");
            if !crash::fired() {
                result.unwrap();
                break;
            }
            assert_eq!(result.unwrap_err().errno(), Some(errno));
            let found = std::fs::read(&path).unwrap();
            assert!(found == b"old" || found == b"new", "{found:?}");
            assert_eq!(names(dir.path()), ["state"], "{errno} at {call}");
            failures += 1;
        }
    }
    assert!(failures >= 15, "only {failures} calls were made to fail");
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_cannot_be_synced_is_a_failure() {
    // The system gives EINVAL for it, as for any file system without fsync.
    let error = sync_dir(Path::new("/proc")).unwrap_err();
    assert!(error.to_string().contains("fsync"), "{error}");
}

#[test]
fn directories_are_made_with_their_mode_and_existing_ones_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    create_dirs(&deep, 0o700).unwrap();
    assert_eq!(["a", "a/b", "a/b/c"].map(|d| mode(&dir.path().join(d))), [0o700; 3]);
    std::fs::set_permissions(&deep, std::fs::Permissions::from_mode(0o750)).unwrap();
    create_dirs(&deep, 0o700).unwrap();
    assert_eq!(mode(&deep), 0o750);
    std::fs::write(dir.path().join("file"), b"").unwrap();
    create_dirs(&dir.path().join("file/below"), 0o700).unwrap_err();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    create_dirs(&dir.path().join("dangling"), 0o700).unwrap_err();
}

#[test]
fn links_and_special_files_are_refused_and_never_taken_for_absent() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("real")).unwrap();
    symlink("real", dir.path().join("link")).unwrap();
    let open = Dir::open(dir.path()).unwrap();
    let error = open.child("link").unwrap_err();
    assert_eq!(error.errno(), Some(rustix::io::Errno::LOOP), "{error:?}");
    assert!(open.child("absent").unwrap_err().is_not_found());
    assert!(!open.open_file("link").unwrap_err().is_not_found());
    assert!(!open.open_file("real").unwrap_err().is_not_found());
    let info = open.info("link").unwrap();
    assert!(!info.regular && !info.directory);
}

#[test]
fn free_space_is_known_and_random_bytes_differ() {
    assert!(free_space(Path::new("/")).unwrap() > 0);
    assert!(free_space(Path::new("/nowhere/at/all")).unwrap_err().is_not_found());
    assert_ne!(random_bytes::<17>().unwrap(), random_bytes::<17>().unwrap());
}

fn now() -> Timestamp {
    "2026-11-23T08:00:00Z".parse().unwrap()
}

#[test]
fn a_lock_says_who_holds_it_and_ends_with_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let lock = FileLock::new(dir.path().join("lock"));
    let held = lock.try_lock("backup", now()).unwrap().unwrap();
    assert!(lock.try_lock("prune", now()).unwrap().is_none());
    let holder = lock.holder().unwrap();
    assert_eq!((holder.pid, holder.what.as_str(), holder.since), (std::process::id(), "backup", now()));
    let message = DurableError::Busy { path: lock.path().into(), holder: Some(holder) }.to_string();
    assert!(message.starts_with("busy: backup since 2026-11-2"), "{message}");
    assert!(message.ends_with(&format!("(process {})", std::process::id())), "{message}");
    assert_eq!(mode(lock.path()), 0o600);
    drop(held);
    assert!(lock.try_lock("prune", now()).unwrap().is_some());
}

#[test]
fn waiting_ends_when_the_lock_is_free_or_the_time_is_over_or_somebody_breaks_off() {
    let dir = tempfile::tempdir().unwrap();
    let lock = FileLock::new(dir.path().join("lock"));
    let mut held = lock.try_lock("backup", now()).unwrap();
    let mut waited = Duration::ZERO;
    let limit = Duration::from_secs(10);
    let mut pause = |time| {
        waited += time;
        ControlFlow::Continue(())
    };
    let error = lock.lock_wait("prune", &now, Some(limit), &mut pause).unwrap_err();
    assert!(matches!(error, DurableError::Busy { holder: Some(_), .. }), "{error:?}");
    assert_eq!(waited, limit);
    let mut never = |_| -> ControlFlow<()> { panic!("waited although it was told not to") };
    lock.lock_wait("prune", &now, Some(Duration::ZERO), &mut never).unwrap_err();
    let mut pauses = 0;
    let mut break_off = |_| {
        pauses += 1;
        if pauses == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    lock.lock_wait("prune", &now, None, &mut break_off).unwrap_err();
    assert_eq!(pauses, 3);
    let mut freed = |_| {
        held = None;
        ControlFlow::Continue(())
    };
    let _prune = lock.lock_wait("prune", &now, None, &mut freed).unwrap();
    assert_eq!(lock.holder().unwrap().what, "prune");
}

#[test]
fn a_lock_file_that_was_replaced_while_held_excludes_through_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let lock = FileLock::new(dir.path().join("lock"));
    let _old = lock.try_lock("backup", now()).unwrap().unwrap();
    std::fs::remove_file(lock.path()).unwrap();
    let _new = lock.try_lock("prune", now()).unwrap().unwrap();
    assert!(lock.try_lock("verify", now()).unwrap().is_none());
}

#[test]
fn a_sweep_takes_only_what_is_wanted_and_old() {
    let dir = tempfile::tempdir().unwrap();
    let left = NewFile::create_in(dir.path()).unwrap();
    // A process that was killed: its lock is gone, its file is not.
    let left_as = left.path().with_file_name(".backstay-00000000000000000000000000000000.tmp");
    std::fs::rename(left.path(), &left_as).unwrap();
    drop(left);
    std::fs::write(dir.path().join("heads.json"), b"{}").unwrap();
    std::fs::create_dir(dir.path().join(".backstay-11111111111111111111111111111111.tmp")).unwrap();
    let open = Dir::open(dir.path()).unwrap();
    let soon = Timestamp::now() + Duration::from_secs(3600);
    let swept = sweep(&open, soon, &is_temp_name).unwrap();
    assert_eq!(swept, Swept { removed: 1, bytes: 0, kept: 0 });
    assert!(!left_as.exists() && names(dir.path()).contains(&"heads.json".to_owned()));
}
