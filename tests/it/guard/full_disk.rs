//! A disk that a guarded command filled: its guard still tells what became of it, and how to go back.

use super::{App, SERVICE, assert_as_before, deploy, open_journals, run, said};
use crate::common::mounts::{given_folder, in_own_mounts, mount};
use crate::common::project::expect_code;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// An application whose service runs and whose state lies on a small disk, and a command that deploys, fills that disk, and ends with `code`.
fn app_on_small_disk(code: u8) -> (App, PathBuf, String) {
    let app = App::new(SERVICE);
    let state = PathBuf::from(app.project.config()["state"]["dir"].as_str().unwrap());
    let away = state.with_extension("away");
    fs::rename(&state, &away).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs"], &state);
    expect_code(Command::new("cp").arg("-a").arg(away.join(".")).arg(&state).output().unwrap(), 0);
    app.start_service();
    let ballast = state.join("ballast");
    let fill = format!("dd if=/dev/zero of='{}' bs=4096 2>/dev/null; exit {code}", ballast.display());
    (app, ballast, deploy(&fill))
}

#[test]
#[ignore = "runs only as a child of the test below"]
fn full_state() {
    if given_folder().is_none() {
        return;
    }
    let (app, ballast, script) = app_on_small_disk(3);
    let output = expect_code(run(&app, &["--auto", "--", "sh", "-c", &script]), 18);
    for words in ["what `sh` left is live", "No space left on device", "hint:", "backstay rollback --resume"]
    {
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    }
    assert_eq!(app.read("app/version").trim(), "2");
    fs::remove_file(ballast).unwrap();
    app.project.ok(["rollback", "--resume"]);
    assert_as_before(&app, "with room again");
    // One that went well stays.
    let (app, ballast, script) = app_on_small_disk(0);
    let output = expect_code(run(&app, &["--auto", "--", "sh", "-c", &script]), 0);
    assert!(said(&output).contains("No space left on device"), "{}", said(&output));
    assert_eq!((app.read("app/version").trim(), app.runs()), ("2", true));
    assert_eq!(open_journals(&app), Vec::<String>::new());
    fs::remove_file(ballast).unwrap();
}

#[test]
fn a_guard_whose_command_filled_the_disk_says_how_to_go_back_and_keeps_what_went_well() {
    in_own_mounts("guard::full_disk::full_state");
}
