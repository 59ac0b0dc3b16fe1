//! Being asked to end, and two runs at once.

use super::bed::{Bed, SIGNAL_AT, assert_code, chosen};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::process::Child;

const STOP: i32 = 19;

fn prepare() -> (Bed, Vec<String>) {
    let bed = Bed::with_snapshot();
    bed.change();
    bed.save();
    let points = bed.points(&["backup"]);
    (bed, points)
}

#[test]
fn a_backup_that_is_asked_to_end_leaves_nothing_or_has_a_whole_snapshot() {
    let (bed, points) = prepare();
    let expected = bed.expected();
    bed.save();
    let before = bed.list("before");
    let mut ended = 0;
    for (signal, code) in [(2, 130), (15, 143)] {
        for point in chosen(&points, 34) {
            bed.reset();
            let what = format!("signal {signal} at {point} ({})", points[point - 1]);
            let order = format!("{point}:{signal}");
            let output = bed.run_with(&["backup"], &[(SIGNAL_AT, &order)]);
            let list = bed.list(&what);
            if output.status.code() == Some(0) {
                // It came too late to undo anything.
                assert_eq!(list.len(), 2, "{what}");
                assert!(list.values().all(|good| *good), "{what}");
            } else {
                ended += 1;
                assert_eq!(output.status.code(), Some(code), "{what}: {output:?}");
                assert_eq!(list, before, "{what}");
                let words = String::from_utf8_lossy(&output.stderr);
                assert!(words.contains("nothing was committed"), "{what}: {words}");
            }
            bed.assert_no_litter(&what);
            if point % 20 == 0 {
                assert_code(&bed.run(&["backup"]), 0);
                bed.assert_restores("latest", &expected, &what);
            }
        }
    }
    assert!(ended > 20, "only {ended} runs were interrupted");
}

#[test]
fn a_restore_that_is_asked_to_end_leaves_nothing_or_is_whole() {
    let bed = Bed::with_snapshot();
    let expected = bed.expected();
    bed.save();
    let args = ["restore", "latest", "--to", "../back"];
    let points = bed.points(&args);
    let target = bed.live.join("back");
    let mut codes = std::collections::BTreeSet::new();
    for point in chosen(&points, 30) {
        bed.reset();
        let what = format!("SIGTERM at {point} ({})", points[point - 1]);
        let output = bed.run_with(&args, &[(SIGNAL_AT, &format!("{point}:15"))]);
        codes.insert(output.status.code());
        if output.status.code() == Some(0) {
            expected.assert_is_at(&target, &what);
        } else {
            assert_eq!(output.status.code(), Some(143), "{what}: {output:?}");
            assert!(!target.exists(), "{what}");
            bed.assert_no_litter(&what);
        }
    }
    assert_eq!(codes, [Some(0), Some(143)].into());
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

/// Starts a backup that stops, with the lock in its hands, and waits until it has.
fn stopped_backup(bed: &Bed, points: &[String]) -> Child {
    let held = points.iter().position(|p| p == "backup: captured").unwrap() + 1;
    let order = format!("{held}:{STOP}");
    let child = bed.command(&["backup"], &[(SIGNAL_AT, &order)]).spawn();
    let child = child.unwrap();
    let (_, status) = waitpid(Some(pid(&child)), WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(status.stopped(), "{status:?}");
    child
}

#[test]
fn of_two_backups_at_once_one_says_who_is_at_work_since_when() {
    let (bed, points) = prepare();
    let first = stopped_backup(&bed, &points);
    let second = bed.run(&["backup"]);
    assert_code(&second, 11);
    let words = String::from_utf8_lossy(&second.stderr);
    let who = format!("backup since {}", jiff::Timestamp::now().strftime("%Y-"));
    assert!(words.contains(&who), "{words}");
    assert!(words.contains(&format!("process {}", first.id())), "{words}");
    assert!(words.contains("--wait"), "{words}");
    // Looking needs no lock.
    assert_eq!(bed.list("while another is at work").len(), 1);
    let waited = bed.run(&["backup", "--wait=100ms"]);
    assert_code(&waited, 11);
    kill_process(pid(&first), Signal::CONT).unwrap();
    assert_code(&first.wait_with_output().unwrap(), 0);
    assert_eq!(bed.list("after").len(), 2);
}

#[test]
fn a_backup_that_waits_goes_on_when_the_other_has_ended_or_was_killed() {
    let (bed, points) = prepare();
    for end in [Signal::CONT, Signal::KILL] {
        bed.reset();
        let mut first = stopped_backup(&bed, &points);
        let second = bed.command(&["backup", "--wait=5m"], &[]).spawn().unwrap();
        kill_process(pid(&first), end).unwrap();
        let ended = first.wait().unwrap();
        assert_eq!(ended.success(), end == Signal::CONT);
        assert_code(&second.wait_with_output().unwrap(), 0);
        let list = bed.list("after both");
        assert_eq!(list.len(), if end == Signal::CONT { 3 } else { 2 });
        assert!(list.values().all(|good| *good), "{list:?}");
        bed.assert_no_litter("after both");
    }
}
