//! What backstay itself leaves in a component is in no snapshot: files that a restore in place kept, and what killed restores did not finish.

use crate::lab::{Lab, put, tree};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const APP: &str = "[[component]]\nname = \"app\"\npath = \"app\"\n";
const BACK: [&str; 5] = ["restore", "latest", "app/main.py", "--in-place", "--yes"];

fn lab() -> Lab {
    let files = |project: &Path| {
        put(&project.join("app/main.py"), b"good");
        put(&project.join("app/sub/other.py"), b"good, too");
        put(&project.join("app/notes.before-restore-monday"), b"a name that a person chose");
    };
    Lab::new(files, APP)
}

/// Paths of the newest snapshot.
fn listed(lab: &Lab) -> BTreeSet<String> {
    let ran = lab.run(&["ls", "latest", "app", "-r", "--json"]);
    ran.expect(0, &[]);
    let listing: serde_json::Value = serde_json::from_slice(&ran.out).unwrap();
    let paths = listing["entries"].as_array().unwrap().iter();
    paths.map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
}

/// What lies in the component beside what was there at first.
fn left(lab: &Lab) -> Vec<PathBuf> {
    let there = |path: &Path| {
        ["main.py", "sub", "sub/other.py", "notes.before-restore-monday"].iter().any(|p| path == Path::new(p))
    };
    tree(&lab.path("project/app")).into_keys().filter(|path| !there(path)).collect()
}

#[test]
fn what_a_restore_in_place_kept_is_in_no_later_snapshot() {
    let lab = lab();
    lab.backup();
    let first = listed(&lab);
    fs::write(lab.path("project/app/main.py"), "bad").unwrap();
    lab.run(&BACK).expect(0, &["snapshots leave it out", ".before-restore-"]);
    let kept = left(&lab);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(fs::read(lab.path("project/app").join(&kept[0])).unwrap(), b"bad");
    lab.backup();
    assert_eq!(listed(&lab), first, "the kept file is left out, and nothing else");
    assert_eq!(left(&lab), kept, "and it is where it was");

    let mut config = lab.config();
    config["component"][0]
        .as_table_mut()
        .unwrap()
        .insert("exclude".into(), vec!["!*.before-restore-*"].into());
    lab.set_config(&config);
    lab.backup();
    let name = kept[0].to_str().unwrap();
    assert!(listed(&lab).iter().any(|path| path.ends_with(name)), "a pattern brings it back");
}

#[test]
fn what_a_killed_restore_in_place_left_is_in_no_snapshot() {
    let lab = lab();
    lab.backup();
    let first = listed(&lab);
    let live = lab.path("project/app/main.py");
    let count = lab.path("points");
    let ruin = || fs::write(&live, "bad").unwrap();
    ruin();
    lab.run_with(&BACK, &[("BACKSTAY_TEST_CRASH_COUNT_FILE", count.to_str().unwrap())]).expect(0, &[]);
    for path in left(&lab) {
        fs::remove_file(lab.path("project/app").join(path)).unwrap();
    }
    let passed = fs::read_to_string(&count).unwrap();
    let mut litter = 0;
    for wanted in
        ["in place: component staged", "in place: file brought", "exchange: new file has the kept name"]
    {
        let point = passed.lines().position(|line| line.contains(wanted)).unwrap() + 1;
        ruin();
        let killed = lab.run_with(&BACK, &[("BACKSTAY_TEST_CRASH", &point.to_string())]);
        assert_eq!(killed.code, -1, "{wanted}: {}", killed.text());
        litter += left(&lab).len();
        fs::write(&live, "good").unwrap();
        lab.backup();
        assert_eq!(listed(&lab), first, "{wanted}");
    }
    assert!(litter >= 3, "{litter} things were left: was it killed where something is?");
}
