//! A service that is down when a rollback begins: said, and started where somebody wants that.

use super::hosts::on_a_terminal;
use super::{App, SERVICE};
use crate::common::project::{exe, expect_code, have, program};
use serde_json::{Value, json};
use std::process::Output;

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An application in its second version, whose service is down.
fn down() -> (App, String) {
    let app = App::new(SERVICE);
    let id = app.project.backup();
    app.upgrade("2");
    (app, id)
}

fn runs(app: &App) -> bool {
    app.path("web.pid").exists() && app.runs()
}

#[test]
fn a_service_that_is_down_is_said_in_the_plan_and_at_the_end_with_how_to_start_it() {
    let (app, id) = down();
    let said = out(&app.project.ok(["rollback", &id, "--dry-run"]));
    assert!(said.contains("down now, and left so: web") && !said.contains("stop and start"), "{said}");
    let plan = app.project.json(["rollback", &id, "--dry-run"]);
    assert_eq!(
        (&plan["services"], &plan["starts"], &plan["down"]),
        (&json!([]), &json!([]), &json!(["web"]))
    );
    // A service works on it: nothing is to be said of none.
    assert!(plan["warnings"].as_array().unwrap().iter().all(|w| w["subject"] != "services"), "{plan:#}");
    let output = app.project.ok(["rollback", &id, "--yes"]);
    assert!(told(&output).contains("service web is down, and stays so"), "{}", told(&output));
    let start = format!("in {}: sleep 1000 & echo $! > web.pid", app.project.dir.display());
    let last = format!("service web is DOWN, as it was before, and was not started; to start it: {start}\n");
    assert!(out(&output).ends_with(&last), "{}", out(&output));
    let report = app.project.json(["rollback", &id]);
    assert_eq!(report["down"], json!([{ "name": "web", "start": start }]));
    assert_eq!((&report["services"], &report["downtime_ms"]), (&json!([]), &Value::Null));
    assert!(!runs(&app));
}

#[test]
fn what_is_down_is_started_by_a_rollback_that_is_told_so() {
    let (app, id) = down();
    let plan = app.project.json(["rollback", &id, "--dry-run", "--start"]);
    assert_eq!((&plan["starts"], &plan["down"]), (&json!(["web"]), &json!([])));
    let said = out(&app.project.ok(["rollback", &id, "--dry-run", "--start"]));
    assert!(said.contains("start web, down now"), "{said}");
    let report = app.project.json(["rollback", &id, "--yes", "--start"]);
    assert_eq!((&report["services"], &report["down"]), (&json!(["web"]), &json!([])));
    assert_eq!(report["downtime_ms"], Value::Null, "nothing was stopped");
    assert!(runs(&app) && app.read("app/version") == "1");
    // One that runs is stopped and started as ever.
    let before = app.service();
    app.project.ok(["rollback", &id, "--start"]);
    assert!(runs(&app) && app.service() != before);
    // An undo, too, leaves what is down as it is, and starts it when it is told so.
    crate::common::project::end_service(&app.path("web.pid"), &app.project.dir);
    let plan = app.project.json(["rollback", "--undo", "--dry-run"]);
    assert_eq!(
        (&plan["services"], &plan["starts"], &plan["down"]),
        (&json!([]), &json!([]), &json!(["web"]))
    );
    let report = app.project.json(["rollback", "--undo", "--yes", "--start"]);
    assert_eq!((&report["services"], &report["down"]), (&json!(["web"]), &json!([])));
    assert!(runs(&app));
}

#[test]
fn what_a_rollback_starts_must_be_well_or_all_is_as_it_was_before() {
    let app = App::new(SERVICE);
    app.write("app/version", "broken");
    let id = app.project.backup();
    app.upgrade("2");
    let before = app.live();
    let output = expect_code(app.project.run(["rollback", &id, "--start"]), 17);
    let said = told(&output);
    assert!(said.contains("not healthy") && said.contains("the services that ran before run on"), "{said}");
    assert_eq!(app.live(), before);
    assert!(!runs(&app), "it was down, and is down again");
    app.project.ok(["ready"]);
}

#[test]
fn on_a_terminal_it_is_asked_whether_what_is_down_is_to_be_started() {
    if !have(&["script"]) {
        return;
    }
    let (app, id) = down();
    let question = "service web is down: start it afterwards? [Y/n]";
    for (answers, started) in [("n\ny\n", false), ("\ny\n", true)] {
        let output = expect_code(on_a_terminal(&app, answers, &["rollback", &id]), 0);
        assert!(out(&output).contains(question), "{}", out(&output));
        assert_eq!((runs(&app), app.read("app/version").as_str()), (started, "1"), "{answers:?}");
    }
    // Nobody is asked of what runs, nor who said yes to all.
    let output = expect_code(on_a_terminal(&app, "y\n", &["rollback", &id]), 0);
    assert!(!out(&output).contains(question), "{}", out(&output));
    crate::common::project::end_service(&app.path("web.pid"), &app.project.dir);
    let output = expect_code(on_a_terminal(&app, "", &["rollback", &id, "--yes"]), 0);
    assert!(!out(&output).contains(question) && !runs(&app), "{}", out(&output));
    // An undo asks as well.
    let output = expect_code(on_a_terminal(&app, "y\ny\n", &["rollback", "--undo"]), 0);
    assert!(out(&output).contains(question) && runs(&app), "{}", out(&output));
}

#[test]
fn a_rollback_that_was_killed_says_at_its_end_what_stays_down() {
    let (app, id) = down();
    let mut command = program(exe(), &app.project.home);
    command.current_dir(&app.project.dir).args(["rollback", &id]);
    command.env("BACKSTAY_TEST_CRASH", "rollback: healthy#1");
    assert_eq!(command.output().unwrap().status.code(), None, "it was not killed");
    let report = app.project.json(["rollback", "--resume"]);
    assert_eq!((&report["services"], &report["down"][0]["name"]), (&json!([]), &json!("web")));
    assert!(!runs(&app));
}

#[test]
fn an_undo_that_was_killed_says_at_its_end_what_stays_down() {
    let (app, id) = down();
    app.project.ok(["rollback", &id]);
    let mut command = program(exe(), &app.project.home);
    command.current_dir(&app.project.dir).args(["rollback", "--undo", "--yes"]);
    command.env("BACKSTAY_TEST_CRASH", "rollback: journal kept#1");
    assert_eq!(command.output().unwrap().status.code(), None, "it was not killed");
    let said = told(&expect_code(app.project.run(["rollback", "--resume"]), 17));
    let start = format!("in {}: sleep 1000 & echo $! > web.pid", app.project.dir.display());
    let way = format!("; service web is DOWN, as it was before, and was not started; to start it: {start}");
    assert!(
        said.contains("to go to what was live until then: backstay rollback ") && said.contains(&way),
        "{said}"
    );
    assert_eq!((runs(&app), app.read("app/version").as_str()), (false, "2"));
}
