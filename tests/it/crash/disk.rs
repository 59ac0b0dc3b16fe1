//! Disks that are really full, and ones that cannot be written, in mounts of their own.

use super::bed::{Bed, assert_code, noise};
use crate::common::long::long;
use crate::common::mounts::{given_folder, in_own_mounts, mount};
use std::path::{Path, PathBuf};

/// Fills the file system of `dir` but for `left` bytes.
fn fill(dir: &Path, left: u64) {
    let ballast = dir.join("ballast");
    let free = backstay::durable::free_space(dir).unwrap();
    let file = std::fs::File::create(ballast).unwrap();
    let wanted = free.saturating_sub(left);
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, wanted).unwrap();
}

fn empty(dir: &Path) {
    std::fs::remove_file(dir.join("ballast")).unwrap();
}

/// A bed whose store or state lies on a small disk, with one snapshot, changed since.
fn on_small_disk(top: &Path, which: fn(&Bed) -> PathBuf) -> (Bed, PathBuf) {
    let bed = Bed::at(top);
    bed.make_app();
    let disk = which(&bed);
    mount(&["-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs"], &disk);
    bed.set_up();
    assert_code(&bed.run(&["backup"]), 0);
    bed.change();
    (bed, disk)
}

/// How much is left on the disk: nothing, a little more each time, and so much that all but the end fits.
fn rooms() -> Vec<u64> {
    let small = (0..if long() { 64 } else { 8 }).map(|n| n * 4096);
    let large = (1..=8).map(|n| n * 330_000);
    small.chain(large).collect()
}

