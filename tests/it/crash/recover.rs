//! A machine brought back from its kit, killed anywhere: the same command ends it, nothing half done passes for whole, and the history goes on.

use super::bed::{Bed, Expected, assert_code, chosen, tree};
use std::path::{Path, PathBuf};

const RECOVER: [&str; 7] = ["recover", "../kit.txt", "--store", "../stick", "--to", "../new", "--yes"];

/// The old machine is gone; a stick with its store and a kit are left.
fn prepare() -> (Bed, Expected) {
    let bed = Bed::with_snapshot();
    let expected = bed.expected();
    assert_code(&bed.run(&["kit", "-o", "../kit.txt"]), 0);
    std::fs::rename(bed.store(), bed.live.join("stick")).unwrap();
    std::fs::rename(bed.live.join("home"), bed.live.join("home-of-old")).unwrap();
    std::fs::remove_dir_all(bed.live.join("home-of-old")).unwrap();
    std::fs::create_dir(bed.live.join("home")).unwrap();
    std::fs::remove_dir_all(bed.app()).unwrap();
    std::fs::create_dir(bed.app()).unwrap();
    bed.save();
    (bed, expected)
}

fn new(bed: &Bed) -> PathBuf {
    bed.live.join("new")
}

fn config(bed: &Bed) -> String {
    new(bed).join("backstay.toml").display().to_string()
}

fn no_work_is_left(top: &Path, what: &str) {
    let left = tree(top).into_keys().find(|path| path.to_string_lossy().contains(".backstay-recovery"));
    assert_eq!(left, None, "{what}");
}

/// The next snapshot is made at once, and belongs to the old history.
fn goes_on(bed: &Bed, what: &str) {
    let config = config(bed);
    let output = bed.run(&["-c", &config, "backup", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    let output = bed.run(&["-c", &config, "list", "--json"]);
    assert_code(&output, 0);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["history"], &report["damaged"]),
        (&serde_json::json!([]), &serde_json::json!([])),
        "{what}"
    );
    let rows = report["snapshots"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{what}: {report:#}");
    assert_eq!(rows[0]["host"], rows[1]["host"], "{what}: one host");
    assert!(rows.iter().all(|row| row["trusted"] == true && row["good"] == true), "{what}: {report:#}");
}

#[test]
fn a_recovery_killed_anywhere_is_ended_by_the_same_command_and_the_history_goes_on() {
    let (bed, expected) = prepare();
    let points = bed.points(&RECOVER);
    assert!(points.len() > 100, "only {} points", points.len());
    let mut unfinished = 0;
    for point in chosen(&points, 40) {
        bed.reset();
        let what = format!("killed at {point} ({})", points[point - 1]);
        assert!(bed.killed_at(&RECOVER, point), "{what}: it was not killed");
        if !new(&bed).join("backstay.toml").exists() {
            unfinished += 1;
            // Nothing passes for a project before all of it is there.
            let output = bed.run(&["-c", &config(&bed), "backup"]);
            assert_code(&output, 14);
        }
        if new(&bed).join(".backstay-recovery/recovery.json").exists()
            || !new(&bed).join("backstay.toml").exists()
        {
            assert_code(&bed.run(&RECOVER), 0);
            no_work_is_left(&new(&bed), &what);
        }
        expected.assert_is_at(&new(&bed), &what);
        goes_on(&bed, &what);
        bed.assert_no_litter(&what);
    }
    assert!(unfinished > 10, "only {unfinished} kills came before the end");
}

#[test]
fn a_recovery_killed_twice_is_ended_by_the_third() {
    let (bed, expected) = prepare();
    let points = bed.points(&RECOVER);
    for point in chosen(&points, 12).step_by(5) {
        bed.reset();
        assert!(bed.killed_at(&RECOVER, point));
        let open = || {
            let (config, begun) = ("backstay.toml", ".backstay-recovery/recovery.json");
            !new(&bed).join(config).exists() || new(&bed).join(begun).exists()
        };
        // Also in what takes up an interrupted run.
        if open() && bed.killed_at(&RECOVER, 30) && open() {
            assert_code(&bed.run(&RECOVER), 0);
        }
        expected.assert_is_at(&new(&bed), &format!("killed at {point}, then at 30"));
        goes_on(&bed, &format!("killed at {point}, then at 30"));
    }
}
