//! Restores to a folder, killed anywhere or failing.

use super::bed::{Bed, FAIL_AT, assert_code, chosen, failures, tree};
use crate::common::long::long;
use rustix::io::Errno;
use std::os::unix::fs::MetadataExt as _;
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

/// Whatever file system there is at hand when the machine is gone: one without hard links or symbolic links, or that does not take every name.
#[test]
fn what_a_place_cannot_have_is_named_and_everything_else_comes_back() {
    let bed = Bed::new();
    bed.make_app();
    std::fs::hard_link(bed.app().join("backend/main.py"), bed.app().join("backend/zz.py")).unwrap();
    bed.set_up();
    assert_code(&bed.run(&["backup"]), 0);
    let whole = bed.expected();
    bed.save();
    let refused = |call: &str, errno: Errno| {
        bed.reset();
        let order = format!("{call}#1:{}", errno.raw_os_error());
        let output = bed.run_with(&RESTORE, &[(FAIL_AT, &order)]);
        assert_code(&output, 3);
        String::from_utf8(output.stderr).unwrap()
    };
    for errno in [Errno::PERM, Errno::OPNOTSUPP, Errno::MLINK] {
        let words = refused("link restored file", errno);
        assert!(words.contains("backend/zz.py: there can be no hard link to main.py here"), "{words}");
        whole.assert_is_at(&target(&bed), "a copy");
        let links = |name: &str| std::fs::metadata(target(&bed).join("backend").join(name)).unwrap().nlink();
        assert_eq!((links("main.py"), links("zz.py")), (1, 1));
    }
    let without = |gone: &[&str]| {
        let mut rest = whole.clone();
        rest.files.retain(|path, _| !gone.iter().any(|gone| path.starts_with(gone)));
        assert!(rest.files.len() < whole.files.len());
        rest.assert_is_at(&target(&bed), gone[0]);
    };
    for errno in [Errno::PERM, Errno::NOSYS] {
        let words = refused("make restored link", errno);
        assert!(words.contains("backend/current: cannot make symbolic link"), "{words}");
        without(&["backend/current"]);
    }
    // Of files the one that is made first: often in the order of their names, but several threads bring them.
    for errno in [Errno::INVAL, Errno::ILSEQ, Errno::NAMETOOLONG, Errno::EXIST] {
        let words = refused("make restored file", errno);
        let (name, _) = words.split_once(": it cannot have its name here").expect(&words);
        let name = name.rsplit("problem: ").next().unwrap();
        if name == "backend/main.py" {
            // Its other name is left out with it, and said.
            let also = "backend/zz.py: it is another name of main.py, which cannot have its name here";
            assert!(words.contains(also), "{words}");
            without(&[name, "backend/zz.py"]);
        } else {
            without(&[name]);
        }
        let words = refused("make restored directory", errno);
        assert!(words.contains("backend/data: neither it nor anything that lies in it"), "{words}");
        assert!(!target(&bed).join("backend/data").exists());
        assert!(target(&bed).join("backend/steps/step_0.py").exists());
    }
}
