//! Power cuts: an ext4 file system that is shut down in the middle of a backup without its journal being written, then mounted anew.
//! Only with `BACKSTAY_LONG=1`, as root, with loop devices and Python (which makes the call, because this code may not).

use super::bed::{Bed, SIGNAL_AT, assert_code, scatter};
use crate::common::long::long;
use crate::common::mounts::{cut_power as cut, given_folder, in_own_mounts, mount, run};
use crate::common::project::cannot_run;
use rustix::process::{Pid, WaitOptions, waitpid};
use std::path::Path;
use std::process::Child;

const CYCLES: usize = 100;
#[test]
fn after_a_power_cut_what_was_reported_is_whole_and_nothing_listed_is_broken() {
    if !long() {
        cannot_run("power cuts are in the long form only (BACKSTAY_LONG=1)");
        return;
    }
    in_own_mounts("crash::power::cuts");
}

fn mount_image(image: &Path, at: &Path) {
    mount(&["-o", "loop", image.to_str().unwrap()], at);
}

fn unmount(at: &Path) {
    assert!(run("umount", &[at.to_str().unwrap()]), "cannot unmount");
}

#[test]
#[ignore = "runs only as a child of the test above"]
fn cuts() {
    let Some(top) = given_folder() else { return };
    let (image, master, disk) = (top.join("image"), top.join("master"), top.join("disk"));
    std::fs::File::create(&master).unwrap().set_len(96 << 20).unwrap();
    let path = master.to_str().unwrap();
    std::fs::create_dir(&disk).unwrap();
    let able = run("mkfs.ext4", &["-q", path]) && run("mount", &["-o", "loop", path, disk.to_str().unwrap()]);
    if !able {
        cannot_run("power cuts: no ext4 or no loop devices here");
        return;
    }
    let bed = Bed::at(&disk);
    bed.make_app();
    bed.set_up();
    assert_code(&bed.run(&["backup"]), 0);
    bed.change();
    let expected = bed.expected();
    let first = bed.list("before").into_keys().next().unwrap();
    bed.save();
    let points = bed.points(&["backup"]).len();
    unmount(&disk);
    let (mut absent, mut present) = (0, 0);
    for cycle in 0..CYCLES {
        std::fs::copy(&master, &image).unwrap();
        mount_image(&image, &disk);
        // Every fifth run ends before the cut: that is what was reported.
        let point = (cycle % 5 != 0).then(|| 1 + scatter(cycle, points));
        let what = format!("cycle {cycle}, cut at {point:?} of {points}");
        let stopped = point.and_then(|point| stopped_backup(&bed, point));
        let acked = stopped.is_none();
        if point.is_none() {
            assert_code(&bed.run(&["backup"]), 0);
        }
        if !cut(&disk) {
            cannot_run("power cuts: this kernel or Python cannot shut an ext4 down");
            return;
        }
        if let Some(mut stopped) = stopped {
            // Only now, so that the cut comes in the middle of its work; it only holds the disk.
            stopped.kill().unwrap();
            stopped.wait().unwrap();
        }
        unmount(&disk);
        mount_image(&image, &disk);
        let list = bed.list(&what);
        assert!(list.contains_key(&first), "{what}: {list:?}");
        bed.assert_store_grew_only(&what);
        assert!(list.len() == 2 || !acked, "{what}: lost what it had reported");
        for id in list.keys().filter(|id| **id != first) {
            bed.assert_restores(id, &expected, &what);
        }
        match list.len() {
            1 => absent += 1,
            _ => present += 1,
        }
        assert_code(&bed.run(&["backup"]), 0);
        assert!(bed.list(&what).len() > list.len(), "{what}");
        bed.assert_no_litter(&what);
        unmount(&disk);
    }
    assert!(absent > 10 && present > 20, "{absent} absent, {present} present");
}

/// A backup that stopped at a point; `None` when it passed fewer and ended well.
fn stopped_backup(bed: &Bed, point: usize) -> Option<Child> {
    let order = format!("{point}:19");
    let mut command = bed.command(&["backup"], &[(SIGNAL_AT, &order)]);
    let mut child = command.spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
    if status.stopped() {
        return Some(child);
    }
    assert_eq!(status.exit_status(), Some(0));
    // Its end was taken note of above; this only closes its pipes.
    let _ = child.try_wait();
    None
}
