//! Restores to a folder, killed anywhere or failing.

use super::bed::{Bed, FAIL_AT, assert_code, chosen, failures, tree};
use crate::common::long::long;
use rustix::io::Errno;
use std::path::PathBuf;

const RESTORE: [&str; 4] = ["restore", "latest", "--to", "../back"];

fn prepare() -> (Bed, Vec<String>) {
    let bed = Bed::with_snapshot();
    bed.save();
    let points = bed.points(&RESTORE);
    (bed, points)
}

fn target(bed: &Bed) -> PathBuf {
    bed.live.join("back")
}

/// Names beside the target that were not there before.
fn beside(bed: &Bed) -> Vec<String> {
    let names = std::fs::read_dir(&bed.live).unwrap();
    let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| !["app", "home", "back"].contains(&n.as_str())).collect()
}

#[test]
fn a_restore_killed_anywhere_gave_everything_or_nothing_its_name() {
    let (bed, points) = prepare();
    let expected = bed.expected();
    bed.save();
    let mut seen = [false; 2];
    for point in chosen(&points, 60) {
        bed.reset();
        let what = format!("killed at {point} ({})", points[point - 1]);
        assert!(bed.killed_at(&RESTORE, point), "{what}: it was not killed");
        let there = target(&bed).exists();
        seen[usize::from(there)] = true;
        for name in beside(&bed) {
            assert!(name.starts_with(".back.backstay-partial-"), "{what}: {name}");
        }
        let again = bed.run(&RESTORE);
        // What is there is never restored over.
        assert_code(&again, if there { 2 } else { 0 });
        expected.assert_is_at(&target(&bed), &what);
    }
    assert_eq!(seen, [true; 2]);
}

#[test]
fn a_restore_of_which_any_system_call_fails_leaves_nothing_and_can_be_repeated() {
    let (bed, points) = prepare();
    let expected = bed.expected();
    bed.save();
    let calls = points.len() / 2;
    let every = if long() { 1 } else { 11 };
    let mut failed = 0;
    for (call, errno) in failures(&[Errno::IO, Errno::NOSPC, Errno::ACCESS], calls, every) {
        bed.reset();
        let what = format!("{errno} at call {call}");
        let order = format!("{call}:{}", errno.raw_os_error());
        let output = bed.run_with(&RESTORE, &[(FAIL_AT, &order)]);
        match output.status.code() {
            Some(0) => expected.assert_is_at(&target(&bed), &what),
            // A file that could not be read is left out, and said.
            Some(13) if target(&bed).exists() => {
                let words = String::from_utf8_lossy(&output.stderr);
                assert!(words.contains("problem: "), "{what}: {words}");
                let back = tree(&target(&bed));
                assert!(back.len() < tree(&bed.app()).len(), "{what}");
                failed += 1;
            }
            Some(1 | 10 | 12 | 13 | 14) => {
                failed += 1;
                assert!(!target(&bed).exists(), "{what}");
                // Whole, but not to be moved: then it must not be thrown away.
                let words = String::from_utf8_lossy(&output.stderr);
                let kept = words.contains(".back.backstay-partial-");
                assert!(kept || beside(&bed).is_empty(), "{what}: {words}");
                assert_code(&bed.run(&RESTORE), 0);
                expected.assert_is_at(&target(&bed), &what);
            }
            other => panic!("{what}: {other:?} {output:?}"),
        }
    }
    assert!(failed > 10, "only {failed} runs failed");
}

/// The kernel tells once what it could not write. Whoever asked first must not keep it to himself.
#[test]
fn what_a_disk_refused_while_a_restore_was_still_at_work_is_never_published() {
    let (bed, _) = prepare();
    // There is a database: while it is checked, what was written goes to the disk.
    let order = format!("sync what is there of a restored tree#1:{}", Errno::IO.raw_os_error());
    let output = bed.run_with(&RESTORE, &[(FAIL_AT, &order)]);
    assert_code(&output, 1);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("cannot sync"), "{words}");
    assert!(!target(&bed).exists() && beside(&bed).is_empty(), "{words}");
    assert_code(&bed.run(&RESTORE), 0);
}