#[test]
#[ignore = "runs only as a child of the test below"]
fn full_store() {
    let Some(top) = given_folder() else { return };
    let (bed, disk) = on_small_disk(&top, Bed::store);
    let mut before = bed.list("before");
    let mut refused = 0;
    for room in rooms() {
        let what = format!("{room} bytes left");
        fill(&disk, room);
        let expected = bed.expected();
        // All of it anew, or there would be little to store.
        let output = bed.run(&["backup", "--full"]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        let list = bed.list(&what);
        if output.status.code() == Some(0) {
            assert_eq!(list.len(), before.len() + 1, "{what}");
        } else {
            refused += 1;
            assert_eq!(output.status.code(), Some(10), "{what}: {words}");
            assert!(words.contains("No space left on device"), "{what}: {words}");
            assert!(words.contains("hint: make room"), "{what}: {words}");
            // All else that it could list would be whole, too: see below.
            let kept = before.iter().all(|(id, good)| list.get(id) == Some(good));
            assert!(kept, "{what}: {before:?}, then {list:?}");
        }
        empty(&disk);
        for id in list.keys().filter(|id| !before.contains_key(*id)) {
            bed.assert_restores(id, &expected, &what);
        }
        assert_code(&bed.run(&["backup"]), 0);
        let after = bed.list(&what);
        assert!(after.len() > list.len(), "{what}: {after:?}");
        bed.assert_no_litter(&what);
        // What is not needed any more would fill the disk for good.
        bed_afresh(&bed, &disk);
        before = bed.list(&what);
    }
    assert!(refused >= 8, "only {refused} runs were refused");
}

/// A new store on the same disk, with one snapshot of the application as it was first.
fn bed_afresh(bed: &Bed, disk: &Path) {
    for entry in std::fs::read_dir(disk).unwrap() {
        let path = entry.unwrap().path();
        let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
    }
    let state = bed.live.join("home/.local/state/backstay/app");
    std::fs::remove_dir_all(state).unwrap();
    assert_code(&bed.run(&["init", "--yes"]), 0);
    assert_code(&bed.run(&["backup"]), 0);
}

#[test]
fn a_backup_to_a_full_disk_says_so_and_goes_well_once_there_is_room() {
    in_own_mounts("crash::disk::full_store");
}

#[test]
#[ignore = "runs only as a child of the test below"]
fn full_state() {
    let Some(top) = given_folder() else { return };
    let state = |bed: &Bed| bed.live.join("home/.local/state/backstay/app");
    let (bed, disk) = on_small_disk(&top, state);
    let expected = bed.expected();
    let mut failed = 0;
    let rooms = [0, 4096, 8192, 12_288, 16_384, 20_480];
    for (room, with_catalog) in rooms.into_iter().flat_map(|room| [(room, true), (room, false)]) {
        let what = format!("{room} bytes left for the state, with the catalog: {with_catalog}");
        let before = bed.list(&what);
        if !with_catalog {
            // A catalog that cannot be written is given up, which makes room for what must be kept.
            forget_catalog(&disk);
        }
        fill(&disk, room);
        let output = bed.run(&["backup"]);
        // No room to remember a new head is no reason not to list.
        let list = bed.list(&what);
        if output.status.code() == Some(0) {
            assert_eq!(list.len(), before.len() + 1, "{what}");
        } else {
            failed += 1;
            let words = String::from_utf8_lossy(&output.stderr);
            assert!(words.contains("No space left on device"), "{what}: {words}");
        }
        empty(&disk);
        assert_code(&bed.run(&["backup"]), 0);
        let after = bed.list(&what);
        assert!(after.len() > list.len(), "{what}: {after:?}");
        bed.assert_restores("latest", &expected, &what);
        for id in list.keys().filter(|id| !before.contains_key(*id)) {
            bed.assert_restores(id, &expected, &what);
        }
        bed.assert_no_litter(&what);
    }
    assert!(failed > 0);
}

fn forget_catalog(state: &Path) {
    for entry in std::fs::read_dir(state).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("catalog") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_full_disk_below_the_state_fails_a_backup_and_breaks_nothing() {
    in_own_mounts("crash::disk::full_state");
}

#[test]
#[ignore = "runs only as a child of the test below"]
fn full_target() {
    let Some(top) = given_folder() else { return };
    let bed = Bed::at(&top);
    bed.make_app();
    bed.set_up();
    assert_code(&bed.run(&["backup"]), 0);
    let expected = bed.expected();
    // Too small by far; too small once there are files; no inodes; enough.
    let disks = [
        ("size=1m", "not enough room"),
        ("size=2m", "not enough room"),
        ("size=2470k", "No space left on device"),
        ("nr_inodes=8", "No space left on device"),
    ];
    for (number, (options, why)) in disks.into_iter().enumerate() {
        let disk = bed.live.join(format!("disk{number}"));
        mount(&["-t", "tmpfs", "-o", options, "tmpfs"], &disk);
        let to = disk.join("back");
        let output = bed.run(&["restore", "latest", "--to", to.to_str().unwrap()]);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{options}: {words}");
        assert!(words.contains(why), "{options}: {words}");
        assert_eq!(std::fs::read_dir(&disk).unwrap().count(), 0, "{options}");
    }
    let disk = bed.live.join("enough");
    mount(&["-t", "tmpfs", "-o", "size=8m", "tmpfs"], &disk);
    let to = disk.join("back");
    assert_code(&bed.run(&["restore", "latest", "--to", to.to_str().unwrap()]), 0);
    expected.assert_is_at(&to, "enough room");
}

#[test]
fn a_restore_to_a_full_disk_leaves_nothing() {
    in_own_mounts("crash::disk::full_target");
}

#[test]
#[ignore = "runs only as a child of the test below"]
fn full_live_disk() {
    let Some(top) = given_folder() else { return };
    let bed = Bed::at(&top);
    let app = bed.app();
    mount(&["-t", "tmpfs", "-o", "size=24m", "tmpfs"], &app);
    bed.make_app();
    bed.set_up();
    assert_code(&bed.run(&["backup"]), 0);
    for (room, seed) in [(0, 5), (4096, 6), (1_000_000, 7)] {
        let ruin = noise(3_000, seed);
        std::fs::write(app.join("backend/model.bin"), &ruin).unwrap();
        fill(&app, room);
        let before = std::fs::read_dir(app.join("backend")).unwrap().count();
        let output = bed.run(&["restore", "latest", "backend", "--in-place", "--yes"]);
        assert_code(&output, 1);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains("No space left on device"), "{words}");
        assert!(std::fs::read(app.join("backend/model.bin")).unwrap() == ruin);
        assert_eq!(std::fs::read_dir(app.join("backend")).unwrap().count(), before);
        empty(&app);
    }
    let output = bed.run(&["restore", "latest", "backend", "--in-place", "--yes"]);
    assert_code(&output, 0);
    let model = std::fs::read(app.join("backend/model.bin")).unwrap();
    assert!(model == noise(2_500_000, 1));
}

#[test]
fn a_restore_in_place_on_a_full_disk_changes_nothing() {
    in_own_mounts("crash::disk::full_live_disk");
}

#[test]
#[ignore = "runs only as a child of the test below"]
fn read_only_store() {
    let Some(top) = given_folder() else { return };
    let (bed, disk) = on_small_disk(&top, Bed::store);
    let expected = bed.expected();
    let before = bed.list("before");
    mount(&["-o", "remount,ro"], &disk);
    let output = bed.run(&["backup"]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(10), "{words}");
    assert!(words.contains("Read-only file system"), "{words}");
    assert!(words.contains("hint: "), "{words}");
    assert_eq!(bed.list("read-only"), before);
    let to = bed.live.join("back");
    let restored = bed.run(&["restore", "latest", "--to", to.to_str().unwrap()]);
    assert_code(&restored, 0);
    mount(&["-o", "remount,rw"], &disk);
    assert_code(&bed.run(&["backup"]), 0);
    assert_eq!(bed.list("writable again").len(), before.len() + 1);
    bed.assert_restores("latest", &expected, "writable again");
    bed.assert_no_litter("writable again");
}

#[test]
fn a_store_that_cannot_be_written_can_still_be_read() {
    in_own_mounts("crash::disk::read_only_store");
}
