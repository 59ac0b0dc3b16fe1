//! Two rollbacks, of which the second undid itself: the first is still the one that holds, and is taken back.

use super::{App, SERVICE};
use crate::common::project::expect_code;
use crate::lab::Node;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Output;

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An application that was rolled back, and then to a state on which its service is not well. Gives what was live before the first rollback, and its report.
fn rolled_back_twice() -> (App, BTreeMap<PathBuf, Node>, Value) {
    let app = App::new(SERVICE);
    app.write("app/version", "broken");
    let broken = app.project.backup();
    app.write("app/version", "1");
    let well = app.project.backup();
    app.upgrade("2");
    app.start_service();
    let before = app.live();
    let first = app.project.json(["rollback", &well]);
    let between = app.live();
    expect_code(app.project.run(["rollback", &broken]), 17);
    assert_eq!(app.live(), between);
    (app, before, first)
}

#[test]
fn a_rollback_before_one_that_undid_itself_is_still_taken_back() {
    let (app, before, _) = rolled_back_twice();
    app.project.ok(["rollback", "--undo", "--yes"]);
    assert_eq!(app.live(), before);
    assert_eq!(app.rows(), 3);
    assert!(app.runs());
    // Whoever asks twice means the same one.
    let output = expect_code(app.project.run(["rollback", "--undo", "--yes"]), 16);
    assert!(told(&output).contains("was taken back already"), "{}", told(&output));
    assert_eq!(app.live(), before);
}

#[test]
fn a_rollback_that_was_taken_back_is_not_followed_by_the_one_before_it() {
    let app = App::new(SERVICE);
    let first = app.project.backup();
    app.upgrade("2");
    app.start_service();
    let safety = app.project.json(["rollback", &first])["safety"].as_str().unwrap().to_owned();
    app.write("app/version", "3");
    let second = app.project.backup();
    app.write("app/version", "4");
    app.project.ok(["rollback", &second]);
    app.project.ok(["rollback", "--undo", "--yes"]);
    assert_eq!(app.read("app/version"), "4");
    let output = expect_code(app.project.run(["rollback", "--undo", "--yes"]), 16);
    assert!(told(&output).contains(&safety), "{}", told(&output));
    assert_eq!(app.read("app/version"), "4");
}

#[test]
fn a_rollback_that_cannot_be_taken_back_any_more_names_its_own_safety_snapshot() {
    let (app, _, first) = rolled_back_twice();
    let live = app.live();
    for kept in first["kept"].as_array().unwrap() {
        fs::remove_dir_all(kept.as_str().unwrap()).unwrap();
    }
    let output = expect_code(app.project.run(["rollback", "--undo", "--yes"]), 16);
    let safety = first["safety"].as_str().unwrap();
    assert!(told(&output).contains(&format!("backstay rollback {safety}")), "{}", told(&output));
    assert_eq!(app.live(), live);
}
