//! Power cuts in the middle of a rollback: the application and the state lie on an ext4 that is shut down without its journal being written, then mounted
//! anew. Only with `BACKSTAY_LONG=1`, as root, with loop devices and Python.

use super::crash::{assert_one_of_both, told};
use super::{App, SERVICE, Sides};
use crate::common::long::long;
use crate::common::mounts::{cut_power, given_folder, in_own_mounts, mount, run};
use crate::common::project::{cannot_run, exe, program};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CYCLES: usize = 200;

#[test]
fn after_a_power_cut_in_a_rollback_all_is_old_or_new_and_the_service_comes_back() {
    if !long() {
        cannot_run("power cuts of a rollback are in the long form only (BACKSTAY_LONG=1)");
        return;
    }
    in_own_mounts("rollback::power::cuts");
}

/// What was just killed may hold the disk for a moment.
fn unmount(at: &Path) {
    let begun = Instant::now();
    while !run("umount", &[at.to_str().unwrap()]) {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "cannot unmount {}: {}",
            at.display(),
            holders(at)
        );
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Who has something open there.
fn holders(at: &Path) -> String {
    let look = format!(
        "ls -l /proc/[0-9]*/fd /proc/[0-9]*/cwd 2>/dev/null | grep {}; grep {0} /proc/mounts",
        at.display()
    );
    let output = Command::new("sh").args(["-c", &look]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "runs only as a child of the test above"]
fn cuts() {
    let Some(top) = given_folder() else { return };
    // A number that is lost with the power tells nothing of the rollback.
    let app = App::new(&SERVICE.replace("echo $! > web.pid", "echo $! > web.pid; sync web.pid"));
    let (then, id) = (app.live(), app.project.backup());
    app.upgrade("2");
    let (image, master) = (top.join("image"), top.join("master"));
    let disk = app.project.top.clone();
    if !lay_master(&top, &master, &disk) {
        cannot_run("power cuts of a rollback: no ext4 or no loop devices here");
        return;
    }
    let rollback = |args: &[&str]| {
        let mut command = program(exe(), &app.project.home);
        command.current_dir(&app.project.dir).arg("rollback").args(args);
        command
    };
    let laid = || {
        std::fs::copy(&master, &image).unwrap();
        mount(&["-o", "loop", image.to_str().unwrap()], &disk);
        app.start_service();
        assert!(run("sync", &["-f", app.path("web.pid").to_str().unwrap()]));
    };
    laid();
    // On the disk that is laid anew each time, which gives everything the same inode.
    let sides = Sides::of(&app, then);
    let log = top.join("points");
    let counted = rollback(&[&id]).env("BACKSTAY_TEST_CRASH_COUNT_FILE", &log).output().unwrap();
    assert!(counted.status.success(), "{}", told(&counted));
    let names: Vec<String> = std::fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    let own: Vec<usize> =
        names.iter().enumerate().filter(|(_, n)| n.contains("rollback:")).map(|(n, _)| n + 1).collect();
    end(&app);
    unmount(&disk);
    let (mut old, mut new) = (0, 0);
    for cycle in 0..CYCLES {
        laid();
        // Its own steps in turn, and now and then any other.
        let point = if cycle % 4 == 3 { 1 + (cycle * 37) % names.len() } else { own[cycle % own.len()] };
        let what = format!("cycle {cycle}, cut at {point}, {}", names[point - 1]);
        let stopped = stopped_at(rollback(&[&id]), point);
        if !cut_power(&disk) {
            cannot_run("power cuts of a rollback: this kernel or Python cannot shut an ext4 down");
            return;
        }
        if let Some(mut stopped) = stopped {
            stopped.kill().unwrap();
            stopped.wait().unwrap();
        }
        end(&app);
        unmount(&disk);
        // As after a boot, the disk may get another number.
        let taken = taken_device(&top);
        mount(&["-o", "loop", image.to_str().unwrap()], &disk);
        if let Some(taken) = taken {
            assert!(run("losetup", &["-d", &taken]));
        }
        let resumed = rollback(&["--resume"]).output().unwrap();
        assert!(matches!(resumed.status.code(), Some(0 | 17)), "{what}: {}", told(&resumed));
        if !app.runs() {
            // The machine was off before it was stopped: whoever starts services at boot starts it.
            app.project.ok(["ready"]);
            app.start_service();
            // Its shell becomes it in a moment.
            while !app.runs() {}
        }
        assert_one_of_both(&app, &sides, &what);
        let ended = if app.read("app/version") == "1" { &mut new } else { &mut old };
        *ended += 1;
        app.project.ok(["backup"]);
        end(&app);
        unmount(&disk);
    }
    println!("{CYCLES} power cuts: {old} old, {new} new");
    assert!(old > CYCLES / 10 && new > 0, "{old} old, {new} new");
}

/// Takes the loop device that is free first, so that what is mounted next gets another one; `None` when it cannot.
fn taken_device(top: &Path) -> Option<String> {
    let other = top.join("other");
    std::fs::File::create(&other).unwrap().set_len(1 << 20).unwrap();
    let output = Command::new("losetup").args(["--find", "--show"]).arg(&other).output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !name.is_empty()).then_some(name)
}

/// Makes an image of a file system with what lies in `disk`.
fn lay_master(top: &Path, master: &Path, disk: &Path) -> bool {
    std::fs::File::create(master).unwrap().set_len(64 << 20).unwrap();
    let lay = top.join("lay");
    std::fs::create_dir(&lay).unwrap();
    let (path, at) = (master.to_str().unwrap(), lay.to_str().unwrap());
    let able = run("mkfs.ext4", &["-q", path]) && run("mount", &["-o", "loop", path, at]);
    if able {
        assert!(run("cp", &["-a", disk.join(".").to_str().unwrap(), at]));
        unmount(&lay);
    }
    able
}

/// Ends the service, which stands on the disk. Its number may be there no more: a disk without power cannot be read.
fn end(app: &App) {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let stands = std::fs::read_link(entry.path().join("cwd"));
        if stands.is_ok_and(|at| at.starts_with(&app.project.dir)) {
            let pid = entry.file_name().into_string().unwrap();
            let _gone = Command::new("kill").args(["-9", &pid]).stderr(Stdio::null()).status();
        }
    }
}

/// A run that stopped at a point; `None` when it passed fewer and ended.
fn stopped_at(mut command: Command, point: usize) -> Option<Child> {
    command.env("BACKSTAY_TEST_SIGNAL", format!("{point}:19")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
    if status.stopped() {
        return Some(child);
    }
    let _its_end_was_taken_note_of = child.try_wait();
    None
}
