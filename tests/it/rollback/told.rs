//! What an undo says, before it, while it goes on and at its end: what is done, and what to type next.

use super::{err, upgraded};
use crate::common::project::expect_code;
use serde_json::json;
use std::process::Output;

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_undo_says_that_it_took_back_and_how_to_go_there_again() {
    let (app, id) = upgraded();
    let report = app.project.json(["rollback", &id]);
    assert_eq!(report["taken_back"], json!(false));
    let output = app.project.ok(["rollback", "--undo", "--yes"]);
    let said = out(&output);
    assert!(said.starts_with(&format!("the rollback to {id} was taken back: app, ")), "{said}");
    assert!(err(&output).contains(&format!("taking the rollback to {id} back")), "{}", err(&output));
    for wrong in ["rolled back to", "--undo", "going back"] {
        assert!(!said.contains(wrong) && !err(&output).contains(wrong), "{wrong}: {output:?}");
    }
    assert_eq!(app.read("app/version"), "2");
    let again = said.lines().find_map(|line| line.strip_prefix("to go there again: backstay ")).unwrap();
    assert!(
        said.contains(&format!(
            "what was live until now is in safety snapshot {}",
            &again["rollback ".len()..]
        ))
    );
    let report = app.project.json(again.split(' '));
    assert_eq!((app.read("app/version").as_str(), &report["taken_back"]), ("1", &json!(false)));
    let report = app.project.json(["rollback", "--undo", "--yes"]);
    assert_eq!((app.read("app/version").as_str(), &report["taken_back"]), ("2", &json!(true)));
}

#[test]
fn an_undo_to_what_is_not_well_says_that_it_was_meant() {
    let (app, id) = upgraded();
    app.write("app/version", "broken");
    app.project.ok(["rollback", &id]);
    let output = expect_code(app.project.run(["rollback", "--undo", "--yes"]), 18);
    let said = err(&output);
    let way = "to go to what was live until now: backstay rollback 20";
    for words in [&format!("the rollback to {id} was taken back"), "a service did not come up on it", way] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("had failed"), "{said}");
    assert_eq!(app.read("app/version"), "broken");
}

#[test]
fn the_plan_of_an_undo_is_shown_and_touches_nothing() {
    let (app, id) = upgraded();
    let none = expect_code(app.project.run(["rollback", "--undo", "--dry-run"]), 16);
    assert!(err(&none).contains("there is no rollback to take back"), "{}", err(&none));
    app.project.ok(["rollback", &id]);
    let (live, pid) = (app.live(), app.service());
    let said = out(&app.project.ok(["rollback", "--undo", "--dry-run"]));
    for words in [&format!("the rollback to {id} of "), "is taken back: app, ", "stop and start web"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let plan = app.project.json(["rollback", "--undo", "--dry-run"]);
    assert_eq!((&plan["snapshot"], &plan["services"]), (&json!(id), &json!(["web"])));
    assert!(!plan["kept"].as_array().unwrap().is_empty(), "{plan:#}");
    // Where nobody is there to be asked the same is shown, and how to see it again is true.
    let nobody = expect_code(app.project.run(["rollback", "--undo"]), 2);
    assert!(
        err(&nobody).contains("stop and start web") && err(&nobody).contains("--dry-run"),
        "{}",
        err(&nobody)
    );
    assert_eq!((app.live(), app.service()), (live, pid));
    assert!(app.runs());
}
